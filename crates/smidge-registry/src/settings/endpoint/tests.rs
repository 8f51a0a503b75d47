//! Names to endpoints.

use std::fs;
use std::path::Path;

use super::*;
use crate::Sources;

struct Case {
    dir: tempfile::TempDir,
    sources: Sources,
}

impl Case {
    fn new(own: &str, other: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let toml = dir.path().join("registries.toml");
        let conf = dir.path().join("registries.conf");
        fs::write(&toml, own).unwrap();
        fs::write(&conf, other).unwrap();
        let sources = Sources {
            registries_toml: vec![toml],
            registries_conf: vec![conf],
            certs_dirs: vec![dir.path().join("certs.d")],
            ..Sources::default()
        };
        Self { dir, sources }
    }

    fn settings(&self) -> Settings {
        Settings::load(self.sources.clone()).unwrap()
    }

    fn pull(&self, name: &str) -> String {
        match self.settings().endpoints(&name.parse().unwrap()) {
            Ok(endpoints) => {
                let words: Vec<String> = endpoints.iter().map(|e| self.words(e)).collect();
                words.join("; ")
            }
            Err(error) => error
                .to_string()
                .replace(self.dir.path().to_str().unwrap(), "DIR"),
        }
    }

    fn push(&self, domain: &str, path: &str) -> String {
        match self.settings().endpoint(domain, path) {
            Ok(endpoint) => self.words(&endpoint),
            Err(error) => error
                .to_string()
                .replace(self.dir.path().to_str().unwrap(), "DIR"),
        }
    }

    fn words(&self, endpoint: &Endpoint) -> String {
        let mut words = format!("{} {}", endpoint.host, endpoint.path);
        if endpoint.credentials != endpoint.host {
            words += &format!(" as {}", endpoint.credentials);
        }
        match endpoint.scheme {
            Scheme::Https => {}
            Scheme::Either => words += " either",
            Scheme::Loopback => words += " loopback",
        }
        if endpoint.tls.insecure {
            words += " insecure";
        }
        if endpoint.digests_only {
            words += " digests";
        }
        let identity = endpoint.tls.identity.iter().map(|(cert, _)| cert);
        for file in endpoint.tls.authorities.iter().chain(identity) {
            let short = file.strip_prefix(self.dir.path()).unwrap();
            words += &format!(" +{}", short.display());
        }
        words
    }
}

#[test]
fn without_settings_names_are_where_they_say() {
    let case = Case::new("", "");
    for (name, expected) in [
        ("alpine", "registry-1.docker.io library/alpine as docker.io"),
        (
            "index.docker.io/me/a",
            "registry-1.docker.io me/a as docker.io",
        ),
        ("ghcr.io/a/b:1", "ghcr.io a/b"),
        ("localhost:5000/a", "localhost:5000 a loopback"),
        ("localhost/a", "localhost a loopback"),
        ("127.3.0.1:1/a", "127.3.0.1:1 a loopback"),
        ("[::1]:5000/a", "[::1]:5000 a loopback"),
        ("10.0.0.1:5000/a", "10.0.0.1:5000 a"),
        ("localhost.example.com/a", "localhost.example.com a"),
    ] {
        assert_eq!(case.pull(name), expected);
    }
    assert_eq!(
        case.push("docker.io", ""),
        "registry-1.docker.io  as docker.io"
    );
    assert_eq!(case.push("localhost:5000", ""), "localhost:5000  loopback");
    assert_eq!(
        case.push("registry-1.docker.io", "alpine"),
        "registry-1.docker.io library/alpine as docker.io"
    );
}

#[test]
fn mirrors_come_first_and_serve_pulls_alone() {
    let case = Case::new(
        r#"
        [registry."docker.io"]
        mirrors = ["mirror.example.com/hub", { location = "localhost:5001", digests-only = true }]
        [registry."docker.io/secret"]
        [registry."quay.io"]
        mirrors = ["docker.io/quay"]
        "#,
        "",
    );
    assert_eq!(
        case.pull("alpine"),
        "mirror.example.com hub/library/alpine; localhost:5001 library/alpine loopback digests; \
         registry-1.docker.io library/alpine as docker.io"
    );
    assert_eq!(
        case.push("docker.io", "library/alpine"),
        "registry-1.docker.io library/alpine as docker.io"
    );
    assert_eq!(
        case.pull("secret/a"),
        "registry-1.docker.io secret/a as docker.io"
    );
    assert_eq!(
        case.pull("quay.io/a"),
        "registry-1.docker.io quay/a as docker.io; quay.io a"
    );
}

#[test]
fn a_location_replaces_what_the_key_matched() {
    let case = Case::new(
        r#"
        [registry."docker.io"]
        location = "registry.internal/hub"
        [registry."docker.io/library"]
        location = "official.internal"
        [registry."*.example.com"]
        location = "proxy.internal:8080/example"
        [registry."docker.io/library/one"]
        location = "one.internal"
        "#,
        "",
    );
    for (name, expected) in [
        ("me/a", "registry.internal hub/me/a"),
        ("alpine", "official.internal alpine"),
        ("a.b.example.com/x/y", "proxy.internal:8080 example/x/y"),
        (
            "one",
            "`DIR/registries.toml`: line 8: `docker.io/library/one` would be at `one.internal`, which is no repository",
        ),
    ] {
        assert_eq!(case.pull(name), expected);
    }
    assert_eq!(case.push("docker.io", "me/a"), "registry.internal hub/me/a");
    assert_eq!(case.push("docker.io", ""), "registry.internal hub");
}

