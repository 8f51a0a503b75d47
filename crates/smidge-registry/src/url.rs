//! The URLs that are asked, and how they may be shown.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Uri;

/// What may stand as it is in a query's value: everything that has no meaning of its own there.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':')
    .remove(b',');

/// Parameters that tell no secret. Signatures, tokens and upload states are in others.
const SHOWN: [&str; 8] = [
    "artifactType",
    "digest",
    "from",
    "last",
    "mount",
    "n",
    "scope",
    "service",
];

/// An absolute URL without user name, password and fragment.
///
/// Its `Display` and `Debug` leave out what may be secret in the query.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    secure: bool,
    authority: String,
    path: String,
    query: Option<String>,
}

impl Url {
    /// The URL of a path, which starts with `/`, at a host.
    pub(crate) fn new(secure: bool, authority: &str, path: &str) -> Self {
        Self {
            secure,
            authority: authority.to_ascii_lowercase(),
            path: path.to_owned(),
            query: None,
        }
    }

    /// Reads an absolute URL; a user name and password in it are dropped.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, a)| a);
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (rest, None),
        };
        let url = Self {
            secure,
            authority: authority.to_ascii_lowercase(),
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            query,
        };
        let sound = !authority.is_empty() && url.text().parse::<Uri>().is_ok();
        sound.then_some(url)
    }

    /// What a `Location` or `Link` means here (RFC 3986, section 5).
    ///
    /// Plain HTTP at the very host that was asked over TLS is read as TLS: some proxies that end TLS
    /// make their registry believe that there is none.
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        let location = location.trim();
        let mut joined = if let Some(rest) = location.strip_prefix("//") {
            Self::parse(&format!("{}://{rest}", self.scheme()))?
        } else if let Some(query) = location.strip_prefix('?') {
            self.at(&format!("{}?{query}", self.path))?
        } else if location.starts_with('/') {
            self.at(location)?
        } else if has_scheme(location) {
            Self::parse(location)?
        } else {
            let directory = self.path.rfind('/').map_or("/", |end| &self.path[..=end]);
            self.at(&format!("{directory}{location}"))?
        };
        if self.secure && !joined.secure && self.authority == joined.authority {
            joined.secure = true;
        }
        joined.path = without_dots(&joined.path);
        Some(joined)
    }

    fn at(&self, rest: &str) -> Option<Self> {
        Self::parse(&format!("{}://{}{rest}", self.scheme(), self.authority))
    }

    /// With one more parameter, its value encoded.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        let value = utf8_percent_encode(value, QUERY_VALUE);
        let query = match self.query.take() {
            Some(query) if !query.is_empty() => format!("{query}&{key}={value}"),
            _ => format!("{key}={value}"),
        };
        self.query = Some(query);
        self
    }

    /// At another origin, with the same path and query.
    pub(crate) fn moved_to(mut self, origin: &Self) -> Self {
        self.secure = origin.secure;
        self.authority.clone_from(&origin.authority);
        self
    }

    /// Whether it is TLS.
    pub(crate) fn secure(&self) -> bool {
        self.secure
    }

    /// Host, and port if there is one.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The host alone.
    pub(crate) fn host(&self) -> &str {
        split_port(&self.authority).0
    }

    /// Whether the other one has the same scheme, host and port.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.secure == other.secure && self.host() == other.host() && self.port() == other.port()
    }

    /// Whether it is at a host, whatever the ports.
    pub(crate) fn is_at(&self, authority: &str) -> bool {
        self.host().eq_ignore_ascii_case(split_port(authority).0)
    }

    /// Whether its host says that it is this machine, or one of a network that is not public.
    pub(crate) fn is_local(&self) -> bool {
        let name = self
            .host()
            .trim_start_matches('[')
            .trim_end_matches([']', '.']);
        match name.parse() {
            Ok(IpAddr::V4(ip)) => is_local_v4(ip),
            Ok(IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
                Some(mapped) => is_local_v4(mapped),
                None => {
                    ip.is_loopback()
                        || ip.is_unspecified()
                        || ip.is_unique_local()
                        || ip.is_unicast_link_local()
                }
            },
            Err(_) => {
                // Resolvers read `127.1`, `0x7f.1` and `2130706433` as addresses, too.
                let last = name.rsplit('.').next().unwrap_or_default();
                last == "localhost" || last.starts_with(|first: char| first.is_ascii_digit())
            }
        }
    }

    fn port(&self) -> u16 {
        let default = if self.secure { 443 } else { 80 };
        split_port(&self.authority)
            .1
            .and_then(|port| port.parse().ok())
            .unwrap_or(default)
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// What comes after the origin, secrets and all: for the wire alone.
    pub(crate) fn path_and_query(&self) -> String {
        let query = self.query.iter().map(|query| format!("?{query}"));
        format!("{}{}", self.path, query.collect::<String>())
    }

    /// All of it, secrets and all: for the wire alone.
    pub(crate) fn text(&self) -> String {
        format!(
            "{}://{}{}",
            self.scheme(),
            self.authority,
            self.path_and_query()
        )
    }
}

