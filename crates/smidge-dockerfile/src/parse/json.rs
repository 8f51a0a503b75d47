//! The exec form: a JSON array of strings, with the place of each.

use crate::line::Slice;
use crate::span::{Spanned, Word};

/// Deeper nesting than this is not a command line, and must not overflow the stack.
const DEEPEST: usize = 64;

/// What a text that may be an exec form turns out to be.
pub(super) enum Json {
    /// An array of strings.
    Words(Spanned<Vec<Word>>),
    /// JSON, but with an element that is not a string: the place of the first such.
    NotStrings(crate::Span),
    /// No JSON array: the offset in the text where it goes wrong.
    Invalid(usize),
}

/// Reads a JSON array of strings.
pub(super) fn parse(slice: Slice<'_>) -> Json {
    let slice = slice.trim();
    let mut scanner = Scanner {
        slice,
        text: slice.text(),
        at: 0,
    };
    match scanner.array() {
        Ok((words, None)) => Json::Words(Spanned::new(words, slice.span())),
        Ok((_, Some(other))) => Json::NotStrings(other.span()),
        Err(Malformed) => Json::Invalid(scanner.at.min(scanner.text.len())),
    }
}

struct Malformed;

struct Scanner<'l> {
    slice: Slice<'l>,
    text: &'l str,
    at: usize,
}

impl<'l> Scanner<'l> {
    fn array(&mut self) -> Result<(Vec<Word>, Option<Slice<'l>>), Malformed> {
        let mut words = Vec::new();
        let mut other = None;
        self.expect('[')?;
        self.skip_space();
        if !self.eat(']') {
            loop {
                self.skip_space();
                let start = self.at;
                if self.peek() == Some('"') {
                    let value = self.string()?;
                    words.push(Word::new(
                        value,
                        self.slice.part(start + 1..self.at - 1).span(),
                    ));
                } else {
                    self.value(0)?;
                    other = other.or(Some(self.slice.part(start..self.at)));
                }
                if self.end_of_element(']')? {
                    break;
                }
            }
        }
        self.skip_space();
        if self.at == self.text.len() {
            Ok((words, other))
        } else {
            Err(Malformed)
        }
    }

    /// Checks any value without keeping it.
    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > DEEPEST {
            return Err(Malformed);
        }
        self.skip_space();
        match self.peek() {
            Some('"') => self.string().map(drop),
            Some('[') => self.elements('[', ']', |scanner| scanner.value(depth + 1)),
            Some('{') => self.elements('{', '}', |scanner| {
                scanner.skip_space();
                scanner.string()?;
                scanner.skip_space();
                scanner.expect(':')?;
                scanner.value(depth + 1)
            }),
            Some('-' | '0'..='9') => self.number(),
            _ => self.literal(),
        }
    }

    fn elements(
        &mut self,
        open: char,
        close: char,
        mut element: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(open)?;
        self.skip_space();
        if self.eat(close) {
            return Ok(());
        }
        loop {
            element(self)?;
            if self.end_of_element(close)? {
                return Ok(());
            }
        }
    }

    fn end_of_element(&mut self, close: char) -> Result<bool, Malformed> {
        self.skip_space();
        if self.eat(close) {
            return Ok(true);
        }
        self.expect(',').map(|()| false)
    }

    fn literal(&mut self) -> Result<(), Malformed> {
        let rest = &self.text[self.at..];
        let word = ["true", "false", "null"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        self.at += word.ok_or(Malformed)?.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Malformed> {
        self.eat('-');
        if !self.eat('0') && self.digits() == 0 {
            return Err(Malformed);
        }
        if self.eat('.') && self.digits() == 0 {
            return Err(Malformed);
        }
        if self.eat('e') || self.eat('E') {
            let _sign = self.eat('+') || self.eat('-');
            if self.digits() == 0 {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let rest = &self.text[self.at..];
        let count = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        self.at += count;
        count
    }

    fn string(&mut self) -> Result<String, Malformed> {
        self.expect('"')?;
        let mut value = String::new();
        loop {
            let c = self.peek().filter(|&c| c >= ' ').ok_or(Malformed)?;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(value),
                '\\' => value.push(self.escape()?),
                c => value.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Malformed> {
        let c = self.peek().ok_or(Malformed)?;
        let plain = match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(Malformed),
        };
        self.at += 1;
        Ok(plain)
    }

    /// Reads the digits of `\uXXXX`; half a surrogate pair becomes U+FFFD, as in Go.
    fn unicode(&mut self) -> Result<char, Malformed> {
        let first = self.hex()?;
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Result<u32, Malformed> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(Malformed)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Malformed);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| Malformed)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<(), Malformed> {
        if self.eat(c) { Ok(()) } else { Err(Malformed) }
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Line;

    fn words(text: &str) -> Result<Vec<String>, &'static str> {
        let mut line = Line::default();
        line.push(text, 0);
        match parse(line.all()) {
            Json::Words(words) => Ok(words.value.into_iter().map(|word| word.value).collect()),
            Json::NotStrings(_) => Err("not strings"),
            Json::Invalid(_) => Err("invalid"),
        }
    }

    #[test]
    fn arrays_are_read_as_go_reads_them() {
        let cases: &[(&str, Result<&[&str], &str>)] = &[
            ("[]", Ok(&[])),
            (" [ ] ", Ok(&[])),
            (r#"["a", "b c"]"#, Ok(&["a", "b c"])),
            (r#"["\"\\\/\n\t"]"#, Ok(&["\"\\/\n\t"])),
            (r#"["\u00e9\ud83d\ude00"]"#, Ok(&["é😀"])),
            (r#"["\ud83dx"]"#, Ok(&["\u{fffd}x"])),
            (r#"["a" "b"]"#, Err("invalid")),
            (r#"["a",]"#, Err("invalid")),
            (r"['a']", Err("invalid")),
            (r#"["a"] x"#, Err("invalid")),
            (r#"["\x"]"#, Err("invalid")),
            (r#"["a"#, Err("invalid")),
            ("[", Err("invalid")),
            ("", Err("invalid")),
            ("[ -f x ]", Err("invalid")),
            ("[\"\\u00\u{e9}\"]", Err("invalid")),
            ("[1, -2.5e+3]", Err("not strings")),
            (r#"["a", ["b"], {"c": null}]"#, Err("not strings")),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|words| words.iter().map(|&w| w.to_owned()).collect());
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_no_array() {
        assert_eq!(words(&"[".repeat(100_000)), Err("invalid"));
    }
}
