//! Logins, kept and forgotten.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::Secret;
use crate::settings::fixture::{Home, name, user};

fn stored(stored: &[Stored]) -> Vec<String> {
    let one = |stored: &Stored| match stored {
        Stored::File(path) => name(path),
        Stored::Helper(name) => name.clone(),
    };
    stored.iter().map(one).collect()
}

#[test]
fn a_login_is_kept_in_the_file() {
    let home = Home::new();
    let kept = home
        .settings()
        .keep_login("a.io", &user("me", "a:b"))
        .unwrap();
    assert_eq!(kept, Stored::File(home.at("config.json")));
    assert_eq!(
        home.text("config.json"),
        "{\n\t\"auths\": {\n\t\t\"a.io\": {\n\t\t\t\"auth\": \"bWU6YTpi\"\n\t\t}\n\t}\n}"
    );
    let mode = fs::metadata(home.at("config.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        home.login("a.io", "x"),
        "a:b user `me` from `~/config.json`"
    );
    let token = Credentials::IdentityToken(Secret::new("tok"));
    home.settings()
        .keep_login("https://index.docker.io/v1/", &token)
        .unwrap();
    assert!(
        home.text("config.json")
            .contains("\"https://index.docker.io/v1/\": {\n\t\t\t\"identitytoken\": \"tok\"")
    );
    assert_eq!(
        home.login("docker.io", "x"),
        "tok identity token from `~/config.json`"
    );
}

#[test]
fn all_else_in_the_file_stays_in_its_order() {
    let home = Home::new();
    let text = |a: &str| {
        format!(
            "{{\n\t\"zeta\": [\n\t\t1.50,\n\t\t\"é\"\n\t],\n\t\"auths\": {{\n\t\t\"b.io\": {{\n\t\t\t\"auth\": \"Yjpi\",\n\t\t\t\"x\": 1\n\t\t}},\n\t\t\"a.io\": {a},\n\t\t\"c.io\": {{}}\n\t}},\n\t\"alpha\": {{\n\t\t\"z\": 1,\n\t\t\"a\": null\n\t}}\n}}"
        )
    };
    home.write("config.json", &text("{}"));
    home.settings()
        .keep_login("a.io", &user("me", "pw"))
        .unwrap();
    let expected = text("{\n\t\t\t\"auth\": \"bWU6cHc=\"\n\t\t}").replace("1.50", "1.5");
    assert_eq!(home.text("config.json"), expected);
}

#[test]
fn a_new_login_replaces_every_form_of_the_old_one() {
    let home = Home::new();
    home.write(
        "config.json",
        r#"{"auths":{"https://a.io/v1/":{"auth":"b2xkOm9sZA=="},"a.io/team":{"auth":"dGVhbTp0ZWFt"},"docker.io":{"auth":"b2xkOm9sZA=="}}}"#,
    );
    home.settings()
        .keep_login("a.io", &user("me", "new"))
        .unwrap();
    home.settings()
        .keep_login("docker.io", &user("me", "new"))
        .unwrap();
    let text = home.text("config.json");
    assert!(!text.contains("b2xk"), "{text}");
    assert!(!text.contains("\"docker.io\""), "{text}");
    assert_eq!(
        home.login("a.io", "x"),
        "new user `me` from `~/config.json`"
    );
    assert_eq!(
        home.login("a.io", "team/x"),
        "team user `team` from `~/config.json`"
    );
}

#[test]
fn helpers_and_stores_keep_what_the_file_gives_them() {
    for config in [
        r#"{"credsStore":"vault"}"#,
        r#"{"credHelpers":{"a.io":"vault"}}"#,
    ] {
        let home = Home::with_vault();
        home.write("config.json", config);
        let kept = home
            .settings()
            .keep_login("a.io", &user("me", "hunter2"))
            .unwrap();
        assert_eq!(stored(&[kept]), ["docker-credential-vault"]);
        let text = home.text("config.json");
        assert!(
            text.contains("\"a.io\": {}") && !text.contains("auth\""),
            "{text}"
        );
        assert!(home.text("vault/a.io").contains("hunter2"));
        assert_eq!(
            home.login("a.io", "x"),
            "hunter2 user `me` from credential helper `docker-credential-vault`"
        );
        let gone = home.settings().forget_login("a.io").unwrap();
        assert_eq!(stored(&gone), ["docker-credential-vault"]);
        assert_eq!(home.login("a.io", "x"), "none");
        assert!(!home.at("vault/a.io").exists());
        assert!(home.settings().forget_login("a.io").unwrap().is_empty());
        let text = home.text("config.json");
        assert!(
            !text.contains("\"a.io\": {}") && text.contains("vault"),
            "{text}"
        );
    }
}

#[test]
fn a_helper_that_fails_leaves_the_file_alone() {
    let home = Home::new();
    home.program(
        "docker-credential-bad",
        "#!/bin/sh\necho locked >&2\nexit 1\n",
    );
    home.write("config.json", r#"{"credsStore":"bad"}"#);
    let error = home
        .settings()
        .keep_login("a.io", &user("me", "pw"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "credential helper `docker-credential-bad`: locked"
    );
    assert_eq!(home.text("config.json"), r#"{"credsStore":"bad"}"#);
}

#[test]
fn a_login_is_forgotten_wherever_it_is() {
    let home = Home::with_vault();
    home.write("vault.json", "");
    home.write(
        "first.json",
        r#"{"auths":{"https://a.io":{"auth":"bWU6cHc="},"b.io":{"auth":"bWU6cHc="}}}"#,
    );
    home.write("config.json", r#"{"credsStore":"vault"}"#);
    home.settings()
        .keep_login("a.io", &user("me", "pw"))
        .unwrap();
    let gone = home.settings().forget_login("A.io").unwrap();
    assert_eq!(stored(&gone), ["first.json", "docker-credential-vault"]);
    assert_eq!(home.login("a.io", "x"), "none");
    assert_eq!(home.login("b.io", "x"), "pw user `me` from `~/first.json`");
    assert!(home.settings().forget_login("a.io").unwrap().is_empty());
}

#[test]
fn what_cannot_be_understood_can_be_forgotten() {
    let home = Home::new();
    home.write(
        "config.json",
        r#"{"auths":{"a.io":{"auth":"!"},"b.io":{"email":"x"}}}"#,
    );
    assert_eq!(
        stored(&home.settings().forget_login("a.io").unwrap()),
        ["config.json"]
    );
    assert!(home.settings().forget_login("b.io").unwrap().is_empty());
    assert_eq!(home.text("config.json"), "{\n\t\"auths\": {}\n}");
}

#[test]
fn a_store_that_is_gone_is_missed_once() {
    let home = Home::new();
    home.write(
        "config.json",
        r#"{"credsStore":"desktop","auths":{"a.io":{}}}"#,
    );
    let error = home.settings().forget_login("a.io").unwrap_err();
    assert_eq!(
        error.to_string(),
        "credential helper `docker-credential-desktop`: there is no such program in `$PATH`"
    );
    assert!(home.settings().forget_login("a.io").unwrap().is_empty());
}

#[test]
fn a_file_is_forgotten_once_under_all_its_names() {
    let home = Home::new();
    home.write("config.json", r#"{"auths":{"a.io":{"auth":"bWU6cHc="}}}"#);
    symlink("config.json", home.at("first.json")).unwrap();
    assert_eq!(
        stored(&home.settings().forget_login("a.io").unwrap()),
        ["first.json"]
    );
    assert!(home.at("first.json").is_symlink());
}

#[test]
fn one_broken_file_does_not_keep_the_other_login() {
    let home = Home::new();
    home.write("first.json", "{");
    home.write("config.json", r#"{"auths":{"a.io":{"auth":"bWU6cHc="}}}"#);
    let error = home
        .settings()
        .forget_login("a.io")
        .unwrap_err()
        .to_string();
    assert!(error.contains("first.json"), "{error}");
    assert!(!home.text("config.json").contains("a.io"));
}

#[test]
fn a_broken_file_is_not_overwritten() {
    for text in ["{", "[]", r#"{"auths":[]}"#, r#"{"credsStore":1}"#] {
        let home = Home::with_vault();
        home.write("config.json", text);
        assert!(
            home.settings()
                .keep_login("a.io", &user("me", "pw"))
                .is_err(),
            "{text}"
        );
        assert_eq!(home.text("config.json"), text);
    }
    let mut home = Home::new();
    home.sources.login_file = Some("/dev/null".into());
    let error = home
        .settings()
        .keep_login("a.io", &user("me", "pw"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`/dev/null`: it cannot be written: it is not a regular file"
    );
    home.sources.login_file = None;
    assert!(
        home.settings()
            .keep_login("a.io", &user("me", "pw"))
            .is_err()
    );
}

#[test]
fn many_at_once_lose_nothing() {
    let home = Home::new();
    let settings = home.settings();
    let domains: Vec<String> = (0..16).map(|n| format!("r{n}.io")).collect();
    std::thread::scope(|scope| {
        for domain in &domains {
            scope.spawn(|| settings.keep_login(domain, &user("me", domain)).unwrap());
        }
    });
    for domain in &domains {
        let expected = format!("{domain} user `me` from `~/config.json`");
        assert_eq!(home.login(domain, ""), expected);
    }
    std::thread::scope(|scope| {
        for domain in &domains[1..] {
            scope.spawn(|| settings.forget_login(domain).unwrap());
        }
    });
    let text = home.text("config.json");
    assert_eq!(text.matches("auth\"").count(), 1, "{text}");
}

#[test]
fn whose_an_identity_token_is_is_kept_as_docker_keeps_it() {
    let home = Home::new();
    let token = Credentials::IdentityToken(crate::Secret::new("t"));
    let settings = home.settings();
    let user = |domain: &str| {
        let found = settings.credentials(domain, "").unwrap().unwrap();
        assert_eq!(found.credentials, token);
        found.username
    };
    settings.keep_login_of("a.io", Some("me"), &token).unwrap();
    assert!(home.text("config.json").contains("bWU6\""), "`me:`");
    assert_eq!(user("a.io").as_deref(), Some("me"));
    settings.keep_login("b.io", &token).unwrap();
    assert_eq!(user("b.io"), None);
}
