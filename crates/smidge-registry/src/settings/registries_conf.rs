//! containers-registries.conf(5), version 2.
//!
//! The file belongs to other tools, which check it: what means nothing here is passed over, and so
//! is version 1.

use std::path::Path;

use toml::de::DeTable;

use super::document::Document;
use super::rule::{Asked, Mirror, Place, Rule, parse_name};
use super::{file, rule};
use crate::Result;

/// The rules of a file, or of all `*.conf` files of a directory; none if there is neither.
pub(super) fn load(path: &Path) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for file in file::conf_files(path)? {
        if let Some(text) = file::read(&file)? {
            rules.extend(parse(&text, &file)?);
        }
    }
    Ok(rules)
}

fn parse(text: &str, path: &Path) -> Result<Vec<Rule>> {
    let document = Document { path, text };
    let root = document.parse()?;
    let Some(registries) = root.get_ref().get("registry") else {
        return Ok(Vec::new());
    };
    document
        .list("registry", registries)?
        .iter()
        .map(|value| {
            let table = document.table("registry", value)?;
            parse_rule(document, table, document.line(value.span()))
        })
        .collect()
}

fn parse_rule(document: Document<'_>, table: &DeTable<'_>, line: usize) -> Result<Rule> {
    let mut rule = Rule {
        key: String::new(),
        place: place(document, table, line)?,
        blocked: flag(document, table, "blocked")?.unwrap_or(false),
        mirrors: Vec::new(),
        file: document.path.to_owned(),
    };
    rule.key = match (name(document, table, "prefix", true)?, &rule.place.location) {
        (Some(prefix), _) => prefix,
        (None, Some(location)) => location.clone(),
        (None, None) => {
            let why = format!("line {line}: `[[registry]]` needs a `prefix` or a `location`");
            return Err(file::fault(document.path, why));
        }
    };
    let by_digest = flag(document, table, "mirror-by-digest-only")?.unwrap_or(false);
    if let Some(mirrors) = table.get("mirror") {
        for value in document.list("mirror", mirrors)? {
            let table = document.table("mirror", value)?;
            let place = place(document, table, document.line(value.span()))?;
            if place.location.is_none() {
                return Err(document.fault(value.span(), "a mirror needs a `location`"));
            }
            let asked = match text(document, table, "pull-from-mirror")? {
                Some("digest-only") => Asked::ByDigest,
                Some("tag-only") => Asked::ByTag,
                _ if by_digest => Asked::ByDigest,
                _ => Asked::Always,
            };
            rule.mirrors.push(Mirror { place, asked });
        }
    }
    Ok(rule)
}

fn place(document: Document<'_>, table: &DeTable<'_>, line: usize) -> Result<Place> {
    Ok(Place {
        location: name(document, table, "location", false)?,
        insecure: flag(document, table, "insecure")?,
        line,
        ..Place::default()
    })
}

fn text<'t>(document: Document<'_>, table: &'t DeTable<'_>, key: &str) -> Result<Option<&'t str>> {
    let value = table.get(key);
    value.map(|value| document.text(key, value)).transpose()
}

fn flag(document: Document<'_>, table: &DeTable<'_>, key: &str) -> Result<Option<bool>> {
    let value = table.get(key);
    value.map(|value| document.flag(key, value)).transpose()
}

