//! `smidge volume`.

use crate::context::Context;
use crate::fixture::with_busybox;

#[test]
fn a_damaged_volume_hides_no_other() {
    let context = Context::new();
    context.line("volume create --label a=b good").ok();
    context.line("volume create --label a=b bad").ok();
    context.write("store/volumes/bad/volume.json", "{");
    assert_eq!(context.line("volume ls -q").ok(), "good");
    context.line("system df").ok();
    context.line("volume prune -af").ok();
    assert_eq!(context.line("volume ls -q").ok(), "");
}

#[test]
fn volumes_are_made_listed_and_removed() {
    let context = Context::new();
    assert_eq!(context.line("volume create data").ok(), "data");
    assert_eq!(context.line("volume create data").ok(), "data", "again");
    let keep = context.line("volume create --label keep=yes --label b kept");
    assert_eq!(keep.ok(), "kept");
    let random = context.line("volume create").ok();
    assert_eq!(random.len(), 64);

    let expected =
        format!("DRIVER    VOLUME NAME\nlocal     {random}\nlocal     data\nlocal     kept");
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().skip(1).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let shown = context.line("volume ls").ok();
    assert_eq!(sorted(&shown), sorted(&expected));
    assert!(shown.starts_with("DRIVER    VOLUME NAME\n"), "{shown}");
    let names = |line: &str| context.line(line).ok();
    assert_eq!(names("volume ls -q -f label=keep=yes"), "kept");
    assert_eq!(names("volume ls -q -f label=keep=no"), "");
    assert_eq!(names("volume ls -q -f name=at"), "data");
    assert_eq!(names("volume ls -q -f driver=other"), "");
    assert_eq!(
        names("volume ls -q -f label=com.docker.volume.anonymous"),
        random
    );
    assert_eq!(
        context
            .smidge([
                "volume",
                "ls",
                "-f",
                "name=kept",
                "--format",
                "{{.Name}} {{.Label \"keep\"}} {{.Scope}}"
            ])
            .ok(),
        "kept yes local"
    );
    context.line("volume ls -f what=x").says(
        1,
        &["invalid filter 'what'", "dangling, driver, label, name"],
    );
}

#[test]
fn volumes_are_inspected_removed_and_pruned() {
    let context = Context::new();
    context.line("volume create data").ok();
    context.line("volume create --label keep=yes kept").ok();
    let random = context.line("volume create").ok();
    let names = |line: &str| context.line(line).ok();
    let mountpoint = context
        .smidge(["volume", "inspect", "-f", "{{.Mountpoint}}", "data"])
        .ok();
    assert!(std::path::Path::new(&mountpoint).is_dir(), "{mountpoint}");
    let inspected = context.line("volume inspect kept").ok();
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected[0]["Labels"]["keep"], "yes");
    assert_eq!(inspected[0]["Driver"], "local");
    let of_any_type = context.smidge(["inspect", "-f", "{{.Name}}", "kept"]);
    assert_eq!(of_any_type.ok(), "kept");
    context
        .smidge(["inspect", "--type", "image", "kept"])
        .exits(1);

    context.line("volume rm data").ok();
    assert!(!std::path::Path::new(&mountpoint).exists());
    context
        .line("volume rm data")
        .says(1, &["get data: no such volume"]);
    context.line("volume rm -f data").ok();
    context
        .line("volume inspect data")
        .says(1, &["get data: no such volume", "smidge volume ls"]);
    context
        .line("volume create ../x")
        .says(1, &["Invalid volume name"]);
    context
        .line("volume create -d nfs x")
        .says(1, &["there is no volume driver `nfs`"]);
    context
        .line("volume create -o type=tmpfs x")
        .says(1, &["--opt type=tmpfs"]);
    context
        .line("volume prune")
        .says(1, &["this would remove", "smidge volume prune -f"]);
    let pruned = context.line("volume prune -f").ok();
    assert!(
        pruned.starts_with(&format!("Deleted Volumes:\n{random}\n")),
        "{pruned}"
    );
    assert_eq!(names("volume ls -q"), "kept");
    context.line("volume prune -af --filter label!=keep").ok();
    assert_eq!(names("volume ls -q"), "kept");
    context.line("volume prune -af").ok();
    assert_eq!(names("volume ls -q"), "");
}

#[test]
fn volumes_that_containers_have_stay() {
    with_busybox(|context| {
        context
            .line("run --name first -v data:/data -v /scratch busybox sh -c")
            .exits(2);
        let write = [
            "run",
            "--name",
            "web",
            "-v",
            "data:/data",
            "busybox",
            "sh",
            "-c",
        ];
        let script = "umask 777; mkdir /data/closed; echo x > /data/closed/file; chown 5:5 /data/closed 2> /dev/null; :";
        context.smidge(write.into_iter().chain([script])).ok();
        context
            .line("volume rm data")
            .says(1, &["volume `data`: it is in use", "used by:"]);
        let dangling = context.line("volume ls -q -f dangling=true").ok();
        assert_eq!(dangling, "");
        let pruned = context.line("volume prune -af").ok();
        assert_eq!(pruned, "Total reclaimed space: 0B");
        let anonymous = context.line("volume ls -q -f label=com.docker.volume.anonymous");
        assert_eq!(anonymous.ok().len(), 64);
        context.line("rm first web").ok();
        assert_eq!(
            context
                .line("volume ls -q -f dangling=true")
                .ok()
                .lines()
                .count(),
            2
        );
        // Whatever its modes and owners.
        context.line("volume rm data").ok();
        context.line("volume prune -f").ok();
        assert_eq!(context.line("volume ls -q").ok(), "");
        let left = std::fs::read_dir(context.store().join("tmp")).unwrap();
        assert_eq!(left.count(), 0, "nothing is left over");
    });
}
