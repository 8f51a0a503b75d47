//! Plain HTTP through a proxy: what is asked is named in full (RFC 9112, section 3.2.2).
//!
//! The library tunnels everything (`CONNECT`), which proxies allow to the port of TLS alone. So the
//! head of a request is rewritten on its way out: one request a connection.

use std::fmt;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Agent, Error, Proxy};

use crate::Secret;
use crate::token::basic_header;

/// Finds addresses in the calling thread: no other is to be left over when a container starts.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Whom every connection goes to, whomever it is for.
    proxy: Option<Uri>,
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let uri = self.proxy.as_ref().unwrap_or(uri);
        DefaultResolver::default().resolve(uri, config, NextTimeout::default())
    }
}

/// Connections to a proxy; the configuration is to have none, and to keep no connections.
pub(crate) fn agent(config: Config, proxy: &Proxy) -> Agent {
    let credentials = proxy
        .username()
        .map(|username| basic_header(username, &Secret::new(proxy.password().unwrap_or_default())));
    let names = Names {
        proxy: Some(proxy.uri().clone()),
    };
    let connector = ().chain(TcpConnector::default()).chain(Forward { credentials });
    Agent::with_parts(config, connector, names)
}

#[derive(Debug)]
struct Forward {
    credentials: Option<Secret>,
}

impl<In: Transport> Connector<In> for Forward {
    type Out = Forwarded<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let authority = details.uri.authority().map(ToString::to_string);
        Ok(chained.map(|inner| Forwarded {
            inner,
            origin: Some(format!("http://{}", authority.unwrap_or_default())),
            credentials: self.credentials.clone(),
        }))
    }
}

/// A connection to a proxy.
struct Forwarded<In> {
    inner: In,
    /// What is put before the path, until that is done.
    origin: Option<String>,
    credentials: Option<Secret>,
}

impl<In: Transport> Transport for Forwarded<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let Some(origin) = self.origin.take() else {
            return self.inner.transmit_output(amount, timeout);
        };
        let output = self.inner.buffers().output();
        let head = rewrite(&output[..amount], &origin, self.credentials.as_ref());
        let Some(room) = output.get_mut(..head.len()) else {
            return Err(Error::LargeResponseHeader(head.len(), amount));
        };
        room.copy_from_slice(&head);
        self.inner.transmit_output(head.len(), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

impl<In> fmt::Debug for Forwarded<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarded").finish_non_exhaustive()
    }
}

/// Names the origin in the first line, and shows the proxy's credentials after it.
fn rewrite(head: &[u8], origin: &str, credentials: Option<&Secret>) -> Vec<u8> {
    let mut parts = head.splitn(2, |byte| *byte == b' ');
    let (method, rest) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let end = rest.windows(2).position(|pair| pair == b"\r\n");
    let (line, headers) = rest.split_at(end.map_or(rest.len(), |end| end + 2));
    let shown = credentials.map(|secret| format!("proxy-authorization: {}\r\n", secret.expose()));
    let shown = shown.unwrap_or_default();
    [
        method,
        b" ",
        origin.as_bytes(),
        line,
        shown.as_bytes(),
        headers,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ureq::http::Method;

    use crate::agent::Bundles;
    use crate::testing::{BASIC, Reply, Seen, Server, policy};
    use crate::token::Scopes;
    use crate::transport::Content;
    use crate::wire::{Call, Surroundings, Target, Wire};
    use crate::{Endpoint, Error, Scheme, Tls};

    /// A client whose way to everywhere leads through a proxy.
    fn through(proxy: &str) -> Arc<Wire> {
        let proxy = proxy.to_owned();
        let surroundings = Surroundings {
            bundles: Bundles::default(),
            proxy: Box::new(move |_, _| Some(proxy.clone())),
            tls: Box::new(|_| Ok(Tls::default())),
            credentials: Box::new(|_| Ok(None)),
        };
        Arc::new(Wire::new(surroundings, policy()))
    }

    fn far(scheme: Scheme) -> Endpoint {
        Endpoint {
            host: "registry.example:5000".to_owned(),
            path: "a/b".to_owned(),
            credentials: "registry.example:5000".to_owned(),
            scheme,
            tls: Tls::default(),
            digests_only: false,
        }
    }

    fn put(wire: &Wire, endpoint: &Endpoint) -> crate::Result<Vec<u8>> {
        let target = Target::Path("/v2/a/b/manifests/1".to_owned());
        let call = Call::new(Method::PUT, target, &Scopes::new())
            .content(Content::Bytes(b"GET / HTTP/1.1"))
            .whole(100);
        Ok(wire.expect(endpoint, &call)?.content)
    }

    #[test]
    fn plain_http_names_what_it_asks_for() {
        let proxy = Server::start(|seen: &Seen| Reply::new(200).body(seen.target.clone()));
        let with_password = proxy.url("").replace("://", "://me:pass%3Aword@");
        let wire = through(&with_password);
        for _ in 0..2 {
            let target = put(&wire, &far(Scheme::Loopback)).unwrap();
            assert_eq!(target, b"http://registry.example:5000/v2/a/b/manifests/1");
        }
        let seen = &proxy.seen()[1];
        assert_eq!(seen.header("proxy-authorization"), Some(BASIC));
        assert_eq!(seen.header("host"), Some("registry.example:5000"));
        assert_eq!(seen.body, b"GET / HTTP/1.1");
    }

    #[test]
    fn tls_goes_through_a_tunnel() {
        let proxy = Server::start(|_: &Seen| Reply::new(403));
        let with_password = proxy.url("").replace("://", "://me:pass%3Aword@");
        let error = put(&through(&with_password), &far(Scheme::Https)).unwrap_err();
        let Error::Unreachable { source, .. } = error else {
            panic!("{error}")
        };
        let said = source.to_string();
        assert!(
            said.starts_with("the proxy does not connect to `registry.example:5000`"),
            "{said}"
        );
        assert!(
            said.contains(&proxy.host()) && !said.contains("pass"),
            "{said}"
        );
        let seen = proxy.seen();
        assert_eq!(seen[0].line(), "CONNECT registry.example:5000");
        assert_eq!(seen[0].header("proxy-authorization"), Some(BASIC));
    }

    #[test]
    fn a_proxy_that_is_not_there_is_named() {
        let gone = Server::replies([]).url("");
        let error = put(&through(&gone), &far(Scheme::Https)).unwrap_err();
        let Error::Unreachable { source, .. } = error else {
            panic!("{error}")
        };
        assert!(
            source
                .to_string()
                .contains(&format!("through the proxy `{gone}/`")),
            "{source}"
        );
        for unusable in ["socks5://me:secret@h:1", "ftp://h", "http://"] {
            let error = put(&through(unusable), &far(Scheme::Https)).unwrap_err();
            assert!(matches!(error, Error::Settings { .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
