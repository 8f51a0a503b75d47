//! The store's verbs: images come, are named, looked at, and go.

use crate::context::{Context, have, skip};
use crate::fixture;

fn with_hello() -> Context {
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    context.line("build -q -t hello -t second:v1 hello").ok();
    context
}

fn id(context: &Context, name: &str) -> String {
    context.smidge(["inspect", "-f", "{{.Id}}", name]).ok()
}

#[test]
fn images_have_several_names() {
    let context = with_hello();
    let hello = id(&context, "hello");
    assert_eq!(hello, id(&context, "second:v1"));
    assert_eq!(
        hello,
        id(&context, &hello[7..19]),
        "an id's beginning is a name too"
    );
    assert_eq!(hello, id(&context, &hello));
    context.line("tag hello localhost:5000/other/name:2").ok();
    let names = context
        .smidge(["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok();
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["hello:latest", "localhost:5000/other/name:2", "second:v1"]
    );
    context
        .line(&format!("rmi {}", &hello[7..19]))
        .says(1, &["-f"]);
    let untagged = context.line("rmi hello").ok();
    assert_eq!(untagged, "Untagged: hello:latest");
    assert_eq!(id(&context, "second:v1"), hello);
}

#[test]
fn long_names_mean_what_short_ones_mean() {
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    let ok = |line: &str| context.line(line).ok();
    ok("build --quiet --cmd [\"a\",\"b\"] --tag hello hello");
    assert_eq!(ok("inspect -f {{.Config.Cmd}} hello"), "[a b]");
    let size = ok("history --human=false --format {{.Size}} hello");
    assert!(
        size.lines().all(|line| line.parse::<u64>().is_ok()),
        "{size}"
    );
    ok("save --output all.tar hello");
    ok("rmi --force hello");
    assert!(ok("load --input all.tar").contains("hello:latest"));
    assert!(ok("ldd --tree /bin/sh").contains("libc.so.6"));
    assert!(ok("system df --verbose").contains("hello"));
    for line in [
        "builder du --verbose",
        "builder prune --force --verbose --keep-storage 1g",
        "builder prune --force --reserved-space 1g",
    ] {
        ok(line);
    }
}

#[test]
fn images_are_listed_in_the_forms_scripts_use() {
    let context = with_hello();
    let full = id(&context, "hello");
    assert_eq!(
        context.line("images -q").ok().lines().next(),
        Some(&full[7..19])
    );
    assert_eq!(context.line("images -q --no-trunc hello").ok(), full);
    assert_eq!(context.line("images -q nothing").ok(), "");
    assert_eq!(
        context.line("images -q --filter reference=second").ok(),
        full[7..19]
    );
    assert_eq!(context.line("images -q --filter dangling=true").ok(), "");
    context.line("images --filter nonsense=1").exits(1);
    let json = context.smidge(["images", "--format", "json", "hello"]).ok();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["Repository"], "hello");
    let table = context
        .smidge(["images", "--format", "table {{.Tag}}\t{{.ID}}", "second"])
        .ok();
    assert_eq!(
        table
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["TAG", "IMAGE", "ID"]
    );
    assert!(context.line("images --digests").ok().contains("DIGEST"));
    context
        .smidge(["images", "--format", "{{.Nonsense"])
        .exits(1);
}

#[test]
fn inspect_has_dockers_shape() {
    let context = with_hello();
    let text = context.line("inspect hello").ok();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let image = &value[0];
    assert_eq!(
        image["RepoTags"],
        serde_json::json!(["hello:latest", "second:v1"])
    );
    assert_eq!(image["Config"]["Entrypoint"], serde_json::json!(["/hello"]));
    assert_eq!(image["Os"], "linux");
    assert_eq!(image["RootFS"]["Type"], "layers");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    let missing = context.line("inspect nothing hello");
    assert_eq!(missing.code(), 1);
    assert!(
        missing.stdout().contains("hello:latest"),
        "the others are shown all the same"
    );
}

#[test]
fn history_tells_each_step() {
    let context = Context::new();
    context.write("d/a", "1");
    context.write(
        "d/Dockerfile",
        "FROM scratch\nCOPY a /a\nENV X=y\nLABEL l=m\n",
    );
    context.line("build -q -t steps d").ok();
    let history = context.line("history --no-trunc steps").ok();
    let lines: Vec<&str> = history.lines().collect();
    assert!(lines[0].starts_with("IMAGE"));
    assert!(
        lines[1].contains("LABEL l=m")
            && lines[2].contains("ENV X=y")
            && lines[3].contains("COPY a /a"),
        "{history}"
    );
    assert_eq!(context.line("history -q steps").ok().lines().count(), 3);
}

