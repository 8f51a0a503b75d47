//! A container's environment and labels, from every place they can come from.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::host::read_whole;
use crate::{Error, Host, Kind, Result};

/// What Docker gives a program that has no `PATH` of its own.
pub(crate) const DEFAULT_PATH: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An environment in the making: `NAME=value` in the order in which names first came, each with its
/// last value. An image may bring hundreds of thousands.
#[derive(Default)]
pub(crate) struct Environment {
    pairs: Vec<String>,
    places: HashMap<String, usize>,
}

impl Environment {
    /// Sets `NAME=value`, in place of an older value.
    pub(crate) fn set(&mut self, pair: &str) {
        match self.places.entry(name(pair).to_owned()) {
            Entry::Occupied(place) => pair.clone_into(&mut self.pairs[*place.get()]),
            Entry::Vacant(place) => {
                place.insert(self.pairs.len());
                self.pairs.push(pair.to_owned());
            }
        }
    }

    /// The value of a variable.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let pair = &self.pairs[*self.places.get(name)?];
        pair.split_once('=').map(|(_, value)| value)
    }

    /// The pairs.
    pub(crate) fn into_pairs(self) -> Vec<String> {
        self.pairs
    }
}

impl<S: AsRef<str>> Extend<S> for Environment {
    fn extend<I: IntoIterator<Item = S>>(&mut self, pairs: I) {
        pairs.into_iter().for_each(|pair| self.set(pair.as_ref()));
    }
}

impl<S: AsRef<str>> FromIterator<S> for Environment {
    fn from_iter<I: IntoIterator<Item = S>>(pairs: I) -> Self {
        let mut environment = Self::default();
        environment.extend(pairs);
        environment
    }
}

