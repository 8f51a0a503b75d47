//! Keeping logins, and forgetting them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::auth_file::{self, AuthFile};
use super::process::Helper;
use super::{Credentials, Settings, Stored, file, replace};
use crate::{Error, Result};

impl Settings {
    /// Keeps a login for a registry: in the file for logins, or by the helper that it names.
    ///
    /// # Errors
    /// As [`Settings::credentials`], and when it cannot be written.
    pub fn keep_login(&self, domain: &str, credentials: &Credentials) -> Result<Stored> {
        self.keep_login_of(domain, None, credentials)
    }

    /// As [`Settings::keep_login`], with the user whom an identity token is for.
    ///
    /// # Errors
    /// As [`Settings::keep_login`].
    pub fn keep_login_of(
        &self,
        domain: &str,
        username: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Stored> {
        let Some(path) = &self.sources.login_file else {
            return Err(file::fault(
                Path::new("config.json"),
                "there is no directory for it: `HOME` and `DOCKER_CONFIG` are not set",
            ));
        };
        let key = auth_file::meaning(domain);
        let file = AuthFile::read(path)?.unwrap_or_else(|| AuthFile::empty(path));
        // A wrong file is found before a helper has the login.
        file.table("auths")?;
        let helper = match file.helper(&key)? {
            Some(name) => Some(name),
            None => file.store()?,
        };
        let Some(name) = helper else {
            change(path, |file| {
                file.put(&key, auth_file::encode(username, credentials))
            })?;
            return Ok(Stored::File(path.clone()));
        };
        let helper = Helper::new(name, &self.sources);
        helper.store(&key, credentials)?;
        // As Docker does: who reads the file sees that there is a login, not what it is.
        change(path, |file| file.put(&key, Value::Object(Map::new())))?;
        Ok(Stored::Helper(helper.program()))
    }

    /// Forgets the login for a registry, wherever it is kept; empty if there was none.
    ///
    /// # Errors
    /// As [`Settings::keep_login`]. What can be forgotten is forgotten all the same.
    pub fn forget_login(&self, domain: &str) -> Result<Vec<Stored>> {
        let key = auth_file::meaning(domain);
        let (mut gone, mut trouble) = (Vec::new(), None);
        let mut helpers: Vec<String> = Vec::new();
        for path in self.login_files() {
            match self.forget_in(&path, &key, &mut helpers) {
                Ok(true) => gone.push(Stored::File(path)),
                Ok(false) => {}
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        for name in helpers {
            let helper = Helper::new(&name, &self.sources);
            match helper.erase(&key) {
                Ok(true) => gone.push(Stored::Helper(helper.program())),
                Ok(false) => {}
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        match trouble {
            Some(error) => Err(error),
            None => Ok(gone),
        }
    }

    /// Removes a key from a file; whether it had a login. Adds the helpers that may have it, too.
    fn forget_in(&self, path: &Path, key: &str, helpers: &mut Vec<String>) -> Result<bool> {
        let Some(file) = AuthFile::read(path)? else {
            return Ok(false);
        };
        let noted = file.has(key)?;
        // A store whose program is gone is missed only where it should have this login.
        let is_asked = |name: &&str| noted || Helper::new(name, &self.sources).exists();
        let store = file.store()?.filter(is_asked);
        for name in file.helper(key)?.into_iter().chain(store) {
            if !helpers.iter().any(|known| known == name) {
                helpers.push(name.to_owned());
            }
        }
        let mut found = false;
        if noted {
            change(path, |file| {
                found = file.remove(key)?;
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// The files that may have logins, each once.
    fn login_files(&self) -> Vec<PathBuf> {
        let mut seen = Vec::new();
        let mut files = Vec::new();
        let sources = &self.sources;
        for path in sources.auth_files.iter().chain(&sources.login_file) {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            if !seen.contains(&real) {
                seen.push(real);
                files.push(path.clone());
            }
        }
        files
    }
}

/// Changes a file while nobody else of us does.
fn change(path: &Path, change: impl FnOnce(&mut AuthFile) -> Result<()>) -> Result<()> {
    let of_io = |error: std::io::Error| -> Error {
        file::fault(
            path,
            format!("it cannot be written: {}", file::reason(&error)),
        )
    };
    let replacement = replace::start(path).map_err(of_io)?;
    let mut file = AuthFile::read(path)?.unwrap_or_else(|| AuthFile::empty(path));
    let before = file.root.clone();
    change(&mut file)?;
    if file.root == before {
        return Ok(());
    }
    replacement.write(&file.text()?).map_err(of_io)
}

#[cfg(test)]
mod tests;
