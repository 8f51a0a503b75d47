//! From a name to the places to ask.

use std::net::IpAddr;
use std::path::PathBuf;

use smidge_image::Reference;

use super::rule::{self, Asked, HUB, Place, Rule};
use super::{Settings, certs, file};
use crate::{Error, Result};

/// Where Docker Hub really is.
const HUB_HOST: &str = "registry-1.docker.io";

/// How to start talking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// TLS alone.
    Https,
    /// An insecure registry: TLS if it speaks it, plain HTTP if not.
    Either,
    /// A registry on this machine: plain HTTP if it speaks it, TLS if not.
    Loopback,
}

/// TLS settings of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates are not checked.
    pub insecure: bool,
    /// Further authorities, PEM.
    pub authorities: Vec<PathBuf>,
    /// Our certificate and key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// One place to ask for a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host, and port if there is one: `registry-1.docker.io`, `localhost:5000`.
    pub host: String,
    /// The repository there: a mirror may have it elsewhere.
    pub path: String,
    /// The name that credentials are kept under.
    pub credentials: String,
    /// How to start talking.
    pub scheme: Scheme,
    /// TLS.
    pub tls: Tls,
    /// Whether it is asked by digest alone (a mirror that may have old tags).
    pub digests_only: bool,
}

impl Settings {
    /// Where to pull a name from: mirrors first, the registry itself last.
    ///
    /// # Errors
    /// [`Error::Blocked`](crate::Error::Blocked); [`Error::Settings`](crate::Error::Settings) when
    /// certificates are missing or a location leaves no repository's name.
    pub fn endpoints(&self, name: &Reference) -> Result<Vec<Endpoint>> {
        let whole = rule::name(name.domain(), name.path());
        let mut endpoints = Vec::new();
        if let Some((rule, end)) = self.allowed(&whole)? {
            for mirror in &rule.mirrors {
                if mirror.asked == Asked::ByTag && name.digest().is_some() {
                    continue;
                }
                let mut endpoint = self.at(&whole, Some((rule, end, &mirror.place)))?;
                endpoint.digests_only = mirror.asked == Asked::ByDigest;
                endpoints.push(endpoint);
            }
        }
        endpoints.push(self.endpoint(name.domain(), name.path())?);
        Ok(endpoints)
    }

    /// The registry itself: where to push, log in, list. `path` may be empty.
    ///
    /// # Errors
    /// As [`Settings::endpoints`].
    pub fn endpoint(&self, domain: &str, path: &str) -> Result<Endpoint> {
        let whole = rule::name(domain, path);
        let found = self.allowed(&whole)?;
        self.at(&whole, found.map(|(rule, end)| (rule, end, &rule.place)))
    }

    /// TLS with a host that is asked for no repository, but for tokens.
    ///
    /// # Errors
    /// As [`Settings::endpoints`].
    pub(crate) fn tls(&self, host: &str) -> Result<Tls> {
        let endpoint = self.endpoint(host, "")?;
        if endpoint.host == host {
            return Ok(endpoint.tls);
        }
        // A rule that leads elsewhere says nothing about who is here.
        Ok(Tls {
            insecure: self.sources.tls_verify == Some(false),
            ..Tls::default()
        })
    }

    /// The rule for a name, unless it forbids the name.
    fn allowed(&self, whole: &str) -> Result<Option<(&Rule, usize)>> {
        let found = rule::find(&self.rules, whole);
        match found {
            Some((rule, _)) if rule.blocked => Err(Error::Blocked {
                domain: rule.key.clone(),
                path: rule.file.clone(),
            }),
            _ => Ok(found),
        }
    }

    /// The endpoint for a name at one place that a rule knows.
    fn at(&self, whole: &str, said: Option<(&Rule, usize, &Place)>) -> Result<Endpoint> {
        let moved = said.and_then(|(_, end, place)| {
            let location = place.location.as_deref()?;
            Some(format!("{location}{}", &whole[end..]))
        });
        let target = moved.as_deref().unwrap_or(whole);
        let (host, path) = rule::split(target);
        if let (Some((rule, _, place)), true) = (said, path.is_empty() && whole.contains('/')) {
            let line = place.line;
            let why =
                format!("line {line}: `{whole}` would be at `{target}`, which is no repository");
            return Err(file::fault(&rule.file, why));
        }
        let places = self.places(said, target);
        let mut tls = Tls::default();
        for (rule, place) in &places {
            add_files(&mut tls, rule, place)?;
        }
        let is_hub = host == HUB || host == HUB_HOST;
        certs::add(&mut tls, &self.sources.certs_dirs, host)?;
        if is_hub {
            let other = if host == HUB { HUB_HOST } else { HUB };
            certs::add(&mut tls, &self.sources.certs_dirs, other)?;
        }
        let insecure = places.iter().find_map(|(_, place)| place.insecure);
        let scheme = scheme(self.sources.tls_verify.map(|v| !v).or(insecure), host);
        tls.insecure = match self.sources.tls_verify {
            Some(verify) => !verify,
            None => insecure == Some(true),
        };
        Ok(Endpoint {
            path: match path {
                official if is_hub && !official.is_empty() && !official.contains('/') => {
                    format!("library/{official}")
                }
                _ => path.to_owned(),
            },
            host: if is_hub { HUB_HOST } else { host }.to_owned(),
            credentials: if is_hub { HUB } else { host }.to_owned(),
            scheme,
            tls,
            digests_only: false,
        })
    }

    /// What is said about a place: by the rule that leads there, then by the rule for the place's
    /// own name (unless that one leads on).
    fn places<'s>(
        &'s self,
        said: Option<(&'s Rule, usize, &'s Place)>,
        target: &str,
    ) -> Vec<(&'s Rule, &'s Place)> {
        let mut places: Vec<(&Rule, &Place)> = Vec::new();
        if let Some((rule, _, place)) = said {
            places.push((rule, place));
        }
        if let Some((rule, _)) = rule::find(&self.rules, target)
            && !places
                .iter()
                .any(|(_, known)| std::ptr::eq(*known, &rule.place))
            && rule
                .place
                .location
                .as_deref()
                .is_none_or(|to| to == rule.key)
        {
            places.push((rule, &rule.place));
        }
        places
    }
}

fn scheme(insecure: Option<bool>, host: &str) -> Scheme {
    match insecure {
        Some(false) => Scheme::Https,
        _ if is_loopback(host) => Scheme::Loopback,
        Some(true) => Scheme::Either,
        None => Scheme::Https,
    }
}

fn add_files(tls: &mut Tls, rule: &Rule, place: &Place) -> Result<()> {
    let identity = place.identity.as_ref();
    let named = [
        ("ca", place.ca.as_ref()),
        ("cert", identity.map(|i| &i.0)),
        ("key", identity.map(|i| &i.1)),
    ];
    for (key, path) in named {
        if let Some(path) = path
            && !path.is_file()
        {
            let line = place.line;
            let why = format!(
                "line {line}: `{key}`: there is no file `{}`",
                path.display()
            );
            return Err(file::fault(&rule.file, why));
        }
    }
    tls.authorities.extend(place.ca.clone());
    if tls.identity.is_none() {
        tls.identity = place.identity.clone();
    }
    Ok(())
}

/// Whether a host, with or without a port, is this machine itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    let (name, _) = rule::split_port(host);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback(),
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
        Err(_) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests;