fn name(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

/// What `--env` and `--env-file` ask for, as `NAME=value`; a bare name takes the caller's value. Where the
/// caller has none, a bare name of `--env` stays as it is: the program is not to have that variable. What
/// `--env` says wins.
pub(crate) fn requested(
    options: &[String],
    files: &[impl AsRef<Path>],
    host: &Host,
) -> Result<Vec<String>> {
    let mut env = Environment::default();
    let filled = |pair: &str| match (pair.contains('='), host.env.get(pair)) {
        (false, Some(value)) => format!("{pair}={value}"),
        _ => pair.to_owned(),
    };
    for file in files {
        let pairs = read_file(file.as_ref(), host)?;
        let pairs = pairs.iter().map(|pair| filled(pair));
        env.extend(pairs.filter(|pair| pair.contains('=')));
    }
    for pair in options {
        if pair.is_empty() || pair.starts_with('=') {
            let fault = format!("invalid environment variable: {pair}");
            return Err(Error::new(Kind::Input, fault));
        }
        env.set(&filled(pair));
    }
    Ok(env.into_pairs())
}

/// What a program finds in its environment: Docker's additions do not override what was asked for.
pub(crate) fn of_program(asked: &[String], hostname: &str, tty: bool, home: &str) -> Vec<String> {
    let mut env = Environment::default();
    env.set(DEFAULT_PATH);
    env.set(&format!("HOSTNAME={hostname}"));
    if tty {
        env.set("TERM=xterm");
    }
    env.extend(asked);
    let asks_for_no_home = env.places.contains_key("HOME") && env.value("HOME").is_none();
    if !asks_for_no_home && env.value("HOME").is_none_or(str::is_empty) {
        env.set(&format!("HOME={home}"));
    }
    let mut pairs = env.into_pairs();
    pairs.retain(|pair| pair.contains('='));
    pairs
}

/// Labels from `KEY=value` options; a bare key has an empty value.
pub(crate) fn labels(options: &[String]) -> Result<BTreeMap<String, String>> {
    options
        .iter()
        .map(
            |option| match option.split_once('=').unwrap_or((option, "")) {
                ("", _) => {
                    let fault = format!("invalid label '{option}': empty name");
                    Err(Error::new(Kind::Input, fault))
                }
                (key, value) => Ok((key.to_owned(), value.to_owned())),
            },
        )
        .collect()
}

/// The labels in files: the same lines as in an environment file.
pub(crate) fn label_files(files: &[impl AsRef<Path>], host: &Host) -> Result<Vec<String>> {
    let mut labels = Vec::new();
    for file in files {
        labels.extend(read_file(file.as_ref(), host)?);
    }
    Ok(labels)
}

/// The lines of an environment file: Docker takes them as they are, without quotes or escapes.
fn read_file(path: &Path, host: &Host) -> Result<Vec<String>> {
    let shown = path.display();
    let bytes = read_whole(&host.absolute(path))
        .map_err(|source| Error::io(format!("cannot read `{shown}`"), source))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::new(Kind::Input, format!("`{shown}` is not UTF-8")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = name(line);
        if name.is_empty() || name.contains([' ', '\t']) {
            let fault = format!(
                "the environment file `{shown}` is invalid in line {}: `{name}` is not a name",
                number + 1
            );
            return Err(Error::new(Kind::Input, fault));
        }
        pairs.push(line.to_owned());
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::test_host;

    #[test]
    fn options_win_over_files_and_bare_names_take_the_callers_value() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "\u{feff}# comment\n\n  A=file\nB=two words \nC=\"quoted\"\nFROM_HOST\nNOT_SET\n";
        std::fs::write(dir.path().join("env"), text).unwrap();
        let mut host = test_host(dir.path());
        host.env = [("FROM_HOST".to_owned(), "yes".to_owned())].into();
        let options = ["A=option", "D=", "NOT_SET", "FROM_HOST"].map(str::to_owned);
        assert_eq!(
            requested(&options, &["env"], &host).unwrap(),
            [
                "A=option",
                "B=two words ",
                "C=\"quoted\"",
                "FROM_HOST=yes",
                "D=",
                "NOT_SET"
            ]
        );
    }

    #[test]
    fn names_keep_their_place_and_take_the_last_value() {
        let mut env: Environment = ["A=1", "B", "A=2=3", "C="].into_iter().collect();
        env.extend(["B=x", "D=4"]);
        assert_eq!(env.value("A"), Some("2=3"));
        assert_eq!(env.value("E"), None);
        assert_eq!(env.into_pairs(), ["A=2=3", "B=x", "C=", "D=4"]);
    }

    #[test]
    fn a_bare_name_takes_a_variable_away() {
        let asked = ["HOSTNAME", "A=1", "A"].map(str::to_owned);
        let env = of_program(&asked, "host", false, "/root");
        assert_eq!(env, [DEFAULT_PATH, "HOME=/root"]);
        let env = of_program(&["HOME".to_owned()], "host", false, "/root");
        assert_eq!(env, [DEFAULT_PATH, "HOSTNAME=host"]);
    }

    #[test]
    fn an_environment_of_a_hostile_image_takes_no_time() {
        // One by one compared, these would take an hour.
        let pairs = (0..1_000_000).map(|number| format!("K{number}=v"));
        assert_eq!(pairs.collect::<Environment>().into_pairs().len(), 1_000_000);
    }

    #[test]
    fn faults_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let host = test_host(dir.path());
        std::fs::write(dir.path().join("bad"), "A=1\nb c=2\n").unwrap();
        std::fs::write(dir.path().join("binary"), [0xff, 0xfe]).unwrap();
        for (options, file, expected) in [
            (
                vec!["=x".to_owned()],
                None,
                "invalid environment variable: =x",
            ),
            (vec![], Some("bad"), "in line 2: `b c` is not a name"),
            (vec![], Some("binary"), "is not UTF-8"),
            (vec![], Some("none"), "cannot read `none`"),
        ] {
            let files: Vec<&str> = file.into_iter().collect();
            let fault = requested(&options, &files, &host).unwrap_err();
            assert!(fault.to_string().contains(expected), "{fault}");
        }
        assert!(labels(&["=x".to_owned()]).is_err());
        let labels = labels(&["a=b=c".to_owned(), "d".to_owned()]).unwrap();
        assert_eq!(labels["a"], "b=c");
        assert_eq!(labels["d"], "");
    }
}