#[test]
fn images_in_use_stay() {
    let context = with_hello();
    context.line("run --name user hello").ok();
    context.line("rmi second:v1").ok();
    context.line("rmi hello").says(1, &["user"]);
    context.line("rmi -f hello").ok();
    context.line("rm user").ok();
}

/// What another process is about to remove, or has just begun, is not this one's to touch.
#[test]
fn a_removal_is_no_sweep() {
    for identity in crate::context::identities() {
        println!("as {}", identity.name);
        let context = Context::of(identity);
        crate::fixture::load_busybox(&context);
        context.line("run --rm busybox true").ok();
        let theirs = context.write("store/tmp/1.1/file", "");
        context.line("rmi busybox").ok();
        assert!(theirs.exists());
        let layers = context.store().join("layers");
        let left = std::fs::read_dir(layers).map_or(0, Iterator::count);
        assert_eq!(left, 0);
    }
}

#[test]
fn save_and_load_keep_ids_and_names() {
    let from = with_hello();
    let full = id(&from, "hello");
    for format in ["docker-archive", "oci-archive"] {
        from.line(&format!(
            "save --format {format} -o {format}.tar hello second:v1"
        ))
        .ok();
        let to = Context::new();
        let path = from
            .path()
            .join(format!("{format}.tar"))
            .display()
            .to_string();
        let loaded = to.line(&format!("load -i {path}")).ok();
        assert!(
            loaded.contains("Loaded image: hello:latest") && loaded.contains("second:v1"),
            "{loaded}"
        );
        assert_eq!(id(&to, "second:v1"), full);
        let mut piped = to.program("sh");
        let smidge = crate::context::smidge_binary().display();
        piped
            .arg("-c")
            .arg(format!("{smidge} save hello | gzip | {smidge} load"));
        to.finish(piped).ok();
    }
}

