//! What a registry wants to see before it answers: `WWW-Authenticate` (RFC 9110, section 11.6.1).

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// `bearer`, `basic`, …, in lower case.
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter's value.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut found = self.parameters.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// All challenges of a header's values. What cannot be understood is left out.
pub(crate) fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for value in values {
        let mut rest = Rest(value);
        while rest.challenge(&mut challenges) {}
    }
    challenges
}

/// What is still to be read of a value.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    /// Reads a word that starts a challenge, or a parameter of the last one.
    fn challenge(&mut self, challenges: &mut Vec<Challenge>) -> bool {
        self.skip(&[' ', '\t', ',']);
        let word = self.token();
        if word.is_empty() {
            return false;
        }
        self.skip(&[' ', '\t']);
        if !self.0.starts_with('=') {
            challenges.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                parameters: Vec::new(),
            });
            return true;
        }
        self.skip(&['=']);
        self.skip(&[' ', '\t']);
        let value = self.value();
        if let Some(challenge) = challenges.last_mut() {
            challenge
                .parameters
                .push((word.to_ascii_lowercase(), value));
        }
        true
    }

    fn skip(&mut self, characters: &[char]) {
        self.0 = self.0.trim_start_matches(characters);
    }

    fn token(&mut self) -> String {
        let end = self
            .0
            .find(|c: char| c.is_whitespace() || matches!(c, ',' | '=' | '"'))
            .unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token.to_owned()
    }

    fn value(&mut self) -> String {
        let Some(quoted) = self.0.strip_prefix('"') else {
            return self.token();
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return value;
                }
                '\\' => value.extend(characters.next().map(|(_, c)| c)),
                character => value.push(character),
            }
        }
        self.0 = "";
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], expected: &[(&str, &[(&str, &str)])]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(scheme, parameters)| Challenge {
                scheme: (*scheme).to_owned(),
                parameters: parameters
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
            })
            .collect();
        assert_eq!(parse(values.iter().copied()), expected, "{values:?}");
    }

    #[test]
    fn challenges_are_read_however_they_are_written() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        check(
            &[hub],
            &[(
                "bearer",
                &[
                    ("realm", "https://auth.docker.io/token"),
                    ("service", "registry.docker.io"),
                    ("scope", "repository:a/b:pull,push"),
                ],
            )],
        );
        check(
            &[r#"BASIC Realm = "a \"b\" c" , bearer realm=x,service="""#],
            &[
                ("basic", &[("realm", r#"a "b" c"#)]),
                ("bearer", &[("realm", "x"), ("service", "")]),
            ],
        );
        check(
            &["Negotiate, Basic realm=\"r\"", "Bearer realm=\"t\""],
            &[
                ("negotiate", &[]),
                ("basic", &[("realm", "r")]),
                ("bearer", &[("realm", "t")]),
            ],
        );
    }

    #[test]
    fn nonsense_is_left_out() {
        check(&[""], &[]);
        check(&["  ,, "], &[]);
        check(&["=\"x\""], &[]);
        check(&["realm=\"x\""], &[]);
        check(&["Basic realm=\"open"], &[("basic", &[("realm", "open")])]);
        check(&["Basic realm=\"a\\"], &[("basic", &[("realm", "a")])]);
    }
}
