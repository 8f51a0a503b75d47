//! A template's text as pieces, and an action's text as tokens.

use super::TemplateError;

/// Literal text, or what stands between `{{` and `}}`.
pub(super) enum Piece<'t> {
    /// Printed as it is.
    Text(&'t str),
    /// The tokens of an action, and where the action stands.
    Action(Vec<Token>, (usize, usize)),
}

/// One token and the bytes it came from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: (usize, usize),
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Dot,
    /// `.A.B`: the names.
    Field(Vec<String>),
    /// `$` or `$name`.
    Variable(String),
    /// A keyword, a function, `true`, `false` or `nil`.
    Word(String),
    /// A quoted or raw string.
    Text(String),
    Integer(i64),
    Float(f64),
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
}

/// Splits a template, trimming white space where `{{-` and `-}}` ask for it.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim_next = false;
    while let Some(open) = text[at..].find("{{").map(|found| at + found) {
        let inside = open + 2;
        let trim_before = marker(&text[inside..]);
        let start = if trim_before { inside + 1 } else { inside };
        let literal = trimmed(&text[at..open], trim_next, trim_before);
        pieces.push(Piece::Text(literal));
        let (tokens, end, trim_after) = action(text, open, start)?;
        pieces.push(Piece::Action(tokens, (open, end)));
        at = end;
        trim_next = trim_after;
    }
    pieces.push(Piece::Text(trimmed(&text[at..], trim_next, false)));
    Ok(pieces)
}

/// `-` followed by white space.
fn marker(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|rest| rest.starts_with([' ', '\t', '\r', '\n']))
}

fn trimmed(text: &str, start: bool, end: bool) -> &str {
    const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];
    let text = if start {
        text.trim_start_matches(SPACE)
    } else {
        text
    };
    if end {
        text.trim_end_matches(SPACE)
    } else {
        text
    }
}

/// Reads an action up to and including its `}}`.
fn action(
    text: &str,
    open: usize,
    start: usize,
) -> Result<(Vec<Token>, usize, bool), TemplateError> {
    let unclosed = || TemplateError::new((open, open + 2), "this `{{` is never closed by `}}`");
    let mut at = start;
    if text[at..].trim_start().starts_with("/*") {
        let close = text[at..]
            .find("*/")
            .map(|found| at + found + 2)
            .ok_or_else(unclosed)?;
        let rest = &text[close..];
        let gap = rest.len() - rest.trim_start().len();
        let trim = gap > 0 && rest.trim_start().starts_with("-}}");
        let end = close + gap + usize::from(trim);
        return match text[end..].starts_with("}}") {
            true => Ok((Vec::new(), end + 2, trim)),
            false => Err(unclosed()),
        };
    }
    let mut tokens = Vec::new();
    loop {
        let rest = &text[at..];
        let space = rest.len() - rest.trim_start().len();
        let next = &rest[space..];
        if space > 0 && next.starts_with("-}}") {
            return Ok((tokens, at + space + 3, true));
        }
        if next.starts_with("}}") {
            return Ok((tokens, at + space + 2, false));
        }
        if next.is_empty() {
            return Err(unclosed());
        }
        let token = token(text, at + space)?;
        at = token.span.1;
        tokens.push(token);
    }
}

fn token(text: &str, at: usize) -> Result<Token, TemplateError> {
    let rest = &text[at..];
    let first = rest.chars().next().unwrap_or('\0');
    let (kind, length) = match first {
        '|' => (Kind::Pipe, 1),
        '(' => (Kind::Open, 1),
        ')' => (Kind::Close, 1),
        ',' => (Kind::Comma, 1),
        ':' if rest.starts_with(":=") => (Kind::Declare, 2),
        '=' => (Kind::Assign, 1),
        '"' => quoted(rest, at)?,
        '`' => raw(rest, at)?,
        '\'' => character(rest, at)?,
        '$' => {
            let name = name(&rest[1..]);
            (Kind::Variable(name.to_owned()), 1 + name.len())
        }
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => fields(rest),
        '0'..='9' | '.' | '-' | '+' => number(rest, at)?,
        _ if is_name(first) => {
            let name = name(rest);
            (Kind::Word(name.to_owned()), name.len())
        }
        _ => {
            let span = (at, at + first.len_utf8());
            return Err(TemplateError::new(
                span,
                format!("unexpected `{}`", first.escape_debug()),
            ));
        }
    };
    Ok(Token {
        kind,
        span: (at, at + length),
    })
}

