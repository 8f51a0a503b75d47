//! Who we are, for a registry.

use std::path::PathBuf;

use super::Settings;
use super::auth_file::{AuthFile, Entry, keys};
use super::process::Helper;
use crate::{Result, Secret};

/// What proves who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    Basic {
        /// Who.
        username: String,
        /// The password, or a token in its place.
        password: Secret,
    },
    /// A refresh token that a registry's token server gave.
    IdentityToken(Secret),
}

/// Credentials, and where they are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The credentials.
    pub credentials: Credentials,
    /// Who, where that is known: a helper keeps an identity token without its user.
    pub username: Option<String>,
    /// In words: "user `me` from `~/.docker/config.json`".
    pub origin: String,
}

/// Where a login was kept, or removed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In a file, which anybody who can read it can use.
    File(PathBuf),
    /// By a credential helper.
    Helper(String),
}

impl Settings {
    /// Looks for credentials for a registry: the files in their order, and in each the longest
    /// matching entry (`domain/path…`) first.
    ///
    /// # Errors
    /// When a file cannot be read or understood, when a helper fails.
    pub fn credentials(&self, domain: &str, path: &str) -> Result<Option<Found>> {
        let keys = keys(domain, path);
        for file in &self.sources.auth_files {
            if let Some(file) = AuthFile::read(file)?
                && let Some(found) = self.look_up(&file, &keys)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn look_up(&self, file: &AuthFile, keys: &[String]) -> Result<Option<Found>> {
        let store = file.store()?;
        for (index, key) in keys.iter().enumerate() {
            if let Some(name) = file.helper(key)?
                && let Some(found) = self.ask(name, key)?
            {
                return Ok(Some(found));
            }
            let entry = file.entry(key)?;
            let noted = entry.is_some();
            if let Some((_, Entry::Login(credentials))) = entry {
                let origin = origin(
                    &credentials,
                    &format!("`{}`", self.sources.shown(&file.path)),
                );
                let username = match &credentials {
                    Credentials::Basic { username, .. } => Some(username.clone()),
                    Credentials::IdentityToken(_) => file.user(key)?,
                };
                return Ok(Some(Found {
                    credentials,
                    username,
                    origin,
                }));
            }
            let Some(name) = store else { continue };
            // Without a note in the file only the registry itself is asked for, as Docker does; and
            // then a store whose program is gone has no login, rather than breaking every pull.
            let is_domain = index + 1 == keys.len();
            let is_there = || Helper::new(name, &self.sources).exists();
            if (noted || (is_domain && is_there()))
                && let Some(found) = self.ask(name, key)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn ask(&self, name: &str, key: &str) -> Result<Option<Found>> {
        let helper = Helper::new(name, &self.sources);
        let from = format!("credential helper `{}`", helper.program());
        Ok(helper.get(key)?.map(|credentials| Found {
            origin: origin(&credentials, &from),
            username: match &credentials {
                Credentials::Basic { username, .. } => Some(username.clone()),
                Credentials::IdentityToken(_) => None,
            },
            credentials,
        }))
    }
}

fn origin(credentials: &Credentials, place: &str) -> String {
    match credentials {
        Credentials::Basic { username, .. } => format!("user `{username}` from {place}"),
        Credentials::IdentityToken(_) => format!("identity token from {place}"),
    }
}

#[cfg(test)]
mod tests;
