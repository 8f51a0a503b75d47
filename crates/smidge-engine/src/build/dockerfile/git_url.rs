//! The many ways to name a Git repository, as Docker knows them.
//!
//! The rules are BuildKit's: `https://….git#REF:DIRECTORY`, the same with a query
//! (`?ref=…&subdir=…&checksum=…`), `git://`, `ssh://`, `user@host:path`, and `github.com/…` for build
//! contexts; here `file://`, too. See <https://docs.docker.com/build/concepts/context/#git-repositories>.

use crate::url::redacted;
use crate::{Error, Kind, Result};

/// Nothing, or what is wrong.
type Sound = std::result::Result<(), String>;

/// A repository, and what of it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GitUrl {
    /// What Git fetches from. Never starts with `-`.
    pub(super) remote: String,
    /// A branch, tag or commit; `None` is the repository's own choice. Never starts with `-`.
    pub(super) reference: Option<String>,
    /// A directory in it.
    pub(super) directory: Option<String>,
    /// What the commit's id has to start with.
    pub(super) checksum: Option<String>,
    /// Whether `.git` stays, if that is said.
    pub(super) keep_git: Option<bool>,
    /// Whether submodules are left out.
    pub(super) no_submodules: bool,
}

/// Whether a text names a repository and cannot be a path: what `ADD` asks.
pub(super) fn is_git(text: &str) -> bool {
    match text.split_once("://") {
        Some(("git" | "ssh" | "file", _)) => true,
        Some(("http" | "https", rest)) => {
            let path = rest.split(['#', '?']).next().unwrap_or(rest);
            path.contains('/') && path.ends_with(".git")
        }
        Some(_) => false,
        None => is_scp(text),
    }
}

/// Whether a text names a repository where a build context is asked for.
pub(super) fn is_context(text: &str) -> bool {
    is_git(text) || text.starts_with("github.com/")
}

/// `user@host:path`, as scp(1) writes it.
fn is_scp(text: &str) -> bool {
    let word = |text: &str, more: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    text.split_once('@').is_some_and(|(user, rest)| {
        let host = rest.split_once(':').map(|(host, _)| host);
        word(user, "-_") && host.is_some_and(|host| word(host, "-."))
    })
}

impl GitUrl {
    /// Reads the name of a repository.
    ///
    /// # Errors
    /// When something in it makes no sense, or could not be passed on to Git safely.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (rest, fragment) = match text.split_once('#') {
            Some((rest, fragment)) => (rest, fragment),
            None => (text, ""),
        };
        let (remote, query) = match rest.split_once('?') {
            Some((remote, query)) => (remote, query),
            None => (rest, ""),
        };
        let remote = match remote.strip_prefix("github.com/") {
            Some(path) => format!("https://github.com/{path}"),
            None => remote.to_owned(),
        };
        let invalid = |why: String| {
            Error::new(
                Kind::Input,
                format!("cannot use `{}`: {why}", redacted(text)),
            )
        };
        let mut url = Self {
            remote,
            ..Self::default()
        };
        url.read_fragment(fragment);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            url.read_query(pair).map_err(invalid)?;
        }
        if url.reference.is_none() {
            url.reference.clone_from(&url.checksum);
        }
        url.check().map_err(invalid)?;
        Ok(url)
    }

    /// `REF:DIRECTORY`, either of which may be missing.
    fn read_fragment(&mut self, fragment: &str) {
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        self.reference = filled(reference);
        self.directory = filled(directory);
    }

    fn read_query(&mut self, pair: &str) -> Sound {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        let needed = || match value.is_empty() {
            true => Err(format!("`{key}` has no value")),
            false => Ok(value.clone()),
        };
        let flag = || match value.as_str() {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(format!("`{key}` is neither true nor false: `{other}`")),
        };
        let prefixed = |prefix: &str| {
            needed().map(|value| match value.starts_with(prefix) {
                true => value,
                false => format!("{prefix}{value}"),
            })
        };
        match key {
            "ref" => set(&mut self.reference, needed()?, key),
            "tag" => set(&mut self.reference, prefixed("refs/tags/")?, key),
            "branch" => set(&mut self.reference, prefixed("refs/heads/")?, key),
            "subdir" => set(&mut self.directory, needed()?, key),
            "checksum" | "commit" => set(&mut self.checksum, needed()?, key),
            "keep-git-dir" => {
                self.keep_git = Some(flag()?);
                Ok(())
            }
            "submodules" => {
                self.no_submodules = !flag()?;
                Ok(())
            }
            other => Err(format!(
                "`{other}` means nothing in the URL of a repository"
            )),
        }
    }

    /// Refuses what Git might take for an option, a transport or more than one name.
    fn check(&self) -> Sound {
        let host = self
            .remote
            .split_once("://")
            .map_or(self.remote.as_str(), |(_, rest)| rest);
        let host = host.split_once('@').map_or(host, |(_, host)| host);
        if self.remote.starts_with('-') || host.starts_with('-') {
            return Err("a host's name does not start with `-`".to_owned());
        }
        if self.remote.chars().any(char::is_control) {
            return Err("there are control characters in it".to_owned());
        }
        if let Some(reference) = &self.reference
            && !is_reference(reference)
        {
            return Err(format!(
                "`{reference}` is not the name of a branch, tag or commit"
            ));
        }
        if let Some(checksum) = &self.checksum {
            check_checksum(checksum)?;
        }
        Ok(())
    }
}