fn is_local_v4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    // Carriers' networks, in which some clouds keep what they tell their machines.
    let shared = first == 100 && (64..128).contains(&second);
    first == 0 || ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.path)?;
        let pairs = self.query.as_deref().unwrap_or_default().split('&');
        let shown =
            pairs.filter(|pair| SHOWN.contains(&pair.split('=').next().unwrap_or_default()));
        for (index, pair) in shown.enumerate() {
            write!(f, "{}{pair}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Host and port of `host`, `host:port`, `[::1]`, `[::1]:port`.
pub(crate) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn locations_are_joined_as_rfc_3986_says() {
        let base = url("https://r.example:5000/v2/a/blobs/uploads/?x=1");
        for (location, joined) in [
            ("/v2/b?y=2", "https://r.example:5000/v2/b?y=2"),
            ("id?y=2", "https://r.example:5000/v2/a/blobs/uploads/id?y=2"),
            ("../id", "https://r.example:5000/v2/a/blobs/id"),
            ("./id", "https://r.example:5000/v2/a/blobs/uploads/id"),
            ("?z", "https://r.example:5000/v2/a/blobs/uploads/?z"),
            ("//s.example/x", "https://s.example/x"),
            ("http://s.example/x", "http://s.example/x"),
            ("HTTPS://S.example", "https://s.example/"),
            ("http://r.example:5000/x", "https://r.example:5000/x"),
            ("http://u:p@s.example/x#f", "http://s.example/x"),
        ] {
            assert_eq!(base.join(location).unwrap().text(), joined, "{location}");
        }
        for location in ["ftp://x/", "https://", "/a b", "https://a b/"] {
            assert_eq!(base.join(location), None, "{location}");
        }
    }

    #[test]
    fn parameters_are_added_to_what_is_there() {
        let digest = "sha256:00";
        assert_eq!(
            url("http://r/u?_state=a%3D").with("digest", digest).text(),
            "http://r/u?_state=a%3D&digest=sha256:00"
        );
        assert_eq!(
            url("http://r/u").with("service", "a b&c=d+").text(),
            "http://r/u?service=a%20b%26c%3Dd%2B"
        );
        assert_eq!(url("http://r/u?").with("a", "b").text(), "http://r/u?a=b");
    }

    #[test]
    fn secrets_of_a_query_are_not_shown() {
        let signed = url("https://s/x?X-Amz-Signature=secret&digest=sha256:0&token=secret");
        assert_eq!(signed.to_string(), "https://s/x?digest=sha256:0");
        assert_eq!(format!("{signed:?}"), "https://s/x?digest=sha256:0");
        assert_eq!(url("https://s/x?sig=a").to_string(), "https://s/x");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = url("https://r.example/a");
        assert!(origin.same_origin(&url("https://R.example:443/b")));
        assert!(!origin.same_origin(&url("https://r.example:444/a")));
        assert!(!origin.same_origin(&url("http://r.example/a")));
        assert!(!origin.same_origin(&url("http://r.example:443/a")));
        assert!(!origin.same_origin(&url("https://x.r.example/a")));
        assert!(url("http://[::1]/").same_origin(&url("http://[::1]:80/")));
    }

    #[test]
    fn places_that_are_not_public_are_known_by_their_addresses() {
        for local in [
            "localhost",
            "LOCALHOST.:80",
            "x.localhost",
            "127.0.0.1:5000",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "127.1",
            "0x7f.0.0.1",
            "a.0x7f000001",
            "2130706433",
            "[::1]:5000",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:127.0.0.1]",
        ] {
            let url = Url::parse(&format!("https://{local}/x")).unwrap();
            assert!(url.is_local(), "{local}");
        }
        for public in [
            "r.example",
            "1.1.1.1",
            "[2606:4700::1]",
            "localhost.example",
            "0x7f.example",
        ] {
            let url = Url::parse(&format!("https://{public}/x")).unwrap();
            assert!(!url.is_local(), "{public}");
        }
    }
}
