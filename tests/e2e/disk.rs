//! `smidge system df`, and pruning by conditions.

use crate::context::Context;
use crate::fixture::{load_busybox, with_busybox};

#[test]
fn disk_usage_is_added_up() {
    with_busybox(|context| {
        let write = "head -c 300000 /dev/zero > /big; head -c 5000 /dev/zero > /data/file";
        let line = "run --name web -v data:/data busybox sh -c".split_whitespace();
        context.smidge(line.chain([write])).ok();
        context.line("volume create unused").ok();
        let format = "{{.Type}} {{.TotalCount}} {{.Active}}";
        let shown = context.smidge(["system", "df", "--format", format]).ok();
        assert_eq!(
            shown,
            "Images 1 1\nContainers 1 0\nLocal Volumes 2 1\nBuild Cache 0 0"
        );
        let table = context.line("system df").ok();
        assert!(
            table.starts_with("TYPE            TOTAL     ACTIVE    SIZE"),
            "{table}"
        );
        assert!(
            table.contains("(100%)"),
            "what the container has is reclaimable: {table}"
        );
        let verbose = context.line("system df -v").ok();
        for text in [
            "Images space usage:",
            "busybox",
            "web",
            "unused",
            "Build cache usage: 0B",
        ] {
            assert!(verbose.contains(text), "{text}: {verbose}");
        }
        let json = context.line("system df -v --format json").ok();
        assert!(
            json.starts_with("{\"Images\":[{\"Repository\":\"busybox\""),
            "{json}"
        );
        context.line("rm web").ok();
        context.line("volume prune -af").ok();
    });
}

#[test]
fn only_what_meets_conditions_is_pruned() {
    let context = Context::new();
    load_busybox(&context);
    context
        .line("run --name keep -l keep=yes -v /scratch busybox true")
        .ok();
    context.line("run --name go -v /scratch busybox true").ok();
    let names = || context.smidge(["ps", "-a", "--format", "{{.Names}}"]).ok();
    context.line("container prune -f --filter until=1h").ok();
    assert_eq!(names().lines().count(), 2, "they are younger");
    let pruned = context.line("container prune -f --filter label!=keep").ok();
    assert_eq!(names(), "keep");
    assert!(pruned.contains("Total reclaimed space: "), "{pruned}");
    context
        .line("container prune -f --filter who=me")
        .says(1, &["invalid filter 'who'", "until, label, label!"]);
    context.line("image prune -af --filter until=1h").ok();
    assert_eq!(context.line("images -q").ok().lines().count(), 1);
    context.line("rm keep").ok();
    assert_eq!(context.line("volume ls -q").ok().lines().count(), 2);
    context.line("system prune -f").ok();
    assert_eq!(context.line("volume ls -q").ok().lines().count(), 2);
    context.line("system prune -f --volumes").ok();
    assert_eq!(context.line("volume ls -q").ok(), "");
}
