//! Proxies, as the environment names them.
//!
//! The rules are those of Go's `httpproxy`, which Docker, Podman and most of the field use.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::endpoint::is_loopback;
use super::{Settings, rule};

impl Settings {
    /// The proxy for a URL's host (with or without port), from the environment:
    /// `http://[user:password@]host:port`.
    pub fn proxy(&self, https: bool, host: &str) -> Option<String> {
        proxy(&self.sources.env, https, host)
    }
}

fn proxy(env: &BTreeMap<String, String>, https: bool, host: &str) -> Option<String> {
    let value = |name: &str| {
        [name.to_uppercase(), name.to_owned()]
            .iter()
            .filter_map(|name| env.get(name))
            .map(|value| value.trim())
            .find(|value| !value.is_empty())
    };
    let proxy = match https {
        true => value("https_proxy"),
        // In a CGI program `HTTP_PROXY` is a header that the visitor sent.
        false if env.contains_key("REQUEST_METHOD") => env.get("http_proxy").map(|v| v.trim()),
        false => value("http_proxy"),
    };
    let proxy = proxy
        .or_else(|| value("all_proxy"))
        .filter(|p| !p.is_empty())?;
    let exceptions = value("no_proxy").unwrap_or("");
    if is_loopback(host) || is_excepted(exceptions, https, host) {
        return None;
    }
    Some(match proxy.contains("://") {
        true => proxy.to_owned(),
        false => format!("http://{proxy}"),
    })
}

