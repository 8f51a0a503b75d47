//! Connections: one pool for each way to speak TLS and each proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Proxy, ProxyProtocol};

use crate::forward::{self, Names};
use crate::pace::Pace;
use crate::retry::Policy;
use crate::url::Url;
use crate::{Error, Result, Tls};

/// How many connections to one host are kept: as many blobs as go at the same time, and some.
const KEPT: usize = 8;
/// Large enough that copying, not calling, is what a blob costs.
const BUFFER: usize = 256 << 10;

/// Which proxy a URL's host is reached through.
pub(crate) type ProxyFor = Box<dyn Fn(bool, &str) -> Option<String> + Send + Sync>;

/// Files with authorities.
#[derive(Default)]
pub(crate) struct Bundles {
    /// Those that somebody named, and that must be there.
    pub(crate) named: Vec<PathBuf>,
    /// Those that may be there.
    pub(crate) usual: Vec<PathBuf>,
}

impl Bundles {
    fn read(&self) -> Result<Vec<Certificate<'static>>> {
        let mut all = authorities(&self.named)?;
        let usual = self.usual.iter().filter_map(|path| fs::read(path).ok());
        all.extend(usual.flat_map(|pem| certificates(&pem)));
        Ok(all)
    }
}

/// Pools of connections, made when they are needed.
pub(crate) struct Agents {
    bundles: Bundles,
    proxy: ProxyFor,
    policy: Policy,
    roots: OnceLock<Vec<Certificate<'static>>>,
    made: Mutex<Vec<(Key, Agent)>>,
}

/// What connections of a pool have in common; plain ones have no TLS.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    tls: Option<Tls>,
    proxy: Option<String>,
}

impl Agents {
    pub(crate) fn new(bundles: Bundles, proxy: ProxyFor, policy: Policy) -> Self {
        Self {
            bundles,
            proxy,
            policy,
            roots: OnceLock::new(),
            made: Mutex::new(Vec::new()),
        }
    }

    /// The pool for a URL.
    pub(crate) fn agent(&self, url: &Url, tls: &Tls) -> Result<Agent> {
        let key = Key {
            tls: url.secure().then(|| tls.clone()),
            proxy: self.proxy_for(url),
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, agent)) = made.iter().find(|(made, _)| *made == key) {
            return Ok(agent.clone());
        }
        let agent = self.make(&key)?;
        made.push((key, agent.clone()));
        Ok(agent)
    }

    /// How fast an answer that is read whole is to come.
    pub(crate) fn pace(&self, patience: Option<Duration>) -> Pace {
        Pace::new(patience.unwrap_or(self.policy.idle))
    }

    /// The proxy for a URL, as it may be shown.
    pub(crate) fn shown_proxy(&self, url: &Url) -> Option<String> {
        Some(show(&self.proxy_for(url)?))
    }

    fn proxy_for(&self, url: &Url) -> Option<String> {
        (self.proxy)(url.secure(), url.authority())
    }

    fn make(&self, key: &Key) -> Result<Agent> {
        let proxy = key.proxy.as_deref().map(proxy).transpose()?;
        let plainly = |proxy: &Proxy| key.tls.is_none() && proxy.protocol() == ProxyProtocol::Http;
        let forward = proxy.clone().filter(plainly);
        let kept = if forward.is_some() { 0 } else { KEPT };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy.filter(|proxy| !plainly(proxy)))
            .user_agent(concat!("smidge/", env!("CARGO_PKG_VERSION")))
            .accept("")
            // A blob's digest is that of its bytes: nobody on the way is to compress them.
            .accept_encoding("identity")
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections(4 * kept)
            .max_idle_connections_per_host(kept)
            .timeout_connect(Some(self.policy.connect))
            .timeout_per_read(Some(self.policy.idle))
            // However it trickles in.
            .timeout_recv_response(Some(2 * self.policy.idle))
            .timeout_per_write(Some(self.policy.idle));
        if let Some(tls) = &key.tls {
            config = config.tls_config(self.tls_config(tls)?);
        }
        let config = config.build();
        Ok(match forward {
            Some(proxy) => forward::agent(config, &proxy),
            None => Agent::with_parts(config, DefaultConnector::default(), Names::default()),
        })
    }

    fn tls_config(&self, tls: &Tls) -> Result<TlsConfig> {
        let mut config = TlsConfig::builder();
        if tls.insecure {
            config = config.disable_verification(true);
        } else {
            config = config.root_certs(self.roots(&tls.authorities)?);
        }
        if let Some((certificate, key)) = &tls.identity {
            config = config.client_cert(Some(identity(certificate, key)?));
        }
        Ok(config.build())
    }

    /// The authorities of the bundles that exist, or else Mozilla's, and the further ones.
    fn roots(&self, further: &[PathBuf]) -> Result<RootCerts> {
        let mut all = match self.roots.get() {
            Some(bundled) => bundled.clone(),
            None => {
                let read = self.bundles.read()?;
                self.roots.get_or_init(|| read).clone()
            }
        };
        if all.is_empty() && further.is_empty() {
            return Ok(RootCerts::WebPki);
        }
        all.extend(authorities(further)?);
        Ok(RootCerts::Specific(Arc::new(all)))
    }
}

