//! `smidge rename` and `smidge port`.

use crate::context::Context;
use crate::fixture::{load_busybox, with_busybox};

#[test]
fn containers_get_other_names() {
    with_busybox(|context| {
        context.line("run -d --name web busybox sleep 1000").ok();
        context
            .line("run -d --name other --rm busybox sleep 1000")
            .ok();
        assert_eq!(context.line("rename web web-1").ok(), "");
        let names = || {
            let mut names: Vec<_> = context
                .smidge(["ps", "-a", "--format", "{{.Names}}"])
                .ok()
                .lines()
                .map(str::to_owned)
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["other", "web-1"]);
        context.line("inspect web").exits(1);
        let name = context.smidge(["inspect", "-f", "{{.Name}}", "web-1"]);
        assert_eq!(name.ok(), "/web-1");
        context
            .line("rename other web-1")
            .says(1, &["\"/web-1\"", "in use"]);
        context
            .line("rename other other")
            .says(1, &["the same name"]);
        context
            .line("rename other -- -x")
            .says(1, &["Invalid container name"]);
        context
            .line("rename missing new")
            .says(1, &["No such container: missing", "smidge ps -a"]);
        // The old name is free; one that removes itself leaves none behind.
        context.line("rename other web").ok();
        context.line("kill web").ok();
        context.line("wait web-1 --help").exits(0);
        context.line("run --name web busybox true").ok();
        context.line("run --name other busybox true").ok();
        assert_eq!(names(), ["other", "web", "web-1"]);
        context.line("rm -f web other web-1").ok();
        context.line("container prune -f").ok();
        context.line("prune -f").ok();
        let left = std::fs::read_dir(context.store().join("containers/names"));
        assert_eq!(left.unwrap().count(), 0, "no name is left");
    });
}

#[test]
fn one_that_is_thrown_away_takes_no_name_along_that_another_has_got() {
    let context = Context::new();
    load_busybox(&context);
    context
        .line("run -d --rm --name web busybox sleep 1000")
        .ok();
    context.line("rename web brief").ok();
    context.line("run -d --name web busybox sleep 1000").ok();
    context.line("stop brief").ok();
    let names = context.smidge(["ps", "-a", "--format", "{{.Names}}"]).ok();
    assert_eq!(names, "web");
    context.line("prune -f").ok();
    context.line("exec web true").ok();
}

#[test]
fn published_ports_are_shown() {
    let context = Context::new();
    load_busybox(&context);
    context
        .line("run -d --name web -p 127.0.0.1:0:80 -p 127.0.0.1:0:53/udp --expose 99 busybox sleep 1000")
        .ok();
    let shown = context.line("port web").ok();
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("53/udp -> 127.0.0.1:"), "{shown}");
    assert!(lines[1].starts_with("80/tcp -> 127.0.0.1:"), "{shown}");
    assert_eq!(lines.len(), 2, "{shown}");
    let one = context.line("port web 80").ok();
    assert_eq!(format!("80/tcp -> {one}"), lines[1]);
    assert_eq!(context.line("container port web 80/tcp").ok(), one);
    context
        .line("port web 99")
        .says(1, &["no public port '99/tcp' published for web"]);
    context
        .line("port web x/y")
        .says(1, &["invalid port `x/y`"]);
    context.line("stop web").ok();
    assert_eq!(context.line("port web").ok(), "");
}
