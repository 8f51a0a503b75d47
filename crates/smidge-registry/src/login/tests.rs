use super::*;
use crate::Secret;
use crate::testing::{BASIC, Reply, Seen, Server, basic, wire};

fn try_at(server: &Server, credentials: &Credentials) -> Result<Login> {
    log_in(&wire(), &server.endpoint(), credentials)
}

#[test]
fn basic_credentials_are_tried() {
    let server = Server::start(|seen: &Seen| match seen.header("authorization") {
        Some(BASIC) => Reply::new(200),
        _ => Reply::new(401).header("www-authenticate", "Basic realm=r"),
    });
    assert_eq!(
        try_at(&server, &basic()).unwrap(),
        Login {
            identity_token: None
        }
    );
    let wrong = Credentials::Basic {
        username: "me".to_owned(),
        password: Secret::new("wrong"),
    };
    let error = try_at(&server, &wrong).unwrap_err();
    assert!(
        matches!(&error, Error::Denied { domain, .. } if *domain == server.host()),
        "{error}"
    );
    assert_eq!(server.lines(), ["GET /v2/"; 4]);
    let token = Credentials::IdentityToken(Secret::new("i"));
    assert!(matches!(
        try_at(&server, &token),
        Err(Error::Protocol { .. })
    ));
}

#[test]
fn a_refresh_token_is_asked_for_and_handed_on() {
    let server = Server::start(|seen: &Seen| {
        match (seen.is("GET", "/token"), seen.header("authorization")) {
            (true, Some(BASIC)) => {
                assert_eq!(seen.parameter("offline_token"), Some("true"));
                assert_eq!(seen.parameter("client_id"), Some("smidge"));
                Reply::new(200).json(r#"{"token":"t","refresh_token":"keep"}"#)
            }
            (true, _) => Reply::new(401).json(r#"{"details":"incorrect username or password"}"#),
            (_, Some("Bearer t")) => Reply::new(200),
            _ => {
                Reply::new(401).header("www-authenticate", "Bearer realm=\"/token\",service=\"s\"")
            }
        }
    });
    let login = try_at(&server, &basic()).unwrap();
    assert_eq!(login.identity_token, Some(Secret::new("keep")));
    let wrong = Credentials::Basic {
        username: "me".to_owned(),
        password: Secret::new("wrong"),
    };
    let error = try_at(&server, &wrong).unwrap_err();
    assert!(
        matches!(&error, Error::Denied { domain, .. } if *domain == server.host()),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("wrong"));
}

#[test]
fn a_token_that_the_registry_does_not_take_is_no_login() {
    let server = Server::start(|seen: &Seen| match seen.is("GET", "/token") {
        true => Reply::new(200).json(r#"{"token":"t"}"#),
        false => Reply::new(401).header("www-authenticate", "Bearer realm=\"/token\""),
    });
    assert!(matches!(
        try_at(&server, &basic()),
        Err(Error::Denied { .. })
    ));
}

#[test]
fn a_registry_that_sends_us_on_gets_no_credentials_sent_on() {
    for status in [301, 302, 303, 307, 308] {
        let other = Server::start(|seen: &Seen| match seen.header("authorization") {
            Some(_) => Reply::new(200),
            None => Reply::new(401).header("www-authenticate", "Basic realm=r"),
        });
        let to = other.url("/v2/");
        let server = Server::start(move |_: &Seen| Reply::new(status).header("location", &to));
        let error = try_at(&server, &basic()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "GET {}/v2/: it sends us on to `{}`, and nobody else is told who we are",
                server.host(),
                other.url("/v2/")
            )
        );
        let shown = other.seen();
        assert!(
            shown
                .iter()
                .all(|seen| seen.header("authorization").is_none())
        );
    }
}

#[test]
fn nobody_else_says_that_credentials_are_right() {
    let other = Server::start(|_: &Seen| Reply::new(200));
    let to = other.url("/");
    let server = Server::start(move |seen: &Seen| match seen.header("authorization") {
        Some(_) => Reply::new(302).header("location", &to),
        None => Reply::new(401).header("www-authenticate", "Basic realm=r"),
    });
    assert!(matches!(
        try_at(&server, &basic()),
        Err(Error::Protocol { .. })
    ));
}

#[test]
fn a_registry_for_everybody_takes_anybody() {
    let server = Server::start(|_: &Seen| Reply::new(200));
    assert_eq!(
        try_at(&server, &basic()).unwrap(),
        Login {
            identity_token: None
        }
    );
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.header("authorization").is_none())
    );
    let server = Server::start(|_: &Seen| Reply::new(401).header("www-authenticate", "Negotiate"));
    assert!(matches!(
        try_at(&server, &basic()),
        Err(Error::Denied { .. })
    ));
    let server = Server::start(|_: &Seen| Reply::new(404));
    assert!(matches!(
        try_at(&server, &basic()),
        Err(Error::NotFound { .. })
    ));
}
