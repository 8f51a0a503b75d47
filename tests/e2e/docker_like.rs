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
