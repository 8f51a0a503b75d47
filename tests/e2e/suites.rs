//! What the test suites of Docker and Podman ask of a command line: small things, each as there.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

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
            ("create --name -x busybox", 125, "Invalid container name"),
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

/// Options that cannot be understood are told apart from what fails (125, 1), by `create` as well.
#[test]
fn what_makes_no_sense_is_told_apart_from_what_fails() {
    with_busybox(|context| {
        for (line, code, text) in [
            ("create -p x busybox", 125, "invalid containerPort: x"),
            ("create -v :/x busybox", 125, "invalid volume `:/x`"),
            ("create --pull never no-such-image", 1, "No such image"),
            ("run -v .:/h:ro,rw busybox", 125, "invalid mode: ro,rw"),
            ("run -v .:/h:nocopy busybox", 125, "invalid mode: nocopy"),
            ("run -v vol:/h:rslave busybox", 125, "invalid mode: rslave"),
            (
                "run --volumes-from web:ro,rw busybox",
                125,
                "invalid mode for volumes-from: ro,rw",
            ),
            (
                "run --dns-search !x busybox",
                125,
                "!x is not a valid domain",
            ),
            ("plugin ls", 1, "`smidge --help`"),
        ] {
            let said = context.line(line).exits(code);
            assert!(said.contains(text), "{line}: {said}");
        }
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
        context.line("create --runtime=runc busybox").exits(125);
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

/// Whoever removes by force is told of what is not there: its name may be mistyped.
#[test]
fn what_is_removed_by_force_and_is_not_there_is_told() {
    with_busybox(|context| {
        context.line("create --name there busybox").ok();
        let removed = context.line("rm -f nobody there");
        assert_eq!(removed.ok(), "there");
        let said = removed.stderr();
        assert!(said.contains("No such container: nobody"), "{said}");
        let removed = context.line("rmi -f nothing");
        assert_eq!(removed.ok(), "");
        let said = removed.stderr();
        assert!(said.contains("No such image: nothing"), "{said}");
    });
}

/// What is said twice counts once; of options for one place in memory, the last ones.
#[test]
fn what_is_mounted_twice_alike_is_mounted_once() {
    with_busybox(|context| {
        context.write("host/file", "here\n");
        let twice = "run --name twice -v ./host:/h -v ./host:/h --tmpfs /t:size=1m --tmpfs /t:size=2m \
                     busybox cat /h/file";
        assert_eq!(context.line(twice).ok(), "here");
        let shown = inspected(
            context,
            "{{.Config.Volumes}} {{len .HostConfig.Binds}} {{.HostConfig.Tmpfs}}",
            "twice",
        );
        assert_eq!(shown, "map[] 1 map[/t:size=2m]");
        context.line("create --name bare -v /data busybox").ok();
        let shown = inspected(context, "{{.Config.Volumes}} {{.HostConfig.Binds}}", "bare");
        assert_eq!(shown, "map[/data:{}] []");
        let borrowed = "run --rm --volumes-from bare:rw,z busybox touch /data/file";
        context.line(borrowed).ok();
        let borrowed = "run --rm --volumes-from bare:z,ro busybox touch /data/other";
        assert!(context.line(borrowed).exits(1).contains("Read-only"));
        let both = context.line("run -v vol1:/h -v ./host:/h busybox true");
        assert!(both.exits(125).contains("Duplicate mount point: /h"));
    });
}

/// A list of containers names the image by its id when that name has got another one, or none.
#[test]
fn images_that_have_lost_their_names_are_told_by_their_ids() {
    with_busybox(|context| {
        context.line("tag busybox app:1").ok();
        context.line("create --name one app:1 true").ok();
        let shown = || context.line("ps -a --format {{.Image}}").ok();
        assert_eq!(shown(), "app:1");
        let id = inspected(context, "{{.Image}}", "one");
        context
            .smidge(["commit", "-c", "LABEL y=z", "one", "app:1"])
            .ok();
        assert_eq!(shown(), id["sha256:".len()..][..12]);
        let full = context.line("ps -a --no-trunc --format {{.Image}}").ok();
        assert_eq!(full, id);
        context.line("rmi app:1").ok();
        assert_eq!(shown(), id["sha256:".len()..][..12]);
        context.line("tag busybox app:1").ok();
        assert_eq!(shown(), "app:1");
    });
}

/// Of a container whose record cannot be read, a list of all says that it is there, and what helps.
#[test]
fn damaged_containers_are_told_of() {
    with_busybox(|context| {
        let id = context.line("create --name broken busybox").ok();
        context.line("create --name sound busybox").ok();
        let record = context
            .store()
            .join("containers")
            .join(&id)
            .join("config.json");
        std::fs::write(&record, "{").unwrap();
        let listed = context.line("ps -aq");
        assert_eq!(listed.ok().lines().count(), 1);
        let said = listed.stderr();
        assert!(said.contains("container `broken` is damaged"), "{said}");
        assert!(said.contains("`smidge rm -f broken`"), "{said}");
        assert_eq!(context.line("ps").stderr(), "");
        context.line("rm -f broken").ok();
        assert_eq!(context.line("ps -a").stderr(), "");
    });
}

/// What is in a directory (`/.`) lies at an archive's root; what the kernel shows in a container that runs is
/// no part of it.
#[test]
fn archives_of_what_is_in_a_directory_begin_at_their_root() {
    with_busybox(|context| {
        let names = |line: &str| -> Vec<String> {
            let packed = context.line(line);
            packed.ok();
            let mut archive = tar::Archive::new(packed.bytes());
            let entries = archive.entries().unwrap();
            let name = |entry: tar::Entry<'_, _>| entry.path().unwrap().display().to_string();
            entries.map(|entry| name(entry.unwrap())).collect()
        };
        context.line("run -d --name web busybox sleep 1000").ok();
        assert_eq!(names("cp web:/home -"), ["home/", "home/app/"]);
        assert_eq!(names("cp web:/home/ -"), ["home/", "home/app/"]);
        assert_eq!(names("cp web:/home/. -"), ["./", "app/"]);
        let all = names("cp web:/ -");
        for there in ["./", "etc/passwd", "proc/", "sys/", "dev/"] {
            assert!(all.iter().any(|name| name == there), "{there}: {all:?}");
        }
        for within in ["proc/", "sys/", "dev/"] {
            let number = all.iter().filter(|name| name.starts_with(within)).count();
            assert_eq!(number, 1, "{within}");
        }
        context.line("cp web:/ everything").ok();
        assert!(context.path().join("everything/etc/passwd").exists());
        context.line("rm -f web").ok();
    });
}

/// `/etc/mtab` is there as in Docker's containers, unless the image has its own; the host's name in full is found.
#[test]
fn containers_have_the_usual_files() {
    with_busybox(|context| {
        let link = context.line("run --rm busybox readlink /etc/mtab").ok();
        assert_eq!(link, "/proc/mounts");
        let seen = "run --rm -h box --domainname example.org busybox hostname -f";
        assert_eq!(context.line(seen).ok(), "box.example.org");
        let seen = "run --rm -h box.example.com busybox hostname -f";
        assert_eq!(context.line(seen).ok(), "box.example.com");
        let seen = "run --rm -h box.example.com busybox grep box /etc/hosts";
        assert_eq!(context.line(seen).ok(), "127.0.0.1\tbox.example.com box");
        let make = "run --name own busybox sh -c";
        let make = make
            .split(' ')
            .chain(["echo own > /etc/mtab.new; rm /etc/mtab; mv /etc/mtab.new /etc/mtab"]);
        context.smidge(make).ok();
        context.line("commit own own").ok();
        assert_eq!(context.line("run --rm own cat /etc/mtab").ok(), "own");
    });
}

/// A program that is started beside a container's own has the groups that all of them have.
#[test]
fn added_groups_are_everybodys() {
    with_busybox(|context| {
        let made =
            context.line("run -d --name web --group-add 5 --group-add extra busybox sleep 1000");
        if made.code() != 0 {
            assert!(
                made.stderr().contains("cannot add groups"),
                "{}",
                made.stderr()
            );
            return;
        }
        let groups = |user: &str| context.line(&format!("exec -u {user} web id -G")).ok();
        assert_eq!(groups("root:root"), "0 5 2000");
        assert_eq!(groups("7:8"), "8 5 2000");
        assert_eq!(context.smidge(["exec", "-w", "", "web", "pwd"]).ok(), "/");
        context.line("rm -f web").ok();
    });
}

/// What is not there is shown as Docker's templates show it.
#[test]
fn templates_show_nothing_as_docker_does() {
    with_busybox(|context| {
        context.line("create --name web busybox").ok();
        let shown = "{{range .NetworkSettings.Networks}}{{.Aliases}}{{.Links}}{{.DriverOpts}}{{.IPAMConfig}}{{end}}";
        assert_eq!(inspected(context, shown, "web"), "[][]map[]<nil>");
        let shown = "{{.SizeRw}} {{.Config.StopTimeout}} {{.HostConfig.MemorySwappiness}}";
        assert_eq!(inspected(context, shown, "web"), "<nil> <nil> <nil>");
        let used = context.smidge([
            "system",
            "df",
            "-v",
            "--format",
            "{{len .Containers}} {{len .Images}}",
        ]);
        assert_eq!(used.ok(), "1 1");
        let used = context.line("system df -v --format json").ok();
        let used: serde_json::Value = serde_json::from_str(&used).unwrap();
        assert_eq!(used["Containers"][0]["Names"], "web");
        let quiet = context.smidge(["ps", "-aq", "--format", "{{.Names}}"]);
        assert!(quiet.stderr().contains("`--format` is ignored"));
        context.smidge(["volume", "create", ""]).ok();
    });
}

/// Where a file cannot be written because its directory is missing, the way out is said.
#[test]
fn missing_directories_are_named() {
    with_busybox(|context| {
        context.line("create --name web busybox").ok();
        for (line, code) in [
            ("export -o no/web.tar web", 1),
            ("save -o no/busybox.tar busybox", 1),
            ("run --cidfile no/id busybox true", 125),
            ("create --cidfile no/id busybox", 1),
        ] {
            let said = context.line(line).exits(code);
            assert!(said.contains("`mkdir -p "), "{line}: {said}");
        }
        let said = context.line("export -o . web").exits(1);
        assert!(said.contains("name a file in it"), "{said}");
    });
}

/// Answers each request with a body, or that there is nothing: the URL to ask.
fn serving(path: &'static str, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut first = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            lines.read_line(&mut first).unwrap();
            let mut line = String::from("more");
            while !line.trim().is_empty() {
                line.clear();
                lines.read_line(&mut line).unwrap();
            }
            let (status, body) = match first.contains(path) {
                true => ("200 OK", &body[..]),
                false => ("404 Not Found", &b""[..]),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(body);
        }
    });
    url
}

#[test]
fn archives_are_imported_from_urls() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, "a/b", &b"tree\n"[..]).unwrap();
    let url = serving("/files.tar", tar.into_inner().unwrap());
    let context = Context::new();
    let from = format!("{url}/files.tar");
    context.smidge(["import", &from, "fetched"]).ok();
    let told = context.line("history --format {{.Comment}} fetched").ok();
    assert_eq!(told, format!("Imported from {from}"));
    context.line("create --name one fetched /a/b").ok();
    context.line("cp one:/a/b copied").ok();
    let copied = std::fs::read_to_string(context.path().join("copied")).unwrap();
    assert_eq!(copied, "tree\n");
    let missing = context.smidge(["import", &format!("{url}/nothing"), "none"]);
    assert!(missing.exits(1).contains("cannot fetch `http://127.0.0.1"));
}

/// `publish` means where a container is reached, `expose` where it listens.
#[test]
fn containers_are_found_by_their_ports() {
    with_busybox(|context| {
        context
            .line("run -d --name web -p 127.0.0.1:28935:80 busybox sleep 1000")
            .ok();
        let listed = |filter: &str| {
            context
                .line(&format!("ps -a --format {{{{.Names}}}} -f {filter}"))
                .ok()
        };
        assert_eq!(listed("publish=28935"), "web");
        assert_eq!(listed("publish=28930-28940/tcp"), "web");
        assert_eq!(listed("publish=80"), "");
        assert_eq!(listed("publish=28935/udp"), "");
        assert_eq!(listed("expose=80"), "web");
        context.smidge(["kill", "-s", "", "web"]).ok();
        assert_eq!(inspected(context, "{{.State.ExitCode}}", "web"), "137");
    });
}
