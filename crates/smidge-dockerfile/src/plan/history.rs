//! The texts of an image's history, as BuildKit writes them.

use std::fmt::Write;

use super::action::{HealthAction, Port};
use crate::duration;

/// Writes a list as Go's `%q` does: `["a" "b"]`.
pub(super) fn quoted(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(" "))
}

/// Writes a list as Go's `%v` does: `[a b]`.
pub(super) fn bracketed(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        // Writing to a string cannot fail.
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\n' => write!(quoted, "\\n"),
            '\t' => write!(quoted, "\\t"),
            '\r' => write!(quoted, "\\r"),
            '\u{7}' => write!(quoted, "\\a"),
            '\u{8}' => write!(quoted, "\\b"),
            '\u{b}' => write!(quoted, "\\v"),
            '\u{c}' => write!(quoted, "\\f"),
            c if c.is_control() && c.is_ascii() => write!(quoted, "\\x{:02x}", u32::from(c)),
            c if c.is_control() => write!(quoted, "\\u{:04x}", u32::from(c)),
            c => write!(quoted, "{c}"),
        };
    }
    quoted.push('"');
    quoted
}

/// Writes `name=value` pairs behind a keyword.
pub(super) fn pairs(keyword: &str, pairs: &[(String, String)]) -> String {
    let mut text = keyword.to_owned();
    for (name, value) in pairs {
        text.push_str(&format!(" {name}={value}"));
    }
    text
}

/// Writes the ports of an `EXPOSE` as Go prints a set.
pub(super) fn ports(ports: &[Port]) -> String {
    let mut names: Vec<_> = ports.iter().map(|port| format!("{port}:{{}}")).collect();
    names.sort();
    names.dedup();
    format!("EXPOSE map[{}]", names.join(" "))
}

/// Writes a probe as Go prints the struct.
pub(super) fn health(action: &HealthAction) -> String {
    let time = |time: Option<_>| duration::format(time.unwrap_or_default());
    let timing = &action.timing;
    format!(
        "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        bracketed(&action.test),
        time(timing.interval),
        time(timing.timeout),
        time(timing.start_period),
        time(timing.start_interval),
        timing.retries.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_in_go() {
        let words = ["/x", "a \"b\"\\", "\n\u{1}", "é"].map(str::to_owned);
        assert_eq!(quoted(&words), r#"["/x" "a \"b\"\\" "\n\x01" "é"]"#);
    }
}
