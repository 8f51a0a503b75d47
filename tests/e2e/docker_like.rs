//! What scripts written for Docker see.

use std::net::TcpStream;

use crate::context::Context;
use crate::fixture;

#[test]
fn inspect_shows_what_is_not_set_as_docker_does() {
    let context = Context::new();
    context.write(
        "Dockerfile",
        "FROM scratch\nEXPOSE 80 53/udp\nCMD [\"/a\"]\n",
    );
    context
        .line("build -q --no-prove -t one -t one:2 -t two .")
        .ok();
    let shown = |template: &str| context.smidge(["inspect", "-f", template, "one"]).ok();
    assert_eq!(
        shown("{{.Config.Cmd}} {{.Config.Entrypoint}} {{.Config.OnBuild}} {{.Config.Volumes}}"),
        "[/a] [] [] map[]"
    );
    assert_eq!(
        shown("{{.Config.ExposedPorts}} {{.Config.Labels}}|{{.Config.StopSignal}}|"),
        "map[53/udp:{} 80/tcp:{}] map[]||"
    );
    assert_eq!(
        shown("{{len .RepoTags}} {{len .RepoDigests}}"),
        "3 0",
        "no registry knows it by any digest"
    );
}

#[test]
fn missing_arguments_are_told_from_wrong_flags() {
    let context = Context::new();
    for (line, code) in [
        ("rmi", 1),
        ("run", 1),
        ("run --bogus x", 125),
        ("rm --bogus x", 125),
        ("bogus", 1),
    ] {
        context.line(line).exits(code);
    }
}

#[test]
fn ports_are_published_for_both_families() {
    let context = Context::new();
    fixture::load_busybox(&context);
    context
        .line("run -d --name echo -p 0:7 busybox nc -ll -p 7 -e cat")
        .ok();
    let template = "{{(index (index .NetworkSettings.Ports \"7/tcp\") 0).HostPort}}";
    let port = context.smidge(["inspect", "-f", template, "echo"]).ok();
    let shown = context.smidge(["ps", "--format", "{{.Ports}}"]).ok();
    let expected = |address: &str| format!("{address}:{port}->7/tcp");
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(
            shown,
            format!("{}, {}", expected("0.0.0.0"), expected("[::]"))
        );
        TcpStream::connect(format!("[::1]:{port}")).unwrap();
    } else {
        assert_eq!(shown, expected("0.0.0.0"));
    }
    TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    context.line("rm -f echo").ok();
}

#[test]
fn what_stands_still_or_is_missing_is_told_as_docker_tells_it() {
    fixture::with_busybox(|context| {
        context.line("run -d --name box busybox sleep 1000").ok();
        context
            .line("cp box:/nowhere .")
            .says(1, &["Could not find the file /nowhere in container box"]);
        context
            .line("cp box:/etc/passwd nowhere/x")
            .says(1, &["invalid output path: directory", "does not exist"]);
        context
            .line("network connect nowhere box")
            .says(1, &["network nowhere not found"]);
        context
            .line("create --name lone --network none busybox true")
            .ok();
        context
            .line("network connect nowhere lone")
            .says(1, &["network nowhere not found"]);
        if context.line("pause box").code() == 0 {
            context.line("attach box").says(
                1,
                &[
                    "cannot attach to container `box`: it is paused",
                    "smidge unpause box",
                ],
            );
            context.line("unpause box").ok();
        }
        let pruned = context.line("container prune -f").ok();
        assert!(pruned.starts_with("Deleted Containers:\n"), "{pruned}");
        context.line("volume create data").ok();
        let pruned = context.line("volume prune -af").ok();
        assert!(
            pruned.starts_with("Deleted Volumes:\ndata\n\nTotal reclaimed space: "),
            "{pruned}"
        );
        context.line("rm -f box").ok();
    });
}

#[test]
fn the_machines_own_network_publishes_nothing() {
    fixture::with_busybox(|context| {
        let run = context.line("run -d --name web --network host -p 18080:80 busybox sleep 1000");
        run.says(
            0,
            &["published ports are discarded when using host network mode"],
        );
        assert_eq!(context.line("ps --format {{.Ports}}").ok(), "");
        assert_eq!(context.line("port web").ok(), "");
        let stats = context.smidge(["stats", "--no-stream", "--format", "{{.NetIO}}", "web"]);
        assert_eq!(stats.ok(), "0B / 0B");
        let table = context.line("top web").ok();
        let first = table.lines().next().unwrap();
        assert_eq!(first.find("PID"), Some(20), "{table}");
        let own = context.line("top web -o pid,stat").ok();
        assert!(own.lines().nth(1).unwrap().ends_with("Ss"), "{own}");
        context.line("rm -f web").ok();
    });
}