#[test]
fn blocked_registries_are_refused_with_the_file() {
    let case = Case::new(
        "[registry.\"docker.io/bad\"]\nblocked = true\n",
        "[[registry]]\nlocation = 'quay.io'\nblocked = true\n",
    );
    assert_eq!(
        case.pull("bad/a"),
        "registry `docker.io/bad` is blocked by `DIR/registries.toml`"
    );
    assert_eq!(
        case.push("quay.io", ""),
        "registry `quay.io` is blocked by `DIR/registries.conf`"
    );
    assert!(case.pull("alpine").starts_with("registry-1"));
}

#[test]
fn our_own_file_wins_over_the_other_one_and_later_files_over_earlier_ones() {
    let mut case = Case::new(
        "[registry.\"a.io\"]\nmirrors = ['own.io']\n",
        "[[registry]]\nlocation = 'a.io'\nblocked = true\n[[registry]]\nprefix = 'b.io'\nlocation = 'c.io'\n",
    );
    assert_eq!(case.pull("a.io/x"), "own.io x; a.io x");
    assert_eq!(case.pull("b.io/x"), "c.io x");
    let later = case.dir.path().join("later.toml");
    fs::write(&later, "[registry.\"a.io\"]\nmirrors = ['later.io']\n").unwrap();
    case.sources.registries_toml.push(later);
    assert_eq!(case.pull("a.io/x"), "later.io x; a.io x");
}

#[test]
fn mirrors_for_tags_and_for_digests_are_told_apart() {
    let case = Case::new(
        "",
        "[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\nlocation = 't.io'\npull-from-mirror = 'tag-only'\n\
         [[registry.mirror]]\nlocation = 'd.io'\npull-from-mirror = 'digest-only'\n",
    );
    assert_eq!(case.pull("a.io/x:1"), "t.io x; d.io x digests; a.io x");
    let pinned = format!("a.io/x@sha256:{}", "a".repeat(64));
    assert_eq!(case.pull(&pinned), "d.io x digests; a.io x");
}

#[test]
fn insecure_registries_and_tls_verify() {
    let mut case = Case::new(
        r#"
        [registry."a.io"]
        insecure = true
        mirrors = ["b.io", { location = "c.io", insecure = true }, { location = "d.io", insecure = false }]
        [registry."d.io"]
        insecure = true
        [registry."localhost:1"]
        insecure = false
        [registry."localhost:2"]
        insecure = true
        "#,
        "",
    );
    assert_eq!(
        case.pull("a.io/x"),
        "b.io x; c.io x either insecure; d.io x; a.io x either insecure"
    );
    assert_eq!(case.pull("localhost:1/x"), "localhost:1 x");
    assert_eq!(
        case.pull("localhost:2/x"),
        "localhost:2 x loopback insecure"
    );
    case.sources.tls_verify = Some(true);
    assert_eq!(case.pull("a.io/x"), "b.io x; c.io x; d.io x; a.io x");
    assert_eq!(case.pull("localhost:3/x"), "localhost:3 x");
    case.sources.tls_verify = Some(false);
    assert_eq!(case.pull("d.io/x"), "d.io x either insecure");
    assert_eq!(case.pull("e.io/x"), "e.io x either insecure");
    assert_eq!(
        case.pull("localhost:1/x"),
        "localhost:1 x loopback insecure"
    );
}

#[test]
fn certificates_are_found_where_rules_and_directories_have_them() {
    let case = Case::new(
        r#"
        [registry."a.io"]
        ca = "ca.pem"
        mirrors = ["b.io/x"]
        [registry."b.io"]
        ca = "b.pem"
        cert = "cert.pem"
        key = "key.pem"
        [registry."gone.io"]
        ca = "gone.pem"
        "#,
        "",
    );
    let put = |name: &str| {
        let path: &Path = &case.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    };
    for name in [
        "ca.pem",
        "b.pem",
        "cert.pem",
        "key.pem",
        "certs.d/a.io/ca.crt",
        "certs.d/docker.io/ca.crt",
        "certs.d/b.io/x.cert",
        "certs.d/b.io/x.key",
    ] {
        put(name);
    }
    assert_eq!(
        case.pull("a.io/x"),
        "b.io x/x +b.pem +cert.pem; a.io x +ca.pem +certs.d/a.io/ca.crt"
    );
    assert_eq!(
        case.pull("alpine"),
        "registry-1.docker.io library/alpine as docker.io +certs.d/docker.io/ca.crt"
    );
    assert_eq!(
        case.pull("gone.io/x"),
        "`DIR/registries.toml`: line 9: `ca`: there is no file `DIR/gone.pem`"
    );
}

#[test]
fn loopback_hosts_are_told_from_others() {
    for host in [
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]:5",
        "::1",
        "[::ffff:127.0.0.1]",
    ] {
        assert!(is_loopback(host), "{host}");
    }
    for host in [
        "localhost.com",
        "128.0.0.1",
        "a.127.0.0.1",
        "[::2]",
        "",
        "127.0.0.1.nip.io",
        "0.0.0.0",
    ] {
        assert!(!is_loopback(host), "{host}");
    }
}

#[test]
fn a_token_server_has_the_tls_that_is_set_for_it() {
    let case = Case::new(
        "[registry.\"r.io\"]\ninsecure = true\n[registry.\"auth.lan\"]\ninsecure = true\n\
         [registry.\"*.moved.io\"]\nlocation = \"m.lan\"\ninsecure = true\n",
        "",
    );
    let insecure = |host: &str| case.settings().tls(host).unwrap().insecure;
    assert!(insecure("auth.lan"));
    assert!(!insecure("auth.r.io"));
    assert!(!insecure("auth.moved.io"));
    let mut sources = case.sources.clone();
    sources.tls_verify = Some(false);
    let settings = Settings::load(sources).unwrap();
    assert!(settings.tls("auth.r.io").unwrap().insecure);
    assert!(settings.tls("auth.moved.io").unwrap().insecure);
}
