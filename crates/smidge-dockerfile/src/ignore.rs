//! `.dockerignore`: which files of a context are left out.
//!
//! The rules are those of Docker's own matcher: patterns apply in order, a later one overrides, one
//! that begins with `!` brings files back, and what holds for a directory holds for all below it.
//! See <https://docs.docker.com/build/concepts/context/#dockerignore-files>.

/// The patterns of a `.dockerignore` file.
///
/// ```
/// let patterns = smidge_dockerfile::ignore::Patterns::parse("target\n!target/app\n").unwrap();
/// assert!(patterns.ignored("target/debug/x"));
/// assert!(!patterns.ignored("target/app"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<Pattern>);

/// A pattern that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("illegal exclusion pattern `{pattern}` on line {line}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// Its line, from 1.
    pub line: usize,
}

impl Patterns {
    /// Reads the patterns of a `.dockerignore` file.
    ///
    /// # Errors
    /// A pattern whose brackets or escapes are not closed.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (at, line) in text.lines().enumerate() {
            // As in Docker, an indented `#` begins no comment.
            if !line.starts_with('#') {
                patterns.extend(Pattern::parse(line, at + 1)?);
            }
        }
        Ok(Self(patterns))
    }

    /// Makes patterns from a list, as `--exclude` gives it.
    ///
    /// # Errors
    /// A pattern whose brackets or escapes are not closed.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        let mut parsed = Vec::new();
        for (at, pattern) in patterns.iter().enumerate() {
            parsed.extend(Pattern::parse(pattern.as_ref(), at + 1)?);
        }
        Ok(Self(parsed))
    }

    /// Tells whether a path of the context, `/`-separated and relative to its root, is left out.
    pub fn ignored(&self, path: &str) -> bool {
        let mut ignored = false;
        for pattern in &self.0 {
            // One that would change nothing need not be tried.
            if pattern.negated == ignored && pattern.matches_or_holds(path) {
                ignored = !pattern.negated;
            }
        }
        ignored
    }

    /// Tells whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|pattern| pattern.negated)
    }

    /// Tells whether something below an ignored directory may still be wanted, so that it must be
    /// looked into.
    pub fn may_include_below(&self, directory: &str) -> bool {
        let below = format!("{}/", directory.trim_end_matches('/'));
        self.0
            .iter()
            .any(|pattern| pattern.negated && pattern.run(&below).alive)
    }
}

#[derive(Clone, Debug)]
struct Pattern {
    negated: bool,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    One(char),
    /// `?`: anything but `/`.
    Any,
    /// `*`: any number of anything but `/`.
    Star,
    /// `[…]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**` at the end: anything at all.
    Rest,
    /// `**/`: nothing, or anything that ends in `/`. Always followed by [`Token::Directories`].
    Optional,
    /// The inside of `**/`.
    Directories,
}

/// Where a pattern stands when a text has been read.
struct Outcome {
    /// The text matches.
    matched: bool,
    /// The text matches up to some `/`.
    parent_matched: bool,
    /// A longer text may match.
    alive: bool,
}

impl Pattern {
    /// Reads a line; nothing comes of an empty one.
    fn parse(line: &str, number: usize) -> Result<Option<Self>, PatternError> {
        let text = line.trim();
        let (negated, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text),
        };
        let error = || PatternError {
            pattern: line.trim().to_owned(),
            line: number,
        };
        if text.is_empty() {
            return if negated { Err(error()) } else { Ok(None) };
        }
        let tokens = tokens(&clean(text)).ok_or_else(error)?;
        Ok(Some(Self { negated, tokens }))
    }

    /// Tells whether a path or one of the directories above it matches.
    fn matches_or_holds(&self, path: &str) -> bool {
        let outcome = self.run(path);
        outcome.matched || outcome.parent_matched
    }

    /// Follows all ways to match at once.
    fn run(&self, text: &str) -> Outcome {
        let end = self.tokens.len();
        let mut states = vec![false; end + 1];
        let mut next = states.clone();
        self.enter(&mut states, 0);
        let mut parent_matched = false;
        for (at, c) in text.char_indices() {
            parent_matched |= c == '/' && at > 0 && states[end];
            next.fill(false);
            for (state, token) in self.tokens.iter().enumerate() {
                if states[state] {
                    self.step(&mut next, state, token, c);
                }
            }
            std::mem::swap(&mut states, &mut next);
            if !states.contains(&true) {
                break;
            }
        }
        Outcome {
            matched: states[end],
            parent_matched,
            alive: states[..end].contains(&true),
        }
    }

    fn step(&self, next: &mut [bool], state: usize, token: &Token, c: char) {
        match token {
            Token::One(own) if *own == c => self.enter(next, state + 1),
            Token::Any if c != '/' => self.enter(next, state + 1),
            Token::Star if c != '/' => self.enter(next, state),
            Token::Class { negated, ranges } => {
                let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                if inside != *negated {
                    self.enter(next, state + 1);
                }
            }
            Token::Rest => self.enter(next, state),
            Token::Directories => {
                self.enter(next, state);
                if c == '/' {
                    self.enter(next, state + 1);
                }
            }
            _ => {}
        }
    }

    /// Enters a state and those that follow it without a character.
    fn enter(&self, states: &mut [bool], mut state: usize) {
        while !std::mem::replace(&mut states[state], true) {
            match self.tokens.get(state) {
                Some(Token::Star | Token::Rest) => state += 1,
                Some(Token::Optional) => {
                    states[state + 1] = true;
                    state += 2;
                }
                _ => return,
            }
        }
    }
}

