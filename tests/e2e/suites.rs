//! What the test suites of Docker and Podman ask of a command line: small things, each as there.

use crate::context::{Context, have};
use crate::fixture::with_busybox;

fn inspected(context: &Context, format: &str, name: &str) -> String {
    context.smidge(["inspect", "--format", format, name]).ok()
}

/// Who calls a program wrongly is told so in Docker's words, with Docker's exit codes.
#[test]
fn mistakes_are_told_in_dockers_words() {
    with_busybox(|context| {
        for (line, code, text) in [
            ("run", 1, "requires at least 1 argument"),
            ("ps one", 1, "accepts no arguments"),
            ("diff one two", 1, "requires 1 argument"),
            (
                "port a b c",
                1,
                "requires at least 1 and at most 2 arguments",
            ),
            ("run --nope busybox", 125, "unknown flag: --nope"),
            ("run -y busybox", 125, "unknown shorthand flag: 'y' in -y"),
            ("run --name", 125, "flag needs an argument: --name"),
            (
                "run -m x busybox",
                125,
                "invalid argument \"x\" for \"-m, --memory\" flag",
            ),
            (
                "run -d -a stdout busybox true",
                1,
                "cannot specify both --attach and --detach",
            ),
            ("run -it busybox true", 1, "the input device is not a TTY"),
            ("ps -f health=soon", 1, "invalid filter"),
            ("ps -f publish=http", 1, "invalid filter"),
            ("run -u -1 busybox true", 125, "in range 0-2147483647"),
            (
                "run -u 2147483648 busybox true",
                125,
                "in range 0-2147483647",
            ),
            ("run --cpus -1 busybox true", 125, "--cpus"),
            ("create --name -x busybox", 1, "Invalid container name"),
            (
                "tag busybox sha256:abc",
                1,
                "refusing to create an ambiguous tag",
            ),
            ("cp none: /tmp", 1, "can not be empty"),
        ] {
            let said = context.line(line).exits(code);
            assert!(said.contains(text), "{line}: {said}");
        }
        let nowhere = context.smidge(["cp", "", "none:/"]);
        assert!(nowhere.exits(1).contains("source can not be empty"));
    });
}

/// `name` and `id` are regular expressions, with a container's name with and without its `/`.
#[test]
fn names_are_found_by_expressions() {
    with_busybox(|context| {
        for name in ["web1", "web2", "old-web1"] {
            context.line(&format!("create --name {name} busybox")).ok();
        }
        let listed = |filter: &str| {
            let format = "{{.Names}}";
            context
                .smidge(["ps", "-a", "--format", format, "-f", filter])
                .ok()
        };
        assert_eq!(listed("name=^web1$"), "web1");
        assert_eq!(listed("name=^/web[0-9]$"), "web2\nweb1");
        assert_eq!(listed("name=^web1|old"), "old-web1\nweb1");
        assert_eq!(listed("name=web.$"), "old-web1\nweb2\nweb1");
        assert_eq!(listed("name=(web1"), "");
        let id = inspected(context, "{{.Id}}", "web2");
        assert_eq!(listed(&format!("id=^{}", &id[..12])), "web2");
        context.line("volume create data1").ok();
        context.line("volume create --name olddata1").ok();
        assert_eq!(context.line("volume ls -q -f name=^data").ok(), "data1");
        context.line("network create back1").ok();
        context.line("network create oldback1").ok();
        let networks = context.line("network ls -f name=^back --format {{.Name}}");
        assert_eq!(networks.ok(), "back1");
    });
}

/// What is given without a value, or an empty one, is as if it were not given.
#[test]
fn empty_options_mean_the_usual() {
    with_busybox(|context| {
        let unnamed = context.smidge(["run", "--name", "", "-w", "", "busybox", "pwd"]);
        assert_eq!(unnamed.ok(), "/");
        let unset = "run --rm --platform= --cidfile= --stop-signal= --ip= --mac-address= --cgroupns= \
                     --isolation= --runtime= --volume-driver= busybox echo ran";
        assert_eq!(context.line(unset).ok(), "ran");
        let unset = context.smidge(["create", "--platform", "", "busybox"]);
        assert_eq!(unset.ok().len(), 64);
        context.line("create --runtime=runc busybox").exits(1);
        let env = "run --rm -h host -e HOSTNAME -e HOME=/h busybox env";
        let env = context.line(env).ok();
        assert!(!env.contains("HOSTNAME=host"), "{env}");
        assert!(env.contains("HOME=/h"), "{env}");
    });
}

/// A place that `-v` names alone becomes a volume where nothing else is mounted, as the image's do.
#[test]
fn volumes_of_one_container_alone_give_way() {
    with_busybox(|context| {
        context
            .line("run --name one -v /data busybox touch /data/file")
            .ok();
        let both = "run --rm --volumes-from one -v /data busybox ls /data";
        assert_eq!(context.line(both).ok(), "file");
        context
            .line("run --rm --tmpfs /data -v /data busybox true")
            .ok();
        let guarded = context.line("run --rm -v /proc/sys busybox true");
        assert!(guarded.exits(125).contains("because it is inside /proc"));
        for file in ["hosts", "hostname", "resolv.conf"] {
            let line = format!("run --rm --read-only busybox touch /etc/{file}");
            assert!(context.line(&line).exits(1).contains("Read-only"));
        }
    });
}

