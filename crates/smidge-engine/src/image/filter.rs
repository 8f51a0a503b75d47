//! `--filter key=value`, as `images` and `ps` take it.

use std::collections::BTreeMap;

use crate::{Error, Kind, Result};

/// One `--filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What it looks at.
    pub key: String,
    /// What it wants to see.
    pub value: String,
}

/// Filters by key. Those of one key are alternatives; every key must be met.
#[derive(Clone, Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl std::str::FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok(Self {
                key: key.trim().to_ascii_lowercase(),
                value: value.trim().to_owned(),
            }),
            _ => Err(Error::new(
                Kind::Input,
                format!("invalid filter '{text}': expected `key=value`"),
            )),
        }
    }
}

impl Filters {
    /// Collects filters, of the keys that the command knows.
    ///
    /// # Errors
    /// [`Kind::Input`] for a key it does not know.
    pub fn new(filters: &[Filter], known: &[&str]) -> Result<Self> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Filter { key, value } in filters {
            if !known.contains(&key.as_str()) {
                return Err(Error::new(Kind::Input, format!("invalid filter '{key}'"))
                    .with_fact(format!("known filters: {}", known.join(", "))));
            }
            all.entry(key.clone()).or_default().push(value.clone());
        }
        Ok(Self(all))
    }

    /// The values that were given for a key.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether a key is absent, or one of its values suits.
    pub fn any(&self, key: &str, suits: impl FnMut(&String) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(suits)
    }

    /// Whether all `label` filters (`key` or `key=value`) are met, and no `label!` filter is.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }

    /// The truth value of a key.
    ///
    /// # Errors
    /// [`Kind::Input`] when it is none.
    pub fn truth(&self, key: &str) -> Result<Option<bool>> {
        match self.values(key) {
            [] => Ok(None),
            [value] => match value.to_ascii_lowercase().as_str() {
                "true" | "1" | "t" => Ok(Some(true)),
                "false" | "0" | "f" => Ok(Some(false)),
                _ => Err(Error::new(
                    Kind::Input,
                    format!("invalid filter '{key}={value}': expected true or false"),
                )),
            },
            _ => Err(Error::new(
                Kind::Input,
                format!("the filter `{key}` is given twice"),
            )),
        }
    }
}

/// Whether a text matches a shell pattern: `*` and `?` stop at `/`, as in Docker's `reference`.
pub(crate) fn matches_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    // Remembers the last `*`, and where it could take one character more.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some('?') if text[t] != '/' => (p, t) = (p + 1, t + 1),
            Some(c) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, taken)) if text[taken] != '/' => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, text, expected) in [
            ("busy*", "busybox", true),
            ("busy*:*", "busybox:latest", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("b?x", "box", true),
            ("b?x", "bx", false),
            ("a", "b", false),
            ("", "", true),
            ("**", "", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXbd", false),
        ] {
            assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn filters_are_read_and_checked() {
        let filter = |text: &str| text.parse::<Filter>();
        assert_eq!(filter("Label = a=b").unwrap().value, "a=b");
        assert!(filter("label").is_err());
        assert!(filter("=x").is_err());
        let known = ["label", "dangling"];
        let all: Vec<Filter> = ["label=a", "label=b=2", "dangling=true"]
            .map(|f| filter(f).unwrap())
            .into();
        let filters = Filters::new(&all, &known).unwrap();
        let labels = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        assert!(filters.labels(&labels(&[("a", ""), ("b", "2")])));
        assert!(!filters.labels(&labels(&[("a", ""), ("b", "3")])));
        assert_eq!(filters.truth("dangling").unwrap(), Some(true));
        assert!(Filters::new(&[filter("colour=red").unwrap()], &known).is_err());
        let twice: Vec<Filter> = ["dangling=true", "dangling=x"]
            .map(|f| filter(f).unwrap())
            .into();
        assert!(
            Filters::new(&twice, &known)
                .unwrap()
                .truth("dangling")
                .is_err()
        );
    }
}