/// Removes `.`, `..`, doubled, leading and trailing slashes.
fn clean(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if text.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    match parts.is_empty() {
        // The context itself cannot be left out: such a pattern matches nothing.
        true => ".".to_owned(),
        false => parts.join("/"),
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' if rest.starts_with('*') => {
                let first = tokens.is_empty();
                rest = &rest[1..];
                let deep = rest.strip_prefix('/');
                rest = deep.unwrap_or(rest);
                // `**.go` means any path that ends so, because it is plain behind the stars.
                if rest.is_empty() || (first && deep.is_none() && is_plain(rest)) {
                    tokens.push(Token::Rest);
                } else if tokens.last() != Some(&Token::Directories) {
                    tokens.extend([Token::Optional, Token::Directories]);
                }
            }
            // Several stars are one, and would only cost time.
            '*' if tokens.last() == Some(&Token::Star) => {}
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::Any),
            '[' => {
                let (class, behind) = class(rest)?;
                tokens.push(class);
                rest = behind;
            }
            '\\' => {
                let escaped = rest.chars().next()?;
                rest = &rest[escaped.len_utf8()..];
                tokens.push(Token::One(escaped));
            }
            c => tokens.push(Token::One(c)),
        }
    }
    Some(tokens)
}

fn is_plain(text: &str) -> bool {
    !text.contains(['*', '?', '[', ']', '\\'])
}

