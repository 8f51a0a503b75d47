//! `login` and `logout`, whose secrets are seen by nobody.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::context::{Context, Ran, have, identities, smidge_binary};
use crate::craft;
use crate::proxy::{Fault, Proxy};
use crate::registry::{PASSWORD, Registry, USER, authorization};
use crate::token::Tokens;

/// Runs a command with a text on its standard input.
fn fed(context: &Context, command: &Command, text: &str) -> Ran {
    let mut shell = context.program("sh");
    shell.args(["-c", "printf %s \"$1\" | { shift; \"$@\"; }", "sh", text]);
    shell.arg(command.get_program()).args(command.get_args());
    context.finish(shell)
}

/// `smidge login` with the right password on standard input.
pub(crate) fn login(context: &Context, host: &str) -> Ran {
    let mut command = Command::new(smidge_binary());
    command.args(["login", "-u", USER, "--password-stdin", host]);
    fed(context, &command, PASSWORD)
}

/// `--config` names another directory for logins.
#[test]
fn logins_are_kept_where_they_are_to_be() {
    let Some((registry, name)) = guarded() else {
        return;
    };
    let host = registry.host();
    let context = Context::of(crate::context::SELF);
    let mut command = Command::new(smidge_binary());
    let place = ["--config", "elsewhere", "login", "-u", USER];
    command.args(place).args(["--password-stdin", &host]);
    fed(&context, &command, PASSWORD).ok();
    assert!(context.path().join("elsewhere/config.json").exists());
    context.line(&format!("pull {name}")).exits(1);
    context
        .line(&format!("--config elsewhere pull {name}"))
        .ok();
    context.line(&format!("rmi {name}")).ok();
    // It is fetched by another process.
    let create = format!("--config=elsewhere create {name}");
    context.line(&create).ok();
}

/// `user:password` as authentication files have it.
fn encoded() -> String {
    authorization()["Basic ".len()..].to_owned()
}

/// A registry with a password and an image in it.
fn guarded() -> Option<(Registry, String)> {
    let registry = Registry::with_password()?;
    registry.put("hello", "latest", &craft::hello());
    let name = format!("{}/hello", registry.host());
    Some((registry, name))
}

#[track_caller]
fn keeps_secrets(ran: &Ran) {
    let said = format!("{}{}", ran.stdout(), ran.stderr());
    let encoded = encoded();
    for secret in [PASSWORD, &encoded, "s1gned", "eyJ"] {
        assert!(!said.contains(secret), "{secret} in:\n{said}");
    }
}

#[test]
fn a_login_lets_pull_and_a_logout_ends_that() {
    let Some((registry, name)) = guarded() else {
        return;
    };
    let host = registry.host();
    for identity in identities() {
        let context = Context::of(identity);
        let refused = context.line(&format!("pull {name}"));
        refused.says(
            1,
            &["error: ", &name, "401", &format!("smidge login {host}")],
        );
        let logged = login(&context, &host);
        assert!(
            logged.ok().ends_with("Login Succeeded"),
            "{}",
            logged.stdout()
        );
        keeps_secrets(&logged);
        let file = context.path().join(".docker/config.json");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(config["auths"][&host]["auth"], encoded());
        let pulled = context.line(&format!("pull {name}"));
        pulled.ok();
        keeps_secrets(&pulled);
        assert_eq!(
            context.line(&format!("run --rm {name}")).ok(),
            "hello crafted"
        );
        let out = context.line(&format!("logout {host}")).ok();
        assert_eq!(out, format!("Removing login credentials for {host}"));
        let config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(config["auths"].get(&host), None);
        context.line(&format!("pull {name}")).says(1, &["error: "]);
        context.line(&format!("logout {host}")).ok();
    }
}

#[test]
fn wrong_passwords_are_refused_and_not_kept() {
    let Some((registry, _)) = guarded() else {
        return;
    };
    let (context, host) = (Context::new(), registry.host());
    let mut command = Command::new(smidge_binary());
    command.args(["login", "-u", USER, "--password-stdin", &host]);
    let wrong = fed(&context, &command, "wr0ng-s3cret");
    wrong.says(1, &["error: ", &host]);
    let said = format!("{}{}", wrong.stdout(), wrong.stderr());
    assert!(!said.contains("wr0ng-s3cret"), "{said}");
    let file = context.path().join(".docker/config.json");
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(!kept.contains(&host), "{kept}");
}

