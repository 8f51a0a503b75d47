//! smidge's own `registries.toml`.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::rule::{Asked, Mirror, Place, Rule, parse_name};
use super::{Sources, file};
use crate::Result;

const REGISTRY_KEYS: [&str; 7] = [
    "mirrors", "insecure", "location", "blocked", "ca", "cert", "key",
];
const MIRROR_KEYS: [&str; 6] = ["location", "insecure", "digests-only", "ca", "cert", "key"];

/// The rules of one file, in no particular order; none if there is no file.
pub(super) fn load(path: &Path, sources: &Sources) -> Result<Vec<Rule>> {
    match file::read(path)? {
        Some(text) => parse(&text, path, sources.home()),
        None => Ok(Vec::new()),
    }
}

fn parse(text: &str, path: &Path, home: Option<&Path>) -> Result<Vec<Rule>> {
    let document = Document { path, text };
    let root = document.parse()?;
    let reader = Reader { document, home };
    let mut rules = Vec::new();
    for (key, value) in root.get_ref() {
        if key.get_ref() != "registry" {
            return Err(document.unknown(key, &["registry"]));
        }
        if value.get_ref().is_array() {
            return Err(document.fault(
                key.span(),
                "`[[registry]]` is the form of registries.conf: write `[registry.\"docker.io\"]`",
            ));
        }
        for (name, table) in document.table("registry", value)? {
            rules.push(reader.rule(name, table)?);
        }
    }
    Ok(rules)
}

struct Reader<'a> {
    document: Document<'a>,
    home: Option<&'a Path>,
}

impl Reader<'_> {
    fn rule(&self, name: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>) -> Result<Rule> {
        let document = self.document;
        let text = name.get_ref().as_ref();
        let table = document.table(text, value)?;
        if let Some(whole) = unquoted(text, table) {
            let why = format!("a name with dots is quoted: `[registry.\"{whole}\"]`");
            return Err(document.fault(name.span(), why));
        }
        let key = parse_name(text, true).map_err(|why| document.fault(name.span(), why))?;
        let mut rule = Rule {
            place: self.place(table, document.line(name.span()))?,
            key,
            blocked: false,
            mirrors: Vec::new(),
            file: document.path.to_owned(),
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "blocked" => rule.blocked = document.flag("blocked", value)?,
                "mirrors" => {
                    for mirror in document.list("mirrors", value)? {
                        rule.mirrors.push(self.mirror(mirror)?);
                    }
                }
                other if REGISTRY_KEYS.contains(&other) => {}
                _ => return Err(document.unknown(key, &REGISTRY_KEYS)),
            }
        }
        Ok(rule)
    }

    fn mirror(&self, value: &Spanned<DeValue<'_>>) -> Result<Mirror> {
        let document = self.document;
        let line = document.line(value.span());
        let mut asked = Asked::Always;
        let Some(table) = value.get_ref().as_table() else {
            let text = value.get_ref().as_str().ok_or_else(|| {
                document.of_kind(
                    "mirrors",
                    value,
                    "a list of texts and of `{ location = \"…\" }`",
                )
            })?;
            let place = Place {
                location: Some(self.location(value, text)?),
                line,
                ..Place::default()
            };
            return Ok(Mirror { place, asked });
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "digests-only" if document.flag("digests-only", value)? => {
                    asked = Asked::ByDigest;
                }
                other if MIRROR_KEYS.contains(&other) => {}
                _ => return Err(document.unknown(key, &MIRROR_KEYS)),
            }
        }
        let place = self.place(table, line)?;
        if place.location.is_none() {
            return Err(document.fault(value.span(), "a mirror needs a `location`"));
        }
        Ok(Mirror { place, asked })
    }

    /// The keys that registries and mirrors have in common.
    fn place(&self, table: &DeTable<'_>, line: usize) -> Result<Place> {
        let document = self.document;
        let mut place = Place {
            line,
            ..Place::default()
        };
        let (mut cert, mut secret) = (None, None);
        for (key, value) in table {
            let key: &str = key.get_ref();
            match key {
                "location" => {
                    let text = document.text(key, value)?;
                    place.location = Some(self.location(value, text)?);
                }
                "insecure" => place.insecure = Some(document.flag(key, value)?),
                "ca" => place.ca = Some(self.path(key, value)?),
                "cert" => cert = Some((self.path(key, value)?, value)),
                "key" => secret = Some((self.path(key, value)?, value)),
                _ => {}
            }
        }
        place.identity = match (cert, secret) {
            (Some((cert, _)), Some((key, _))) => Some((cert, key)),
            (None, None) => None,
            (Some((_, at)), None) => {
                return Err(document.fault(at.span(), "`cert` needs a `key` beside it"));
            }
            (None, Some((_, at))) => {
                return Err(document.fault(at.span(), "`key` needs a `cert` beside it"));
            }
        };
        Ok(place)
    }

    fn location(&self, value: &Spanned<DeValue<'_>>, text: &str) -> Result<String> {
        parse_name(text, false).map_err(|why| self.document.fault(value.span(), why))
    }

    /// A path: absolute, under the home directory, or beside the file that names it.
    fn path(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<PathBuf> {
        let text = self.document.text(key, value)?;
        if text.is_empty() {
            let why = format!("`{key}` must not be empty");
            return Err(self.document.fault(value.span(), why));
        }
        if let (Some(rest), Some(home)) = (text.strip_prefix("~/"), self.home) {
            return Ok(home.join(rest));
        }
        let beside = self.document.path.parent().unwrap_or(Path::new(""));
        Ok(beside.join(text))
    }
}

