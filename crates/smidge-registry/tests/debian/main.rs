//! Against Debian's docker-registry (Docker distribution 2.8). Skipped, with a word, where it is missing.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this is tests: they fail by panicking, and say why they skip"
)]

mod authority;
mod proxy;
mod registry;
mod speed;

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use registry::{Options, Registry};
use smidge_image::{Descriptor, Digest, Manifest, Reference, media_type};
use smidge_registry::{
    Access, Client, Credentials, Error, Repository, Secret, Settings, Upload, Uploaded,
};

fn reference(registry: &Registry, path: &str) -> Reference {
    at(&registry.host, path)
}

fn at(host: &str, path: &str) -> Reference {
    format!("{host}/{path}").parse().unwrap()
}

/// Bytes that repeat nowhere near.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    });
    words.flatten().take(length).collect()
}

fn send(repository: &Repository<'_>, bytes: &[u8], from: &[String]) -> (Descriptor, Uploaded, u64) {
    let descriptor = Descriptor::of(media_type::LAYER, bytes);
    let sent = AtomicU64::new(0);
    let open = |offset: u64| -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(bytes[offset as usize..].to_vec())))
    };
    let uploaded = repository
        .upload(&Upload {
            descriptor: &descriptor,
            mount_from: from,
            open: &open,
            sent: &|bytes| {
                sent.fetch_add(bytes, Ordering::Relaxed);
            },
        })
        .unwrap();
    (descriptor, uploaded, sent.into_inner())
}

