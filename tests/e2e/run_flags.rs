//! Options of `run` and `create` that say what a container is.

use crate::fixture::with_busybox;

/// A container that was made waits to be started, with everything that `run` would have given it.
#[test]
fn what_is_created_is_started_later() {
    with_busybox(|context| {
        let words = "create --name later --cidfile id -e A=b --hostname box busybox env";
        let id = context.line(words).ok();
        let written = std::fs::read_to_string(context.path().join("id")).unwrap();
        assert_eq!(written, id);
        let listed = context.line("ps -a --format {{.Status}}").ok();
        assert_eq!(listed, "Created");
        let env = context.line("start -a later").ok();
        assert!(
            env.contains("A=b\n") && env.contains("HOSTNAME=box\n"),
            "{env}"
        );
        let again = context.line("container create --cidfile id busybox");
        assert!(again.exits(1).contains("`id` exists already"));
        assert_eq!(context.line("create --pull never none").code(), 1);
    });
}
