//! Looking logins up.

use crate::settings::fixture::Home;

#[test]
fn the_longest_key_counts_and_the_first_file_that_has_one() {
    let home = Home::new();
    assert_eq!(home.login("a.io", "x"), "none");
    home.write(
        "config.json",
        r#"{"auths":{
            "a.io":{"username":"all","password":"1"},
            "a.io/team":{"username":"team","password":"2"},
            "a.io/team/x":{"username":"x","password":"3"},
            "a.io/other":{},
            "https://index.docker.io/v1/":{"username":"hub","password":"4"},
            "https://b.io:5000/v2/":{"identitytoken":"5"}
        }}"#,
    );
    let check = |domain: &str, path: &str, expected: &str| {
        assert_eq!(home.login(domain, path), expected, "{domain} {path}");
    };
    check("a.io", "y", "1 user `all` from `~/config.json`");
    check("a.io", "teams", "1 user `all` from `~/config.json`");
    check("a.io", "", "1 user `all` from `~/config.json`");
    check("a.io", "other/x", "1 user `all` from `~/config.json`");
    check("a.io", "team/y/z", "2 user `team` from `~/config.json`");
    check("a.io", "team/x", "3 user `x` from `~/config.json`");
    check(
        "docker.io",
        "library/a",
        "4 user `hub` from `~/config.json`",
    );
    check("b.io:5000", "x", "5 identity token from `~/config.json`");
    check("b.io", "x", "none");
    home.write(
        "first.json",
        r#"{"auths":{"a.io":{"username":"first","password":"6"}}}"#,
    );
    check("a.io", "team/x", "6 user `first` from `~/first.json`");
}

/// With these configurations, the helper's logins are found as they are in words.
fn check_vault(cases: &[(&str, &str, &str, &str)]) {
    let home = Home::with_vault();
    std::fs::create_dir(home.at("vault")).unwrap();
    let keep = |file: &str, text: &str| home.write(&format!("vault/{file}"), text);
    keep(
        "a.io",
        r#"{"ServerURL":"a.io","Username":"me","Secret":"s1"}"#,
    );
    keep(
        "https___index.docker.io_v1_",
        r#"{"Username":"<token>","Secret":"s2"}"#,
    );
    keep("c.io_team", r#"{"Username":"team","Secret":"s3"}"#);
    for (config, domain, path, expected) in cases {
        home.write("config.json", config);
        let found = home.login(domain, path);
        let found = found.trim_end_matches(" from credential helper `docker-credential-vault`");
        assert_eq!(found, *expected, "{config} {domain}");
    }
}

#[test]
fn helpers_are_asked_for_their_registries() {
    let one = r#"{"credHelpers":{"a.io":"vault"}}"#;
    let url = r#"{"credHelpers":{"https://a.io":"vault"}}"#;
    let hub = r#"{"credHelpers":{"docker.io":"vault"}}"#;
    check_vault(&[
        (one, "a.io", "x", "s1 user `me`"),
        (one, "a.io", "", "s1 user `me`"),
        (one, "b.io", "x", "none"),
        (url, "a.io", "x", "s1 user `me`"),
        (hub, "docker.io", "x", "s2 identity token"),
    ]);
}

#[test]
fn a_store_is_asked_for_every_registry() {
    let store = r#"{"credsStore":"vault"}"#;
    let noted = r#"{"credsStore":"vault","auths":{"c.io/team":{}}}"#;
    let none = r#"{"credsStore":"vault","credHelpers":{"a.io":""}}"#;
    check_vault(&[
        (store, "a.io", "x", "s1 user `me`"),
        (store, "docker.io", "x", "s2 identity token"),
        (store, "b.io", "x", "none"),
        (store, "c.io", "team/x", "none"),
        (noted, "c.io", "team/x", "s3 user `team`"),
        (none, "a.io", "x", "s1 user `me`"),
    ]);
}

#[test]
fn a_store_that_is_gone_breaks_only_what_it_has() {
    let home = Home::new();
    home.write(
        "config.json",
        r#"{"credsStore":"desktop","auths":{"a.io":{}}}"#,
    );
    let gone = "credential helper `docker-credential-desktop`: there is no such program in `$PATH`";
    assert_eq!(home.login("a.io", "x"), gone);
    assert_eq!(home.login("b.io", "x"), "none");
    home.write("config.json", r#"{"credHelpers":{"b.io":"desktop"}}"#);
    assert_eq!(home.login("b.io", "x"), gone);
}

#[test]
fn broken_files_are_named() {
    let home = Home::new();
    home.write("config.json", "{\n \"auths\": {\n}");
    assert_eq!(
        home.login("a.io", "x"),
        "`HOME/config.json`: line 3: EOF while parsing an object"
    );
    std::fs::create_dir(home.at("first.json")).unwrap();
    assert_eq!(
        home.login("a.io", "x"),
        "`HOME/first.json`: it is a directory, not a file"
    );
}
