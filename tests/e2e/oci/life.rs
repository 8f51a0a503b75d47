//! `runtime.md`: create, start, state, kill, delete.

use serde_json::json;
use smidge_tests::InTime as _;

use super::bundle::{each, everybody, ours};

/// Runs until it is asked to end.
const WAITS: &str = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";

#[test]
fn create() {
    each(|bundle| {
        bundle.script(WAITS);
        let id = bundle.create();
        let state = bundle.state(&id);
        assert_eq!(state["status"], "created");
        assert_eq!(state["id"], json!(id));
        let path = bundle.context.path().join("b");
        assert_eq!(state["bundle"], json!(path));
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
        let pid = state["pid"].as_u64().unwrap();
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        // The program itself does not run yet.
        assert_eq!(bundle.said(), "");
        let again = bundle.quietly(&format!("create --bundle b {id}"));
        assert!(again.exits(1).contains("exists"));
        assert_eq!(bundle.state(&id)["status"], "created");
        assert_ne!(bundle.quietly("create --bundle b").code(), 0);
        assert_ne!(bundle.quietly("create --bundle nowhere other").code(), 0);
    });
}

#[test]
fn start() {
    everybody(|bundle| {
        bundle.script("echo $0 started; id -u");
        let id = bundle.started();
        bundle.until(&id, "stopped");
        assert_eq!(bundle.said(), "/bin/sh started\n0");
        assert_ne!(bundle.line(&format!("start {id}")).code(), 0);
        assert_ne!(bundle.line("start nobody").code(), 0);
        bundle.line(&format!("delete {id}")).exits(0);
        assert_ne!(bundle.line(&format!("state {id}")).code(), 0);
    });
}

#[test]
fn kill_and_delete() {
    each(|bundle| {
        bundle.script(WAITS);
        let id = bundle.started();
        assert_eq!(bundle.state(&id)["status"], "running");
        // Running: it is neither started again nor removed.
        assert_ne!(bundle.line(&format!("start {id}")).code(), 0);
        assert_ne!(bundle.line(&format!("delete {id}")).code(), 0);
        assert_eq!(bundle.state(&id)["status"], "running");
        bundle.line(&format!("kill {id} 0")).code();
        smidge_tests::until("it hears", || bundle.said() == "ready");
        bundle.line(&format!("kill {id} TERM")).exits(0);
        bundle.until(&id, "stopped");
        let late = bundle.line(&format!("kill {id} TERM"));
        assert!(late.exits(1).contains("container not running"));
        bundle.line(&format!("delete {id}")).exits(0);
        let gone = bundle.line(&format!("delete {id}"));
        assert!(gone.exits(1).contains("does not exist"));
        assert!(!bundle.context.path().join("state").join(&id).exists());
    });
}

#[test]
fn a_running_container_is_removed_by_force() {
    everybody(|bundle| {
        bundle.script(WAITS);
        let id = bundle.started();
        let pid = bundle.state(&id)["pid"].as_u64().unwrap();
        bundle.line(&format!("delete --force {id}")).exits(0);
        // Its parent, if any, has reaped it, or may do so.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ended = [") Z ", ") X "].iter().any(|state| stat.contains(state));
        assert!(stat.is_empty() || ended, "{stat}");
        bundle.line(&format!("delete --force {id}")).exits(0);
    });
}

#[test]
fn run_gives_the_programs_exit_code() {
    everybody(|bundle| {
        bundle.script("echo out; echo err >&2; exit 7");
        let ran = bundle.run();
        assert_eq!(ran.exits(7), "err");
        assert_eq!(ran.stdout(), "out");
        assert!(
            !bundle
                .context
                .path()
                .join("state")
                .join(bundle.id())
                .exists()
        );
        bundle.script("kill -9 $$");
        // As PID 1 it does not hear itself.
        assert_eq!(bundle.run().code(), 0);
    });
}

#[test]
fn two_at_once_make_one_container() {
    ours(|bundle| {
        bundle.script(WAITS);
        bundle.save();
        let id = bundle.id();
        let files = || std::fs::File::create(bundle.context.path().join("out")).unwrap();
        let spawn = || {
            let mut command = bundle.command(&format!("create --bundle b {id}"));
            command.stdout(files()).stderr(files()).spawn().unwrap()
        };
        let children: Vec<_> = (0..4).map(|_| spawn()).collect();
        let ended = children
            .into_iter()
            .map(|mut child| child.status_in_time().unwrap());
        assert_eq!(ended.filter(|status| status.success()).count(), 1);
        let start = || {
            let mut command = bundle.command(&format!("start {id}"));
            command.stderr(files()).spawn().unwrap()
        };
        let children: Vec<_> = (0..4).map(|_| start()).collect();
        let ended = children
            .into_iter()
            .map(|mut child| child.status_in_time().unwrap());
        assert_eq!(ended.filter(|status| status.success()).count(), 1);
        assert_eq!(bundle.state(&id)["status"], "running");
    });
}