fn name(
    document: Document<'_>,
    table: &DeTable<'_>,
    key: &str,
    wildcard: bool,
) -> Result<Option<String>> {
    let Some(value) = table.get(key) else {
        return Ok(None);
    };
    let text = document.text(key, value)?;
    if text.is_empty() {
        return Ok(None);
    }
    // A name without a dot matches no image, but it is no fault in another tool's file.
    if !rule::split(text).0.contains(['.', ':']) {
        return Ok(Some(text.trim_end_matches('/').to_owned()));
    }
    let name = parse_name(text, wildcard);
    name.map(Some)
        .map_err(|why| document.fault(value.span(), why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use std::fs;

    fn rules(text: &str) -> Result<Vec<Rule>> {
        parse(text, Path::new("/etc/containers/registries.conf"))
    }

    #[test]
    fn version_2_is_read() {
        let rules = rules(
            r#"
            unqualified-search-registries = ["registry.fedoraproject.org", "docker.io"]
            short-name-mode = "enforcing"
            new-key-of-tomorrow = 1979-05-27
            [aliases]
            "alpine" = "docker.io/library/alpine"
            [[registry]]
            prefix = "docker.io"
            location = "registry.internal/hub/"
            insecure = true
            another-key = { a = 1 }
            [[registry.mirror]]
            location = "localhost:5001"
            [[registry.mirror]]
            location = "m.example.com/x"
            insecure = true
            pull-from-mirror = "tag-only"
            [[registry]]
            location = "quay.io"
            mirror-by-digest-only = true
            blocked = true
            mirror = [{ location = "m.example.com/quay" }]
            [[registry]]
            prefix = "*.example.com"
            [[registry]]
            location = "intranet"
            "#,
        )
        .unwrap();
        let keys: Vec<&str> = rules.iter().map(|r| r.key.as_str()).collect();
        assert_eq!(keys, ["docker.io", "quay.io", "*.example.com", "intranet"]);
        assert_eq!(rules[0].place.insecure, Some(true));
        assert_eq!(
            rules[0].place.location.as_deref(),
            Some("registry.internal/hub")
        );
        assert_eq!(rules[0].mirrors[0].place.insecure, None);
        assert_eq!(rules[0].mirrors[1].place.insecure, Some(true));
        let asked = |rule: &Rule| rule.mirrors.iter().map(|m| m.asked).collect::<Vec<_>>();
        assert_eq!(asked(&rules[0]), [Asked::Always, Asked::ByTag]);
        assert_eq!(asked(&rules[1]), [Asked::ByDigest]);
        assert!(rules[1].blocked && !rules[0].blocked);
    }

    #[test]
    fn version_1_says_nothing() {
        let text = "[registries.search]\nregistries = ['docker.io']\n[registries.insecure]\nregistries = []\n";
        assert!(rules(text).unwrap().is_empty());
        assert!(rules("").unwrap().is_empty());
    }

    #[test]
    fn faults_name_the_line() {
        for (text, why) in [
            (
                "registry = 1",
                "line 1: `registry` must be a list, not integer",
            ),
            (
                "[registry]\nlocation = 'a.io'",
                "line 1: `registry` must be a list, not table",
            ),
            (
                "[[registry]]\nlocation = 1",
                "line 2: `location` must be a text, not integer",
            ),
            (
                "\n[[registry]]\ninsecure = true",
                "line 2: `[[registry]]` needs a `prefix` or a `location`",
            ),
            (
                "[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\ninsecure = true",
                "line 3: a mirror needs a `location`",
            ),
            (
                "[[registry]]\nlocation = 'https://a.io'",
                "line 2: `https://a.io` is a URL: write `a.io`",
            ),
            (
                "[[registry]]\nlocation = 'a.io'\nblocked = 'no'",
                "line 3: `blocked` must be `true` or `false`, not string",
            ),
        ] {
            match rules(text) {
                Err(Error::Settings { why: found, .. }) => assert_eq!(found, why, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(rules("[[registry]\n").is_err());
    }

    #[test]
    fn the_files_of_a_directory_are_read_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for (name, key) in [
            ("20.conf", "b.io"),
            ("10.conf", "a.io"),
            ("x.conf.bak", "c.io"),
        ] {
            let text = format!("[[registry]]\nlocation = '{key}'\n");
            fs::write(dir.path().join(name), text).unwrap();
        }
        let keys: Vec<String> = load(dir.path())
            .unwrap()
            .into_iter()
            .map(|r| r.key)
            .collect();
        assert_eq!(keys, ["a.io", "b.io"]);
        assert!(load(&dir.path().join("none")).unwrap().is_empty());
        assert_eq!(load(&dir.path().join("10.conf")).unwrap().len(), 1);
        fs::create_dir(dir.path().join("30.conf")).unwrap();
        assert!(load(dir.path()).is_err());
    }
}
