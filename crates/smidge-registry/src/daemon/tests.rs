use std::io::{BufRead as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use super::*;

/// What a fake daemon does with the request of one connection.
type Act = fn(&str, &mut UnixStream);

/// A daemon that lasts as long as the test.
struct Fake {
    daemon: Daemon,
    _directory: tempfile::TempDir,
}

fn fake(act: Act) -> Fake {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::with_capacity(1, stream.try_clone().unwrap());
            let mut first = String::new();
            reader.read_line(&mut first).unwrap();
            let mut line = first.clone();
            while line != "\r\n" && !line.is_empty() {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            act(&first, &mut stream);
        }
    });
    Fake {
        daemon: Daemon::at(&format!("unix://{}", path.display())).unwrap(),
        _directory: directory,
    }
}

fn answer(stream: &mut UnixStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(text.as_bytes()).unwrap();
}

#[test]
fn the_reason_is_told_when_the_rest_is_not_wanted() {
    let fake = fake(|_, stream| {
        stream.read_exact(&mut [0; 1000]).unwrap();
        answer(stream, "500 No", "", r#"{"message":"the disk is full"}"#);
    });
    // Endless, unless somebody notices.
    let refused = fake.daemon.load(&mut io::repeat(0)).unwrap_err();
    match refused {
        Error::Refused { request, fault } => {
            assert!(request.starts_with("POST /images/load?quiet=1 at unix:///"));
            assert_eq!((fault.status, &*fault.message), (500, "the disk is full"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_daemon_that_hangs_up_without_a_word_has_loaded_nothing() {
    for act in [
        (|_, stream| stream.read_exact(&mut [0; 1000]).unwrap()) as Act,
        // Before it has read what it was sent.
        |_, stream| {
            stream.read_exact(&mut [0; 1000]).unwrap();
            answer(stream, "200 OK", "", "");
        },
    ] {
        let lost = fake(act).daemon.load(&mut io::repeat(0)).unwrap_err();
        assert!(matches!(lost, Error::Unreachable { .. }), "{lost:?}");
    }
}

#[test]
fn faults_come_with_the_words_of_a_load() {
    let fake = fake(|_, stream| {
        // The archive's five bytes as one chunk, and the last one.
        stream.read_exact(&mut [0; 3 + 5 + 2 + 5]).unwrap();
        let lines = "{\"stream\":\"Loaded\"}\n\
                     {\"errorDetail\":{\"message\":\"invalid tar header\"},\"error\":\"x\"}\n";
        answer(stream, "200 OK", "", lines);
    });
    match fake.daemon.load(&mut &b"bytes"[..]).unwrap_err() {
        Error::Refused { fault, .. } => assert_eq!(fault.message, "invalid tar header"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn daemons_are_told_apart() {
    fn docker(line: &str, stream: &mut UnixStream, info: &str) {
        let headers = "Api-Version: 1.41\r\n";
        match line.contains("/_ping") {
            true => answer(stream, "200 OK", headers, "OK"),
            false => answer(stream, "200 OK", headers, info),
        }
    }
    let old = |line: &str, stream: &mut UnixStream| docker(line, stream, r#"{"DriverStatus":[]}"#);
    assert_eq!(fake(old).daemon.wants().unwrap(), Wants::Missing);
    let new = |line: &str, stream: &mut UnixStream| {
        let info = r#"{"DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}"#;
        docker(line, stream, info);
    };
    assert_eq!(fake(new).daemon.wants().unwrap(), Wants::AllForContainerd);
    let podman = |_: &str, stream: &mut UnixStream| {
        let headers = "Api-Version: 1.41\r\nLibpod-Api-Version: 4.3.1\r\n";
        answer(stream, "200 OK", headers, "OK");
    };
    assert_eq!(fake(podman).daemon.wants().unwrap(), Wants::AllForPodman);
    let other = |_: &str, stream: &mut UnixStream| answer(stream, "200 OK", "", "OK");
    let wrong = fake(other).daemon.ping().unwrap_err();
    assert!(matches!(wrong, Error::Protocol { .. }), "{wrong:?}");
}

#[test]
fn layers_are_shared_from_the_bottom_on() {
    const LAYERS: [&str; 3] = ["a", "b", "c"];
    fn inspected(layers: &[&str]) -> String {
        let digests: Vec<_> = layers
            .iter()
            .map(|text| Digest::of(text.as_bytes()))
            .collect();
        serde_json::json!({"RootFS": {"Layers": digests}}).to_string()
    }
    let fake = fake(|line, stream| {
        let body = match line.split(' ').nth(1).unwrap() {
            "/images/json?all=1" => r#"[{"Id":"1"},{"Id":"2"},{"Id":"3"},{"Id":"4"}]"#.to_owned(),
            "/images/1/json" => inspected(&["a", "c"]),
            "/images/2/json" => inspected(&["a", "b", "x"]),
            "/images/3/json" => inspected(&["b", "c"]),
            // It was removed meanwhile.
            _ => return answer(stream, "404 Gone", "", "{}"),
        };
        answer(stream, "200 OK", "", &body);
    });
    let wanted = LAYERS.map(|text| DiffId(Digest::of(text.as_bytes())));
    assert_eq!(fake.daemon.shared_layers(&wanted).unwrap(), 2);
    assert_eq!(fake.daemon.shared_layers(&wanted[1..]).unwrap(), 2);
    assert_eq!(fake.daemon.shared_layers(&wanted[2..]).unwrap(), 0);
}

#[test]
fn a_daemon_that_says_nothing_is_not_waited_for() {
    let fake = fake(|_, stream| {
        // Until the client has gone.
        let _ = stream.read(&mut [0]);
    });
    let patience = Some(Duration::from_millis(20));
    let call = (Method::GET, "/info");
    let late = fake.daemon.send(call, SendBody::none(), patience);
    match late.unwrap_err() {
        Error::Unreachable { source, .. } => assert_eq!(source.kind(), io::ErrorKind::TimedOut),
        other => panic!("{other:?}"),
    }
}

#[test]
fn addresses_that_cannot_be_used_are_refused() {
    for address in [
        "ssh://host",
        "npipe:////./pipe/docker_engine",
        "/run/docker.sock",
        "",
    ] {
        let refused = Daemon::at(address).unwrap_err();
        assert!(matches!(refused, Error::Protocol { .. }), "{address}");
    }
    assert!(Daemon::at("tcp://localhost:2375/").is_ok());
}