#[test]
fn a_password_may_be_an_option_and_its_last_newline_is_none_of_it() {
    let Some((registry, name)) = guarded() else {
        return;
    };
    let host = registry.host();
    let context = Context::new();
    let option = context.line(&format!("login -u {USER} -p {PASSWORD} {host}"));
    option.ok();
    keeps_secrets(&option);
    context.line(&format!("pull -q {name}")).ok();
    let context = Context::new();
    let mut command = Command::new(smidge_binary());
    command.args([
        "login",
        &format!("--username={USER}"),
        "--password-stdin",
        &host,
    ]);
    fed(&context, &command, &format!("{PASSWORD}\n")).ok();
    context.line(&format!("pull -q {name}")).ok();
    // Nobody is asked for anything where there is no terminal.
    context.line(&format!("login {host}")).says(1, &["error: "]);
}

#[test]
fn logins_of_other_tools_are_used() {
    let Some((registry, name)) = guarded() else {
        return;
    };
    let host = registry.host();
    let auths = json!({"auths": {&host: {"auth": encoded()}}}).to_string();
    let repository = json!({"auths": {&name: {"auth": encoded()}}}).to_string();
    for (file, content) in [
        (".docker/config.json", &auths),
        (".run/containers/auth.json", &auths),
        (".config/containers/auth.json", &auths),
        (".run/containers/auth.json", &repository),
    ] {
        let context = Context::new();
        context.write(file, content);
        let pulled = context.line(&format!("pull -q {name}"));
        assert_eq!(pulled.code(), 0, "{file}: {}", pulled.stderr());
    }
    let context = Context::new();
    let file = context.write("auth.json", &auths);
    let option = format!("pull -q --authfile {} {name}", file.display());
    context.line(&option).ok();
    let mut command = context.line_command(&format!("pull -q {name}"));
    command.env("REGISTRY_AUTH_FILE", &file);
    context.finish(command).ok();
}

#[test]
fn other_tools_use_our_login_and_we_use_theirs() {
    let Some((registry, name)) = guarded() else {
        return;
    };
    let host = registry.host();
    if have("skopeo") {
        let context = Context::new();
        login(&context, &host).ok();
        let mut skopeo = context.program("skopeo");
        skopeo.args(["inspect", "--tls-verify=false", "--authfile"]);
        skopeo.arg(context.path().join(".docker/config.json"));
        skopeo.arg(format!("docker://{name}"));
        context.finish(skopeo).ok();
    }
    for tool in ["skopeo", "podman", "buildah"] {
        if !have(tool) {
            continue;
        }
        let context = Context::new();
        let auth = context.path().join("auth.json").display().to_string();
        let mut command = Command::new(tool);
        command.args(["login", "--tls-verify=false", "--authfile", &auth]);
        command.args(["-u", USER, "--password-stdin", &host]);
        fed(&context, &command, PASSWORD).ok();
        context
            .line(&format!("pull -q --authfile {auth} {name}"))
            .ok();
        // And what we write there, they read.
        let mut ours = Command::new(smidge_binary());
        ours.args([
            "login",
            "--authfile",
            &auth,
            "-u",
            USER,
            "--password-stdin",
            &host,
        ]);
        fed(&context, &ours, PASSWORD).ok();
        let mut command = context.program(tool);
        command.args(["login", "--get-login", "--authfile", &auth, &host]);
        assert_eq!(context.finish(command).ok(), USER, "{tool}");
        context
            .line(&format!("logout --authfile {auth} {host}"))
            .ok();
        context
            .line(&format!("pull --authfile {auth} {name}:2"))
            .says(1, &["401"]);
    }
}

/// A credential helper that keeps what it is given in a directory.
fn helper(context: &Context) -> String {
    let script = "#!/bin/sh\ndir=$(dirname \"$0\")\ncase $1 in\n\
        store) cat >\"$dir/kept\" ;;\n\
        get) cat >/dev/null; [ -e \"$dir/kept\" ] && cat \"$dir/kept\" || { echo 'credentials not found in native keychain'; exit 1; } ;;\n\
        erase) cat >/dev/null; rm -f \"$dir/kept\" ;;\nesac\n";
    let path = context.write("bin/docker-credential-test", "");
    smidge_tests::write_program(&path, script).unwrap();
    path.parent().unwrap().display().to_string()
}

fn with_helper(context: &Context, dir: &str, mut command: Command, input: Option<&str>) -> Ran {
    let shell = format!("PATH={dir}:$PATH; exec \"$0\" \"$@\"");
    let mut wrapped = Command::new("sh");
    wrapped
        .args(["-c", &shell])
        .arg(command.get_program())
        .args(command.get_args());
    match input {
        Some(text) => fed(context, &wrapped, text),
        None => {
            command = context.program("sh");
            command.args(wrapped.get_args()).stdin(Stdio::null());
            context.finish(command)
        }
    }
}

