//! `login` and `logout`.

use smidge_registry::{Credentials, Found, Secret, Stored};

use super::Connection;
use super::attempt::Attempt;
use super::parallel::Alone;
use crate::{Engine, Error, Kind, Result};

/// A login, as it was asked for.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// The registry; Docker Hub if `None`.
    pub registry: Option<String>,
    /// Who.
    pub username: String,
    /// The password, or a token in its place.
    pub password: Secret,
    /// How to talk to registries.
    pub connection: Connection,
}

/// A login that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The registry.
    pub registry: String,
    /// The file it is kept in, unencrypted; `None` if a credential helper keeps it.
    pub file: Option<std::path::PathBuf>,
}

/// Docker Hub, as names have it.
const DOCKER_HUB: &str = "docker.io";

impl Engine {
    /// Tries credentials at a registry, and keeps them.
    ///
    /// # Errors
    /// When they are not accepted, when the registry cannot be reached, when they cannot be kept.
    pub fn login(&self, request: &LoginRequest) -> Result<LoggedIn> {
        let _alone = Alone::from_here();
        let registry = registry_domain(request.registry.as_deref())?;
        let client = self.client_to_log_in(&request.connection)?;
        let attempt = Attempt::login(&registry);
        let credentials = Credentials::Basic {
            username: request.username.clone(),
            password: request.password.clone(),
        };
        let login = client
            .log_in(&registry, &credentials)
            .map_err(|fault| attempt.failed(fault))?;
        let kept = match login.identity_token {
            Some(token) => Credentials::IdentityToken(token),
            None => credentials,
        };
        let user = Some(request.username.as_str());
        let stored = client.settings().keep_login_of(&registry, user, &kept);
        let stored = stored.map_err(|fault| attempt.failed(fault))?;
        Ok(LoggedIn {
            registry,
            file: match stored {
                Stored::File(path) => Some(path),
                Stored::Helper(_) => None,
            },
        })
    }

    /// The user name that is kept for a registry, if there is one.
    ///
    /// # Errors
    /// When a file cannot be read or understood, when a helper fails.
    pub fn known_user(
        &self,
        registry: Option<&str>,
        connection: &Connection,
    ) -> Result<Option<String>> {
        let (_, found) = self.known_login(registry, connection)?;
        Ok(found.and_then(|found| found.username))
    }

    /// Who is logged in to a registry.
    ///
    /// # Errors
    /// As [`Engine::known_user`]; when nobody is, or when it is not kept who: an identity token may be
    /// kept without its user.
    pub fn current_user(&self, registry: Option<&str>, connection: &Connection) -> Result<String> {
        let (registry, found) = self.known_login(registry, connection)?;
        let Some(found) = found else {
            let fault = format!("nobody is logged in to `{registry}`");
            return Err(Error::new(Kind::NotFound, fault));
        };
        found.username.ok_or_else(|| {
            let fault = format!("somebody is logged in to `{registry}`, but it is not kept who");
            Error::new(Kind::NotFound, fault).with_fact(format!("credentials: {}", found.origin))
        })
    }

    fn known_login(
        &self,
        registry: Option<&str>,
        connection: &Connection,
    ) -> Result<(String, Option<Found>)> {
        let registry = registry_domain(registry)?;
        let client = self.client_to_log_in(connection)?;
        let found = client.settings().credentials(&registry, "")?;
        Ok((registry, found))
    }

    /// Forgets the credentials for a registry; tells its name, and whether there were any.
    ///
    /// # Errors
    /// When a file cannot be read or written, when a helper fails.
    pub fn logout(
        &self,
        registry: Option<&str>,
        connection: &Connection,
    ) -> Result<(String, bool)> {
        let registry = registry_domain(registry)?;
        let client = self.client_to_log_in(connection)?;
        let removed = client.settings().forget_login(&registry)?;
        Ok((registry, !removed.is_empty()))
    }
}

/// A registry as people write it: `ghcr.io`, `https://ghcr.io/v2/`; Docker Hub has many names.
fn registry_domain(text: Option<&str>) -> Result<String> {
    let text = text.unwrap_or(DOCKER_HUB);
    let bare = text
        .strip_prefix("https://")
        .or(text.strip_prefix("http://"));
    let domain = bare.unwrap_or(text).split('/').next().unwrap_or_default();
    let hub = [
        "index.docker.io",
        "registry-1.docker.io",
        "registry.hub.docker.com",
    ];
    if hub.contains(&domain) {
        return Ok(DOCKER_HUB.to_owned());
    }
    // A registry is what may stand before a repository.
    let sound = domain.contains(['.', ':']) || domain == "localhost";
    let name = format!("{domain}/x").parse::<smidge_image::Reference>();
    if sound && name.is_ok_and(|name| name.domain() == domain) {
        return Ok(domain.to_owned());
    }
    Err(Error::new(
        Kind::Input,
        format!("`{text}` is no registry: expected HOST or HOST:PORT"),
    )
    .with_hint("write its address: `smidge login ghcr.io`, or none for Docker Hub"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_go_by_many_names() {
        for (text, expected) in [
            (None, "docker.io"),
            (Some("docker.io"), "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("registry-1.docker.io"), "docker.io"),
            (Some("ghcr.io"), "ghcr.io"),
            (Some("https://ghcr.io/v2/"), "ghcr.io"),
            (Some("http://localhost:5000"), "localhost:5000"),
            (Some("localhost"), "localhost"),
            (Some("[::1]:5000"), "[::1]:5000"),
        ] {
            assert_eq!(registry_domain(text).unwrap(), expected, "{text:?}");
        }
        for bad in ["", "me", "a b.c", "https://", "-x.y", "user@host.x"] {
            assert_eq!(
                registry_domain(Some(bad)).unwrap_err().kind(),
                Kind::Input,
                "{bad}"
            );
        }
    }
}
