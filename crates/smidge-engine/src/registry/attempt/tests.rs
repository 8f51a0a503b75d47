use std::error::Error as _;
use std::fmt::Write as _;

use expect_test::{Expect, expect};
use smidge_image::Digest;

use super::*;

/// An error as people see it.
fn shown(error: &Error) -> String {
    let mut text = format!("error: {}\n", error.message());
    for fact in error.facts() {
        let _ = writeln!(text, "  {fact}");
    }
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = writeln!(text, "  caused by: {cause}");
        source = cause.source();
    }
    for hint in error.hints() {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

fn attempt(verb: Verb, name: &str) -> Attempt {
    Attempt::new(verb, &name.parse().unwrap())
}

fn check(attempt: &Attempt, fault: RegistryError, expected: Expect) {
    expected.assert_eq(&shown(&attempt.failed(fault)));
}

fn answer(status: u16, code: &str, message: &str) -> Fault {
    Fault {
        status,
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

fn denied(request: &str, credentials: Option<&str>) -> RegistryError {
    RegistryError::Denied {
        request: request.to_owned(),
        fault: answer(403, "DENIED", "token does not match expected scopes"),
        domain: "ghcr.io".to_owned(),
        credentials: credentials.map(str::to_owned),
    }
}

fn digest(of: &str) -> Digest {
    Digest::of(of.as_bytes())
}

#[test]
fn who_is_denied_learns_who_asked_and_how_to_log_in() {
    check(
        &attempt(Verb::Push, "ghcr.io/acme/api:1.4"),
        denied(
            "POST https://ghcr.io/v2/acme/api/blobs/uploads/",
            Some("user `ci-bot` from `~/.docker/config.json`"),
        ),
        expect![[r#"
            error: cannot push `ghcr.io/acme/api:1.4`: access denied
              credentials: user `ci-bot` from `~/.docker/config.json`
              caused by: POST https://ghcr.io/v2/acme/api/blobs/uploads/: 403 DENIED "token does not match expected scopes"
            hint: log in with a token that may push: `smidge login ghcr.io`
        "#]],
    );
    check(
        &attempt(Verb::Pull, "acme/api"),
        denied(
            "GET https://registry-1.docker.io/v2/acme/api/manifests/latest",
            None,
        ),
        expect![[r#"
            error: cannot pull `acme/api:latest`: access denied
              credentials: none
              caused by: GET https://registry-1.docker.io/v2/acme/api/manifests/latest: 403 DENIED "token does not match expected scopes"
            hint: log in, if it is private: `smidge login`
            hint: check the name: Docker Hub says the same where there is no such repository
        "#]],
    );
    check(
        &attempt(Verb::Push, "hello"),
        denied(
            "POST https://registry-1.docker.io/v2/library/hello/blobs/uploads/",
            None,
        ),
        expect![[r#"
            error: cannot push `hello:latest`: access denied
              credentials: none
              caused by: POST https://registry-1.docker.io/v2/library/hello/blobs/uploads/: 403 DENIED "token does not match expected scopes"
            hint: log in first: `smidge login`
            hint: a name without a user is Docker's own; give it one of yours: `smidge tag hello:latest USER/hello`
        "#]],
    );
    check(
        &Attempt::login("ghcr.io"),
        denied("GET https://ghcr.io/token", Some("user `me`, as given")),
        expect![[r#"
            error: cannot log in to `ghcr.io`: user name or password is wrong
              caused by: GET https://ghcr.io/token: 403 DENIED "token does not match expected scopes"
        "#]],
    );
}

#[test]
fn what_is_not_there_is_named() {
    let missing = |code| RegistryError::NotFound {
        request: "GET https://ghcr.io/v2/acme/api/manifests/1.4".to_owned(),
        fault: answer(404, code, ""),
    };
    check(
        &attempt(Verb::Pull, "ghcr.io/acme/api:1.4"),
        missing("MANIFEST_UNKNOWN"),
        expect![[r#"
            error: cannot pull `ghcr.io/acme/api:1.4`: the repository has no such tag
              caused by: GET https://ghcr.io/v2/acme/api/manifests/1.4: 404 MANIFEST_UNKNOWN
            hint: see which tags there are: `smidge ls ghcr.io/acme/api`
        "#]],
    );
    let pinned = format!("ghcr.io/acme/api@{}", digest("x"));
    check(
        &attempt(Verb::Look, &pinned),
        missing("MANIFEST_UNKNOWN"),
        expect![[r#"
        error: cannot look at `ghcr.io/acme/api@sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881`: the repository has no such digest
          caused by: GET https://ghcr.io/v2/acme/api/manifests/1.4: 404 MANIFEST_UNKNOWN
        hint: see which tags there are: `smidge ls ghcr.io/acme/api`
    "#]],
    );
    check(
        &attempt(Verb::List, "ghcr.io/acme/api"),
        missing("NAME_UNKNOWN"),
        expect![[r#"
            error: cannot list the tags of `ghcr.io/acme/api`: there is no such repository
              caused by: GET https://ghcr.io/v2/acme/api/manifests/1.4: 404 NAME_UNKNOWN
        "#]],
    );
    check(
        &attempt(Verb::Pull, "ghcr.io/acme/api"),
        missing(""),
        expect![[r#"
        error: cannot pull `ghcr.io/acme/api:latest`: not found
          caused by: GET https://ghcr.io/v2/acme/api/manifests/1.4: 404
    "#]],
    );
}

#[test]
fn registries_that_cannot_be_talked_to() {
    let request = || "GET https://10.0.0.7:5000/v2/".to_owned();
    check(
        &attempt(Verb::Pull, "10.0.0.7:5000/app"),
        RegistryError::Tls {
            request: request(),
            why: "the certificate is signed by an unknown authority".to_owned(),
            host: "10.0.0.7:5000".to_owned(),
        },
        expect![[r#"
            error: cannot pull `10.0.0.7:5000/app:latest`: no secure connection to the registry
              caused by: GET https://10.0.0.7:5000/v2/: TLS: the certificate is signed by an unknown authority
            hint: trust its authority: save that certificate as `/etc/containers/certs.d/10.0.0.7:5000/ca.crt`
            hint: or do without, also where it speaks plain HTTP: `smidge pull --tls-verify=false 10.0.0.7:5000/app:latest`
        "#]],
    );
    check(
        &attempt(Verb::Push, "10.0.0.7:5000/app"),
        RegistryError::Unreachable {
            request: request(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        },
        expect![[r#"
            error: cannot push `10.0.0.7:5000/app:latest`: the registry cannot be reached
              caused by: GET https://10.0.0.7:5000/v2/
              caused by: connection refused
        "#]],
    );
    check(
        &attempt(Verb::Look, "nosuch.example/app"),
        RegistryError::Unreachable {
            request: "GET https://nosuch.example/v2/".to_owned(),
            source: std::io::Error::other("no such host"),
        },
        expect![[r#"
            error: cannot look at `nosuch.example/app:latest`: the registry cannot be reached
              caused by: GET https://nosuch.example/v2/
              caused by: no such host
        "#]],
    );
}

#[test]
fn registries_that_refuse() {
    let refused = |status, code| RegistryError::Refused {
        request: "GET https://registry-1.docker.io/v2/library/alpine/manifests/3".to_owned(),
        fault: answer(status, code, "you have reached your pull rate limit"),
    };
    let pull = attempt(Verb::Pull, "alpine:3");
    check(
        &pull,
        refused(429, "TOOMANYREQUESTS"),
        expect![[r#"
        error: cannot pull `alpine:3`: too many requests
          caused by: GET https://registry-1.docker.io/v2/library/alpine/manifests/3: 429 TOOMANYREQUESTS "you have reached your pull rate limit"
        hint: wait, or log in, where more is allowed: `smidge login`
    "#]],
    );
    check(
        &pull,
        refused(503, ""),
        expect![[r#"
        error: cannot pull `alpine:3`: the registry failed
          caused by: GET https://registry-1.docker.io/v2/library/alpine/manifests/3: 503 "you have reached your pull rate limit"
    "#]],
    );
    check(
        &pull,
        refused(405, "UNSUPPORTED"),
        expect![[r#"
        error: cannot pull `alpine:3`: the registry refused
          caused by: GET https://registry-1.docker.io/v2/library/alpine/manifests/3: 405 UNSUPPORTED "you have reached your pull rate limit"
    "#]],
    );
}

#[test]
fn what_cannot_be_asked_for_at_all() {
    let pull = attempt(Verb::Pull, "alpine:3");
    let blocked = RegistryError::Blocked {
        domain: "docker.io".to_owned(),
        path: "/etc/smidge/registries.toml".into(),
    };
    check(
        &pull,
        blocked,
        expect![[r#"
        error: cannot pull `alpine:3`: the registry is blocked
          by: /etc/smidge/registries.toml
    "#]],
    );
    let schema = RegistryError::Schema1 {
        request: "GET https://registry-1.docker.io/v2/library/alpine/manifests/3".to_owned(),
    };
    check(
        &pull,
        schema,
        expect![[r#"
            error: cannot pull `alpine:3`: its format, Docker's schema 1, is no longer supported
              from: GET https://registry-1.docker.io/v2/library/alpine/manifests/3
            hint: have its publisher push it again: engines since 2016 write the newer format
        "#]],
    );
    let settings = RegistryError::Settings {
        path: "/etc/smidge/registries.toml".into(),
        why: "line 3: unknown key `mirors`".to_owned(),
    };
    check(
        &pull,
        settings,
        expect![[r#"
        error: `/etc/smidge/registries.toml`: line 3: unknown key `mirors`
    "#]],
    );
}

#[test]
fn corrupt_layers_are_told_by_number() {
    let corrupt = StoreError::Corrupt {
        what: "tmp/x".to_owned(),
        expected: digest("a"),
        expected_size: 14_680_064,
        received: digest("b"),
        received_size: 14_680_064,
    };
    let pull = attempt(Verb::Pull, "redis:7");
    let text = shown(&pull.not_stored("layer 3", corrupt));
    expect![[r#"
        error: layer 3 of `redis:7` is corrupt; nothing was stored
          expected: sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb, 14680064 bytes
          received: sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d, 14680064 bytes
          from: docker.io
        hint: pull again: `smidge pull redis:7`; if it repeats, the registry, or a proxy on the way, changes the bytes
    "#]].assert_eq(&text);
    let other = StoreError::DiffId {
        what: "tmp/x".to_owned(),
        expected: digest("a"),
        received: digest("b"),
    };
    let text = shown(&pull.not_stored("layer 1", other));
    expect![[r#"
        error: layer 1 of `redis:7` is not the one that its config names; nothing was stored
          expected: diff id sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb
          received: diff id sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d
          from: docker.io
        hint: pull again: `smidge pull redis:7`; if it repeats, the registry, or a proxy on the way, changes the bytes
    "#]].assert_eq(&text);
}

#[test]
fn faults_of_the_way_come_through_the_store() {
    let carried = StoreError::Fetch(std::io::Error::other(denied("GET https://x/v2/", None)));
    let error = attempt(Verb::Pull, "x.io/a").not_stored("layer 1", carried);
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(
        error.message(),
        "cannot pull `x.io/a:latest`: access denied"
    );
    let plain = StoreError::Fetch(std::io::Error::other("cut off"));
    let error = attempt(Verb::Pull, "x.io/a").not_stored("layer 1", plain);
    assert_eq!(error.message(), "cannot pull `x.io/a:latest`: it broke off");
    let elsewhere: Error =
        StoreError::Fetch(std::io::Error::other(denied("GET https://x/v2/", None))).into();
    assert_eq!(elsewhere.kind(), Kind::Denied);
    assert_eq!(elsewhere.facts(), ["credentials: none"]);
}

#[test]
fn faults_of_the_store_come_through_the_registry() {
    let gone = StoreError::NoSuchImage("x".to_owned());
    let fault = RegistryError::Source {
        request: "PUT https://x/v2/a/blobs/uploads/1".to_owned(),
        source: std::io::Error::other(gone),
    };
    let error = attempt(Verb::Push, "x.io/a").failed(fault);
    assert_eq!(error.kind(), Kind::NotFound);
}

#[test]
fn mirrors_that_failed_are_told_of() {
    let request = |host: &str| format!("GET https://{host}/v2/library/alpine/manifests/3");
    let own = RegistryError::NotFound {
        request: request("registry-1.docker.io"),
        fault: Fault {
            status: 404,
            ..Fault::default()
        },
    };
    let fault = RegistryError::BehindMirrors {
        error: Box::new(own),
        mirrors: vec![format!(
            "{}: TLS: the certificate has expired",
            request("m.example")
        )],
    };
    check(
        &attempt(Verb::Pull, "alpine:3"),
        fault,
        expect![[r#"
            error: cannot pull `alpine:3`: not found
              mirror: GET https://m.example/v2/library/alpine/manifests/3: TLS: the certificate has expired
              caused by: GET https://registry-1.docker.io/v2/library/alpine/manifests/3: 404
        "#]],
    );
}
