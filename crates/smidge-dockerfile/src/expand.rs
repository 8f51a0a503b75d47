//! Variables and quotes in words, as BuildKit's shell lexer treats them.
//!
//! The forms are listed under
//! <https://docs.docker.com/reference/dockerfile/#environment-replacement>.

use std::cell::Cell;
use std::collections::BTreeSet;

use crate::pattern::{Pattern, PatternError};

/// `${a:-${b:-…}}` deeper than this is an attack on the stack.
const DEEPEST: usize = 64;

/// How much a whole plan may grow by expansion, so that `ENV a=$a$a` ends some time.
pub(crate) const LARGEST: usize = 64 << 20;

/// What is wrong with a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    #[error("missing `}}`")]
    UnclosedBrace,
    #[error("missing `/` in `${{{0}/…}}`")]
    UnclosedPattern(String),
    #[error("bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier `{0}` in substitution")]
    UnsupportedModifier(String),
    #[error("no closing {0} quote")]
    UnclosedQuote(&'static str),
    #[error("`{name}`: {message}")]
    Required { name: String, message: String },
    #[error("invalid pattern `{pattern}` in substitution")]
    InvalidPattern {
        pattern: String,
        source: PatternError,
    },
    #[error("variables are nested too deeply")]
    TooDeep,
    #[error("expansion grows beyond 64 MiB")]
    TooLarge,
}

/// What remains of [`LARGEST`].
#[derive(Debug)]
pub(crate) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(LARGEST))
    }
}

impl Budget {
    /// Takes bytes away.
    pub(crate) fn spend(&self, bytes: usize) -> Result<(), ExpandError> {
        let rest = self
            .0
            .get()
            .checked_sub(bytes)
            .ok_or(ExpandError::TooLarge)?;
        self.0.set(rest);
        Ok(())
    }
}

/// Where the values of variables come from.
pub(crate) trait Variables {
    /// Returns the value of a variable that is set.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Variables for std::collections::HashMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// A word with everything replaced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expansion {
    /// The word.
    pub(crate) text: String,
    /// It, split at white space that is not quoted.
    pub(crate) words: Vec<String>,
    /// Variables that were used and are set.
    pub(crate) matched: BTreeSet<String>,
    /// Variables that were used without a default and are not set.
    pub(crate) unmatched: BTreeSet<String>,
}

/// How to expand.
#[derive(Clone, Copy)]
pub(crate) struct Expander<'e> {
    /// The escape character.
    pub(crate) escape: char,
    /// Whether quotes quote: not in heredocs.
    pub(crate) quotes: bool,
    pub(crate) variables: &'e dyn Variables,
    pub(crate) budget: &'e Budget,
}

impl Expander<'_> {
    /// Replaces the variables, quotes and escapes of a word.
    pub(crate) fn expand(&self, word: &str) -> Result<Expansion, ExpandError> {
        let mut lexer = Lexer {
            expander: self,
            rest: word,
            raw_escapes: false,
            depth: 0,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        let output = lexer.until(None)?;
        self.budget.spend(output.text.len())?;
        let words = output.into_words();
        Ok(Expansion {
            text: words.0,
            words: words.1,
            matched: lexer.matched,
            unmatched: lexer.unmatched,
        })
    }
}

/// Text and the words in it.
#[derive(Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Output {
    /// Adds what was quoted or escaped.
    fn literal(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    /// Adds what is split at white space.
    fn split(&mut self, text: &str) {
        self.text.push_str(text);
        for c in text.chars() {
            if !c.is_whitespace() {
                self.word.push(c);
            } else if !self.word.is_empty() {
                self.words.push(std::mem::take(&mut self.word));
            }
        }
    }

    fn into_words(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (self.text, self.words)
    }
}

struct Lexer<'l> {
    expander: &'l Expander<'l>,
    rest: &'l str,
    /// Inside a pattern, where escapes are left for the pattern.
    raw_escapes: bool,
    depth: usize,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