#[test]
fn what_cannot_be_started_is_named_all_the_same() {
    with_busybox(|context| {
        let failed = context.line("run -d busybox nothing-like-it");
        assert_eq!(failed.code(), 127);
        let id = failed.stdout().trim().to_owned();
        assert_eq!(inspected(context, "{{.State.Status}}", &id), "created");
        assert_eq!(context.smidge(["start", &id]).code(), 1);
        let gone = context.line("run -d --rm busybox nothing-like-it");
        assert_eq!((gone.code(), gone.stdout()), (127, String::new()));
        context.line("run -d --name up busybox sleep 1000").ok();
        context.line("exec -u nobody-at-all up true").exits(126);
        let seen = "stats --no-stream --format {{.Container}} up";
        assert_eq!(context.line(seen).ok(), "up");
        context.line("run --name still busybox true").ok();
        let size = context.line("ps -as -f name=still --format {{.Size}}").ok();
        assert!(size.starts_with("0B "), "{size}");
        context.line("rm -f up").ok();
    });
}

/// All tags of a repository are saved under its name, whether `latest` is among them or not; a new entry
/// point takes the old one's arguments away.
#[test]
fn images_are_saved_and_committed_as_docker_does() {
    with_busybox(|context| {
        for tag in ["many:1", "many:2"] {
            context.smidge(["tag", "busybox", tag]).ok();
        }
        let archive = context.path().join("many.tar").display().to_string();
        context.smidge(["save", "-o", &archive, "many"]).ok();
        context.line("rmi many:1 many:2").ok();
        let loaded = context.smidge(["load", "-i", &archive]).ok();
        assert_eq!(loaded, "Loaded image: many:1\nLoaded image: many:2");
        context.line("create --name one busybox one two").ok();
        let change = ["commit", "-c", "ENTRYPOINT [\"echo\"]", "one", "entered"];
        context.smidge(change).ok();
        let shown = inspected(context, "{{.Config.Entrypoint}} {{.Config.Cmd}}", "entered");
        assert_eq!(shown, "[echo] []");
    });
}

/// One free port of several is taken for one inside, at each start.
#[test]
fn one_of_several_ports_is_published() {
    with_busybox(|context| {
        let options = "-p 127.0.0.1:28931-28932:80 busybox sleep 1000";
        for (name, port) in [("one", 28931), ("two", 28932)] {
            context
                .line(&format!("run -d --name {name} {options}"))
                .ok();
            let published = context.line(&format!("port {name} 80")).ok();
            assert_eq!(published, format!("127.0.0.1:{port}"));
        }
        let bindings = "{{(index (index .HostConfig.PortBindings \"80/tcp\") 0).HostPort}}";
        assert_eq!(inspected(context, bindings, "two"), "28931-28932");
        let none_left = context.line(&format!("run -d --name three {options}"));
        assert!(none_left.exits(125).contains("port is already allocated"));
        let long = "create --name long -p published=28933,target=80 busybox";
        context.line(long).ok();
        assert_eq!(inspected(context, bindings, "long"), "28933");
        context.line("rm -f one").ok();
        context.line("start three").ok();
        assert_eq!(context.line("port three 80").ok(), "127.0.0.1:28931");
        context.line("rm -f two three").ok();
    });
}

/// Fields that Docker has, and leaves out of the JSON where there is nothing in them, are no mistakes.
#[test]
fn templates_know_fields_that_are_left_out() {
    with_busybox(|context| {
        context
            .line("create --name one -v /tmp:/x --mount type=tmpfs,dst=/t busybox")
            .ok();
        for (format, expected) in [
            (
                "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}",
                "none",
            ),
            ("{{.State.Health}}", "<nil>"),
            (
                "{{range .Mounts}}{{.Type}}:{{.Name}}:{{.Driver}} {{end}}",
                "bind:: tmpfs:: ",
            ),
            (
                "{{.HostConfig.Tmpfs}} {{.HostConfig.Sysctls}}",
                "map[] map[]",
            ),
            (
                "{{.HostConfig.CpuCount}} {{.HostConfig.DeviceRequests}}",
                "0 []",
            ),
            ("{{(index .HostConfig.Mounts 0).Target}}", "/t"),
        ] {
            assert_eq!(inspected(context, format, "one"), expected, "{format}");
        }
        assert_eq!(inspected(context, "{{.Parent}}", "busybox"), "");
        let lines = inspected(context, "{{.Name}}{{\"\\n\"}}{{.Path}}", "one");
        assert_eq!(lines, "/one\n/bin/sh");
        let json = inspected(context, "json", "one");
        assert!(
            json.starts_with("[{") && json.lines().count() == 1,
            "{json}"
        );
        let wrong = context.smidge(["inspect", "-f", "{{.State.Halth}}", "one"]);
        assert!(wrong.exits(1).contains("template parsing error"));
    });
}

/// Archives come compressed in whatever way Docker unpacks.
#[test]
fn archives_are_unpacked_however_they_are_packed() {
    with_busybox(|context| {
        context.line("create --name one busybox true").ok();
        context.line("export -o files.tar one").ok();
        context.line("save -o image.tar busybox").ok();
        for (program, end) in [("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz")] {
            if !have(program) {
                continue;
            }
            let mut packed = context.program(program);
            packed.args(["-k", "files.tar", "image.tar"]);
            context.finish(packed).ok();
            let import = format!("import files.tar.{end} imported");
            context.line(&import).ok();
            let ran = context.line("run --rm imported echo imported").ok();
            assert_eq!(ran, "imported");
            let loaded = context.line(&format!("load -i image.tar.{end}")).ok();
            assert_eq!(loaded, "Loaded image: busybox:latest");
        }
    });
}

/// Whoever asks for no user in particular runs as the container's.
#[test]
fn an_empty_user_is_the_containers() {
    with_busybox(|context| {
        if context.identity().name == "smidge-single" {
            return;
        }
        context
            .line("run -d --name up -u app busybox sleep 1000")
            .ok();
        let id = context.smidge(["exec", "-u", "", "up", "id", "-u"]);
        assert_eq!(id.ok(), "1000");
        context.line("rm -f up").ok();
    });
}