/// Whether `NO_PROXY` names a host: `*`, `IP`, `IP/BITS`, `domain` (with its subdomains), `.domain`
/// (subdomains alone); all but networks may have a port.
fn is_excepted(exceptions: &str, https: bool, host: &str) -> bool {
    let (name, port) = rule::split_port(host);
    let port = port.unwrap_or(if https { "443" } else { "80" });
    let name = bare(name).trim_end_matches('.').to_ascii_lowercase();
    let address = name.parse::<IpAddr>().ok().map(|a| a.to_canonical());
    exceptions
        .split([',', ' ', '\t'])
        .filter(|word| !word.is_empty())
        .any(|word| {
            let word = word.to_ascii_lowercase();
            if word == "*" {
                return true;
            }
            if let Some((network, bits)) = word.split_once('/') {
                return address.is_some_and(|a| is_within(a, network, bits));
            }
            let (excepted, its_port) = rule::split_port(&word);
            if its_port.is_some_and(|p| p != port) {
                return false;
            }
            match bare(excepted).parse::<IpAddr>() {
                Ok(excepted) => address == Some(excepted.to_canonical()),
                Err(_) => is_domain_of(excepted, &name),
            }
        })
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_domain_of(excepted: &str, name: &str) -> bool {
    let excepted = excepted.strip_prefix('*').unwrap_or(excepted);
    let domain = excepted.trim_end_matches('.');
    if domain.trim_start_matches('.').is_empty() {
        return false;
    }
    match domain.strip_prefix('.') {
        Some(_) => name.ends_with(domain),
        None => name
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

fn is_within(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn each_scheme_has_its_variable() {
        for (pairs, https, expected) in [
            (&[][..], true, None),
            (
                &[("HTTPS_PROXY", "http://p:1")][..],
                true,
                Some("http://p:1"),
            ),
            (&[("HTTPS_PROXY", "http://p:1")], false, None),
            (&[("https_proxy", "p:1")], true, Some("http://p:1")),
            (
                &[("https_proxy", "l:1"), ("HTTPS_PROXY", "u:1")],
                true,
                Some("http://u:1"),
            ),
            (
                &[("https_proxy", "l:1"), ("HTTPS_PROXY", "")],
                true,
                Some("http://l:1"),
            ),
            (&[("HTTP_PROXY", " p:1 ")], false, Some("http://p:1")),
            (
                &[("HTTP_PROXY", "p:1"), ("REQUEST_METHOD", "GET")],
                false,
                None,
            ),
            (
                &[("http_proxy", "p:1"), ("REQUEST_METHOD", "GET")],
                false,
                Some("http://p:1"),
            ),
            (&[("ALL_PROXY", "socks5://p:1")], true, Some("socks5://p:1")),
            (
                &[("all_proxy", "p:1"), ("HTTP_PROXY", "q:1")],
                false,
                Some("http://q:1"),
            ),
            (
                &[("HTTPS_PROXY", "http://me:pw@p:1"), ("NO_PROXY", "a.io")],
                true,
                Some("http://me:pw@p:1"),
            ),
            (&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", "b.io")], true, None),
            (&[("HTTPS_PROXY", "p:1"), ("no_proxy", "b.io")], true, None),
        ] {
            assert_eq!(
                proxy(&env(pairs), https, "b.io").as_deref(),
                expected,
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn this_machine_is_never_behind_a_proxy() {
        let env = env(&[("ALL_PROXY", "p:1")]);
        for host in ["localhost", "localhost:5000", "127.0.0.1:1", "[::1]:5000"] {
            assert_eq!(proxy(&env, false, host), None, "{host}");
        }
        assert!(proxy(&env, false, "10.0.0.1:5000").is_some());
    }

    #[test]
    fn exceptions_are_read_as_go_reads_them() {
        for (exceptions, host, excepted) in [
            ("", "a.io", false),
            (",, ,", "a.io", false),
            ("*", "a.io", true),
            ("b.io,*", "a.io", true),
            ("a.io", "a.io", true),
            ("a.io", "b.a.io", true),
            ("a.io", "ba.io", false),
            ("A.io ", "a.IO", true),
            ("a.io.", "a.io", true),
            ("a.io", "a.io.", true),
            (".a.io", "a.io", false),
            (".a.io", "b.a.io", true),
            ("*.a.io", "b.a.io", true),
            ("*.a.io", "a.io", false),
            ("io", "a.io", true),
            (".", "a.io", false),
            ("a.io:5000", "a.io:5000", true),
            ("a.io:5000", "a.io", false),
            ("a.io:443", "a.io", true),
            ("10.0.0.1", "10.0.0.1:5000", true),
            ("10.0.0.1:80", "10.0.0.1:5000", false),
            ("10.0.0.1", "10.0.0.10", false),
            ("10.0.0.0/8", "10.9.9.9", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("0.0.0.0/0", "a.io", false),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0.0/x", "10.0.0.0", false),
            ("fd00::/8", "[fd00::1]:5000", true),
            ("fd00::/8", "[fe00::1]:5000", false),
            ("fd00::1", "[fd00::1]", true),
            ("[fd00::1]:5000", "[fd00::1]:5000", true),
            ("[fd00::1]:5000", "[fd00::1]:5001", false),
            ("::/0", "10.0.0.1", false),
            ("b.io a.io", "a.io", true),
        ] {
            assert_eq!(
                is_excepted(exceptions, true, host),
                excepted,
                "{exceptions} {host}"
            );
        }
        assert!(is_excepted("a.io:80", false, "a.io"));
        assert!(!is_excepted("a.io:80", true, "a.io"));
    }

    proptest! {
        #[test]
        fn no_exception_breaks_it(exceptions in "\\PC{0,30}", host in "\\PC{0,20}") {
            is_excepted(&exceptions, true, &host);
        }

        #[test]
        fn a_network_holds_what_shares_its_bits(a: u32, b: u32, bits in 0u32..=32) {
            let (a, b) = (std::net::Ipv4Addr::from_bits(a), std::net::Ipv4Addr::from_bits(b));
            let shared = (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits;
            prop_assert_eq!(is_excepted(&format!("{a}/{bits}"), true, &b.to_string()), shared);
        }

        #[test]
        fn a_domain_excepts_itself_and_what_is_below(domain in "[a-z]{1,3}(\\.[a-z]{1,3}){0,2}", sub in "[a-z]{1,3}") {
            prop_assert!(is_excepted(&domain, true, &domain));
            let below = format!("{sub}.{domain}");
            let beside = format!("{sub}{domain}");
            prop_assert!(is_excepted(&domain, true, &below));
            prop_assert!(!is_excepted(&domain, true, &beside));
        }
    }
}
