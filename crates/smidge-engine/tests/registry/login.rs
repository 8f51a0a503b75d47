//! Logging in and out.

use expect_test::expect;
use smidge_engine::Kind;
use smidge_engine::registry::{LoginRequest, Secret};

use crate::debian::Registry;
use crate::support::{Machine, connection, shown};

fn login(registry: &Registry, password: &str) -> LoginRequest {
    LoginRequest {
        registry: Some(registry.host.clone()),
        username: "me".to_owned(),
        password: Secret::new(password),
        connection: connection(),
    }
}

#[test]
fn a_private_registry_wants_a_login() {
    let Some(registry) = Registry::with_password() else {
        return;
    };
    let here = Machine::new();
    let name = registry.name("app:1");
    here.import(&name, 1000, None);

    let fault = here.push(&name).unwrap_err();
    assert_eq!(fault.kind(), Kind::Denied);
    expect![[r#"
        error: cannot push `localhost:5000/app:1`: access denied
          credentials: none
          caused by: HEAD http://localhost:5000/v2/app/manifests/1: 401
        hint: log in first: `smidge login localhost:5000`
    "#]]
    .assert_eq(&shown(&fault, &registry.host));

    let fault = here.engine.login(&login(&registry, "wrong")).unwrap_err();
    assert_eq!(fault.kind(), Kind::Denied);
    expect![[r#"
        error: cannot log in to `localhost:5000`: user name or password is wrong
          caused by: GET http://localhost:5000/v2/: 401 UNAUTHORIZED "authentication required"
    "#]]
    .assert_eq(&shown(&fault, &registry.host));
    assert!(!here.path("home/.docker/config.json").exists());

    let logged_in = here.engine.login(&login(&registry, "pass word")).unwrap();
    assert_eq!(logged_in.registry, registry.host);
    assert_eq!(logged_in.file, Some(here.path("home/.docker/config.json")));
    let known = here.engine.known_user(Some(&registry.host), &connection());
    assert_eq!(known.unwrap().as_deref(), Some("me"));
    here.push(&name).unwrap();

    let there = Machine::new();
    let fault = there.pull(&name).unwrap_err();
    expect![[r#"
        error: cannot pull `localhost:5000/app:1`: access denied
          credentials: none
          caused by: GET http://localhost:5000/v2/app/manifests/1: 401 UNAUTHORIZED "authentication required"
        hint: log in, if it is private: `smidge login localhost:5000`
    "#]].assert_eq(&shown(&fault, &registry.host));
    there.engine.login(&login(&registry, "pass word")).unwrap();
    there.pull(&name).unwrap();

    let out = there.engine.logout(Some(&registry.host), &connection());
    assert_eq!(out.unwrap(), (registry.host.clone(), true));
    let out = there.engine.logout(Some(&registry.host), &connection());
    assert_eq!(out.unwrap(), (registry.host.clone(), false));
    assert_eq!(there.pull(&name).unwrap_err().kind(), Kind::Denied);
}

#[test]
fn who_is_logged_in_is_told_as_far_as_it_is_known() {
    let here = Machine::new();
    let who = |registry: &str| {
        let user = here.engine.current_user(Some(registry), &connection());
        user.unwrap_or_else(|fault| fault.to_string())
    };
    assert_eq!(who("a.io"), "nobody is logged in to `a.io`");
    let config = here.path("home/.docker/config.json");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    // As Docker writes it: the user without a password beside the token.
    let auths =
        r#"{"auths":{"a.io":{"auth":"bWU6","identitytoken":"t"},"b.io":{"identitytoken":"t"}}}"#;
    std::fs::write(config, auths).unwrap();
    assert_eq!(who("a.io"), "me");
    assert_eq!(
        who("b.io"),
        "somebody is logged in to `b.io`, but it is not kept who"
    );
}
