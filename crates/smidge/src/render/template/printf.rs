//! Go's `printf`, as far as templates of facts need it.

use serde_json::Value;

use super::eval::{Datum, text};

/// Formats `arguments`; faults show in the result, as Go's do (`%!d(string=x)`).
pub(super) fn printf(format: &str, arguments: &[Datum]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (directive, length) = Directive::parse(&rest[at + 1..]);
        rest = &rest[at + 1 + length..];
        match directive.verb {
            '%' => out.push('%'),
            '\0' => out.push_str("%!(NOVERB)"),
            verb => match arguments.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(argument) => out.push_str(&directive.apply(argument)),
            },
        }
    }
    out.push_str(rest);
    let extra: Vec<String> = arguments.map(text).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// `%-10.3s` without its `%`.
#[derive(Default)]
struct Directive {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
    verb: char,
}

/// Wider fields would only serve to exhaust memory.
const WIDEST: usize = 4096;

impl Directive {
    fn parse(text: &str) -> (Self, usize) {
        let mut directive = Self::default();
        let mut characters = text.char_indices().peekable();
        while let Some((_, flag)) = characters.next_if(|(_, c)| "-0+# ".contains(*c)) {
            directive.left |= flag == '-';
            directive.zero |= flag == '0';
            directive.plus |= flag == '+';
        }
        let mut digits = || {
            let mut number = 0;
            while let Some((_, digit)) = characters.next_if(|(_, c)| c.is_ascii_digit()) {
                number = (number * 10 + digit.to_digit(10).unwrap_or(0) as usize).min(WIDEST);
            }
            (number, characters.next_if(|(_, c)| *c == '.').is_some())
        };
        let (width, dotted) = digits();
        directive.width = width;
        if dotted {
            directive.precision = Some(digits().0);
        }
        match characters.next() {
            Some((at, verb)) => (Self { verb, ..directive }, at + verb.len_utf8()),
            None => (directive, text.len()),
        }
    }

    fn apply(&self, argument: &Datum) -> String {
        let cut = |text: String| match self.precision {
            Some(limit) => text.chars().take(limit).collect(),
            None => text,
        };
        let body = match (self.verb, argument) {
            ('v', Some(Value::Number(number))) => self.signed(number.to_string()),
            ('v', _) => text(argument),
            ('s', Some(Value::Number(_) | Value::Bool(_))) => self.mismatch(argument),
            ('s', _) => cut(text(argument)),
            ('q', _) => format!("{:?}", cut(text(argument))),
            ('t', Some(Value::Bool(value))) => value.to_string(),
            ('d', Some(Value::Number(number))) if !number.is_f64() => {
                self.signed(number.to_string())
            }
            ('x', Some(Value::Number(number))) if !number.is_f64() => {
                format!("{:x}", number.as_i64().unwrap_or(0))
            }
            ('x', Some(Value::String(text))) => {
                text.bytes().map(|byte| format!("{byte:02x}")).collect()
            }
            ('f', Some(Value::Number(number))) => {
                let precision = self.precision.unwrap_or(6);
                self.signed(format!("{:.precision$}", number.as_f64().unwrap_or(0.0)))
            }
            _ => self.mismatch(argument),
        };
        self.padded(body)
    }

    fn signed(&self, number: String) -> String {
        if self.plus && !number.starts_with('-') {
            format!("+{number}")
        } else {
            number
        }
    }

    fn mismatch(&self, argument: &Datum) -> String {
        let kind = match argument {
            None | Some(Value::Null) => return format!("%!{}(<nil>)", self.verb),
            Some(Value::Bool(_)) => "bool",
            Some(Value::Number(number)) if number.is_f64() => "float64",
            Some(Value::Number(_)) => "int",
            Some(Value::String(_)) => "string",
            Some(Value::Array(_)) => "[]interface {}",
            Some(Value::Object(_)) => "map[string]interface {}",
        };
        format!("%!{}({kind}={})", self.verb, text(argument))
    }

    fn padded(&self, body: String) -> String {
        let missing = self.width.saturating_sub(body.chars().count());
        if missing == 0 {
            return body;
        }
        if self.left {
            return format!("{body}{:missing$}", "");
        }
        let number = matches!(self.verb, 'd' | 'f' | 'x');
        if self.zero && number {
            let (sign, digits) = body.split_at(usize::from(body.starts_with(['-', '+'])));
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        format!("{:missing$}{body}", "")
    }
}
