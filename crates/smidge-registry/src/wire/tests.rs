use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use super::*;
use crate::testing::{BASIC, Reply, Seen, Server, basic, policy, repository, wire, wire_with};
use crate::{Access, Credentials, Secret};

const DOCUMENT: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn get(wire: &Wire, endpoint: &Endpoint) -> Result<Answer> {
    let scopes = Scopes::from(["repository:a/b:pull".to_owned()]);
    let target = Target::Path("/v2/a/b/manifests/1".to_owned());
    wire.expect(
        endpoint,
        &Call::new(Method::GET, target, &scopes).whole(1000),
    )
}

fn with_credentials(server: &Server, credentials: Credentials) -> Arc<Wire> {
    wire_with(policy(), HashMap::from([(server.host(), credentials)]))
}

#[test]
fn what_may_pass_is_asked_again() {
    let passing = [408, 429, 500, 502, 503, 504];
    for status in passing {
        let server = Server::replies([
            Reply::new(status),
            Reply::new(status),
            Reply::new(200).body("x"),
        ]);
        assert_eq!(get(&wire(), &server.endpoint()).unwrap().content, b"x");
        assert_eq!(server.seen().len(), 3, "{status}");
    }
    for status in [400, 403, 404, 405, 409, 410, 416, 501] {
        let server = Server::replies([Reply::new(status)]);
        assert!(get(&wire(), &server.endpoint()).is_err());
        assert!(server.lines().len() <= 2, "{status}");
    }
}

#[test]
fn in_the_end_it_is_told_what_the_registry_said() {
    let json = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"rate limit"}]}"#;
    let server =
        Server::start(move |_: &Seen| Reply::new(429).header("retry-after", "3600").json(json));
    let error = get(&wire(), &server.endpoint()).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            r#"GET {}: 429 TOOMANYREQUESTS "rate limit""#,
            server.url("/v2/a/b/manifests/1")
        )
    );
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn what_breaks_is_asked_again_wherever_it_breaks() {
    let whole = Reply::new(200).body("whole");
    let server = Server::replies([
        Reply::new(200),
        Reply::gone(),
        Reply::raw(b"HTTP/1.1 200 OK\r\nconte"),
        whole.clone().cut(2),
        whole,
    ]);
    let wire = wire();
    // Once, so that it is known how to talk to it.
    get(&wire, &server.endpoint()).unwrap();
    assert_eq!(get(&wire, &server.endpoint()).unwrap().content, b"whole");
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn nobody_there_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let endpoint = Endpoint {
        host: host.clone(),
        ..Server::replies([]).endpoint()
    };
    let error = get(&wire(), &endpoint).err().unwrap();
    let Error::Unreachable { request, source } = error else {
        panic!("{error}")
    };
    assert_eq!(request, format!("GET http://{host}/v2/a/b/manifests/1"));
    assert_eq!(
        source.to_string(),
        format!("cannot connect to `{host}`: nobody listens there")
    );

    let endpoint = Endpoint {
        host: "no-such-host.invalid".to_owned(),
        scheme: Scheme::Https,
        ..endpoint
    };
    let error = get(&wire(), &endpoint).err().unwrap();
    let Error::Unreachable { source, .. } = error else {
        panic!("{error}")
    };
    assert!(
        source.to_string().contains("no-such-host.invalid"),
        "{source}"
    );
}

