//! `config.md`, "Hooks": when they are called, with what, and what their failure means.

use serde_json::{Value, json};

use super::bundle::{Bundle, each, ours};

/// A hook that adds its name, and its container's status, to a file of the host's.
fn noting(bundle: &Bundle<'_>, name: &str) -> Value {
    let log = bundle.context.path().join("hooks");
    let script = format!(
        "s=$(cat); echo {name} $(echo \"$s\" | tr -d ' \\n' | \
         sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') $VARIABLE $0 >> {}",
        log.display()
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script, "zero"], "env": ["VARIABLE=v", "PATH=/bin:/usr/bin"]})
}

fn noted(bundle: &Bundle<'_>) -> String {
    let path = bundle.context.path().join("hooks");
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

#[test]
fn hooks_are_called_in_their_order() {
    each(|bundle| {
        let names = [
            "prestart",
            "createRuntime",
            "createContainer",
            "poststart",
            "poststop",
        ];
        for name in names {
            bundle.config["hooks"][name] = json!([noting(bundle, name), noting(bundle, "again")]);
        }
        // Inside, where only the container's files are.
        bundle.config["hooks"]["startContainer"] = json!([
            {"path": "/bin/sh", "args": ["sh", "-c", "cat > /state"], "env": ["PATH=/bin"]}
        ]);
        bundle.script("sleep 100");
        let id = bundle.create();
        assert!(
            noted(bundle).contains("prestart creat"),
            "{}",
            noted(bundle)
        );
        assert!(noted(bundle).contains("createContainer creat"));
        assert!(!noted(bundle).contains("poststart running"));
        bundle.line(&format!("start {id}")).exits(0);
        let after = noted(bundle);
        let after = after
            .split_once("poststart ")
            .map(|(_, after)| after.to_owned());
        let after = after.expect("poststart was called");
        assert!(after.contains("again "), "{after}");
        // As the specification has it; not every runc says so.
        assert!(
            !bundle.is_ours() || after.starts_with("running v zero"),
            "{after}"
        );
        let state = bundle.context.path().join("b/rootfs/state");
        smidge_tests::until("the state", || {
            let text = std::fs::read_to_string(&state).unwrap_or_default();
            serde_json::from_str::<Value>(&text).is_ok_and(|state| state["id"] == json!(id))
        });
        bundle.line(&format!("kill {id} KILL")).exits(0);
        bundle.until(&id, "stopped");
        bundle.line(&format!("delete {id}")).exits(0);
        let last = noted(bundle);
        assert!(
            last.ends_with("poststop stopped v zero\nagain stopped v zero"),
            "{last}"
        );
    });
}

/// Those of the host's are called where the bundle is.
#[test]
fn hooks_are_called_in_the_bundle() {
    ours(|bundle| {
        for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
            bundle.config["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat > /dev/null; pwd >> called"]}]);
        }
        bundle.script("true");
        let id = bundle.started();
        bundle.until(&id, "stopped");
        bundle.line(&format!("delete {id}")).exits(0);
        let path = bundle.context.path().join("b");
        let called = std::fs::read_to_string(path.join("called")).unwrap();
        assert_eq!(called, format!("{}\n", path.display()).repeat(4));
        // One that is gone keeps nobody from being called.
        let script = format!("pwd > {}/last", bundle.context.path().display());
        bundle.config["hooks"] =
            json!({"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
        let id = bundle.create();
        bundle.line(&format!("kill {id} KILL")).exits(0);
        bundle.until(&id, "stopped");
        std::fs::rename(&path, bundle.context.path().join("gone")).unwrap();
        bundle.line(&format!("delete {id}")).exits(0);
        assert!(bundle.context.path().join("last").exists());
    });
}

#[test]
fn hooks_stdin() {
    each(|bundle| {
        let path = bundle.context.path().join("state.json");
        let script = format!("cat > {}", path.display());
        bundle.config["hooks"]["createRuntime"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        let annotations = json!({"a.b": "c", "long": "x".repeat(200_000)});
        bundle.config["annotations"] = annotations.clone();
        bundle.script("true");
        let id = bundle.create();
        let state: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(state["id"], json!(id));
        assert_eq!(state["annotations"], annotations);
        assert_eq!(state["bundle"], json!(bundle.context.path().join("b")));
        assert_eq!(state["pid"], bundle.state(&id)["pid"]);
    });
}

#[test]
fn a_hook_that_fails_before_the_start_keeps_the_container_from_it() {
    each(|bundle| {
        bundle.script("echo ran");
        bundle.config["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]});
        let ran = bundle.run();
        assert_ne!(ran.code(), 0);
        assert_eq!(ran.stdout(), "");
        let says = "error: startContainer hook `/bin/false` failed: exit status: 1";
        assert!(
            !bundle.is_ours() || ran.stderr() == says,
            "{}",
            ran.stderr()
        );
        for name in ["prestart", "createRuntime", "createContainer"] {
            bundle.config["hooks"] = json!({name: [{"path": "/bin/false"}]});
            bundle.script("echo ran");
            bundle.save();
            let id = bundle.id();
            let made = bundle.quietly(&format!("create --bundle b {id}"));
            assert_ne!(made.code(), 0, "{name}");
            assert_ne!(bundle.line(&format!("state {id}")).code(), 0, "{name}");
        }
    });
}

#[test]
fn a_hook_that_takes_too_long_fails() {
    each(|bundle| {
        bundle.config["hooks"]["createRuntime"] =
            json!([{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]);
        bundle.script("true");
        // More than a pipe holds, which it does not read.
        for annotation in [1, 200_000] {
            bundle.config["annotations"] = json!({"a": "x".repeat(annotation)});
            bundle.save();
            let made = bundle.quietly(&format!("create --bundle b {}", bundle.id()));
            assert_ne!(made.code(), 0);
        }
    });
}

#[test]
fn poststop_fail() {
    each(|bundle| {
        let note = noting(bundle, "called");
        bundle.config["hooks"]["poststop"] = json!([{"path": "/bin/false"}, note]);
        bundle.script("true");
        let id = bundle.started();
        bundle.until(&id, "stopped");
        // It is gone all the same.
        let deleted = bundle.line(&format!("delete {id}"));
        assert_ne!(bundle.line(&format!("state {id}")).code(), 0);
        if bundle.is_ours() {
            assert_eq!(deleted.code(), 0);
            let told = "poststop hook `/bin/false` failed: exit status: 1";
            assert!(deleted.stderr().contains(told), "{}", deleted.stderr());
            assert!(noted(bundle).starts_with("called"), "{}", noted(bundle));
        }
    });
}

/// What the program ends with is what counts, whatever is made of its end.
#[test]
fn a_hook_after_the_end_leaves_the_exit_code_alone() {
    ours(|bundle| {
        let note = noting(bundle, "called");
        bundle.config["hooks"]["poststop"] = json!([{"path": "/bin/false"}, note]);
        bundle.script("exit 3");
        let ran = bundle.run();
        assert_eq!(ran.code(), 3);
        assert!(ran.stderr().contains("poststop hook `/bin/false` failed"));
        assert!(noted(bundle).starts_with("called"), "{}", noted(bundle));
    });
}
