//! The files and the surroundings that settings come from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The files that settings come from, as the caller's surroundings have them.
#[derive(Clone, Default)]
pub struct Sources {
    /// smidge's own `registries.toml`; what a later file says of a registry replaces what an earlier one does.
    pub registries_toml: Vec<PathBuf>,
    /// containers-registries.conf(5), version 2: files and `.d` directories, the same way.
    pub registries_conf: Vec<PathBuf>,
    /// Directories with `HOST[:PORT]/{ca.crt,client.cert,client.key}`.
    pub certs_dirs: Vec<PathBuf>,
    /// Bundles of authorities; all that exist are trusted.
    pub ca_bundles: Vec<PathBuf>,
    /// Bundles that somebody named: one that cannot be read is an error.
    pub named_bundles: Vec<PathBuf>,
    /// Docker's `config.json` and Podman's `auth.json`, in the order in which they are asked.
    pub auth_files: Vec<PathBuf>,
    /// Where a login is written.
    pub login_file: Option<PathBuf>,
    /// `$PATH`, for credential helpers.
    pub path: OsString,
    /// The environment: proxies are read from it, and credential helpers get it.
    pub env: BTreeMap<String, String>,
    /// `--tls-verify`: overrides what files say about every registry.
    pub tls_verify: Option<bool>,
}

impl Sources {
    /// A path as people write it: `~` for the home directory.
    pub(super) fn shown(&self, path: &Path) -> String {
        match self.home().map(|home| path.strip_prefix(home)) {
            Some(Ok(rest)) if !rest.as_os_str().is_empty() => format!("~/{}", rest.display()),
            _ => path.display().to_string(),
        }
    }

    /// The home directory, if it is a sensible one.
    pub(super) fn home(&self) -> Option<&Path> {
        let home = Path::new(self.env.get("HOME")?);
        (home.is_absolute() && home.parent().is_some()).then_some(home)
    }
}

/// The environment may hold passwords and tokens: only its names are shown.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("registries_toml", &self.registries_toml)
            .field("registries_conf", &self.registries_conf)
            .field("certs_dirs", &self.certs_dirs)
            .field("ca_bundles", &self.ca_bundles)
            .field("named_bundles", &self.named_bundles)
            .field("auth_files", &self.auth_files)
            .field("login_file", &self.login_file)
            .field("path", &self.path)
            .field("env", &self.env.keys())
            .field("tls_verify", &self.tls_verify)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_directory_is_shown_as_a_tilde() {
        let sources = |home: &str| Sources {
            env: BTreeMap::from([("HOME".to_owned(), home.to_owned())]),
            ..Sources::default()
        };
        let file = Path::new("/home/me/.docker/config.json");
        assert_eq!(sources("/home/me").shown(file), "~/.docker/config.json");
        for other in ["/home/m", "/", "", "home", "/home/me/.docker/config.json"] {
            assert_eq!(sources(other).shown(file), file.display().to_string());
        }
        assert_eq!(Sources::default().shown(file), file.display().to_string());
    }

    #[test]
    fn values_of_the_environment_are_not_shown() {
        let proxy = "http://me:hunter2@proxy:3128";
        let sources = Sources {
            env: BTreeMap::from([("HTTPS_PROXY".to_owned(), proxy.to_owned())]),
            ..Sources::default()
        };
        let shown = format!("{sources:?} {:?}", crate::Settings::load(sources.clone()));
        assert!(shown.contains("HTTPS_PROXY"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
