/// What the dynamic string tokens of ld.so(8) stand for in one object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens<'a> {
    /// Directory of the object: `$ORIGIN`.
    pub(crate) origin: &'a str,
    /// `$LIB`, by the loader's own configuration: `lib64`, `lib/x86_64-linux-gnu`.
    pub(crate) lib: &'a str,
    /// `$PLATFORM`.
    pub(crate) platform: &'a str,
}

impl Tokens<'_> {
    /// Replaces the tokens of a path. What is no token stays, as in glibc.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut pieces = text.split('$');
        let mut expanded = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            match self.token(piece) {
                Some((value, rest)) => expanded.extend([value, rest]),
                None => expanded.extend(["$", piece]),
            }
        }
        expanded
    }

    /// The value of the token that `text` begins with, and what follows it.
    fn token<'t>(&'t self, text: &'t str) -> Option<(&'t str, &'t str)> {
        let (name, rest) = match text.strip_prefix('{') {
            Some(inner) => inner.split_once('}')?,
            None => text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len())),
        };
        let value = match name {
            "ORIGIN" => self.origin,
            "LIB" => self.lib,
            "PLATFORM" => self.platform,
            _ => return None,
        };
        Some((value, rest))
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_expand_where_ld_so_expands_them() {
        let tokens = Tokens {
            origin: "/opt/app/bin",
            lib: "lib64",
            platform: "x86_64",
        };
        for (text, expected) in [
            ("/usr/lib", "/usr/lib"),
            ("$ORIGIN", "/opt/app/bin"),
            ("$ORIGIN/../lib", "/opt/app/bin/../lib"),
            ("${ORIGIN}/../$LIB", "/opt/app/bin/../lib64"),
            ("/opt/${PLATFORM}x", "/opt/x86_64x"),
            ("$ORIGINAL/$FOO/${LIB", "$ORIGINAL/$FOO/${LIB"),
            ("$LIB_x $", "$LIB_x $"),
            ("", ""),
        ] {
            assert_eq!(tokens.expand(text), expected, "{text}");
        }
    }
}
