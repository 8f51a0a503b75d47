//! The functions a template may call.

use std::cmp::Ordering;

use serde_json::Value;

use super::eval::{Datum, kind, text, truth};
use super::printf::printf;

/// Calls a function; the fault is a message without position.
pub(super) fn call(name: &str, arguments: &[Datum]) -> Result<Datum, String> {
    let result = match name {
        "json" => json(one(name, arguments)?),
        "upper" => Value::from(string(name, arguments, 0)?.to_uppercase()),
        "lower" => Value::from(string(name, arguments, 0)?.to_lowercase()),
        "title" => Value::from(title(string(name, arguments, 0)?)),
        "split" => {
            let (text, separator) = (string(name, arguments, 0)?, string(name, arguments, 1)?);
            split(text, separator)
        }
        "join" => join(arguments)?,
        "pad" => pad(arguments)?,
        "truncate" => truncate(arguments)?,
        "print" => Value::from(print(arguments)),
        "println" => Value::from(arguments.iter().map(text).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => Value::from(printf(string(name, arguments, 0)?, &arguments[1..])),
        "html" => Value::from(escaped(&print(arguments), html)),
        "js" => Value::from(escaped(&print(arguments), js)),
        "urlquery" => Value::from(escaped(&print(arguments), query)),
        "len" => length(one(name, arguments)?)?,
        "index" => return index(arguments),
        "slice" => slice(arguments)?,
        "not" => Value::Bool(!truth(one(name, arguments)?)),
        "eq" => Value::Bool(equal_to_any(arguments)?),
        "ne" => Value::Bool(compare(name, arguments)? != Ordering::Equal),
        "lt" => Value::Bool(compare(name, arguments)? == Ordering::Less),
        "le" => Value::Bool(compare(name, arguments)? != Ordering::Greater),
        "gt" => Value::Bool(compare(name, arguments)? == Ordering::Greater),
        "ge" => Value::Bool(compare(name, arguments)? != Ordering::Less),
        _ => return Err(format!("there is no function `{name}`")),
    };
    Ok(Some(result))
}

fn one<'a>(name: &str, arguments: &'a [Datum]) -> Result<&'a Datum, String> {
    match arguments {
        [only] => Ok(only),
        _ => Err(format!(
            "`{name}` takes 1 argument, not {}",
            arguments.len()
        )),
    }
}

fn string<'a>(name: &str, arguments: &'a [Datum], at: usize) -> Result<&'a str, String> {
    match arguments.get(at) {
        Some(Some(Value::String(text))) => Ok(text),
        Some(Some(other)) => Err(format!("`{name}` takes a string, not {}", kind(other))),
        Some(None) => Ok(""),
        None => Err(format!("`{name}` needs {} or more arguments", at + 1)),
    }
}

fn number(name: &str, arguments: &[Datum], at: usize) -> Result<usize, String> {
    let value = arguments.get(at).cloned().flatten();
    let number = value
        .as_ref()
        .and_then(Value::as_u64)
        .and_then(|n| usize::try_from(n).ok());
    // More would only serve to exhaust memory.
    number
        .filter(|number| *number <= 1 << 20)
        .ok_or_else(|| format!("`{name}` takes a small whole number as argument {}", at + 1))
}

fn json(value: &Datum) -> Value {
    let value = value.as_ref().unwrap_or(&Value::Null);
    Value::from(value.to_string())
}

fn title(text: &str) -> String {
    let mut start = true;
    let upper = |c: char, start: &mut bool| {
        let first = std::mem::replace(start, !(c.is_alphanumeric() || c == '_' || c == '\''));
        if first {
            c.to_uppercase().collect::<String>()
        } else {
            c.to_string()
        }
    };
    text.chars().map(|c| upper(c, &mut start)).collect()
}

fn split(text: &str, separator: &str) -> Value {
    match separator {
        "" => text.chars().map(|c| Value::from(c.to_string())).collect(),
        _ => text.split(separator).map(Value::from).collect(),
    }
}

fn join(arguments: &[Datum]) -> Result<Value, String> {
    let separator = string("join", arguments, 1)?;
    match &arguments[0] {
        None | Some(Value::Null) => Ok(Value::from("")),
        Some(Value::Array(list)) => {
            let parts: Vec<String> = list.iter().map(|item| text(&Some(item.clone()))).collect();
            Ok(Value::from(parts.join(separator)))
        }
        Some(other) => Err(format!(
            "`join` takes a list and a separator, not {}",
            kind(other)
        )),
    }
}

fn pad(arguments: &[Datum]) -> Result<Value, String> {
    let text = string("pad", arguments, 0)?;
    if text.is_empty() {
        return Ok(Value::from(text));
    }
    let (before, after) = (number("pad", arguments, 1)?, number("pad", arguments, 2)?);
    Ok(Value::from(format!("{:before$}{text}{:after$}", "", "")))
}

fn truncate(arguments: &[Datum]) -> Result<Value, String> {
    let text = string("truncate", arguments, 0)?;
    let limit = number("truncate", arguments, 1)?;
    Ok(Value::from(text.chars().take(limit).collect::<String>()))
}

/// Go's `Sprint`: a space between two operands when neither is a string.
fn print(arguments: &[Datum]) -> String {
    let mut result = String::new();
    let mut before: Option<bool> = None;
    for argument in arguments {
        let is_string = matches!(argument, Some(Value::String(_)));
        if before == Some(false) && !is_string {
            result.push(' ');
        }
        result.push_str(&text(argument));
        before = Some(is_string);
    }
    result
}

/// A text with some of its characters written in another way.
fn escaped(text: &str, escape: fn(char) -> Option<String>) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut all, character| {
            match escape(character) {
                Some(escape) => all.push_str(&escape),
                None => all.push(character),
            }
            all
        })
}

