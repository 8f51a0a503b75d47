//! Layers that are not in registries: which of a descriptor's `urls` are asked.
//!
//! An image's author writes them, and whoever pulls it asks them from where he is: so they lead to
//! public places alone.

use smidge_image::Descriptor;

use crate::settings::is_loopback;
use crate::url::Url;
use crate::{Endpoint, Scheme};

/// Layers whose publishers do not let registries have them.
const KINDS: [&str; 2] = [
    "application/vnd.docker.image.rootfs.foreign.",
    "application/vnd.oci.image.layer.nondistributable.",
];

/// The places that a descriptor names and that may be asked; where the registry itself is, all of them.
pub(crate) fn urls(descriptor: &Descriptor, registry: &Endpoint) -> Vec<Url> {
    if !KINDS
        .iter()
        .any(|kind| descriptor.media_type.starts_with(kind))
    {
        return Vec::new();
    }
    let urls = descriptor
        .extra
        .get("urls")
        .and_then(|urls| urls.as_array());
    let urls = urls.into_iter().flatten();
    urls.filter_map(|url| Url::parse(url.as_str()?))
        .filter(|url| match is_near(url, registry) {
            true => url.secure() || registry.scheme != Scheme::Https,
            false => url.secure() && !url.is_local(),
        })
        .collect()
}

/// Whether a place is where the registry is: at its host, or on this machine, as the registry.
fn is_near(url: &Url, registry: &Endpoint) -> bool {
    url.is_at(&registry.host) || (is_loopback(&registry.host) && is_loopback(url.authority()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use smidge_image::Digest;

    use super::*;
    use crate::Tls;

    fn asked(media_type: &str, registry: &str, scheme: Scheme, url: &str) -> bool {
        let mut descriptor = Descriptor::new(media_type, Digest::of(b""), 0);
        descriptor.extra.insert("urls".to_owned(), json!([url]));
        let registry = Endpoint {
            host: registry.to_owned(),
            path: "a/b".to_owned(),
            credentials: registry.to_owned(),
            scheme,
            tls: Tls::default(),
            digests_only: false,
        };
        !urls(&descriptor, &registry).is_empty()
    }

    #[test]
    fn only_foreign_layers_are_elsewhere() {
        let at = |kind: &str| asked(kind, "r.example", Scheme::Https, "https://s.example/x");
        for foreign in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        ] {
            assert!(at(foreign), "{foreign}");
        }
        for own in [
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "",
        ] {
            assert!(!at(own), "{own}");
        }
    }

    #[test]
    fn only_public_places_are_asked() {
        let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
        let at = |registry, scheme, url| asked(foreign, registry, scheme, url);
        for url in [
            "http://s.example/x",
            "ftp://s.example/x",
            "https://localhost/x",
            "https://169.254.169.254/latest/meta-data",
            "https://2852039166/x",
            "https://0x7f.1/x",
            "https://[::1]:5000/x",
            "https://10.0.0.1/x",
        ] {
            assert!(!at("r.example", Scheme::Https, url), "{url}");
        }
        assert!(at("10.0.0.1:5000", Scheme::Https, "https://10.0.0.1/x"));
        assert!(!at("10.0.0.1:5000", Scheme::Https, "http://10.0.0.1/x"));
        assert!(at("10.0.0.1:5000", Scheme::Either, "http://10.0.0.1/x"));
        assert!(!at("10.0.0.1:5000", Scheme::Either, "https://10.0.0.2/x"));
        assert!(at(
            "localhost:5000",
            Scheme::Loopback,
            "http://127.0.0.2:5001/x"
        ));
        assert!(!at("localhost:5000", Scheme::Loopback, "http://10.0.0.2/x"));
    }
}