/// Refuses what is no beginning of a commit's id.
pub(super) fn check_checksum(checksum: &str) -> Sound {
    match (7..=64).contains(&checksum.len()) && checksum.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(()),
        false => Err(format!("`{checksum}` is not the id of a commit")),
    }
}

/// git-check-ref-format(1), and nothing that Git would take apart.
fn is_reference(text: &str) -> bool {
    !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.ends_with(".lock")
        && !["..", "@{", "//", "/."]
            .iter()
            .any(|bad| text.contains(bad))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c))
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn set(place: &mut Option<String>, value: String, key: &str) -> Sound {
    match place {
        Some(there) if *there != value => Err(format!(
            "`{key}` contradicts another part of it: `{there}`, `{value}`"
        )),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

/// Undoes percent encoding (RFC 3986, 2.1); what is none stays as it is.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).and_then(|two| str::from_utf8(two).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_paths_and_files() {
        for git in [
            "git://h/r",
            "ssh://git@h:22/r",
            "file:///srv/r",
            "https://h/r.git",
            "http://h/a/r.git#v1:d",
            "https://u:p@h/r.git?ref=v1",
            "git@github.com:a/b.git",
            "me@h.example:r",
            "git@h:r#v1",
        ] {
            assert!(is_git(git) && is_context(git), "{git}");
        }
        for other in [
            "r.git",
            "./r.git",
            "h:r",
            "a@b/c:d",
            "https://h/r.tar.gz",
            "https://h/a.git/b",
            "ext::sh -c x",
            "ftp://h/r.git",
            "https://x.git",
            "a@",
            "@h:r",
            "-u@h",
            "",
        ] {
            assert!(!is_git(other), "{other}");
        }
        assert!(is_context("github.com/a/b") && !is_git("github.com/a/b"));
    }

    fn parsed(text: &str) -> (String, String, String) {
        let url = GitUrl::parse(text).unwrap();
        let shown = Option::unwrap_or_default;
        (url.remote, shown(url.reference), shown(url.directory))
    }

    #[test]
    fn names_are_taken_apart() {
        let cases = [
            ("https://h/r.git", "https://h/r.git", "", ""),
            ("https://h/r.git#v1", "https://h/r.git", "v1", ""),
            ("https://h/r.git#v1:a/b", "https://h/r.git", "v1", "a/b"),
            ("https://h/r.git#:a", "https://h/r.git", "", "a"),
            ("https://h/r.git#", "https://h/r.git", "", ""),
            (
                "git@h:a/b.git#feature/x:d",
                "git@h:a/b.git",
                "feature/x",
                "d",
            ),
            ("github.com/a/b#main", "https://github.com/a/b", "main", ""),
            (
                "https://h/r.git?ref=v1&subdir=a%2Fb",
                "https://h/r.git",
                "v1",
                "a/b",
            ),
            (
                "https://h/r.git?tag=v1",
                "https://h/r.git",
                "refs/tags/v1",
                "",
            ),
            (
                "https://h/r.git?branch=b",
                "https://h/r.git",
                "refs/heads/b",
                "",
            ),
            (
                "https://h/r.git?checksum=0123456789",
                "https://h/r.git",
                "0123456789",
                "",
            ),
        ];
        for (text, remote, reference, directory) in cases {
            let expected = (
                remote.to_owned(),
                reference.to_owned(),
                directory.to_owned(),
            );
            assert_eq!(parsed(text), expected, "{text}");
        }
        let url = GitUrl::parse("https://h/r.git?keep-git-dir&submodules=false#v1").unwrap();
        assert_eq!((url.keep_git, url.no_submodules), (Some(true), true));
    }

    #[test]
    fn nothing_becomes_an_option_of_git() {
        for text in [
            "https://h/r.git#--upload-pack=touch x",
            "https://h/r.git#-x",
            "https://h/r.git?ref=--upload-pack%3Dx",
            "https://h/r.git#a:b:c/../..",
            "https://h/r.git#+refs/heads/*",
            "https://h/r.git#a b",
            "https://h/r.git#a..b",
            "ssh://-oProxyCommand=x/r",
            "ssh://u@-oProxyCommand=x/r",
            "git@-oProxyCommand:r",
            "https://h/r\n.git",
            "https://h/r.git?ref=a&tag=b",
            "https://h/r.git?commit=xyz",
            "https://h/r.git?upload-pack=x",
            "https://h/r.git?submodules=maybe",
            "https://h/r.git?ref=",
        ] {
            let refused = GitUrl::parse(text).is_err();
            // A directory with `..` in it is looked up inside the repository.
            assert_eq!(refused, text != "https://h/r.git#a:b:c/../..", "{text}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redacted("https://u:p@h/r.git#a"), "https://h/r.git#a");
        assert_eq!(redacted("ssh://git@h/r"), "ssh://git@h/r");
        assert_eq!(redacted("https://h/a@b.git"), "https://h/a@b.git");
        let error = GitUrl::parse("https://u:secret@h/r.git#-x").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
