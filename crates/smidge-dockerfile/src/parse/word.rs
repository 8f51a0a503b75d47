//! Words with quotes, as `ENV`, `LABEL` and `ARG` take them, and flags.

use crate::line::Slice;
use crate::span::{Span, Word};

/// Splits at white space outside quotes. Quotes and escapes stay: they are taken away when
/// variables are expanded.
pub(super) fn quoted_words(slice: Slice<'_>, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in slice.text().char_indices() {
        if quote.is_none() && !escaped && c.is_whitespace() {
            words.extend(start.take().map(|start| slice.part(start..at).word()));
            continue;
        }
        start.get_or_insert(at);
        if escaped {
            escaped = false;
        } else if c == escape && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        }
    }
    words.extend(start.map(|start| slice.from(start).word()));
    if escaped && let Some(last) = words.last_mut() {
        // An escape character with nothing to escape is dropped.
        last.value.pop();
    }
    words.retain(|word| !word.value.is_empty());
    words
}

/// Splits `key=value`, each with its place.
pub(super) fn split_pair(word: &Word) -> Option<(Word, Word)> {
    let (key, value) = word.value.split_once('=')?;
    let exact = word.span.len() == word.value.len();
    // A word that runs over a continuation is shown whole.
    let (left, right) = if exact {
        let middle = word.span.start + key.len();
        (
            Span::new(word.span.start, middle),
            Span::new(middle + 1, word.span.end),
        )
    } else {
        (word.span, word.span)
    };
    Some((
        Word::new(key.to_owned(), left),
        Word::new(value.to_owned(), right),
    ))
}

/// A `--name[=value]` in front of an instruction's arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) name: String,
    pub(super) value: Option<Word>,
    pub(super) span: Span,
}

/// Splits off the flags. Quotes in them are taken away; `--` alone ends them.
pub(super) fn split_flags(slice: Slice<'_>) -> (Vec<Flag>, Slice<'_>) {
    let mut flags = Vec::new();
    let mut rest = slice.trim();
    while rest.text().starts_with("--") {
        let (text, value_at, end) = unquote_flag(rest.text());
        let raw = rest.part(0..end);
        rest = rest.from(end).trim();
        if text == "--" {
            break;
        }
        let text = &text[2..];
        let flag = match text.split_once('=') {
            Some((name, value)) => Flag {
                name: name.to_owned(),
                value: Some(Word::new(value.to_owned(), raw.from(value_at).span())),
                span: raw.span(),
            },
            None => Flag {
                name: text.to_owned(),
                value: None,
                span: raw.span(),
            },
        };
        flags.push(flag);
    }
    (flags, rest)
}

/// Reads one flag: its text without quotes, the offset of its value, the offset of its end.
fn unquote_flag(text: &str) -> (String, usize, usize) {
    let mut plain = String::new();
    let mut value_at = 0;
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => return (plain, value_at, at),
            // Here the escape is always a backslash, whatever the directive says.
            ('\\', _) => plain.extend(characters.next().map(|(_, c)| c)),
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {
                if c == '=' && value_at == 0 {
                    value_at = at + 1;
                }
                plain.push(c);
            }
        }
    }
    (plain, value_at, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Line;

    fn line(text: &str) -> Line {
        let mut line = Line::default();
        line.push(text, 0);
        line
    }

    #[test]
    fn words_keep_their_quotes() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a  b", &["a", "b"]),
            ("a=\"b c\" d", &["a=\"b c\"", "d"]),
            ("a='b c'd e", &["a='b c'd", "e"]),
            ("a=b\\ c d", &["a=b\\ c", "d"]),
            ("a=\"b\\\" c\" d", &["a=\"b\\\" c\"", "d"]),
            ("a='b\\' c", &["a='b\\'", "c"]),
            ("a=\"b c", &["a=\"b c"]),
            ("a=\"\" b", &["a=\"\"", "b"]),
            ("a\\", &["a"]),
            ("\\", &[]),
        ];
        for (text, expected) in cases {
            let line = line(text);
            let found = quoted_words(line.all(), '\\');
            let found: Vec<_> = found.iter().map(|word| word.value.as_str()).collect();
            assert_eq!(found, *expected, "{text}");
        }
    }

    #[test]
    fn flags_come_first() {
        type Expected<'e> = (&'e str, Option<&'e str>);
        let cases: &[(&str, &[Expected], &str)] = &[
            ("a --b", &[], "a --b"),
            ("--a b", &[("a", None)], "b"),
            (
                "--a=b --c=d  e f",
                &[("a", Some("b")), ("c", Some("d"))],
                "e f",
            ),
            ("--a=\"b c\" d", &[("a", Some("b c"))], "d"),
            ("--a=b\\ c d", &[("a", Some("b c"))], "d"),
            ("--a= b", &[("a", Some(""))], "b"),
            ("-- --b", &[], "--b"),
            ("--a", &[("a", None)], ""),
            ("--m=a=b,c=d x", &[("m", Some("a=b,c=d"))], "x"),
        ];
        for (text, expected, rest) in cases {
            let line = line(text);
            let (flags, found) = split_flags(line.all());
            let flags: Vec<_> = flags
                .iter()
                .map(|flag| {
                    (
                        flag.name.as_str(),
                        flag.value.as_ref().map(|v| v.value.as_str()),
                    )
                })
                .collect();
            assert_eq!(
                (flags.as_slice(), found.text()),
                (*expected, *rest),
                "{text}"
            );
        }
    }
}
