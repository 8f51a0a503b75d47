//! Regular expressions, as the filters `name` and `id` take them.

use regex_lite::Regex;

/// Whether an expression is found anywhere in a text. One that makes no sense is found in itself alone, as
/// in Docker.
pub(crate) fn is_found(expression: &str, text: &str) -> bool {
    expression == text || Regex::new(expression).is_ok_and(|known| known.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_found_as_go_finds_them() {
        for (expression, text, expected) in [
            ("", "", true),
            ("", "web", true),
            ("eb", "web", true),
            ("^web$", "web", true),
            ("^web$", "web1", false),
            ("^w", "aw", false),
            ("web|db", "mydb", true),
            ("^(web|db)$", "db", true),
            ("^(?:web|db)$", "dbx", false),
            ("web_[0-9]+$", "web_12", true),
            ("web_[^0-9]", "web_1", false),
            (r"web_\d", "web_1", true),
            (r"^\D+$", "web", true),
            (r"a\.b", "a.b", true),
            (r"a\.b", "axb", false),
            ("a.b", "axb", true),
            ("^a{2,3}$", "aaa", true),
            ("^a{2,3}$", "aaaa", false),
            ("^a{2}$", "aa", true),
            ("^(ab)*c$", "ababc", true),
            ("^x?y", "y", true),
            ("^a+?b$", "aab", true),
            ("[a-c-]x", "-x", true),
            ("[]x]", "]", true),
            ("^(a*)+$", "", true),
            ("(a*)*b", "aaaaaaaaaaaaaaaac", false),
            // Not understood, and so found in itself alone.
            ("(web", "web", false),
            ("(web", "(web", true),
            ("*", "web", false),
            ("a)", "a", false),
            ("[a", "a", false),
            (r"a\", "a", false),
        ] {
            assert_eq!(is_found(expression, text), expected, "{expression} {text}");
        }
        assert!(!is_found(&"(".repeat(100_000), "a"));
    }
}