#[test]
fn credential_helpers_keep_logins() {
    let Some((registry, name)) = guarded() else {
        return;
    };
    let host = registry.host();
    for config in [
        json!({"credsStore": "test", "other": {"kept": true}}),
        json!({"credHelpers": {&host: "test"}, "other": {"kept": true}}),
    ] {
        let context = Context::new();
        let file = context.write(".docker/config.json", config.to_string());
        let dir = helper(&context);
        let smidge = |args: &[&str], input: Option<&str>| {
            let mut command = Command::new(smidge_binary());
            command.args(args);
            with_helper(&context, &dir, command, input)
        };
        smidge(
            &["login", "-u", USER, "--password-stdin", &host],
            Some(PASSWORD),
        )
        .ok();
        let kept = std::fs::read_to_string(Path::new(&dir).join("kept")).unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(
            (&kept["Username"], &kept["Secret"]),
            (&json!(USER), &json!(PASSWORD))
        );
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&encoded()), "{text}");
        let after: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(after["other"]["kept"], true);
        smidge(&["pull", "-q", &name], None).ok();
        smidge(&["logout", &host], None).ok();
        assert!(!Path::new(&dir).join("kept").exists());
        smidge(&["pull", &format!("{name}:2")], None).says(1, &["error: "]);
    }
}

#[test]
fn tokens_are_fetched_used_and_renewed() {
    let Some(tokens) = Tokens::start() else {
        return;
    };
    let Some(registry) = tokens.registry() else {
        return;
    };
    let registry = registry.authorized(format!("Bearer {}", tokens.token("some/hello")));
    registry.put("some/hello", "latest", &craft::hello());
    let proxy = Proxy::before(&registry);
    let name = format!("{}/some/hello", proxy.host());
    // Anybody may pull.
    let context = Context::new();
    context.line(&format!("pull -q {name}")).ok();
    let asked = tokens.requests();
    assert!(asked.iter().all(|r| r.header("authorization").is_none()));
    assert_eq!(asked.len(), 1, "one token is enough for all blobs");
    assert!(asked[0].target().contains("service=registry"));
    // A token that expires half way is renewed.
    proxy.later(
        ("GET", "/blobs/"),
        1,
        1,
        Fault::Answer(tokens.challenge("some/hello")),
    );
    let context = Context::new();
    context.line(&format!("pull -q {name}")).ok();
    assert!(tokens.requests().len() >= 3);
    // One that is never good is not fetched for ever.
    tokens.expire(usize::MAX);
    let pulled = Context::new().line(&format!("pull {name}"));
    pulled.says(1, &["error: ", "401"]);
    keeps_secrets(&pulled);
    tokens.expire(0);
    // To push, one has to log in.
    let sent = format!("{}/some/other", registry.host());
    context.line(&format!("tag {name} {sent}")).ok();
    let refused = context.line(&format!("push {sent}"));
    refused.says(1, &["error: ", &sent]);
    keeps_secrets(&refused);
    login(&context, &registry.host()).ok();
    let pushed = context.line(&format!("push {sent}"));
    pushed.ok();
    keeps_secrets(&pushed);
    let last = tokens.requests().pop().unwrap();
    assert!(last.target().contains("push"), "{}", last.target());
    assert_eq!(last.header("authorization"), Some(authorization().as_str()));
    tokens.close();
    Context::new()
        .line(&format!("pull {name}"))
        .says(1, &["error: "]);
    context.line(&format!("pull {sent}")).ok();
}

#[test]
fn secrets_are_in_no_output_and_no_other_processs_sight() {
    let Some((registry, name)) = guarded() else {
        return;
    };
    let context = Context::new();
    login(&context, &registry.host()).ok();
    for line in [
        format!("pull --progress json {name}"),
        format!("pull --progress plain {name}:missing"),
        format!("push {name}:missing"),
        format!("ls {name}"),
        format!("digest {name}"),
        format!("manifest {name}"),
        format!("config {name}"),
        format!("inspect {name}"),
        "info".to_owned(),
        format!("login {}", registry.host()),
    ] {
        keeps_secrets(&context.line(&line));
    }
    // A proxy's address may hold a password as well.
    let mut command = context.line_command("pull registry.invalid/x");
    command.env(
        "HTTPS_PROXY",
        format!("http://{USER}:{PASSWORD}@127.0.0.1:1"),
    );
    let ran = context.finish(command);
    ran.says(1, &["error: "]);
    keeps_secrets(&ran);
}