/// The certificates of files that must have some.
fn authorities(files: &[PathBuf]) -> Result<Vec<Certificate<'static>>> {
    let mut all = Vec::new();
    for path in files {
        let found = certificates(&read(path)?);
        if found.is_empty() {
            return Err(unusable(path, "there is no certificate in it (PEM)"));
        }
        all.extend(found);
    }
    Ok(all)
}

/// A bundle may hold certificates that cannot be read; the others are as good as ever.
fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    let items = parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    items.collect()
}

fn identity(certificate: &Path, key: &Path) -> Result<ClientCert> {
    let chain = certificates(&read(certificate)?);
    if chain.is_empty() {
        return Err(unusable(certificate, "there is no certificate in it (PEM)"));
    }
    let key = PrivateKey::from_pem(&read(key)?)
        .map_err(|_| unusable(key, "there is no private key in it (PEM, not encrypted)"))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::Settings {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

fn proxy(url: &str) -> Result<Proxy> {
    let usable = |proxy: &Proxy| {
        let protocol = proxy.protocol();
        matches!(protocol, ProxyProtocol::Http | ProxyProtocol::Https)
    };
    let proxy = Proxy::new(url).ok().filter(usable);
    proxy.ok_or_else(|| {
        unusable(
            Path::new(&show(url)),
            "this is no proxy that can be used; one is `http://HOST:PORT`",
        )
    })
}

/// A proxy without its user name and password.
fn show(proxy: &str) -> String {
    let shown = Url::parse(proxy).map(|url| url.to_string());
    let host = proxy.rsplit('@').next().unwrap_or_default();
    shown.unwrap_or_else(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(bundles: &[&Path], proxy: Option<&'static str>) -> Agents {
        let bundles = Bundles {
            usual: bundles.iter().map(|path| path.to_path_buf()).collect(),
            ..Bundles::default()
        };
        let proxy = proxy.map(str::to_owned);
        Agents::new(
            bundles,
            Box::new(move |_, _| proxy.clone()),
            Policy::default(),
        )
    }

    fn fault(tls: &Tls) -> String {
        let url = Url::parse("https://r.example/").unwrap();
        agents(&[], None)
            .agent(&url, tls)
            .err()
            .unwrap()
            .to_string()
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("empty"), "").unwrap();
        let with = |authorities, identity| Tls {
            authorities,
            identity,
            ..Tls::default()
        };
        let (missing, empty) = (path("missing"), path("empty"));
        for (tls, path, why) in [
            (with(vec![missing.clone()], None), &missing, "No such file"),
            (
                with(vec![empty.clone()], None),
                &empty,
                "no certificate in it",
            ),
            (
                with(vec![], Some((missing.clone(), empty.clone()))),
                &missing,
                "No such file",
            ),
            (
                with(vec![], Some((empty.clone(), missing.clone()))),
                &empty,
                "no certificate in it",
            ),
        ] {
            let said = fault(&tls);
            assert!(
                said.contains(&path.display().to_string()) && said.contains(why),
                "{said}"
            );
        }
    }

    #[test]
    fn without_bundles_there_are_still_authorities() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("bundle");
        let none = agents(&[&bundle], None).roots(&[]).unwrap();
        assert!(matches!(none, RootCerts::WebPki));
        let sound = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(
            &bundle,
            format!("# comment\n{sound}-----BEGIN X-----\n?\n{sound}"),
        )
        .unwrap();
        let some = agents(&[&directory.path().join("missing"), &bundle], None)
            .roots(&[])
            .unwrap();
        assert!(matches!(some, RootCerts::Specific(_)));
    }

    #[test]
    fn a_bundle_that_somebody_named_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("empty"), "").unwrap();
        for (named, why) in [
            (path("missing"), "No such file"),
            (path("empty"), "no certificate in it"),
            (directory.path().to_owned(), "Is a directory"),
        ] {
            let bundles = Bundles {
                named: vec![named.clone()],
                ..Bundles::default()
            };
            let agents = Agents::new(bundles, Box::new(|_, _| None), Policy::default());
            for _ in 0..2 {
                let said = agents.roots(&[]).unwrap_err().to_string();
                assert!(
                    said.starts_with(&format!("`{}`: ", named.display())),
                    "{said}"
                );
                assert!(said.contains(why), "{said}");
            }
        }
    }

    #[test]
    fn plain_requests_read_no_certificates() {
        let tls = Tls {
            authorities: vec!["/nowhere".into()],
            ..Tls::default()
        };
        let url = Url::parse("http://r.example/").unwrap();
        agents(&[], None).agent(&url, &tls).unwrap();
    }

    #[test]
    fn proxies_are_shown_without_passwords() {
        assert_eq!(show("http://me:secret@p:3128"), "http://p:3128/");
        assert_eq!(show("socks5://me:secret@p:1080"), "p:1080");
    }
}