impl<'l> Lexer<'l> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.next();
        }
        found
    }

    /// Expands up to a character, which is taken, or to the end.
    fn until(&mut self, stop: Option<char>) -> Result<Output, ExpandError> {
        let mut output = Output::default();
        let mut buffer = [0; 4];
        while let Some(c) = self.next() {
            if stop == Some(c) {
                return Ok(output);
            }
            match c {
                '$' => output.split(&self.dollar()?),
                '\'' if self.expander.quotes => output.literal(self.single_quoted()?),
                '"' if self.expander.quotes => output.literal(&self.double_quoted()?),
                c if c == self.expander.escape => {
                    if self.raw_escapes {
                        output.literal(c.encode_utf8(&mut buffer));
                    }
                    if let Some(escaped) = self.next() {
                        output.literal(escaped.encode_utf8(&mut buffer));
                    }
                }
                c => output.split(c.encode_utf8(&mut buffer)),
            }
        }
        match stop {
            None => Ok(output),
            Some(_) => Err(ExpandError::UnclosedBrace),
        }
    }

    fn single_quoted(&mut self) -> Result<&'l str, ExpandError> {
        let (inner, rest) = self
            .rest
            .split_once('\'')
            .ok_or(ExpandError::UnclosedQuote("single"))?;
        self.rest = rest;
        Ok(inner)
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let escape = self.expander.escape;
        let mut text = String::new();
        loop {
            match self.next().ok_or(ExpandError::UnclosedQuote("double"))? {
                '"' => return Ok(text),
                '$' => text.push_str(&self.dollar()?),
                c if c == escape => {
                    if self.raw_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        // Only these can be escaped here; before all else the escape stays.
                        Some(escaped) if matches!(escaped, '"' | '$') || escaped == escape => {
                            text.extend(self.next());
                        }
                        Some(_) => text.push(c),
                    }
                }
                c => text.push(c),
            }
        }
    }

    /// Replaces what follows a `$`, and pays for it.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        let value = self.substitution()?;
        self.expander.budget.spend(value.len())?;
        Ok(value)
    }

    fn substitution(&mut self) -> Result<String, ExpandError> {
        if !self.eat('{') {
            let name = self.name();
            return Ok(match name.is_empty() {
                true => "$".to_owned(),
                false => self.value(&name).unwrap_or_default().to_owned(),
            });
        }
        match self.peek() {
            None => return Err(ExpandError::UnclosedBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let modifier = self.next().ok_or(ExpandError::UnclosedBrace)?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(ExpandError::TooDeep);
        }
        let value = match modifier {
            '}' => Ok(self.value(&name).unwrap_or_default().to_owned()),
            ':' => {
                let modifier = self.next().ok_or(ExpandError::UnclosedBrace)?;
                self.modified(&name, modifier, true)
            }
            '/' => self.replaced(&name),
            modifier => self.modified(&name, modifier, false),
        };
        self.depth -= 1;
        value
    }

    /// `${name-word}` and its like; with a colon an empty value counts as none.
    fn modified(&mut self, name: &str, modifier: char, colon: bool) -> Result<String, ExpandError> {
        if !matches!(modifier, '-' | '+' | '?' | '#' | '%') {
            let colon = if colon { ":" } else { "" };
            return Err(ExpandError::UnsupportedModifier(format!(
                "{colon}{modifier}"
            )));
        }
        let word = self.inner('}', matches!(modifier, '#' | '%'))?;
        let value = match modifier {
            '#' | '%' => self.value(name),
            // Who writes these has thought of a variable that is not set.
            _ => self.value_if_set(name),
        };
        let present = value.filter(|value| !(colon && value.is_empty()));
        match modifier {
            '-' => Ok(present.map_or(word, str::to_owned)),
            '+' => Ok(present.map(|_| word).unwrap_or_default()),
            '?' => present.map(str::to_owned).ok_or_else(|| {
                let unset = if value.is_none() { "unset" } else { "empty" };
                let message = match word.is_empty() {
                    true => format!("is not allowed to be {unset}"),
                    false => word,
                };
                ExpandError::Required {
                    name: name.to_owned(),
                    message,
                }
            }),
            _ => self.trimmed(value.unwrap_or_default(), &word, modifier),
        }
    }

    /// `${name#pattern}` and its like; doubled takes off as much as possible.
    fn trimmed(&self, value: &str, word: &str, modifier: char) -> Result<String, ExpandError> {
        let (longest, word) = match word.strip_prefix(modifier) {
            Some(word) => (true, word),
            None => (false, word),
        };
        let pattern = self.pattern(word)?;
        let rest = match modifier {
            '#' => pattern.trim_start(value, longest, self.expander.budget)?,
            _ => pattern.trim_end(value, longest, self.expander.budget)?,
        };
        Ok(rest.to_owned())
    }

    /// `${name/pattern/replacement}`; with `//` everywhere.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.eat('/');
        let word = self.inner('/', true).map_err(|error| match error {
            ExpandError::UnclosedBrace if self.rest.is_empty() => {
                ExpandError::UnclosedPattern(name.to_owned())
            }
            error => error,
        })?;
        let replacement = self.inner('}', true)?;
        let pattern = self.pattern(&word)?;
        let value = self.value(name).unwrap_or_default();
        pattern.replace(value, &replacement, all, self.expander.budget)
    }

    fn pattern(&self, word: &str) -> Result<Pattern, ExpandError> {
        Pattern::parse(word).map_err(|source| ExpandError::InvalidPattern {
            pattern: word.to_owned(),
            source,
        })
    }

    /// Expands the inside of braces.
    fn inner(&mut self, stop: char, raw_escapes: bool) -> Result<String, ExpandError> {
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let output = self.until(Some(stop));
        self.raw_escapes = before;
        let text = output?.text;
        self.expander.budget.spend(text.len())?;
        Ok(text)
    }

    fn value(&mut self, name: &str) -> Option<&'l str> {
        let value = self.value_if_set(name);
        if value.is_none() {
            self.unmatched.insert(name.to_owned());
        }
        value
    }

    fn value_if_set(&mut self, name: &str) -> Option<&'l str> {
        let value = self.expander.variables.value(name)?;
        self.matched.insert(name.to_owned());
        Some(value)
    }

    /// Reads a name: letters, digits and `_`, or digits, or one special character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some(c) if c.is_numeric() => {
                while let Some(c) = self.peek().filter(|c| c.is_numeric()) {
                    name.push(c);
                    self.next();
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.next()),
            _ => {
                while let Some(c) = self.peek().filter(|&c| c.is_alphanumeric() || c == '_') {
                    name.push(c);
                    self.next();
                }
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn expand(word: &str, escape: char, quotes: bool) -> Result<Expansion, ExpandError> {
        let variables: HashMap<String, String> = [
            ("a", "alpha"),
            ("empty", ""),
            ("path", "/usr/local/lib/x.tar.gz"),
            ("words", "one two"),
            ("n1", "x"),
            ("quote", "it's \"so\""),
            ("self", "$a"),
            ("pattern", "a*"),
            ("lines", "a\nb"),
            ("ümlaut", "ü"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let budget = Budget::default();
        Expander {
            escape,
            quotes,
            variables: &variables,
            budget: &budget,
        }
        .expand(word)
    }

    fn check(cases: &[(&str, &str)]) {
        for (word, expected) in cases {
            let found = expand(word, '\\', true).map(|expansion| expansion.text);
            assert_eq!(found.as_deref(), Ok(*expected), "{word}");
        }
    }

    #[test]
    fn variables_and_quotes_are_replaced() {
        check(&[
            ("", ""),
            ("plain", "plain"),
            ("$a", "alpha"),
            ("${a}", "alpha"),
            ("x${a}y", "xalphay"),
            ("$a.$a", "alpha.alpha"),
            ("$ab", ""),
            ("$n1", "x"),
            ("$1n", "n"),
            ("$12", ""),
            ("$", "$"),
            ("$.", "$."),
            ("a$", "a$"),
            ("$$a", "a"),
            ("$@x", "x"),
            ("$self", "$a"),
            ("$ümlaut", "ü"),
            // Quotes.
            ("'$a'", "$a"),
            ("\"$a\"", "alpha"),
            ("'a\\b'", "a\\b"),
            ("\"a\\b\"", "a\\b"),
            ("\"a\\\"b\"", "a\"b"),
            ("\"\\$a\"", "$a"),
            ("\"\\\\\"", "\\"),
            ("\"it's\"", "it's"),
            ("'say \"x\"'", "say \"x\""),
            ("a'b'\"c\"d", "abcd"),
            ("''", ""),
            ("$quote", "it's \"so\""),
            // Escapes.
            ("\\$a", "$a"),
            ("\\\\$a", "\\alpha"),
            ("\\a", "a"),
            ("a\\ b", "a b"),
            ("\\'x", "'x"),
            ("x\\", "x"),
            ("\\${a}", "${a}"),
        ]);
    }

    #[test]
    fn defaults_and_alternatives_are_chosen() {
        check(&[
            ("${a-x}", "alpha"),
            ("${a:-x}", "alpha"),
            ("${none-x}", "x"),
            ("${none:-x}", "x"),
            ("${empty-x}", ""),
            ("${empty:-x}", "x"),
            ("${none:-}", ""),
            ("${a+x}", "x"),
            ("${a:+x}", "x"),
            ("${none+x}", ""),
            ("${none:+x}", ""),
            ("${empty+x}", "x"),
            ("${empty:+x}", ""),
            ("${a?x}", "alpha"),
            ("${a:?x}", "alpha"),
            ("${empty?x}", ""),
            ("${none:-$a}", "alpha"),
            ("${none:-${empty:-$a}}", "alpha"),
            ("${none:-'$a'}", "$a"),
            ("${none:-\"$a b\"}", "alpha b"),
            ("${none:-a\\}b}", "a}b"),
            ("${none:-a b}", "a b"),
            ("${none:--}", "-"),
            ("\"${none:-x}\"", "x"),
        ]);
    }

    #[test]
    fn patterns_trim_and_replace() {
        check(&[
            // Prefixes and suffixes.
            ("${path#/}", "usr/local/lib/x.tar.gz"),
            ("${path#*/}", "usr/local/lib/x.tar.gz"),
            ("${path##*/}", "x.tar.gz"),
            ("${path#x}", "/usr/local/lib/x.tar.gz"),
            ("${path%.*}", "/usr/local/lib/x.tar"),
            ("${path%%.*}", "/usr/local/lib/x"),
            ("${path%/*}", "/usr/local/lib"),
            ("${path%%/*}", ""),
            ("${path%gz}", "/usr/local/lib/x.tar."),
            ("${a#?}", "lpha"),
            ("${a%?}", "alph"),
            ("${a#*}", "alpha"),
            ("${a##*}", ""),
            ("${a#\\*}", "alpha"),
            ("${pattern#a\\*}", ""),
            ("${a#$pattern}", "lpha"),
            ("${a##$pattern}", ""),
            ("${lines##*b}", "a\nb"),
            ("${none#x}", ""),
            ("${a:#al}", "pha"),
            // Replacements.
            ("${a/l/L}", "aLpha"),
            ("${a/a/A}", "Alpha"),
            ("${a//a/A}", "AlphA"),
            ("${a//x/y}", "alpha"),
            ("${a/*/x}", "x"),
            ("${a//*/x}", "x"),
            ("${a//?/x}", "xxxxx"),
            ("${a/l*h/-}", "a-a"),
            ("${path//\\//:}", ":usr:local:lib:x.tar.gz"),
            ("${a/p/$n1}", "alxha"),
            ("${a/a/}", "lpha"),
            ("${a//a/}", "lph"),
            ("${a//./x}", "alpha"),
            ("${none/a/b}", ""),
            ("${a//[/x}", "alpha"),
        ]);
    }

    #[test]
    fn a_backtick_can_be_the_escape() {
        for (word, expected) in [
            ("`$a", "$a"),
            ("\\$a", "\\alpha"),
            ("\"`$a\"", "$a"),
            ("c:\\x", "c:\\x"),
            ("``", "`"),
        ] {
            assert_eq!(expand(word, '`', true).unwrap().text, expected, "{word}");
        }
    }

    #[test]
    fn quotes_stay_in_heredocs() {
        for (word, expected) in [
            ("'$a' \"$a\"\n", "'alpha' \"alpha\"\n"),
            ("it's", "it's"),
            ("\\$a", "$a"),
            ("a\\\\b", "a\\b"),
        ] {
            assert_eq!(expand(word, '\\', false).unwrap().text, expected, "{word}");
        }
    }

    #[test]
    fn words_are_split_unless_quoted() {
        let cases: &[(&str, &[&str])] = &[
            ("$words", &["one", "two"]),
            ("\"$words\"", &["one two"]),
            ("x$words.y", &["xone", "two.y"]),
            ("a b", &["a", "b"]),
            ("a\\ b", &["a b"]),
            ("'a b' c", &["a b", "c"]),
            ("$empty", &[]),
        ];
        for (word, expected) in cases {
            assert_eq!(expand(word, '\\', true).unwrap().words, *expected, "{word}");
        }
    }

    #[test]
    fn faults_are_named() {
        let cases = [
            ("${", "missing `}`"),
            ("${a", "missing `}`"),
            ("${a:-x", "missing `}`"),
            ("${a:", "missing `}`"),
            ("${}", "bad substitution"),
            ("${:-x}", "bad substitution"),
            ("${{a}}", "bad substitution"),
            ("${a^^}", "unsupported modifier `^` in substitution"),
            ("${a:1:2}", "unsupported modifier `:1` in substitution"),
            ("${a b}", "unsupported modifier ` ` in substitution"),
            ("${a/x}", "missing `/` in `${a/…}`"),
            ("${a/x/y", "missing `}`"),
            ("'x", "no closing single quote"),
            ("\"x", "no closing double quote"),
            ("${none?}", "`none`: is not allowed to be unset"),
            ("${empty:?}", "`empty`: is not allowed to be empty"),
            ("${none:?say $a}", "`none`: say alpha"),
            ("${a#\\x}", "invalid pattern `\\x` in substitution"),
        ];
        for (word, expected) in cases {
            let error = expand(word, '\\', true).unwrap_err();
            assert_eq!(error.to_string(), expected, "{word}");
        }
    }

    #[test]
    fn unset_variables_are_told_unless_there_is_a_default() {
        let found = expand("$x ${y} ${z:-1} ${q#a} $a", '\\', true).unwrap();
        assert_eq!(found.unmatched, ["q", "x", "y"].map(str::to_owned).into());
        assert_eq!(found.matched, ["a".to_owned()].into());
    }

    #[test]
    fn hostile_words_end_soon() {
        let deep = "${a:-".repeat(100_000);
        assert_eq!(expand(&deep, '\\', true), Err(ExpandError::TooDeep));
        let long: HashMap<_, _> = [("a".to_owned(), "a".repeat(1 << 20))].into();
        let budget = Budget::default();
        let expander = Expander {
            escape: '\\',
            quotes: true,
            variables: &long,
            budget: &budget,
        };
        let stars = format!("${{a##{}b}}", "*a".repeat(10_000));
        assert_eq!(expander.expand(&stars), Err(ExpandError::TooLarge));
        assert_eq!(
            expander.expand(&"$a".repeat(1000)),
            Err(ExpandError::TooLarge)
        );
    }
}
