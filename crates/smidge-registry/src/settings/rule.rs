//! What the files say of registries: one rule for each name or prefix of names.

use std::path::PathBuf;

/// The registry that short names mean.
pub(super) const HUB: &str = "docker.io";

/// What one file says of the names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// `domain`, `domain/path` or `*.domain[/path]`, the domain in lower case.
    pub(super) key: String,
    /// The registry itself.
    pub(super) place: Place,
    /// Nothing may be done there.
    pub(super) blocked: bool,
    /// Places that are asked first, in this order.
    pub(super) mirrors: Vec<Mirror>,
    /// The file that says so.
    pub(super) file: PathBuf,
}

/// A registry, or a part of one, and how to talk to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// What replaces the key in a name; `None` leaves names as they are.
    pub(super) location: Option<String>,
    /// `None` where nothing is said.
    pub(super) insecure: Option<bool>,
    /// A further authority.
    pub(super) ca: Option<PathBuf>,
    /// Our certificate and key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    /// The line that this starts on.
    pub(super) line: usize,
}

/// A copy of a registry.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    pub(super) place: Place,
    pub(super) asked: Asked,
}

/// What a mirror is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Always,
    ByDigest,
    ByTag,
}

impl Rule {
    /// Where in a name the key's match ends; `None` if it does not match.
    pub(super) fn matched(&self, name: &str) -> Option<usize> {
        let end = match self.key.strip_prefix('*') {
            None => name.starts_with(&self.key).then_some(self.key.len()),
            Some(rest) => {
                let (suffix, path) = split(rest);
                let (domain, _) = split(name);
                let end = domain.len() + rest.len() - suffix.len();
                let sound = domain.len() > suffix.len()
                    && domain.ends_with(suffix)
                    && (path.is_empty() || name[domain.len()..].starts_with(&rest[suffix.len()..]));
                sound.then_some(end)
            }
        }?;
        matches!(name.as_bytes().get(end), None | Some(b'/')).then_some(end)
    }

    /// The most specific rule wins: the longest key, in which a `*` counts nothing.
    fn weight(&self) -> usize {
        self.key.trim_start_matches('*').len()
    }
}

/// The rule for a name, and where in the name its match ends. Of equal keys the last one counts.
pub(super) fn find<'r>(rules: &'r [Rule], name: &str) -> Option<(&'r Rule, usize)> {
    rules
        .iter()
        .filter_map(|rule| Some((rule, rule.matched(name)?)))
        .max_by_key(|(rule, _)| rule.weight())
}

/// A name for matching: the domain in lower case, Docker Hub under its one name.
pub(super) fn name(domain: &str, path: &str) -> String {
    let domain = match domain.to_ascii_lowercase() {
        hub if hub == "index.docker.io" => HUB.to_owned(),
        other => other,
    };
    if path.is_empty() {
        return domain;
    }
    format!("{domain}/{path}")
}

/// Splits a name into domain and path, which may be empty.
pub(super) fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or((name, ""))
}

/// Checks and normalises the name of a registry or of a part of one.
pub(super) fn parse_name(text: &str, wildcard: bool) -> Result<String, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        return Err(match scheme {
            "http" => {
                format!("`{text}` is a URL: write `{rest}`, and `insecure = true` for plain HTTP")
            }
            _ => format!("`{text}` is a URL: write `{rest}`"),
        });
    }
    let (domain, path) = split(text.strip_suffix('/').unwrap_or(text));
    if let Some(why) = fault(domain, path, wildcard) {
        return Err(format!("`{text}` is no registry's name: {why}"));
    }
    Ok(name(domain, path))
}

fn fault(domain: &str, path: &str, wildcard: bool) -> Option<&'static str> {
    let domain = match domain.strip_prefix("*.") {
        Some(rest) if wildcard && rest.contains('.') => rest,
        _ => domain,
    };
    if domain.contains('*') {
        return Some(if wildcard {
            "a `*` may only stand for subdomains, at the beginning: `*.example.com`"
        } else {
            "a `*` is not possible here"
        });
    }
    let is_v6 = domain.starts_with('[') && domain.contains(']');
    let word = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    let sound = |b: u8| word(b) || (is_v6 && (b == b'[' || b == b']'));
    if domain.is_empty() || !domain.bytes().all(sound) {
        return Some("it must be HOST, HOST:PORT or one of these with a path");
    }
    let (host, port) = split_port(domain);
    if host.is_empty() || port.is_some_and(|p| p.parse::<u16>().is_err()) {
        return Some("after `:` there must be a port");
    }
    if !domain.contains(['.', ':']) && domain != "localhost" {
        return Some("a registry has a `.` or a port in its name, or is `localhost`");
    }
    let component = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b))
    };
    if !path.is_empty() && !path.split('/').all(component) {
        return Some("a path is made of `a-z 0-9 . _ -`, without tag or digest");
    }
    None
}

