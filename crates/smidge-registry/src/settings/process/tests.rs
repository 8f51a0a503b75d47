//! Credential helpers, played by shell scripts.

use super::*;
use crate::settings::fixture::{Home, user};

fn helper(home: &Home) -> Helper<'_> {
    Helper::new("fake", &home.sources)
}

fn with(script: &str) -> Home {
    let home = Home::new();
    home.program("docker-credential-fake", &format!("#!/bin/sh\n{script}\n"));
    home
}

fn why(result: Result<impl Sized>) -> String {
    match result {
        Err(Error::Helper { helper, why }) => {
            assert_eq!(helper, "docker-credential-fake");
            why
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it went well"),
    }
}

#[test]
fn a_login_goes_there_and_back() {
    let home = Home::with_vault();
    let vault = Helper::new("vault", &home.sources);
    assert!(vault.get("a.io").unwrap().is_none());
    assert!(!vault.erase("a.io").unwrap());
    let login = user("me", "p\"a\\s s\nw€");
    vault.store("a.io", &login).unwrap();
    assert_eq!(vault.get("a.io").unwrap(), Some(login));
    let token = Credentials::IdentityToken(crate::Secret::new("tok"));
    vault.store("docker.io", &token).unwrap();
    assert!(home.at("vault/https___index.docker.io_v1_").exists());
    assert_eq!(vault.get("docker.io").unwrap(), Some(token));
    assert!(vault.erase("docker.io").unwrap());
    assert!(vault.get("docker.io").unwrap().is_none());
    assert!(vault.get("a.io").unwrap().is_some());
}

#[test]
fn every_form_of_a_name_is_erased() {
    let home = Home::with_vault();
    std::fs::create_dir(home.at("vault")).unwrap();
    for server in ["a.io", "https://a.io", "https://a.io/v1/", "b.io"] {
        let file = server.replace(['/', ':'], "_");
        home.write(
            &format!("vault/{file}"),
            &format!("{{\"ServerURL\":\"{server}\"}}"),
        );
    }
    let vault = Helper::new("vault", &home.sources);
    assert!(vault.erase("a.io").unwrap());
    let left: Vec<_> = std::fs::read_dir(home.at("vault")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(home.at("vault/b.io").exists());
}

#[test]
fn a_helper_without_list_is_asked_by_name() {
    let home = with(
        r#"case "$1" in
        list) echo "not implemented"; exit 1 ;;
        get) [ "$(cat)" = a.io ] || { echo "Credentials Not Found in native keychain" >&2; exit 1; }
            echo '{"Username":"me","Secret":"s"}' ;;
        erase) cat >> "$HOME/erased" ;;
        esac"#,
    );
    assert!(helper(&home).erase("a.io").unwrap());
    assert!(!helper(&home).erase("b.io").unwrap());
    assert_eq!(home.text("erased"), "a.io");
}

#[test]
fn helpers_get_the_environment_that_was_given() {
    let mut home =
        with(r#"printf '{"Username":"%s","Secret":"%s"}' "$WHO" "$(env | grep -c CARGO)""#);
    home.sources.env.insert("WHO".to_owned(), "me".to_owned());
    assert_eq!(helper(&home).get("a.io").unwrap(), Some(user("me", "0")));
}

#[test]
fn failures_are_told_in_the_helpers_words() {
    for (script, expected) in [
        ("echo locked >&2; echo more; exit 1", "locked"),
        ("echo 'error: no\tbus'; exit 3", "error: no bus"),
        ("exit 3", "it failed without a word: exit status: 3"),
        (
            "kill -9 $$",
            "it failed without a word: signal: 9 (SIGKILL)",
        ),
        (
            "echo '{\"Secret\":\"hunter2\"}'; exit 1",
            "it failed without a word: exit status: 1",
        ),
        (
            "echo 'hunter2'",
            "its answer to `get` is not a JSON object (line 1, column 1)",
        ),
        (
            "echo '{\"Secret\":\"hunter2\"'",
            "its answer to `get` is not a JSON object (line 1, column 19)",
        ),
        (
            "",
            "its answer to `get` is not a JSON object (line 1, column 0)",
        ),
    ] {
        let home = with(script);
        assert_eq!(why(helper(&home).get("a.io")), expected, "{script}");
    }
    let home = with("yes | head -c 5000 >&2; exit 1");
    assert_eq!(why(helper(&home).get("a.io")).chars().count(), 1001);
}

#[test]
fn a_secret_is_not_repeated_in_the_error() {
    let home = with("cat >&2; exit 1");
    let why = why(helper(&home).store("a.io", &user("me", "hunter2")));
    assert!(!why.contains("hunter2") && why.contains("***"), "{why}");
}

#[test]
fn nothing_is_a_login_without_a_secret() {
    let home = with("echo '{\"ServerURL\":\"a.io\",\"Username\":\"\",\"Secret\":\"\"}'");
    assert!(helper(&home).get("a.io").unwrap().is_none());
}

#[test]
fn a_helper_that_hangs_is_ended() {
    let home = with("echo $$ > \"$HOME/pid\"; exec sleep 1000");
    let mut helper = helper(&home);
    helper.patience = Duration::from_millis(1);
    assert_eq!(why(helper.get("a.io")), "`get`: no answer within 0 seconds");
    if let Ok(pid) = home.text("pid").trim().parse::<u32>() {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn a_helper_that_does_not_stop_talking_is_ended() {
    let home = with("exec cat /dev/zero");
    assert_eq!(
        why(helper(&home).get("a.io")),
        "`get`: it does not stop talking"
    );
}

#[test]
fn a_helper_may_leave_a_process_that_holds_its_output() {
    let home = with(
        "sleep 1000 &\necho $! > \"$HOME/pid\"\necho '{\"Username\":\"me\",\"Secret\":\"s\"}'",
    );
    assert_eq!(helper(&home).get("a.io").unwrap(), Some(user("me", "s")));
    let pid = home.text("pid").trim().parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn only_programs_on_the_path_are_run() {
    let mut home = with("echo '{\"Username\":\"me\",\"Secret\":\"s\"}'");
    let missing = "there is no such program in `$PATH`";
    for name in [
        "none",
        "",
        "/../../bin/docker-credential-fake",
        "x/docker-credential-fake",
    ] {
        let helper = Helper::new(name, &home.sources);
        assert!(!helper.exists());
        let error = helper.get("a.io").unwrap_err().to_string();
        assert!(error.ends_with(missing), "{error}");
    }
    // Relative to wherever we are: it would depend on the directory what is run.
    let bin = home.at("bin");
    let path = std::mem::take(&mut home.sources.path);
    home.sources.path = format!("{}{}", "../".repeat(30), &bin.display().to_string()[1..]).into();
    assert!(!helper(&home).exists());
    home.sources.path = path;
    assert!(helper(&home).exists());
    home.write("bin/docker-credential-plain", "not executable");
    assert!(!Helper::new("plain", &home.sources).exists());
    std::fs::create_dir(home.at("bin/docker-credential-dir")).unwrap();
    assert!(!Helper::new("dir", &home.sources).exists());
    home.program("docker-credential-odd", "#!/no/such/interpreter\n");
    let error = Helper::new("odd", &home.sources).get("a.io").unwrap_err();
    assert_eq!(
        error.to_string(),
        "credential helper `docker-credential-odd`: `get`: No such file or directory"
    );
}
