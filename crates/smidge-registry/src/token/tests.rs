use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::testing::{BASIC, Reply, Seen, Server, basic, policy, wire, wire_with};
use crate::wire::{Call, Target, Wire};

const WANT: &str = "repository:a/b:pull";

fn challenge(server: &str, more: &str) -> Reply {
    let realm = format!("Bearer realm=\"{server}/token\",service=\"s v\"{more}");
    Reply::new(401).header("www-authenticate", realm)
}

/// A registry whose tokens are `t1`, `t2`, …, each good for so many requests.
fn registry(good_for: u32, reply: impl Fn(&Seen, u32) -> Reply + Send + 'static) -> Server {
    let (mut given, mut used) = (0, 0);
    Server::start(move |seen: &Seen| {
        if seen.target.starts_with("/token") {
            (given, used) = (given + 1, 0);
            return reply(seen, given);
        }
        let good = format!("Bearer t{given}");
        if seen.header("authorization") == Some(good.as_str()) && used < good_for {
            used += 1;
            return Reply::new(200);
        }
        challenge("", "")
    })
}

fn token(number: u32) -> Reply {
    Reply::new(200).json(&format!(r#"{{"token":"t{number}","expires_in":300}}"#))
}

fn get(wire: &Wire, server: &Server) -> Result<()> {
    get_scopes(wire, server, &[WANT])
}

fn get_scopes(wire: &Wire, server: &Server, scopes: &[&str]) -> Result<()> {
    let scopes: Scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let call = Call::new(
        Method::GET,
        Target::Path("/v2/a/b/tags/list".to_owned()),
        &scopes,
    );
    wire.expect(&server.endpoint(), &call).map(Answer::finish)
}

fn with(server: &Server, credentials: Credentials) -> Arc<Wire> {
    wire_with(policy(), HashMap::from([(server.host(), credentials)]))
}

fn asked(server: &Server) -> Vec<Seen> {
    let mut seen = server.seen();
    seen.retain(|seen| seen.target.starts_with("/token"));
    seen
}

#[test]
fn a_token_is_fetched_once_and_used_while_it_is_good() {
    let server = registry(u32::MAX, |_, n| token(n));
    let wire = wire();
    for _ in 0..3 {
        get(&wire, &server).unwrap();
    }
    let asked = asked(&server);
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].line(),
        "GET /token?service=s%20v&scope=repository:a/b:pull"
    );
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn tokens_belong_to_scopes() {
    let server = registry(u32::MAX, |_, n| token(n));
    let wire = wire();
    let (push, other) = ("repository:a/b:pull,push", "repository:c:pull");
    get_scopes(&wire, &server, &[push]).unwrap();
    get_scopes(&wire, &server, &[push, other]).unwrap();
    // A token that gives more does for less.
    get_scopes(&wire, &server, &[other]).unwrap();
    let scopes: Vec<String> = asked(&server).iter().map(Seen::line).collect();
    assert_eq!(
        scopes,
        [
            "GET /token?service=s%20v&scope=repository:a/b:pull,push",
            "GET /token?service=s%20v&scope=repository:a/b:pull,push&scope=repository:c:pull",
        ]
    );
}

#[test]
fn a_token_that_has_ended_is_renewed_once() {
    let server = registry(2, |_, n| token(n));
    let wire = wire();
    for _ in 0..4 {
        get(&wire, &server).unwrap();
    }
    assert_eq!(asked(&server).len(), 2);

    let never_good = registry(0, |_, n| token(n));
    let error = get(&wire, &never_good).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert_eq!(asked(&never_good).len(), 1);
    assert!(get(&wire, &never_good).is_err());
    assert_eq!(asked(&never_good).len(), 2);
}

#[test]
fn tokens_that_all_have_ended_are_renewed_once() {
    // A registry that forgets its tokens.
    let (mut good, mut given) = (Vec::new(), 0);
    let server = Server::start(move |seen: &Seen| {
        if seen.target.starts_with("/token") {
            given += 1;
            good.push(format!("Bearer t{given}"));
            return token(given);
        }
        if seen.target.starts_with("/forget") {
            good.clear();
        }
        match seen.header("authorization") {
            Some(shown) if good.iter().any(|good| good == shown) => Reply::new(200),
            _ => challenge("", ""),
        }
    });
    let wire = wire();
    let (push, other) = ("repository:a/b:pull,push", "repository:c:pull");
    get_scopes(&wire, &server, &[push]).unwrap();
    get_scopes(&wire, &server, &[push, other]).unwrap();
    let forget = Request::new(Method::GET, Url::parse(&server.url("/forget")).unwrap());
    wire.ask(&server.endpoint(), &forget).unwrap().finish();
    get_scopes(&wire, &server, &[push]).unwrap();
    assert_eq!(asked(&server).len(), 3);
    // What was renewed serves from then on.
    get_scopes(&wire, &server, &[push]).unwrap();
    assert_eq!(asked(&server).len(), 3);
}

#[test]
fn a_token_that_another_thread_has_renewed_is_used() {
    let server = registry(u32::MAX, |_, n| token(n));
    let wire = wire();
    get(&wire, &server).unwrap();
    let endpoint = server.endpoint();
    let challenges = crate::challenge::parse(["Bearer realm=\"/token\""].into_iter());
    let old = Secret::new("Bearer t0");
    let url = Url::parse(&server.url("/v2/")).unwrap();
    let refused = Refusal {
        challenges: &challenges,
        authorization: Some(&old),
        sent: Instant::now() - Duration::from_secs(60),
        url: &url,
        request: "GET /".to_owned(),
    };
    let ask = |_: Request<'_>| -> Result<Answer> { panic!("nothing is to be asked") };
    let scopes = Scopes::from([WANT.to_owned()]);
    let header = wire.tokens.answer(&endpoint, &scopes, &refused, &ask);
    assert_eq!(header.unwrap(), Some(Secret::new("Bearer t1")));
}

#[test]
fn a_token_is_not_used_beyond_its_life() {
    let server = registry(u32::MAX, |_, n| {
        Reply::new(200).json(&format!(r#"{{"access_token":"t{n}","expires_in":1}}"#))
    });
    let wire = wire();
    get(&wire, &server).unwrap();
    let endpoint = server.endpoint();
    let known = wire.tokens.registry(&endpoint);
    assert!(lock(&known).tokens[0].until <= Instant::now() + Duration::from_secs(1));
    lock(&known).tokens[0].until = Instant::now();
    get(&wire, &server).unwrap();
    assert_eq!(asked(&server).len(), 2);
    // Nothing was shown that had ended.
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn a_token_for_ever_is_one_for_a_day() {
    for life in [u64::MAX, i64::MAX.unsigned_abs()] {
        let server = registry(u32::MAX, move |_, n| {
            Reply::new(200).json(&format!(r#"{{"token":"t{n}","expires_in":{life}}}"#))
        });
        get(&wire(), &server).unwrap();
        assert_eq!(asked(&server).len(), 1);
    }
}

#[test]
fn credentials_go_to_the_token_server_and_not_to_the_registry() {
    let server = registry(u32::MAX, |seen, n| match seen.header("authorization") {
        Some(BASIC) => token(n),
        _ => Reply::new(401),
    });
    get(&with(&server, basic()), &server).unwrap();
    let asked = asked(&server);
    assert_eq!(asked[0].parameter("account"), Some("me"));
    let shown = server.seen();
    let mut shown = shown.iter().filter(|seen| seen.target.starts_with("/v2"));
    assert!(shown.all(|seen| seen.header("authorization") != Some(BASIC)));
}

#[test]
fn a_token_server_that_refuses_is_named_with_the_credentials() {
    let server = registry(1, |_, _| {
        Reply::new(401).json(r#"{"details":"incorrect username or password"}"#)
    });
    let error = get(&with(&server, basic()), &server).unwrap_err();
    let text = error.to_string();
    let Error::Denied {
        domain,
        credentials,
        ..
    } = error
    else {
        panic!("{text}")
    };
    assert_eq!(domain, server.host());
    assert_eq!(credentials.as_deref(), Some("user `me` from `auth.json`"));
    assert_eq!(
        text,
        format!(
            r#"GET {}: 401 "incorrect username or password""#,
            server.url("/token?service=s%20v&scope=repository:a/b:pull")
        )
    );
    assert_eq!(asked(&server).len(), 1);
}

#[test]
fn an_identity_token_is_posted() {
    let server = registry(u32::MAX, |seen, n| match seen.method.as_str() {
        "POST" => token(n),
        _ => Reply::new(400),
    });
    get(
        &with(&server, Credentials::IdentityToken(Secret::new("a+b/&="))),
        &server,
    )
    .unwrap();
    let asked = asked(&server);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line(), "POST /token");
    assert_eq!(
        String::from_utf8_lossy(&asked[0].body),
        "grant_type=refresh_token&client_id=smidge&service=s%20v&scope=repository:a/b:pull&refresh_token=a%2Bb/%26%3D"
    );
    assert_eq!(
        asked[0].header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
}

#[test]
fn an_old_token_server_gets_an_identity_token_as_a_password() {
    for status in [404, 405] {
        let server = registry(u32::MAX, move |seen, n| match seen.method.as_str() {
            "POST" => Reply::new(status),
            // base64("<token>:i")
            _ if seen.header("authorization") == Some("Basic PHRva2VuPjpp") => {
                Reply::new(200).json(&format!(r#"{{"token":"t{n}"}}"#))
            }
            _ => Reply::new(401),
        });
        get(
            &with(&server, Credentials::IdentityToken(Secret::new("i"))),
            &server,
        )
        .unwrap();
        assert_eq!(asked(&server).len(), 2);
    }
}

#[test]
fn a_passing_failure_of_the_token_server_passes() {
    let server = registry(u32::MAX, |_, n| match n {
        1 => Reply::new(503),
        2 => Reply::gone(),
        3 => token(3).cut(5),
        n => token(n),
    });
    get(&wire(), &server).unwrap();
    assert_eq!(asked(&server).len(), 4);
}

#[test]
fn nonsense_of_a_token_server_is_a_breach_of_protocol() {
    for (reply, why) in [
        (
            Reply::new(200).json("{}"),
            "the token server's answer has no token",
        ),
        (
            Reply::new(200).json(r#"{"token":""}"#),
            "the token server's answer has no token",
        ),
        (
            Reply::new(200).body("<html>"),
            "the token server's answer is not JSON as it should be",
        ),
    ] {
        let server = registry(1, move |_, _| reply.clone());
        let error = get(&wire(), &server).unwrap_err();
        assert!(error.to_string().ends_with(why), "{error}");
    }
}

#[test]
fn an_unusable_realm_is_named() {
    let server =
        Server::start(|_: &Seen| Reply::new(401).header("www-authenticate", "Bearer service=x"));
    let error = get(&wire(), &server).unwrap_err();
    assert!(
        error.to_string().contains("names no place that gives it"),
        "{error}"
    );

    let registry = Url::parse("https://r.example/v2/").unwrap();
    let of = |value: &str| {
        let challenges = crate::challenge::parse([value].into_iter());
        Realm::of(&challenges[0], &registry, "GET /").map(|realm| realm.url.text())
    };
    assert_eq!(
        of("Bearer realm=\"https://auth.example/token\"").unwrap(),
        "https://auth.example/token"
    );
    assert_eq!(
        of("Bearer realm=\"/token\"").unwrap(),
        "https://r.example/token"
    );
    for realm in ["http://auth.example/token", "http://r.example:80/token"] {
        let error = of(&format!("Bearer realm=\"{realm}\"")).unwrap_err();
        assert!(
            error.to_string().contains("everybody could read it"),
            "{error}"
        );
    }
}

#[test]
fn what_the_registry_calls_a_repository_is_asked_for_too() {
    let server = Server::start(|seen: &Seen| {
        if seen.target.starts_with("/token") {
            return token(1);
        }
        match seen.header("authorization") {
            Some(_) => Reply::new(200),
            None => challenge(
                "",
                ",scope=\"repository:project/a/b:pull repository:a/b:pull\"",
            ),
        }
    });
    let wire = wire();
    get(&wire, &server).unwrap();
    get(&wire, &server).unwrap();
    let asked = asked(&server);
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].line(),
        "GET /token?service=s%20v&scope=repository:a/b:pull&scope=repository:project/a/b:pull"
    );
}

#[test]
fn threads_share_a_token() {
    let server = registry(u32::MAX, |_, n| token(n));
    let wire = wire();
    let failed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                if get(&wire, &server).is_err() {
                    failed.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0);
    assert_eq!(asked(&server).len(), 1);
}

#[test]
fn a_token_server_sends_us_nowhere_else() {
    for credentials in [basic(), Credentials::IdentityToken(Secret::new("identity"))] {
        for status in [301, 302, 303, 307, 308] {
            let elsewhere = Server::start(|_: &Seen| token(1));
            let to = elsewhere.url("/token");
            let server = registry(u32::MAX, move |_, _| {
                Reply::new(status).header("location", to.clone())
            });
            let error = get(&with(&server, credentials.clone()), &server).unwrap_err();
            assert!(
                error.to_string().contains("nobody else is told who we are"),
                "{error}"
            );
            assert!(elsewhere.seen().is_empty(), "{status}");
        }
    }
}

#[test]
fn a_token_server_may_have_moved_at_its_own_place() {
    let server = registry(u32::MAX, |seen, n| match seen.header("authorization") {
        Some(BASIC) if seen.target == "/token2" => token(n),
        _ => Reply::new(307).header("location", "/token2"),
    });
    get(&with(&server, basic()), &server).unwrap();
}

#[test]
fn of_several_challenges_the_token_is_taken() {
    let server = Server::start(|seen: &Seen| {
        if seen.target.starts_with("/token") {
            return token(1);
        }
        match seen.header("authorization") {
            Some("Bearer t1") => Reply::new(200),
            _ => Reply::new(401)
                .header("www-authenticate", "Negotiate")
                .header(
                    "www-authenticate",
                    "Basic realm=\"r\", Bearer realm=\"/token\"",
                ),
        }
    });
    get(&with(&server, basic()), &server).unwrap();
}