fn is_name(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn name(text: &str) -> &str {
    &text[..text.find(|c| !is_name(c)).unwrap_or(text.len())]
}

/// `.` alone, or `.A.B`.
fn fields(text: &str) -> (Kind, usize) {
    let mut names = Vec::new();
    let mut length = 0;
    while let Some(rest) = text[length..].strip_prefix('.') {
        let name = name(rest);
        if name.is_empty() {
            break;
        }
        names.push(name.to_owned());
        length += 1 + name.len();
    }
    if names.is_empty() {
        (Kind::Dot, 1)
    } else {
        (Kind::Field(names), length)
    }
}

/// Where the literal that starts with `quote` ends, its closing quote included.
fn closing(text: &str, quote: char, at: usize) -> Result<usize, TemplateError> {
    let mut escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' => break,
            _ if character == quote => return Ok(index + 1),
            _ => {}
        }
    }
    Err(TemplateError::new(
        (at, at + 1),
        "this string is never closed",
    ))
}

fn quoted(text: &str, at: usize) -> Result<(Kind, usize), TemplateError> {
    let length = closing(text, '"', at)?;
    Ok((Kind::Text(unescape(&text[1..length - 1], at + 1)?), length))
}

fn character(text: &str, at: usize) -> Result<(Kind, usize), TemplateError> {
    let length = closing(text, '\'', at)?;
    let content = unescape(&text[1..length - 1], at + 1)?;
    let mut characters = content.chars();
    match (characters.next(), characters.next()) {
        (Some(only), None) => Ok((Kind::Integer(i64::from(u32::from(only))), length)),
        _ => Err(TemplateError::new(
            (at, at + length),
            "`'…'` holds exactly one character; write strings as `\"…\"`",
        )),
    }
}

fn raw(text: &str, at: usize) -> Result<(Kind, usize), TemplateError> {
    let end = text[1..]
        .find('`')
        .ok_or_else(|| TemplateError::new((at, at + 1), "this string is never closed"))?;
    Ok((Kind::Text(text[1..=end].to_owned()), end + 2))
}

/// Go's escapes in interpreted strings.
fn unescape(text: &str, at: usize) -> Result<String, TemplateError> {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        if character != '\\' {
            result.push(character);
            continue;
        }
        let (_, escape) = characters.next().unwrap_or((0, '\0'));
        let hex = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let meaning = match escape {
            'n' => Some('\n'),
            't' => Some('\t'),
            'r' => Some('\r'),
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'v' => Some('\x0b'),
            '\\' | '"' | '\'' => Some(escape),
            _ if hex > 0 => {
                let digits: String = characters.by_ref().take(hex).map(|(_, c)| c).collect();
                let code = u32::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == hex);
                code.and_then(char::from_u32)
            }
            _ => None,
        };
        let span = (at + index, at + index + 1 + escape.len_utf8());
        result.push(meaning.ok_or_else(|| TemplateError::new(span, "unknown escape"))?);
    }
    Ok(result)
}

fn number(text: &str, at: usize) -> Result<(Kind, usize), TemplateError> {
    let end = text
        .char_indices()
        .find(|(index, c)| !(is_name(*c) || *c == '.' || (*index == 0 && matches!(c, '-' | '+'))))
        .map_or(text.len(), |(index, _)| index);
    let digits = text[..end].replace('_', "");
    let unsigned = digits.trim_start_matches(['-', '+']);
    let sign = if digits.starts_with('-') { -1 } else { 1 };
    let integer = match unsigned.get(..2) {
        Some("0x" | "0X") => i64::from_str_radix(&unsigned[2..], 16)
            .ok()
            .map(|n| n * sign),
        Some("0o" | "0O") => i64::from_str_radix(&unsigned[2..], 8)
            .ok()
            .map(|n| n * sign),
        Some("0b" | "0B") => i64::from_str_radix(&unsigned[2..], 2)
            .ok()
            .map(|n| n * sign),
        _ => digits.parse().ok(),
    };
    let starts_right = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let float = || {
        digits
            .parse::<f64>()
            .ok()
            .filter(|n| starts_right && n.is_finite())
    };
    let kind = integer
        .map(Kind::Integer)
        .or_else(|| float().map(Kind::Float));
    let span = (at, at + end.max(1));
    let fault = || TemplateError::new(span, format!("`{}` is not a number", &text[..end.max(1)]));
    Ok((kind.ok_or_else(fault)?, end))
}