fn fetch(repository: &Repository<'_>, descriptor: &Descriptor, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reader = repository.blob(descriptor, offset).unwrap();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A round trip of everything an image needs.
fn round_trip(host: &str, client: &Client) {
    let name = at(host, "a/b:1");
    let push = client.repository(&name, Access::Push).unwrap();
    let layer = noise(3 << 20);
    let (layer_descriptor, uploaded, sent) = send(&push, &layer, &[]);
    assert_eq!((uploaded, sent), (Uploaded::Sent, layer.len() as u64));
    let (_, uploaded, sent) = send(&push, &layer, &[]);
    assert_eq!((uploaded, sent), (Uploaded::Existed, 0));
    let (config, ..) = send(&push, b"{}", &[]);
    let (empty, uploaded, _) = send(&push, b"", &[]);
    assert_eq!(uploaded, Uploaded::Sent);

    let other = client.repository(&at(host, "c:1"), Access::Push).unwrap();
    let (_, uploaded, _) = send(&other, &layer, &["a/b".to_owned()]);
    assert_eq!(uploaded, Uploaded::Mounted("a/b".to_owned()));
    let (_, uploaded, _) = send(&other, b"new", &["a/b".to_owned()]);
    assert_eq!(uploaded, Uploaded::Sent);
    let (_, uploaded, _) = send(&other, b"new", &["a/b".to_owned()]);
    assert_eq!(uploaded, Uploaded::Existed);

    let manifest = Manifest::new(
        config.clone(),
        vec![layer_descriptor.clone(), empty.clone()],
    );
    let bytes = manifest.to_bytes();
    let put = push.put("1", media_type::MANIFEST, &bytes).unwrap();
    assert_eq!(put.digest, Digest::of(&bytes));

    let pull = client.repository(&name, Access::Pull).unwrap();
    let document = pull.document("1").unwrap();
    assert_eq!(document.bytes, bytes);
    assert_eq!(
        document.descriptor,
        Descriptor::of(media_type::MANIFEST, &bytes)
    );
    assert_eq!(pull.document(&put.digest.to_string()).unwrap(), document);
    let head = pull.head("1").unwrap().unwrap();
    assert_eq!(head.digest, Some(put.digest));
    assert_eq!(
        (head.media_type.as_str(), head.size),
        (media_type::MANIFEST, bytes.len() as u64)
    );
    assert_eq!(pull.head("2").unwrap(), None);
    assert!(matches!(pull.document("2"), Err(Error::NotFound { .. })));

    assert!(pull.has_blob(&layer_descriptor.digest).unwrap());
    assert!(!pull.has_blob(&Digest::of(b"?")).unwrap());
    assert_eq!(pull.small_blob(&config).unwrap(), b"{}");
    assert_eq!(fetch(&pull, &layer_descriptor, 0), layer);
    assert_eq!(
        fetch(&pull, &layer_descriptor, 1_000_001),
        layer[1_000_001..]
    );
    assert_eq!(fetch(&pull, &layer_descriptor, layer.len() as u64), b"");
    assert_eq!(fetch(&pull, &empty, 0), b"");
    assert_eq!(pull.tags().unwrap(), ["1"]);
}

#[test]
fn images_travel_over_plain_http() {
    let Some(registry) = Registry::start(&Options::default()) else {
        return;
    };
    let client = registry.client();
    round_trip(&registry.host, &client);
    assert_eq!(client.catalog(&registry.host).unwrap(), ["a/b", "c"]);
}

#[test]
fn images_travel_with_a_password() {
    let options = Options {
        password: true,
        ..Options::default()
    };
    let Some(registry) = Registry::start(&options) else {
        return;
    };
    let client = registry.client();
    let name = reference(&registry, "a/b:1");
    let denied = client
        .repository(&name, Access::Pull)
        .unwrap()
        .document("1");
    let Err(Error::Denied {
        domain,
        credentials,
        ..
    }) = denied
    else {
        panic!("{denied:?}")
    };
    assert_eq!((domain, credentials), (registry.host.clone(), None));

    let right = credentials_of("pass word");
    let wrong = client.log_in(&registry.host, &credentials_of("password"));
    assert!(matches!(wrong, Err(Error::Denied { .. })), "{wrong:?}");
    assert_eq!(
        client
            .log_in(&registry.host, &right)
            .unwrap()
            .identity_token,
        None
    );
    client
        .settings()
        .keep_login(&registry.host, &right)
        .unwrap();
    round_trip(&registry.host, &registry.client());
}

fn credentials_of(password: &str) -> Credentials {
    Credentials::Basic {
        username: "me".to_owned(),
        password: Secret::new(password),
    }
}

#[test]
fn images_travel_over_tls_by_an_authority_of_ones_own() {
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let Some(registry) = Registry::start(&options) else {
        return;
    };
    // As a bundle of this machine, and as a certificate for this registry alone.
    let mut bundled = registry.sources();
    bundled.ca_bundles = vec![registry.path("none.pem"), registry.path("ca.pem")];
    round_trip(
        &registry.host,
        &Client::new(Settings::load(bundled).unwrap()),
    );

    let ca = registry.path("ca.pem");
    let own = registry.sources_with(&format!("ca = {ca:?}"));
    let client = Client::new(Settings::load(own).unwrap());
    assert_eq!(client.catalog(&registry.host).unwrap(), ["a/b", "c"]);

    let mut insecure = registry.sources();
    insecure.tls_verify = Some(false);
    let client = Client::new(Settings::load(insecure).unwrap());
    assert_eq!(client.catalog(&registry.host).unwrap(), ["a/b", "c"]);
}

#[test]
fn what_is_wrong_with_a_certificate_is_said() {
    for (made, what) in [
        (
            authority::Made::Unknown,
            "authority that is not trusted here",
        ),
        (authority::Made::Expired, "the certificate has expired"),
        (authority::Made::Early, "the certificate is not valid yet"),
        (
            authority::Made::Elsewhere,
            "the certificate is not for `localhost`",
        ),
    ] {
        let options = Options {
            tls: true,
            made,
            ..Options::default()
        };
        let Some(registry) = Registry::start(&options) else {
            return;
        };
        let mut sources = registry.sources();
        sources.ca_bundles = vec![registry.path("ca.pem")];
        let catalog = Client::new(Settings::load(sources).unwrap()).catalog(&registry.host);
        let Err(Error::Tls { why, host, .. }) = catalog else {
            panic!("{made:?}: {catalog:?}")
        };
        assert!(why.contains(what), "{made:?}: {why}");
        assert_eq!(host, registry.host);
    }
}

#[test]
fn a_registry_that_wants_to_know_us_sees_our_certificate() {
    let options = Options {
        tls: true,
        mutual: true,
        ..Options::default()
    };
    let Some(registry) = Registry::start(&options) else {
        return;
    };
    let path = |name: &str| registry.path(name);
    let ca = format!("ca = {:?}\n", path("ca.pem"));
    let identity = format!(
        "cert = {:?}\nkey = {:?}\n",
        path("client.pem"),
        path("client.key")
    );
    let with = |text: &str| {
        let sources = registry.sources_with(text);
        Client::new(Settings::load(sources).unwrap()).catalog(&registry.host)
    };
    assert_eq!(with(&format!("{ca}{identity}")).unwrap(), [""; 0]);
    let without = with(&ca);
    let Err(Error::Tls { why, .. }) = without else {
        panic!("{without:?}")
    };
    assert!(why.contains("does not accept our certificate"), "{why}");
    let missing = with(&format!(
        "{ca}cert = \"/nowhere.pem\"\nkey = \"/nowhere.key\"\n"
    ));
    assert!(
        matches!(missing, Err(Error::Settings { .. })),
        "{missing:?}"
    );
}

#[test]
fn tags_are_deleted_with_their_manifest() {
    let Some(registry) = Registry::start(&Options::default()) else {
        return;
    };
    let client = registry.client();
    let name = reference(&registry, "a:1");
    let repository = client.repository(&name, Access::Delete).unwrap();
    let (config, ..) = send(&repository, b"{}", &[]);
    let bytes = Manifest::new(config, Vec::new()).to_bytes();
    let put = repository.put("1", media_type::MANIFEST, &bytes).unwrap();
    repository.delete(&put.digest.to_string()).unwrap();
    assert_eq!(repository.head("1").unwrap(), None);
    let again = repository.delete(&put.digest.to_string());
    assert!(matches!(again, Err(Error::NotFound { .. })), "{again:?}");
}

#[test]
fn referrers_are_listed_where_the_registry_knows_none() {
    let Some(registry) = Registry::start(&Options::default()) else {
        return;
    };
    let client = registry.client();
    let name = reference(&registry, "a:1");
    let repository = client.repository(&name, Access::Delete).unwrap();
    let (config, ..) = send(&repository, b"{}", &[]);
    let mut manifest = Manifest::new(config, Vec::new());
    let bytes = manifest.to_bytes();
    repository.put("1", media_type::MANIFEST, &bytes).unwrap();
    let subject = Descriptor::of(media_type::MANIFEST, &bytes);
    manifest
        .extra
        .insert("subject".to_owned(), serde_json::json!(subject));
    let bytes = manifest.to_bytes();
    let digest = Digest::of(&bytes);
    repository
        .put(&digest.to_string(), media_type::MANIFEST, &bytes)
        .unwrap();
    let listed = repository.referrers(&subject.digest, None).unwrap();
    assert_eq!(listed.manifests.len(), 1);
    assert_eq!(listed.manifests[0].digest, digest);
    repository.delete(&digest.to_string()).unwrap();
    let listed = repository.referrers(&subject.digest, None).unwrap();
    assert_eq!(listed.manifests, []);
}

#[test]
fn images_travel_through_proxies() {
    for tls in [false, true] {
        let options = Options {
            tls,
            ..Options::default()
        };
        let Some(registry) = Registry::start(&options) else {
            return;
        };
        let proxy = proxy::Proxy::start();
        let mut sources = registry.sources();
        sources.tls_verify = Some(false);
        for name in ["HTTP_PROXY", "HTTPS_PROXY"] {
            sources.env.insert(name.to_owned(), proxy.url.clone());
        }
        // Only the proxy knows where that is.
        let host = registry.host.replace("localhost", "registry.test");
        round_trip(&host, &Client::new(Settings::load(sources).unwrap()));
        let lines = proxy.lines();
        assert_eq!(lines[0], format!("CONNECT {host} HTTP/1.1"));
        let forwarded = format!("GET http://{host}/v2/a/b/manifests/1 HTTP/1.1");
        assert_eq!(lines.contains(&forwarded), !tls, "{lines:?}");
    }
}