/// Reads a class behind its `[`; gives what follows its `]`.
fn class(text: &str) -> Option<(Token, &str)> {
    let (negated, mut rest) = match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        if let Some(behind) = rest.strip_prefix(']').filter(|_| !ranges.is_empty()) {
            return Some((Token::Class { negated, ranges }, behind));
        }
        let low = class_character(&mut rest)?;
        let high = match rest.strip_prefix('-') {
            Some(behind) => {
                rest = behind;
                class_character(&mut rest)?
            }
            None => low,
        };
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut &str) -> Option<char> {
    let mut characters = rest.chars();
    let c = match characters.next()? {
        '-' | ']' => return None,
        '\\' => characters.next()?,
        c => c,
    };
    *rest = characters.as_str();
    Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pattern_matches_as_in_docker() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("a", &["a", "a/b", "a/b/c"], &["b", "ab", "b/a"]),
            ("/a", &["a", "a/b"], &["b/a"]),
            ("a/", &["a", "a/b"], &["ab"]),
            ("./a", &["a"], &["b"]),
            ("a/../b", &["b"], &["a"]),
            ("a/b", &["a/b", "a/b/c"], &["a", "b", "a/c", "c/a/b"]),
            ("*", &["a", "a/b", ".git"], &[]),
            ("*.md", &["a.md", ".md", "a.md/b"], &["a/b.md", "md"]),
            ("*/x", &["a/x", "a/x/y"], &["x", "a/b/x"]),
            ("*/*/x", &["a/b/x"], &["a/x"]),
            ("a?", &["ab", "ab/c"], &["a", "abc", "a/"]),
            ("**", &["a", "a/b"], &[]),
            ("**/x", &["x", "a/x", "a/b/x", "a/x/y"], &["ax", "a/bx"]),
            ("**/*.go", &["a.go", "a/b.go", "a/b/c.go"], &["a.goo"]),
            ("**.go", &["a.go", "a/b.go", ".go"], &["a.goo"]),
            ("a/**", &["a/b", "a/b/c"], &["a", "b"]),
            (
                "a/**/b",
                &["a/b", "a/x/b", "a/x/y/b", "a/b/z"],
                &["a", "ab", "a/xb"],
            ),
            ("a**", &["a", "ab", "ab/c", "a/b"], &["b"]),
            ("a**/b", &["ab", "ax/b", "a/b"], &["b", "a"]),
            ("**/a/**", &["a/b", "x/a/b"], &["a", "x"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[^a]x", &["bx"], &["ax"]),
            ("[ab\\]]", &["a", "]"], &["c"]),
            ("\\*", &["*"], &["a"]),
            ("\\#a", &["#a"], &["a"]),
            ("a.b+c(d)", &["a.b+c(d)"], &["axb+c(d)"]),
            ("é?", &["éü"], &["é"]),
            (".", &[], &["a"]),
            ("/", &[], &["a"]),
            ("..", &[], &["a"]),
            ("../a", &[], &["a"]),
            ("/../a", &["a"], &[]),
            ("  a  ", &["a"], &[]),
            ("a b", &["a b"], &["a"]),
        ];
        for (pattern, ignored, kept) in cases {
            let patterns = Patterns::parse(pattern).unwrap();
            for path in *ignored {
                assert!(patterns.ignored(path), "{pattern} should match {path}");
            }
            for path in *kept {
                assert!(!patterns.ignored(path), "{pattern} should not match {path}");
            }
        }
    }

    #[test]
    fn later_patterns_override() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("*\n!a", &["b", "b/a"], &["a", "a/b"]),
            ("!a\n*", &["a", "b"], &[]),
            ("a\n!a/b", &["a", "a/c"], &["a/b", "a/b/c"]),
            ("a\n!a/b\na/b/c", &["a/b/c", "a/d"], &["a/b", "a/b/d"]),
            (
                "**/*.o\n!keep/**",
                &["a.o", "x/a.o"],
                &["keep/a.o", "keep/x/a.o"],
            ),
            (
                "*.md\n!README*.md\nREADME-secret.md",
                &["a.md", "README-secret.md"],
                &["README.md"],
            ),
            ("# comment\n\n a\n#b\n", &["a"], &["b", "#b", "# comment"]),
            (" # a", &["# a"], &["a"]),
            ("\u{feff}a\r\nb\r\n", &["a", "b"], &["c"]),
            ("! a\n*\n!  b", &["a"], &["b"]),
            ("", &[], &["a"]),
        ];
        for (text, ignored, kept) in cases {
            let patterns = Patterns::parse(text).unwrap();
            for path in *ignored {
                assert!(patterns.ignored(path), "{text:?} should match {path}");
            }
            for path in *kept {
                assert!(!patterns.ignored(path), "{text:?} should not match {path}");
            }
        }
    }

    #[test]
    fn directories_are_looked_into_only_for_exceptions() {
        let patterns = Patterns::parse("*\n!a/b/c\n!x*/y\n!**/deep").unwrap();
        assert!(patterns.may_include_below("a"));
        assert!(patterns.may_include_below("a/b"));
        assert!(patterns.may_include_below("xx"));
        assert!(
            patterns.may_include_below("elsewhere"),
            "`**/deep` may be anywhere"
        );
        let patterns = Patterns::parse("*\n!a/b/c\n!x*/y").unwrap();
        assert!(!patterns.may_include_below("b"));
        assert!(!patterns.may_include_below("a/c"));
        assert!(!Patterns::parse("*").unwrap().may_include_below("a"));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for text in [
            "[", "[a", "a\\", "[]", "[]a]", "[-a]", "[a-]", "[^]", "!", "! ", "x\n[a",
        ] {
            assert!(Patterns::parse(text).is_err(), "{text}");
        }
        let error = Patterns::parse("a\n\n[b\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "illegal exclusion pattern `[b` on line 3"
        );
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let patterns = Patterns::parse(&"**/*a".repeat(200)).unwrap();
        assert!(!patterns.ignored(&"b/".repeat(2000)));
        let patterns = Patterns::parse(&"*".repeat(100_000)).unwrap();
        assert!(patterns.ignored("a"));
    }

    #[test]
    fn exceptions_alone_leave_nothing_out() {
        assert!(Patterns::parse("!a\n").unwrap().is_empty());
        assert!(!Patterns::new(&["a"]).unwrap().is_empty());
    }
}