/// Splits `host:port`; the host of an IPv6 address keeps its brackets.
pub(super) fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            let bare_v6 = name.contains(':') && !name.starts_with('[');
            if bare_v6 {
                (host, None)
            } else {
                (name, Some(port))
            }
        }
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(key: &str) -> Rule {
        Rule {
            key: parse_name(key, true).unwrap(),
            place: Place::default(),
            blocked: false,
            mirrors: Vec::new(),
            file: PathBuf::new(),
        }
    }

    #[test]
    fn a_key_matches_whole_components() {
        for (key, name, end) in [
            ("docker.io", "docker.io/library/alpine", Some(9)),
            ("docker.io", "docker.io", Some(9)),
            ("docker.io", "docker.io.evil.com/a", None),
            ("docker.io", "docker.io:5000/a", None),
            ("docker.io/library", "docker.io/library/alpine", Some(17)),
            ("docker.io/lib", "docker.io/library/alpine", None),
            (
                "docker.io/library/alpine",
                "docker.io/library/alpine",
                Some(24),
            ),
            ("*.example.com", "a.example.com/b", Some(13)),
            ("*.example.com", "a.b.example.com/b", Some(15)),
            ("*.example.com", "example.com/b", None),
            ("*.example.com", "badexample.com/b", None),
            ("*.example.com", "evil.com/a.example.com", None),
            ("*.example.com", "a.example.com:5000/b", None),
            ("*.example.com:5000", "a.example.com:5000/b", Some(18)),
            ("*.example.com/team", "a.example.com/team/b", Some(18)),
            ("*.example.com/team", "a.example.com/teams/b", None),
            ("*.example.com/team", "a.example.com", None),
        ] {
            assert_eq!(rule(key).matched(name), end, "{key} {name}");
        }
    }

    #[test]
    fn the_longest_key_wins_and_of_equal_ones_the_last() {
        let keys = [
            "docker.io",
            "docker.io/library",
            "*.example.com",
            "a.example.com",
            "*.example.com/team",
            "docker.io",
        ];
        let rules: Vec<Rule> = keys.into_iter().map(rule).collect();
        for (name, index) in [
            ("docker.io/library/alpine", Some(1)),
            ("docker.io/me/alpine", Some(5)),
            ("b.example.com/x", Some(2)),
            ("a.example.com/x", Some(3)),
            ("a.example.com/team/x", Some(4)),
            ("ghcr.io/x", None),
        ] {
            let found = find(&rules, name).map(|(rule, _)| std::ptr::from_ref(rule));
            let expected = index.map(|i: usize| std::ptr::from_ref(&rules[i]));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn names_are_checked() {
        for (text, name) in [
            ("Docker.io", "docker.io"),
            ("index.docker.io/library/", "docker.io/library"),
            ("localhost", "localhost"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("*.Example.com/a_b", "*.example.com/a_b"),
        ] {
            assert_eq!(parse_name(text, true).unwrap(), name);
        }
        for (text, why) in [
            ("https://mirror.gcr.io/", "write `mirror.gcr.io`"),
            ("http://m.org", "insecure = true"),
            ("", "HOST"),
            ("/a", "HOST"),
            ("me:secret@host.org", "HOST"),
            ("a b.org", "HOST"),
            ("alpine", "has a `.`"),
            ("a.org:", "a port"),
            ("a.org:http", "a port"),
            ("a.org:99999", "a port"),
            (":5000", "a port"),
            ("*", "a `*`"),
            ("*.com", "a `*`"),
            ("a.*.org", "a `*`"),
            ("a.org/*", "a path"),
            ("a.org//b", "a path"),
            ("a.org/b:tag", "a path"),
            ("a.org/B", "a path"),
        ] {
            let error = parse_name(text, true).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(parse_name("*.a.org", false).is_err());
    }

    #[test]
    fn ports_are_split_off() {
        for (host, expected) in [
            ("a", ("a", None)),
            ("a:1", ("a", Some("1"))),
            ("[::1]", ("[::1]", None)),
            ("[::1]:5", ("[::1]", Some("5"))),
            ("::1", ("::1", None)),
        ] {
            assert_eq!(split_port(host), expected);
        }
    }

    proptest! {
        #[test]
        fn a_match_ends_at_a_boundary(key in "(\\*\\.)?[ab]\\.[ab](/[ab]){0,2}", name in "([ab]\\.){1,3}[ab](/[ab]){0,3}") {
            if let Some(end) = rule(&key).matched(&name) {
                let (matched, rest) = name.split_at(end);
                prop_assert!(rest.is_empty() || rest.starts_with('/'));
                prop_assert!(matched.ends_with(key.trim_start_matches('*')));
                prop_assert!(key.starts_with('*') || matched == key);
                prop_assert_eq!(matched.matches('/').count(), key.matches('/').count());
            }
        }

        #[test]
        fn no_text_breaks_the_check(text in "\\PC{0,20}") {
            if let Ok(name) = parse_name(&text, true) {
                prop_assert_eq!(parse_name(&name, true), Ok(name.clone()));
            }
        }
    }
}