#[test]
fn import_takes_changes_and_standard_input() {
    let context = Context::new();
    context.write("root/etc/motd", "hi");
    let mut shell = context.program("sh");
    shell.arg("-c").arg(format!(
        "tar -C root -c . | {} import --change 'CMD [\"/x\"]' -c 'ENV A=b' -m 'a message' - some/name:tag",
        crate::context::smidge_binary().display()
    ));
    let full = context.finish(shell).ok();
    assert_eq!(id(&context, "some/name:tag"), full);
    let format = "{{json .Config.Cmd}} {{json .Config.Env}} {{.Comment}}";
    let shown = context
        .smidge(["inspect", "-f", format, "some/name:tag"])
        .ok();
    assert_eq!(shown, r#"["/x"] ["A=b"] a message"#);
}

#[test]
fn prune_removes_only_what_nothing_names() {
    let context = with_hello();
    context.write("d/Dockerfile", "FROM scratch\nLABEL n=1\n");
    context.line("build -q -t hello d").ok();
    context.line("build -q -t second:v1 d").ok();
    assert_eq!(
        context
            .line("images -q --filter dangling=true")
            .ok()
            .lines()
            .count(),
        1
    );
    context.line("prune -f").ok();
    assert_eq!(context.line("images -q --filter dangling=true").ok(), "");
    context.line("inspect hello").ok();
    context.line("info").ok();
    context.line("version").ok();
}

#[test]
fn build_options_reach_the_config() {
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    context.write("extra/b", "b");
    context.write("extra/a", "a");
    let mut build = context.line_command(
        "build -q -t opts --env A=1 --label l=2 --user 5:6 --workdir /work --expose 80 \
         --volume /data --stop-signal SIGINT --include extra:/etc/extra hello -- x",
    );
    build.arg("y z");
    context.finish(build).ok();
    let value: serde_json::Value =
        serde_json::from_str(&context.line("inspect opts").ok()).unwrap();
    let config = &value[0]["Config"];
    assert_eq!(config["Env"], serde_json::json!(["A=1"]));
    assert_eq!(config["Labels"], serde_json::json!({"l": "2"}));
    assert_eq!(
        (&config["User"], &config["WorkingDir"]),
        (&"5:6".into(), &"/work".into())
    );
    assert_eq!(config["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
    assert_eq!(config["Volumes"], serde_json::json!({"/data": {}}));
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Cmd"], serde_json::json!(["x", "y z"]));
}

#[test]
fn build_says_and_writes_what_it_was_asked_to() {
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    context
        .line("build -q --output type=rootfs,dest=out hello")
        .ok();
    assert!(context.path().join("out/hello").is_file());
    let iid = context.line("build --iidfile iid -q hello").ok();
    assert_eq!(
        std::fs::read_to_string(context.path().join("iid"))
            .unwrap()
            .trim(),
        iid
    );
    let planned = context.line("build --plan -t never hello").ok();
    assert!(planned.contains("hello"), "{planned}");
    context.line("inspect never").exits(1);
    let json: serde_json::Value =
        serde_json::from_str(&context.line("build --json hello").ok()).unwrap();
    assert_eq!(json["id"], iid.as_str());
}

#[test]
fn build_output_can_go_to_a_pipe() {
    let context = Context::new();
    context.copy(fixture::hello(), "hello");
    let mut shell = context.program("sh");
    let smidge = crate::context::smidge_binary().display();
    shell.arg("-c").arg(format!(
        "{smidge} build -t piped --output type=docker-archive,dest=- hello | {smidge} load"
    ));
    assert!(context.finish(shell).ok().contains("piped:latest"));
}

#[test]
fn faults_of_dockerfiles_are_said_with_their_lines() {
    let context = Context::new();
    context.write("d/Dockerfile", "FROM scratch\nRUN echo hi\n");
    context
        .line("build d")
        .says(1, &["Dockerfile:2:1", "cannot execute `/bin/sh`", "^^^"]);
    context.write("d/Dockerfile", "FROM scratch\nCOYP a b\nENTRYPIONT x\n");
    context.line("build d").says(
        1,
        &[
            "Dockerfile:2:1",
            "did you mean `COPY`",
            "Dockerfile:3:1",
            "ENTRYPOINT",
        ],
    );
    context.write("d/Dockerfile", "FROM scratch\nCOPY ../../etc/passwd /\n");
    context.line("build d").exits(1);
    context.write("d/Dockerfile", "FROM scratch\nCOPY nothing /\n");
    context
        .line("build d")
        .says(1, &["Dockerfile:2", "nothing"]);
}

#[test]
fn compile_errors_are_shown_as_they_are() {
    let context = Context::new();
    context.write(
        "p/Cargo.toml",
        "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
    );
    context.write("p/src/main.rs", "fn main() { let x: u8 = \"no\"; }\n");
    let failed = context.line("build p");
    failed.says(3, &["error[E0308]", "src/main.rs:1"]);
    let left: Vec<_> = std::fs::read_dir(context.path().join("p"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "the tree is not touched: {left:?}");
}

#[test]
fn what_builds_have_left_goes_with_all_that_nothing_needs() {
    let context = Context::new();
    context.write("d/Dockerfile", "FROM scratch\nCOPY a /a\n");
    context.write("d/a", "a".repeat(100_000));
    // What has changed just now may change again without a new time.
    std::thread::sleep(std::time::Duration::from_millis(100));
    context.line("build -q -t x d").ok();
    let kept = || context.line("builder du").ok();
    assert!(kept().contains("COPY a /a"), "{}", kept());
    context.line("rmi x").ok();
    context.line("prune -f").ok();
    assert!(!kept().contains("COPY a /a"), "{}", kept());
}

#[test]
fn what_cannot_be_removed_keeps_nothing_else() {
    if !rustix::process::geteuid().is_root() || !have("chattr") {
        return skip("only root seals files, by `chattr`");
    }
    let context = Context::new();
    fixture::load_busybox(&context);
    let make = |name: &str| context.line(&format!("create --name {name} busybox")).ok();
    let ids = ["one", "two", "three"].map(make);
    let file = context.write(&format!("store/containers/{}/upper/sealed", ids[1]), "");
    let chattr = |change: &str| {
        let mut chattr = context.program("chattr");
        chattr.arg(change).arg(&file);
        context.finish(chattr).code() == 0
    };
    if !chattr("+i") {
        return skip("files cannot be sealed here");
    }
    let pruned = context.line("container prune -f");
    assert!(chattr("-i"));
    let shown = pruned.stdout();
    assert!(pruned.exits(1).contains(&ids[1]));
    assert!(
        shown.contains(&ids[0]) && shown.contains(&ids[2]),
        "{shown}"
    );
    assert_eq!(context.line("ps -aq --no-trunc").ok(), ids[1]);
    context.line("container prune -f").ok();
    assert_eq!(context.line("ps -aq").ok(), "");
}