fn html(character: char) -> Option<String> {
    let escape = match character {
        '\0' => "\u{fffd}",
        '"' => "&#34;",
        '\'' => "&#39;",
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        _ => return None,
    };
    Some(escape.to_owned())
}

fn js(character: char) -> Option<String> {
    match character {
        '\\' | '\'' | '"' => Some(format!("\\{character}")),
        '<' | '>' | '&' | '=' | '\0'..'\x20' => Some(format!("\\u{:04X}", u32::from(character))),
        _ => None,
    }
}

fn query(character: char) -> Option<String> {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' | '~' => None,
        ' ' => Some("+".to_owned()),
        _ => {
            let mut buffer = [0; 4];
            let bytes = character.encode_utf8(&mut buffer).bytes();
            Some(bytes.map(|byte| format!("%{byte:02X}")).collect())
        }
    }
}

fn length(value: &Datum) -> Result<Value, String> {
    match value {
        Some(Value::String(text)) => Ok(Value::from(text.len())),
        Some(Value::Array(list)) => Ok(Value::from(list.len())),
        Some(Value::Object(object)) => Ok(Value::from(object.len())),
        None | Some(Value::Null) => Ok(Value::from(0)),
        Some(other) => Err(format!("`len` of {}", kind(other))),
    }
}

fn index(arguments: &[Datum]) -> Result<Datum, String> {
    let (first, keys) = arguments
        .split_first()
        .ok_or("`index` needs a list or an object")?;
    let mut value = first.clone();
    for key in keys {
        value = match value {
            None | Some(Value::Null) => None,
            Some(value) => Some(element(&value, key.as_ref())?),
        };
    }
    Ok(value)
}

fn element(value: &Value, key: Option<&Value>) -> Result<Value, String> {
    let position = |at: &serde_json::Number| at.as_u64().and_then(|at| usize::try_from(at).ok());
    match (value, key) {
        // As in Go, what a map does not hold is the zero value.
        (Value::Object(object), Some(Value::String(key))) => {
            Ok(object.get(key).cloned().unwrap_or_else(|| Value::from("")))
        }
        (Value::Array(list), Some(Value::Number(at))) => {
            let found = position(at).and_then(|at| list.get(at));
            let length = list.len();
            found
                .cloned()
                .ok_or_else(|| format!("index {at} is out of range: the list has {length} items"))
        }
        (Value::String(text), Some(Value::Number(at))) => {
            let found = position(at).and_then(|at| text.as_bytes().get(at));
            found
                .map(|byte| Value::from(*byte))
                .ok_or_else(|| format!("index {at} is out of range"))
        }
        (value, key) => {
            let key = key.map_or("nothing", kind);
            Err(format!("cannot index {} with {key}", kind(value)))
        }
    }
}

fn slice(arguments: &[Datum]) -> Result<Value, String> {
    let (start, end) = match arguments.len() {
        1 => (0, None),
        2 => (number("slice", arguments, 1)?, None),
        3 => (
            number("slice", arguments, 1)?,
            Some(number("slice", arguments, 2)?),
        ),
        _ => return Err("`slice` takes a list or string and up to two numbers".to_owned()),
    };
    let range = || {
        format!(
            "slice {start}:{} is out of range",
            end.map_or_else(String::new, |e| e.to_string())
        )
    };
    match &arguments[0] {
        Some(Value::String(text)) => {
            let part = text
                .get(start..end.unwrap_or(text.len()))
                .ok_or_else(range)?;
            Ok(Value::from(part))
        }
        Some(Value::Array(list)) => {
            let part = list
                .get(start..end.unwrap_or(list.len()))
                .ok_or_else(range)?;
            Ok(Value::from(part.to_vec()))
        }
        Some(other) => Err(format!("`slice` of {}", kind(other))),
        None => Err("`slice` of nothing".to_owned()),
    }
}

fn equal_to_any(arguments: &[Datum]) -> Result<bool, String> {
    let (first, rest) = arguments
        .split_first()
        .ok_or("`eq` needs 2 or more arguments")?;
    if rest.is_empty() {
        return Err("`eq` needs 2 or more arguments".to_owned());
    }
    for other in rest {
        if order("eq", first, other)? == Ordering::Equal {
            return Ok(true);
        }
    }
    Ok(false)
}

fn compare(name: &str, arguments: &[Datum]) -> Result<Ordering, String> {
    match arguments {
        [left, right] => order(name, left, right),
        _ => Err(format!(
            "`{name}` takes 2 arguments, not {}",
            arguments.len()
        )),
    }
}

fn order(name: &str, left: &Datum, right: &Datum) -> Result<Ordering, String> {
    let nothing = Value::Null;
    let (left, right) = (
        left.as_ref().unwrap_or(&nothing),
        right.as_ref().unwrap_or(&nothing),
    );
    let unequal_is_enough = matches!(name, "eq" | "ne");
    match (left, right) {
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        (Value::Number(a), Value::Number(b)) => {
            let whole = a.as_i64().zip(b.as_i64()).map(|(a, b)| a.cmp(&b));
            let float = || {
                a.as_f64()
                    .zip(b.as_f64())
                    .and_then(|(a, b)| a.partial_cmp(&b))
            };
            Ok(whole.or_else(float).unwrap_or(Ordering::Less))
        }
        (Value::Bool(left), Value::Bool(right)) if unequal_is_enough => Ok(left.cmp(right)),
        (Value::Null, _) | (_, Value::Null) if unequal_is_enough => Ok(match left == right {
            true => Ordering::Equal,
            false => Ordering::Less,
        }),
        _ => Err(format!(
            "`{name}` cannot compare {} with {}",
            kind(left),
            kind(right)
        )),
    }
}
