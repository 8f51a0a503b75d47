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
