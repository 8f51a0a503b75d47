//! What a registry says when it refuses (distribution-spec, "Error Codes").

use serde::Deserialize;

use crate::Fault;

/// The longest text of a registry that is shown.
const LONGEST: usize = 300;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Entry>,
    /// What token servers and proxies write in its place.
    #[serde(alias = "error_description", alias = "details", alias = "message")]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Reads an answer's body: the specification's JSON, that of token servers, or a line of plain text.
pub(crate) fn parse(status: u16, content_type: &str, body: &[u8]) -> Fault {
    let mut fault = Fault {
        status,
        ..Fault::default()
    };
    match serde_json::from_slice::<Body>(body) {
        Ok(body) => {
            if let Some(first) = body.errors.into_iter().next() {
                fault.code = presentable(&first.code);
                fault.message = presentable(&first.message);
            } else if let Some(serde_json::Value::String(text)) = body.error {
                fault.message = presentable(&text);
            }
        }
        Err(_) if content_type.starts_with("text/plain") || content_type.is_empty() => {
            fault.message = presentable(&String::from_utf8_lossy(body));
        }
        Err(_) => {}
    }
    fault
}

/// The first line, without what a terminal would obey.
pub(crate) fn presentable(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let sound = line.chars().filter(|c| !c.is_control());
    sound.take(LONGEST).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, body: &str, expected: &str) {
        let fault = parse(404, content_type, body.as_bytes());
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn faults_are_read_in_all_their_forms() {
        let json = "application/json";
        check(
            json,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}},{"code":"B"}]}"#,
            r#"404 MANIFEST_UNKNOWN "manifest unknown""#,
        );
        check(
            json,
            r#"{"details":"incorrect username or password"}"#,
            r#"404 "incorrect username or password""#,
        );
        check(
            json,
            r#"{"error":"invalid_grant"}"#,
            r#"404 "invalid_grant""#,
        );
        check(json, r#"{"errors":[]}"#, "404");
        check(json, "[", "404");
        check(
            "text/plain; charset=utf-8",
            "404 page not found\nx",
            r#"404 "404 page not found""#,
        );
        check("text/html", "<html>", "404");
        check("", "", "404");
        check("", "a\u{1b}[31mb", r#"404 "a[31mb""#);
        check(
            "",
            &"x".repeat(5000),
            &format!("404 \"{}\"", "x".repeat(300)),
        );
    }
}