#[test]
fn a_silent_server_does_not_hold_up_for_ever() {
    let server = Server::start(|_: &Seen| Reply::new(200).body("x").silent(0));
    let policy = Policy {
        idle: std::time::Duration::from_millis(50),
        ..policy()
    };
    let error = get(&wire_with(policy, HashMap::new()), &server.endpoint())
        .err()
        .unwrap();
    let Error::Unreachable { source, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
    assert!(
        source.to_string().contains("silent for too long"),
        "{source}"
    );
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn garbage_is_a_breach_of_protocol() {
    let server = Server::start(|_: &Seen| Reply::raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"));
    let error = get(&wire(), &server.endpoint()).err().unwrap();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[test]
fn long_answers_are_not_read() {
    let server = Server::start(|_: &Seen| Reply::new(200).body([b'x'; 1001]));
    let error = get(&wire(), &server.endpoint()).err().unwrap();
    assert!(
        error
            .to_string()
            .ends_with("the answer is longer than 1000 bytes"),
        "{error}"
    );
}

#[test]
fn redirects_take_no_credentials_along() {
    let elsewhere = Server::start(|_: &Seen| Reply::new(200).body("moved"));
    for status in [301, 302, 303, 307, 308] {
        let to = elsewhere.url("/x?signature=secret");
        let server = Server::start(move |seen: &Seen| match seen.header("authorization") {
            None => Reply::new(401).header("www-authenticate", "Basic realm=r"),
            Some(_) => Reply::new(status).header("location", to.clone()),
        });
        let wire = with_credentials(&server, basic());
        let answer = get(&wire, &server.endpoint()).unwrap();
        assert_eq!(answer.content, b"moved");
        assert!(!answer.direct);
        assert_eq!(answer.label, format!("GET {}", elsewhere.url("/x")));
    }
    assert_eq!(elsewhere.seen().len(), 5);
    assert!(
        elsewhere
            .seen()
            .iter()
            .all(|seen| seen.header("authorization").is_none())
    );
}

#[test]
fn a_redirect_at_the_registry_keeps_credentials_and_may_be_relative() {
    let server =
        Server::start(
            |seen: &Seen| match (seen.header("authorization"), seen.target.as_str()) {
                (None, _) => Reply::new(401).header("www-authenticate", "Basic realm=r"),
                (_, "/v2/a/b/manifests/2?x") => Reply::new(200).body("two"),
                _ => Reply::new(307).header("location", "2?x"),
            },
        );
    let wire = with_credentials(&server, basic());
    assert_eq!(get(&wire, &server.endpoint()).unwrap().content, b"two");
}

#[test]
fn another_host_is_not_told_who_we_are_even_if_it_asks() {
    for challenge in ["Basic realm=r", "Bearer realm=\"/token\""] {
        let elsewhere = Server::start(move |seen: &Seen| match seen.target.as_str() {
            "/x" => Reply::new(401).header("www-authenticate", challenge),
            _ => Reply::new(200).json(r#"{"token":"t"}"#),
        });
        let to = elsewhere.url("/x");
        let server = Server::start(move |_: &Seen| Reply::new(302).header("location", to.clone()));
        // A realm is read relative to who names it.
        let credentials = HashMap::from([(server.host(), basic()), (elsewhere.host(), basic())]);
        let wire = wire_with(policy(), credentials);
        let error = get(&wire, &server.endpoint()).err().unwrap();
        assert!(matches!(error, Error::Denied { .. }), "{error}");
        let asked = [elsewhere.seen(), server.seen()].concat();
        assert!(
            asked
                .iter()
                .all(|seen| seen.header("authorization").is_none())
        );
        assert!(
            asked.iter().all(|seen| !seen.target.starts_with("/token")),
            "{asked:?}"
        );
    }
}

#[test]
fn a_way_back_from_another_host_is_not_trusted() {
    let server = Arc::new(std::sync::Mutex::new(String::new()));
    let back = Arc::clone(&server);
    let elsewhere = Server::start(move |_: &Seen| {
        Reply::new(302).header("location", back.lock().unwrap().clone())
    });
    let to = elsewhere.url("/x");
    let registry = Server::start(move |seen: &Seen| {
        match (seen.target.as_str(), seen.header("authorization")) {
            ("/back", None) => Reply::new(200).body("nobody"),
            ("/back", Some(_)) => Reply::new(200).body("somebody"),
            (_, None) => Reply::new(401).header("www-authenticate", "Basic realm=r"),
            _ => Reply::new(302).header("location", to.clone()),
        }
    });
    *server.lock().unwrap() = registry.url("/back");
    let wire = with_credentials(&registry, basic());
    assert_eq!(get(&wire, &registry.endpoint()).unwrap().content, b"nobody");
}

#[test]
fn circles_of_redirects_end() {
    let server = Server::start(|_: &Seen| Reply::new(302).header("location", "/again"));
    let error = get(&wire(), &server.endpoint()).err().unwrap();
    assert!(
        error.to_string().ends_with("more than 10 redirects"),
        "{error}"
    );
    let server = Server::start(|_: &Seen| Reply::new(302));
    let error = get(&wire(), &server.endpoint()).err().unwrap();
    assert!(
        error.to_string().ends_with("302 with no usable `Location`"),
        "{error}"
    );
}

#[test]
fn basic_credentials_are_shown_when_asked_for_and_from_then_on() {
    let server = Server::start(|seen: &Seen| match seen.header("authorization") {
        Some(BASIC) => Reply::new(200).body("x"),
        _ => Reply::new(401).header("www-authenticate", "Basic realm=\"r\""),
    });
    let wire = with_credentials(&server, basic());
    for _ in 0..3 {
        get(&wire, &server.endpoint()).unwrap();
    }
    let shown: Vec<bool> = server
        .seen()
        .iter()
        .map(|seen| seen.header("authorization").is_some())
        .collect();
    assert_eq!(shown, [false, true, true, true]);
}

#[test]
fn wrong_credentials_are_shown_once_and_named() {
    let json = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    let server = Server::start(move |_: &Seen| {
        Reply::new(401)
            .header("www-authenticate", "Basic realm=\"r\"")
            .json(json)
    });
    let error = get(&with_credentials(&server, basic()), &server.endpoint())
        .err()
        .unwrap();
    let text = error.to_string();
    let Error::Denied {
        domain,
        credentials,
        fault,
        ..
    } = error
    else {
        panic!("{text}")
    };
    assert_eq!(domain, server.host());
    assert_eq!(credentials.as_deref(), Some("user `me` from `auth.json`"));
    assert_eq!(
        fault.to_string(),
        r#"401 UNAUTHORIZED "authentication required""#
    );
    assert_eq!(server.seen().len(), 2);
    assert!(!text.contains("pass"), "{text}");

    // Without credentials there is nothing to try.
    let error = get(&wire(), &server.endpoint()).err().unwrap();
    assert!(matches!(
        error,
        Error::Denied {
            credentials: None,
            ..
        }
    ));
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn mirrors_that_are_not_there_are_asked_once() {
    let gone = Server::start(|_: &Seen| Reply::gone());
    let own = Server::start(|_: &Seen| Reply::new(200).body(DOCUMENT));
    let wire = wire();
    let repository = repository(&wire, &[&gone, &own], Access::Pull);
    for _ in 0..3 {
        repository.document("1").unwrap();
    }
    // Plain HTTP, then TLS, each twice at most.
    assert!(gone.connections() <= 4, "{}", gone.connections());
    assert_eq!(own.seen().len(), 3);
}

#[test]
fn a_mirror_that_wants_to_be_waited_for_is_passed_by() {
    let mirror = Server::start(|_: &Seen| Reply::new(429).header("retry-after", "3600"));
    let own = Server::start(|_: &Seen| Reply::new(200).body(DOCUMENT));
    let policy = Policy {
        longest: Duration::from_secs(3600),
        ..policy()
    };
    let wire = wire_with(policy, HashMap::new());
    repository(&wire, &[&mirror, &own], Access::Pull)
        .document("1")
        .unwrap();
    assert_eq!(mirror.seen().len(), 1);
}

/// A server that speaks TLS as far as saying that plain HTTP is none.
fn tls_like(answer: &'static [u8]) -> (String, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        let (mut plain, _) = listener.accept().unwrap();
        let _ = plain.read(&mut [0; 4096]);
        plain.write_all(answer).unwrap();
        drop(plain);
        let (mut second, _) = listener.accept().unwrap();
        let mut hello = vec![0; 3];
        second.read_exact(&mut hello).unwrap();
        hello
    });
    (host, thread)
}

#[test]
fn this_machine_is_asked_in_plain_first_and_then_by_tls() {
    let said = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    for answer in [&said[..], b"\x15\x03\x01\x00\x02\x02\x46", b""] {
        let (host, thread) = tls_like(answer);
        let server = Server::replies([]);
        let endpoint = Endpoint {
            host,
            ..server.endpoint()
        };
        let _ = get(&wire(), &endpoint);
        assert_eq!(thread.join().unwrap()[..2], [0x16, 0x03], "{answer:?}");
    }
}

#[test]
fn a_plain_400_is_an_answer_where_there_is_no_tls() {
    let server =
        Server::start(|_: &Seen| Reply::new(400).json(r#"{"errors":[{"code":"NAME_INVALID"}]}"#));
    let wire = wire();
    for _ in 0..2 {
        let error = get(&wire, &server.endpoint()).err().unwrap();
        assert!(error.to_string().ends_with("400 NAME_INVALID"), "{error}");
    }
    // Plain, TLS, and plain again now that it is known.
    let lines = server.lines();
    let asked = lines
        .iter()
        .filter(|line| *line == "GET /v2/a/b/manifests/1");
    assert_eq!(asked.count(), 2, "{lines:?}");
}

#[test]
fn insecure_registries_are_asked_by_tls_first() {
    let server = Server::start(|_: &Seen| Reply::new(200).body("x"));
    let endpoint = Endpoint {
        scheme: Scheme::Either,
        tls: Tls {
            insecure: true,
            ..Tls::default()
        },
        ..server.endpoint()
    };
    let wire = wire();
    for _ in 0..2 {
        assert_eq!(get(&wire, &endpoint).unwrap().content, b"x");
    }
    assert_eq!(server.lines(), ["GET /v2/a/b/manifests/1"; 2]);
    // The first one was TLS.
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_registry_without_tls_is_told_from_others() {
    let server = Server::start(|_: &Seen| Reply::new(200));
    let endpoint = Endpoint {
        scheme: Scheme::Https,
        ..server.endpoint()
    };
    let error = get(&wire(), &endpoint).err().unwrap();
    let Error::Tls { why, host, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(host, server.host());
    assert_eq!(
        why,
        "the server does not speak TLS; it may speak plain HTTP"
    );
    assert!(!server.lines().iter().any(|line| line.starts_with("GET")));
}

#[test]
fn finding_out_shows_no_credentials() {
    // A token that is kept for the host would be shown if it were asked as usual.
    let server = Server::start(|seen: &Seen| match seen.header("authorization") {
        Some("Bearer t") => Reply::new(200).body("x"),
        Some(_) => Reply::new(400),
        None if seen.target.starts_with("/token") => Reply::new(200).json(r#"{"token":"t"}"#),
        None => Reply::new(401).header("www-authenticate", "Bearer realm=\"/token\""),
    });
    let wire = with_credentials(&server, Credentials::IdentityToken(Secret::new("i")));
    get(&wire, &server.endpoint()).unwrap();
    assert_eq!(server.seen()[0].header("authorization"), None);
}

#[test]
fn the_client_says_who_it_is() {
    let server = Server::start(|_: &Seen| Reply::new(200));
    get(&wire(), &server.endpoint()).unwrap();
    let seen = &server.seen()[0];
    assert_eq!(
        seen.header("user-agent"),
        Some(concat!("smidge/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!(seen.header("host"), Some(server.host().as_str()));
}

#[test]
fn what_is_sent_over_tls_does_not_go_on_in_the_open() {
    let elsewhere = Server::start(|_: &Seen| Reply::new(201));
    let endpoint = Endpoint {
        host: "r.example".to_owned(),
        scheme: Scheme::Https,
        ..elsewhere.endpoint()
    };
    let target = Target::Url(Url::parse(&elsewhere.url("/upload?state=x")).unwrap());
    let call = Call::new(Method::PUT, target, &Scopes::new()).content(Content::Bytes(b"layer"));
    let broken = wire().once(&endpoint, &call).err().unwrap();
    assert_eq!(
        broken.error.to_string(),
        format!(
            "PUT https://r.example/: it sends us on to `{}`, where everybody could listen",
            elsewhere.url("/upload")
        )
    );
    let mut insecure = endpoint;
    insecure.tls.insecure = true;
    assert_eq!(wire().once(&insecure, &call).unwrap().status, 201);
    assert_eq!(elsewhere.seen().len(), 1);
}

#[test]
fn a_token_server_is_trusted_for_what_it_is_and_not_as_the_registry() {
    let server = Server::start(|_: &Seen| Reply::new(200));
    let (tell, told) = std::sync::mpsc::channel();
    let surroundings = Surroundings {
        bundles: Bundles::default(),
        proxy: Box::new(|_, _| None),
        tls: Box::new(move |host| {
            tell.send(host.to_owned()).unwrap();
            Ok(Tls::default())
        }),
        credentials: Box::new(|_| Ok(None)),
    };
    let wire = Wire::new(surroundings, policy());
    let mut registry = server.endpoint();
    let request = |url: &str| Request::new(Method::GET, Url::parse(url).unwrap());
    // At the registry's own host its settings count, whatever the port.
    wire.ask_for_token(&registry, &request(&server.url("/token")))
        .unwrap();
    assert!(told.try_recv().is_err());

    registry.host = "registry.example".to_owned();
    registry.tls.insecure = true;
    wire.ask_for_token(&registry, &request(&server.url("/token")))
        .unwrap();
    assert_eq!(told.try_recv().unwrap(), server.host());
    // A password is not sent where everybody can read it because a registry says so.
    let far = request("http://auth.invalid/token");
    let error = wire.ask_for_token(&registry, &far).err().unwrap();
    assert_eq!(
        error.to_string(),
        "GET http://auth.invalid/token: the registry `registry.example` wants a token from another \
         host, where everybody could listen"
    );
}
