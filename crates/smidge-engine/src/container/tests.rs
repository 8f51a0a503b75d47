//! The verbs on containers, as far as nothing has to run.

use smidge_run::{IdMap, MountKind, Protocol};

use super::*;
use crate::image::tests::{engine, import};
use crate::network::NetworkMode;
use crate::{Engine, Kind};

const FILES: &[(&str, &str)] = &[
    ("etc/", ""),
    (
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
    ),
    ("data/", ""),
    ("data/seed", "image's"),
];

fn with_image(changes: &[&str]) -> (tempfile::TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    import(&engine, "app", changes, FILES);
    (dir, engine)
}

fn request() -> CreateRequest {
    CreateRequest {
        image: "app".to_owned(),
        ..CreateRequest::default()
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn record(engine: &Engine, request: &CreateRequest) -> Record {
    let made = engine.create(request).unwrap();
    let kept = engine.container(&made.container.id).unwrap();
    assert_eq!(kept.record, made.record);
    made.record
}

#[test]
fn entry_point_and_command_meet_in_the_arguments() {
    let (_dir, engine) = with_image(&["ENTRYPOINT [\"/e\", \"x\"]", "CMD [\"a\", \"b\"]"]);
    let argv = |entrypoint: Option<&str>, args: &[&str]| {
        let request = CreateRequest {
            entrypoint: entrypoint.map(str::to_owned),
            args: texts(args),
            ..request()
        };
        engine
            .create(&request)
            .map(|known| known.record.spec.args.join(" "))
    };
    assert_eq!(argv(None, &[]).unwrap(), "/e x a b");
    assert_eq!(argv(None, &["c"]).unwrap(), "/e x c");
    assert_eq!(argv(Some("/f"), &[]).unwrap(), "/f");
    assert_eq!(argv(Some("/f"), &["c"]).unwrap(), "/f c");
    assert_eq!(argv(Some(""), &["c"]).unwrap(), "c");
    let fault = argv(Some(""), &[]).unwrap_err();
    assert_eq!(
        (fault.kind(), fault.message().contains("no command")),
        (Kind::Input, true)
    );
}

#[test]
fn the_environment_comes_from_everywhere() {
    let (_dir, mut engine) = with_image(&["CMD [\"/a\"]", "ENV A=image PATH=/own"]);
    engine.host.env = [("HERE".to_owned(), "yes".to_owned())].into();
    let made = record(
        &engine,
        &CreateRequest {
            env: texts(&["A=option", "HERE", "NOT_HERE"]),
            user: Some("app".to_owned()),
            tty: true,
            names: Names {
                hostname: Some("box".to_owned()),
                ..Names::default()
            },
            ..request()
        },
    );
    let expected = [
        "PATH=/own",
        "HOSTNAME=box",
        "TERM=xterm",
        "A=option",
        "HERE=yes",
        "HOME=/home/app",
    ];
    assert_eq!(made.spec.env, expected);
    assert_eq!((made.spec.user.uid, made.spec.user.gid), (1000, 1000));
    let plain = record(
        &engine,
        &CreateRequest {
            env: texts(&["HOME=/h"]),
            ..request()
        },
    );
    let hostname = format!("HOSTNAME={}", &plain.spec.id[..12]);
    assert_eq!(
        plain.spec.env,
        ["PATH=/own", &hostname, "A=image", "HOME=/h"]
    );
}

#[test]
fn ports_are_published_and_exposed() {
    let (_dir, engine) = with_image(&["CMD [\"/a\"]", "EXPOSE 80 53/udp"]);
    let ports = |publish: &[&str], all: bool, network: NetworkMode| {
        let request = CreateRequest {
            publish: texts(publish),
            publish_all: all,
            network,
            ..request()
        };
        engine.create(&request).map(|known| known.record.spec.ports)
    };
    let published = ports(&["8080:80", "9000:9000/udp"], false, NetworkMode::Private).unwrap();
    let published: Vec<_> = published
        .iter()
        .map(|port| (port.host_ip.to_string(), port.host_port, port.protocol))
        .collect();
    let expected = [
        ("0.0.0.0", 8080, Protocol::Tcp),
        ("::", 8080, Protocol::Tcp),
        ("0.0.0.0", 9000, Protocol::Udp),
        ("::", 9000, Protocol::Udp),
    ];
    assert_eq!(
        published,
        expected.map(|(ip, port, p)| (ip.to_owned(), port, p))
    );
    assert_eq!(ports(&[], true, NetworkMode::Private).unwrap().len(), 4);
    assert_eq!(ports(&["1:1"], false, NetworkMode::Host).unwrap(), []);
    assert_eq!(
        ports(&["1:1"], false, NetworkMode::None)
            .unwrap_err()
            .kind(),
        Kind::Input
    );
}

#[test]
fn volumes_are_made_and_filled() {
    let (dir, engine) = with_image(&["CMD [\"/a\"]", "VOLUME /data /log"]);
    let made = record(
        &engine,
        &CreateRequest {
            volumes: texts(&["./new/dir:/log:ro", "kept:/data"]),
            ..request()
        },
    );
    let of_data = made
        .mounts
        .iter()
        .find(|mount| mount.destination == "/data")
        .unwrap();
    assert_eq!((of_data.name.as_str(), of_data.anonymous), ("kept", false));
    assert_eq!(
        std::fs::read_to_string(of_data.source.join("seed")).unwrap(),
        "image's"
    );
    assert_eq!(
        made.mounts.len(),
        2,
        "the options stand in for the image's volumes"
    );
    assert!(
        dir.path().join("new/dir").is_dir(),
        "a missing directory is made, as in Docker"
    );

    let made = record(
        &engine,
        &CreateRequest {
            volumes: texts(&["kept:/data:nocopy"]),
            ..request()
        },
    );
    let log = made
        .mounts
        .iter()
        .find(|mount| mount.destination == "/log")
        .unwrap();
    assert!(log.anonymous && log.source.is_dir());
    let known = engine.container(&made.spec.id).unwrap();
    engine.remove_container(&made.spec.id, false, true).unwrap();
    assert!(!log.source.exists() && of_data.source.exists() && !known.container.dir.exists());

    let twice = CreateRequest {
        volumes: texts(&["/a:/x", "/b:/x"]),
        ..request()
    };
    assert_eq!(engine.create(&twice).unwrap_err().kind(), Kind::Input);
}

#[test]
fn every_container_has_its_files_in_etc() {
    let (_dir, engine) = with_image(&["CMD [\"/a\"]"]);
    let made = record(
        &engine,
        &CreateRequest {
            names: Names {
                hostname: Some("box".to_owned()),
                ..Names::default()
            },
            ..request()
        },
    );
    let content =
        |name: &str| std::fs::read_to_string(made.spec.dir.join("etc").join(name)).unwrap();
    assert_eq!(content("hostname"), "box\n");
    assert!(content("hosts").ends_with("\n127.0.0.1\tbox\n"));
    assert!(!content("resolv.conf").is_empty());
    let binds: Vec<&str> = made
        .spec
        .mounts
        .iter()
        .filter(|mount| mount.kind == MountKind::Bind)
        .map(|mount| mount.destination.as_str())
        .collect();
    assert_eq!(binds, ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]);
}

#[test]
fn faults_leave_nothing_behind() {
    let (_dir, engine) = with_image(&["CMD [\"/a\"]"]);
    let named = CreateRequest {
        name: Some("taken".to_owned()),
        ..request()
    };
    let holder = engine.create(&named).unwrap();
    let fault = engine.create(&named).unwrap_err();
    assert_eq!(fault.kind(), Kind::Conflict);
    assert!(fault.message().contains(&holder.container.id), "{fault}");
    for bad in [
        CreateRequest {
            user: Some("nobody-here".to_owned()),
            ..request()
        },
        CreateRequest {
            workdir: Some("relative".to_owned()),
            ..request()
        },
        CreateRequest {
            lifetime: Lifetime {
                stop_signal: Some("SIGNOPE".to_owned()),
                ..Lifetime::default()
            },
            ..request()
        },
        CreateRequest {
            env: texts(&["=x"]),
            ..request()
        },
        CreateRequest {
            expose: texts(&["x"]),
            ..request()
        },
        CreateRequest {
            name: Some("bad name".to_owned()),
            ..request()
        },
        CreateRequest {
            volumes: texts(&["/dev/null/x:/y"]),
            ..request()
        },
        CreateRequest {
            image: "none".to_owned(),
            ..request()
        },
    ] {
        assert!(engine.create(&bad).is_err(), "{bad:?}");
    }
    let all = ContainerQuery {
        all: true,
        ..ContainerQuery::default()
    };
    assert_eq!(engine.containers(&all).unwrap().len(), 1);
}

#[test]
fn what_cannot_be_made_leaves_no_volumes() {
    let (_dir, engine) = with_image(&["CMD [\"/a\"]", "VOLUME /data"]);
    let own = Names {
        hostname: Some("own".to_owned()),
        ..Names::default()
    };
    let servers = Names {
        servers: texts(&["nowhere"]),
        ..Names::default()
    };
    let hosts = Names {
        hosts: texts(&["db:nowhere"]),
        ..Names::default()
    };
    for (names, host_names, volume) in [
        (own, true, "/more"),
        (servers, false, "/more"),
        (hosts, false, "/more"),
        // Found out when others have been made.
        (Names::default(), false, "/dev/null/x:/y"),
    ] {
        let mut bad = CreateRequest {
            names,
            volumes: texts(&["/own", volume]),
            ..request()
        };
        bad.isolation.host_names = host_names;
        assert!(engine.create(&bad).is_err(), "{bad:?}");
        let volumes = engine.store.root().join("volumes");
        let left = std::fs::read_dir(volumes).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{bad:?}");
    }
}

#[test]
fn lists_are_filtered() {
    let (_dir, engine) = with_image(&["CMD [\"/a\", \"b\"]", "LABEL from=image", "EXPOSE 80"]);
    let first = engine
        .create(&CreateRequest {
            name: Some("first".to_owned()),
            ..request()
        })
        .unwrap();
    let labels = texts(&["tier=gold"]);
    engine
        .create(&CreateRequest {
            name: Some("second".to_owned()),
            labels,
            ..request()
        })
        .unwrap();
    let names = |filters: &[&str], last: usize| -> Vec<String> {
        let filters = filters
            .iter()
            .map(|filter| filter.parse().unwrap())
            .collect();
        let query = ContainerQuery {
            all: true,
            last,
            filters,
        };
        engine
            .containers(&query)
            .unwrap()
            .into_iter()
            .map(|row| row.known.container.name)
            .collect()
    };
    assert_eq!(names(&[], 0), ["second", "first"], "the newest first");
    assert_eq!(names(&[], 1), ["second"]);
    assert_eq!(names(&["label=tier=gold"], 0), ["second"]);
    assert_eq!(names(&["label=from"], 0).len(), 2);
    assert_eq!(names(&["name=fir"], 0), ["first"]);
    assert_eq!(
        names(&[&format!("id={}", &first.container.id[..9])], 0),
        ["first"]
    );
    assert_eq!(names(&["status=created"], 0).len(), 2);
    assert_eq!(names(&["status=running"], 0), [""; 0]);
    assert_eq!(names(&["ancestor=app"], 0).len(), 2);
    assert_eq!(names(&["ancestor=gone"], 0), [""; 0]);
    assert_eq!(names(&["before=second"], 0), ["first"]);
    assert_eq!(names(&["since=first"], 0), ["second"]);
    assert_eq!(names(&["expose=80"], 0).len(), 2);
    assert_eq!(names(&["publish=80"], 0), [""; 0]);
    assert_eq!(
        engine.remove_image("app", false).unwrap_err().kind(),
        Kind::Conflict
    );
    assert_eq!(engine.prune_containers(&[]).unwrap().names.len(), 2);
    assert_eq!(names(&[], 0), [""; 0]);
}

#[test]
fn unknown_filters_are_refused() {
    let (_dir, engine) = with_image(&[]);
    for bad in ["status=well", "exited=x", "colour=red"] {
        let query = ContainerQuery {
            filters: vec![bad.parse().unwrap()],
            ..ContainerQuery::default()
        };
        assert_eq!(
            engine.containers(&query).unwrap_err().kind(),
            Kind::Input,
            "{bad}"
        );
    }
}

#[test]
fn containers_are_inspected_in_dockers_shape() {
    let (_dir, engine) = with_image(&["CMD [\"/a\", \"b\"]", "LABEL from=image"]);
    let name = Some("first".to_owned());
    engine.create(&CreateRequest { name, ..request() }).unwrap();
    let shown = serde_json::to_value(engine.inspect_container("first").unwrap()).unwrap();
    assert_eq!(shown["Name"], "/first");
    assert_eq!(shown["Path"], "/a");
    assert_eq!(shown["Args"], serde_json::json!(["b"]));
    assert_eq!(shown["State"]["Status"], "created");
    assert_eq!(shown["State"]["StartedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(shown["Config"]["Labels"]["from"], "image");
}

#[test]
fn containers_that_go_away_list_what_they_leave() {
    let (_dir, engine) = with_image(&["CMD [\"/a\"]", "VOLUME /v"]);
    let name = Some("brief".to_owned());
    let made = record(
        &engine,
        &CreateRequest {
            remove: true,
            name,
            ..request()
        },
    );
    let volume = made.mounts[0].source.parent().unwrap().to_path_buf();
    assert_eq!(made.spec.cleanup, [volume, made.spec.dir.clone()]);
    assert!(
        made.spec.cleanup.iter().all(|path| path.exists()),
        "{:?}",
        made.spec.cleanup
    );
    if engine.host.uid == 0 {
        assert_eq!(made.spec.id_map, IdMap::None);
    }
}

#[test]
fn what_was_removed_before_its_start_is_not_made_anew() {
    let (_dir, engine) = with_image(&["CMD [\"/a\"]"]);
    let known = engine.create(&request()).unwrap();
    let dir = known.container.dir.clone();
    engine
        .remove_container(&known.container.id, false, true)
        .unwrap();
    let fault = engine.launch(known, None).unwrap_err();
    assert!(fault.message().starts_with("No such container"), "{fault}");
    assert!(!dir.exists());
}

#[test]
fn who_removes_a_container_in_the_making_comes_first_or_last() {
    let (_dir, engine) = with_image(&["CMD [\"/a\"]"]);
    let known = engine.create(&request()).unwrap();
    let container = &known.container;
    // As it is before its maker comes to it.
    std::fs::remove_dir_all(container.dir.join("etc")).unwrap();
    let turn = engine.last_turn(container).unwrap();
    let files = super::names::Files::new(&request(), "box", (true, None)).unwrap();
    let fault = files.write(container).unwrap_err();
    assert!(
        fault.message().contains("was removed while it was made"),
        "{fault}"
    );
    drop(turn);
    engine.remove_container(&container.id, false, true).unwrap();
    let fault = files.write(container).unwrap_err();
    assert_eq!(fault.kind(), Kind::Conflict);
    assert!(!container.dir.exists());
}