/// The name that was meant where its dots made tables of it: `[registry.docker.io]`.
fn unquoted(name: &str, mut table: &DeTable<'_>) -> Option<String> {
    let mut whole = name.to_owned();
    let mut found = false;
    while let Some((key, value)) = table.iter().next() {
        let Some(inner) = value.get_ref().as_table() else {
            break;
        };
        whole = format!("{whole}.{}", key.get_ref());
        found = true;
        table = inner;
    }
    found.then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn rules(text: &str) -> Result<Vec<Rule>> {
        parse(
            text,
            Path::new("/etc/smidge/registries.toml"),
            Some(Path::new("/home/me")),
        )
    }

    #[test]
    fn every_key_is_read() {
        let rules = rules(
            r#"
            [registry."Docker.io"]
            mirrors = [
                "mirror.example.com/hub",
                { location = "localhost:5001", insecure = true, digests-only = true, ca = "ca.pem" },
            ]
            insecure = false
            location = "registry.internal/hub"
            blocked = true
            ca = "/pki/ca.pem"
            cert = "~/client.pem"
            key = "client.key"
            [registry."*.example.com"]
            "#,
        )
        .unwrap();
        let hub = rules.iter().find(|r| r.key == "docker.io").unwrap();
        assert!(hub.blocked);
        assert_eq!(hub.place.insecure, Some(false));
        assert_eq!(hub.place.location.as_deref(), Some("registry.internal/hub"));
        assert_eq!(hub.place.ca.as_deref(), Some(Path::new("/pki/ca.pem")));
        assert_eq!(
            hub.place.identity,
            Some((
                "/home/me/client.pem".into(),
                "/etc/smidge/client.key".into()
            ))
        );
        assert_eq!(hub.mirrors.len(), 2);
        assert_eq!(hub.mirrors[0].asked, Asked::Always);
        assert_eq!(hub.mirrors[1].asked, Asked::ByDigest);
        assert_eq!(hub.mirrors[1].place.insecure, Some(true));
        assert_eq!(
            hub.mirrors[1].place.ca.as_deref(),
            Some(Path::new("/etc/smidge/ca.pem"))
        );
        let other = rules.iter().find(|r| r.key == "*.example.com").unwrap();
        assert!(!other.blocked && other.place.insecure.is_none());
    }

    const FAULTS: &[(&str, &str)] = &[
        ("a = 1", "line 1: unknown key `a`: possible are `registry`"),
        (
            "\n[registy.\"a.io\"]",
            "line 2: unknown key `registy`, did you mean `registry`?",
        ),
        (
            "[[registry]]\nlocation = \"a.io\"",
            "line 1: `[[registry]]` is the form of registries.conf: write `[registry.\"docker.io\"]`",
        ),
        (
            "registry = 1",
            "line 1: `registry` must be a table, not integer",
        ),
        (
            "[registry]\n\"a.io\" = 1",
            "line 2: `a.io` must be a table, not integer",
        ),
        (
            "[registry.docker.io]\ninsecure = true",
            "line 1: a name with dots is quoted: `[registry.\"docker.io\"]`",
        ),
        (
            "[registry.a.example.com]",
            "line 1: a name with dots is quoted: `[registry.\"a.example.com\"]`",
        ),
        (
            "[registry.\"a.io\"]\n\nmiror = []",
            "line 3: unknown key `miror`, did you mean `mirrors`?",
        ),
        (
            "[registry.\"a.io\"]\nsearch = true",
            "line 2: unknown key `search`: possible are `mirrors`, `insecure`, `location`, `blocked`, `ca`, `cert`, `key`",
        ),
        (
            "[registry.\"a.io\"]\nmirrors = 3",
            "line 2: `mirrors` must be a list, not integer",
        ),
        (
            "[registry.\"a.io\"]\nmirrors = [3]",
            "line 2: `mirrors` must be a list of texts and of `{ location = \"…\" }`, not integer",
        ),
        (
            "[registry.\"a.io\"]\nmirrors = [\n{ insecure = true }]",
            "line 3: a mirror needs a `location`",
        ),
        (
            "[registry.\"a.io\"]\nmirrors = [{ location = \"b.io\", digests_only = true }]",
            "line 2: unknown key `digests_only`, did you mean `digests-only`?",
        ),
        (
            "[registry.\"a.io\"]\nmirrors = [\"https://b.io/\"]",
            "line 2: `https://b.io/` is a URL: write `b.io`",
        ),
        (
            "[registry.\"a.io\"]\ninsecure = \"yes\"",
            "line 2: `insecure` must be `true` or `false`, not string",
        ),
        (
            "[registry.\"a.io\"]\nlocation = 1",
            "line 2: `location` must be a text, not integer",
        ),
        (
            "[registry.\"a.io\"]\ncert = \"a\"",
            "line 2: `cert` needs a `key` beside it",
        ),
        (
            "[registry.\"a.io\"]\nkey = \"a\"",
            "line 2: `key` needs a `cert` beside it",
        ),
        (
            "[registry.\"a.io\"]\nca = \"\"",
            "line 2: `ca` must not be empty",
        ),
        (
            "[registry.\"alpine\"]",
            "line 1: `alpine` is no registry's name: a registry has a `.` or a port in its name, or is `localhost`",
        ),
    ];

    #[test]
    fn faults_name_the_line_and_what_to_write() {
        for (text, expected) in FAULTS {
            match rules(text) {
                Err(Error::Settings { path, why }) => {
                    assert_eq!(why, *expected, "{text}");
                    assert_eq!(path, Path::new("/etc/smidge/registries.toml"));
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn broken_toml_names_the_line() {
        for (text, line) in [
            ("[registry", 1),
            ("\n\n= 3", 3),
            ("[registry.\"a.io\"]\nca = \"x\nkey = \"y\"", 2),
            ("[registry.\"a.io\"]\n[registry.\"a.io\"]", 2),
            ("[registry.\"a.io\"]\nblocked = true\nblocked = true", 3),
            ("a = \u{0}", 1),
        ] {
            let Err(Error::Settings { why, .. }) = rules(text) else {
                panic!("{text}");
            };
            assert!(why.starts_with(&format!("line {line}: ")), "{text}: {why}");
            assert!(!why.contains('\n'), "{why}");
        }
    }
}
