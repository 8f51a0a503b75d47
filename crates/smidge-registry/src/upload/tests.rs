use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smidge_image::Descriptor;

use crate::testing::{
    Behaviour, Reply, Seen, Server, basic, blob, policy, repository, wire, wire_with,
};
use crate::{Access, Repository, Uploaded};

use super::*;

/// A registry that takes uploads, and in which ways it does not.
#[derive(Default)]
struct Taker {
    blobs: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    sessions: HashMap<usize, Vec<u8>>,
    begun: usize,
    /// A body in one piece is refused with this.
    whole: Option<u16>,
    /// A chunk that is larger is refused with 413.
    most: Option<usize>,
    /// A chunk that is smaller and not the last is refused with 416.
    least: Option<usize>,
    /// Bodies with data are cut after so many bytes, one after the other.
    cuts: Vec<Option<usize>>,
    /// What came of a cut body is kept.
    keeps: bool,
    /// Answers to bodies with data that come in place of what would be right, and of what would be done.
    instead: Vec<Option<Reply>>,
    /// The last answer is lost: what was sent is there all the same.
    loses_answer: bool,
    /// Of each chunk one byte less is taken.
    greedy: bool,
    /// A repository that blobs can be mounted from.
    mounts: Option<&'static str>,
}

impl Taker {
    fn session(&self, seen: &Seen) -> Option<usize> {
        let path = seen.target.split('?').next()?;
        let id = path.strip_prefix("/v2/a/b/blobs/uploads/")?.parse().ok()?;
        self.sessions.contains_key(&id).then_some(id)
    }

    fn at(&self, status: u16, id: usize) -> Reply {
        let has = self.sessions[&id].len();
        Reply::new(status)
            .header(
                "location",
                format!("/v2/a/b/blobs/uploads/{id}?_state=s{has}"),
            )
            .header("range", format!("0-{}", has.saturating_sub(1)))
    }

    fn begin(&mut self, seen: &Seen) -> Reply {
        let known = self.blobs.lock().unwrap();
        let mount = seen
            .parameter("mount")
            .filter(|digest| known.contains_key(*digest));
        if mount.is_some() && seen.parameter("from") == self.mounts {
            return Reply::new(201);
        }
        drop(known);
        self.begun += 1;
        self.sessions.insert(self.begun, Vec::new());
        let reply = self.at(202, self.begun);
        match self.least {
            Some(least) => reply.header("oci-chunk-min-length", least.to_string()),
            None => reply,
        }
    }

    fn chunk(&mut self, id: usize, seen: &Seen) -> Reply {
        let range = seen.header("content-range").unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        assert_eq!(last - first + 1, seen.body.len());
        if self.most.is_some_and(|most| seen.body.len() > most) {
            return Reply::new(413);
        }
        if first != self.sessions[&id].len() {
            return self.at(416, id);
        }
        let taken = seen.body.len() - usize::from(self.greedy && seen.body.len() > 1);
        self.sessions
            .get_mut(&id)
            .unwrap()
            .extend_from_slice(&seen.body[..taken]);
        self.at(202, id)
    }

    fn finish(&mut self, id: usize, seen: &Seen) -> Reply {
        let mut bytes = self.sessions.remove(&id).unwrap();
        bytes.extend_from_slice(&seen.body);
        let digest = Digest::of(&bytes).to_string();
        if seen.parameter("digest") != Some(&digest) {
            return Reply::new(400).json(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
        }
        self.blobs.lock().unwrap().insert(digest.clone(), bytes);
        if self.loses_answer {
            return Reply::gone();
        }
        Reply::new(201).header("docker-content-digest", digest)
    }
}

impl Behaviour for Taker {
    fn cut(&mut self, head: &Seen) -> Option<usize> {
        let has_data = head
            .header("content-length")
            .is_some_and(|length| length != "0");
        match has_data && !self.cuts.is_empty() {
            true => self.cuts.remove(0),
            false => None,
        }
    }

    fn lost(&mut self, seen: &Seen) {
        let session = self.session(seen).filter(|_| self.keeps);
        if let Some(bytes) = session.and_then(|id| self.sessions.get_mut(&id)) {
            bytes.extend_from_slice(&seen.body);
        }
    }

    fn answer(&mut self, seen: &Seen) -> Reply {
        if !seen.body.is_empty()
            && !self.instead.is_empty()
            && let Some(reply) = self.instead.remove(0)
        {
            return reply;
        }
        if let Some(digest) = seen.target.strip_prefix("/v2/a/b/blobs/sha256:") {
            let known = self.blobs.lock().unwrap();
            let there = known.contains_key(&format!("sha256:{digest}")) && self.mounts.is_none();
            return Reply::new(if there { 200 } else { 404 });
        }
        if seen.is("POST", "/v2/a/b/blobs/uploads/") {
            return self.begin(seen);
        }
        let Some(id) = self.session(seen) else {
            return Reply::new(404).json(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#);
        };
        match (seen.method.as_str(), self.whole) {
            ("GET", _) => self.at(204, id),
            ("DELETE", _) => {
                self.sessions.remove(&id);
                Reply::new(204)
            }
            ("PATCH", _) => self.chunk(id, seen),
            ("PUT", Some(status)) if !seen.body.is_empty() => Reply::new(status),
            _ => self.finish(id, seen),
        }
    }
}

struct Outcome {
    result: Result<Uploaded>,
    told: u64,
    lines: Vec<String>,
    server: Server,
}

/// Sends a blob, and checks that it arrived if that is what is said.
fn send(taker: Taker, length: usize, from: &[&str]) -> Outcome {
    let (bytes, descriptor) = blob(length);
    let blobs = Arc::clone(&taker.blobs);
    let server = Server::start(taker);
    let wire = wire();
    let (result, told) = send_to(
        &repository(&wire, &[&server], Access::Push),
        &bytes,
        &descriptor,
        from,
    );
    if let Ok(Uploaded::Sent) = result {
        let digest = descriptor.digest.to_string();
        assert!(blobs.lock().unwrap()[&digest] == bytes);
        assert_eq!(told, length as u64);
    }
    Outcome {
        result,
        told,
        lines: shortened(&server),
        server,
    }
}

fn send_to(
    repository: &Repository<'_>,
    bytes: &[u8],
    descriptor: &Descriptor,
    from: &[&str],
) -> (Result<Uploaded>, u64) {
    let told = AtomicU64::new(0);
    let from: Vec<String> = from.iter().map(|from| (*from).to_owned()).collect();
    let result = repository.upload(&Upload {
        descriptor,
        mount_from: &from,
        open: &|offset| Ok(Box::new(io::Cursor::new(bytes[offset as usize..].to_vec()))),
        sent: &|bytes| {
            told.fetch_add(bytes, Ordering::Relaxed);
        },
    });
    (result, told.into_inner())
}

/// Requests without what they have in common.
fn shortened(server: &Server) -> Vec<String> {
    let lines = server.seen();
    let lines = lines.iter().map(|seen| {
        let range = seen
            .header("content-range")
            .map(|range| format!(" {range}"));
        let line = seen.line().replace("/v2/a/b/blobs/", "");
        let line = line.split(['?', ':']).next().unwrap_or_default().to_owned();
        format!("{line}{}", range.unwrap_or_default())
    });
    lines.collect()
}

#[test]
fn a_blob_goes_in_one_piece() {
    for length in [0, 1, 1_000_000] {
        let outcome = send(Taker::default(), length, &[]);
        assert_eq!(outcome.result.unwrap(), Uploaded::Sent);
        assert_eq!(
            outcome.lines,
            ["HEAD sha256", "POST uploads/", "PUT uploads/1"]
        );
        let put = &outcome.server.seen()[2];
        assert_eq!(
            put.header("content-length"),
            Some(length.to_string().as_str())
        );
        assert_eq!(put.header("transfer-encoding"), None);
        assert_eq!(put.header("expect"), None);
        assert_eq!(put.parameter("_state"), Some("s0"));
        assert_eq!(outcome.server.seen()[1].header("content-length"), Some("0"));
    }
}

#[test]
fn what_is_there_is_not_sent() {
    let (bytes, descriptor) = blob(10);
    let taker = Taker::default();
    taker
        .blobs
        .lock()
        .unwrap()
        .insert(descriptor.digest.to_string(), bytes);
    let outcome = send(taker, 10, &[]);
    assert_eq!(
        (outcome.result.unwrap(), outcome.told),
        (Uploaded::Existed, 0)
    );
    assert_eq!(outcome.lines, ["HEAD sha256"]);
}

#[test]
fn a_blob_of_another_repository_is_mounted() {
    let (bytes, descriptor) = blob(10);
    let taker = || {
        let taker = Taker {
            mounts: Some("c/d"),
            ..Taker::default()
        };
        taker
            .blobs
            .lock()
            .unwrap()
            .insert(descriptor.digest.to_string(), bytes.clone());
        taker
    };
    let outcome = send(taker(), 10, &["c/d"]);
    assert_eq!(outcome.result.unwrap(), Uploaded::Mounted("c/d".to_owned()));
    assert_eq!(outcome.lines, ["POST uploads/"]);
    assert_eq!(outcome.server.seen()[0].parameter("from"), Some("c/d"));

    // A session that comes in place of a mount is given up for the next candidate …
    let outcome = send(taker(), 10, &["e", "c/d"]);
    assert_eq!(outcome.result.unwrap(), Uploaded::Mounted("c/d".to_owned()));
    assert_eq!(
        outcome.lines,
        ["POST uploads/", "DELETE uploads/1", "POST uploads/"]
    );

    // … and used if it is the last one.
    let outcome = send(taker(), 10, &["e"]);
    assert_eq!(outcome.result.unwrap(), Uploaded::Sent);
    assert_eq!(
        outcome.lines,
        ["POST uploads/", "HEAD sha256", "PUT uploads/1"]
    );
}

#[test]
fn a_refused_mount_is_no_refused_upload() {
    let (bytes, descriptor) = blob(10);
    let mut taker = Taker::default();
    let server = Server::start(move |seen: &Seen| match seen.parameter("mount") {
        Some(_) => Reply::new(403),
        None => taker.answer(seen),
    });
    let wire = wire();
    let (result, _) = send_to(
        &repository(&wire, &[&server], Access::Push),
        &bytes,
        &descriptor,
        &["e"],
    );
    assert_eq!(result.unwrap(), Uploaded::Sent);
    assert_eq!(
        shortened(&server),
        [
            "POST uploads/",
            "HEAD sha256",
            "POST uploads/",
            "PUT uploads/1"
        ]
    );
}

#[test]
fn a_token_server_that_gives_no_right_to_mount_is_asked_for_less() {
    let mut taker = Taker::default();
    let server = Server::start(move |seen: &Seen| {
        if seen.is("GET", "/token") {
            return match seen.target.contains("c/d") {
                true => Reply::new(403),
                false => Reply::new(200).json(r#"{"token":"t"}"#),
            };
        }
        match seen.header("authorization") {
            None => Reply::new(401).header("www-authenticate", "Bearer realm=\"/token\""),
            Some(_) => taker.answer(seen),
        }
    });
    let wire = wire();
    let (bytes, descriptor) = blob(10);
    let repository = repository(&wire, &[&server], Access::Push);
    let (result, _) = send_to(&repository, &bytes, &descriptor, &["c/d"]);
    assert_eq!(result.unwrap(), Uploaded::Sent);
}

#[test]
fn a_registry_that_does_not_answer_in_the_end_is_not_sent_everything_for_ever() {
    let server = Server::start(|seen: &Seen| match seen.method.as_str() {
        "POST" => Reply::new(202).header("location", "1"),
        "PUT" => Reply::hold(),
        "HEAD" => Reply::new(404),
        _ => Reply::new(204),
    });
    let policy = crate::retry::Policy {
        commit: std::time::Duration::from_millis(50),
        ..policy()
    };
    let wire = wire_with(policy, HashMap::new());
    let (bytes, descriptor) = blob(10);
    let repository = repository(&wire, &[&server], Access::Push);
    let (result, told) = send_to(&repository, &bytes, &descriptor, &[]);
    let Err(Error::Unreachable { source, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(source.kind(), io::ErrorKind::TimedOut);
    assert_eq!(told, 10);
    let begun = server
        .seen()
        .into_iter()
        .filter(|seen| seen.method == "POST");
    assert_eq!(begun.count(), 2);
}

#[test]
fn a_mount_asks_for_the_right_to_read_there() {
    let mut taker = Taker::default();
    let server = Server::start(move |seen: &Seen| {
        if seen.is("GET", "/token") {
            return Reply::new(200).json(r#"{"token":"t"}"#);
        }
        match seen.header("authorization") {
            None => Reply::new(401).header("www-authenticate", "Bearer realm=\"/token\""),
            Some(_) => taker.answer(seen),
        }
    });
    let wire = wire_with(policy(), HashMap::from([(server.host(), basic())]));
    let (bytes, descriptor) = blob(10);
    let (result, _) = send_to(
        &repository(&wire, &[&server], Access::Push),
        &bytes,
        &descriptor,
        &["c/d"],
    );
    assert_eq!(result.unwrap(), Uploaded::Sent);
    let lines = server.lines();
    let asked: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("GET /token"))
        .collect();
    assert_eq!(
        asked,
        ["GET /token?scope=repository:a/b:pull,push&scope=repository:c/d:pull&account=me"]
    );
}

#[test]
fn a_broken_upload_goes_on_where_the_registry_has_it() {
    let taker = Taker {
        cuts: vec![Some(1000), Some(500)],
        keeps: true,
        ..Taker::default()
    };
    let outcome = send(taker, 100_000, &[]);
    assert_eq!(outcome.result.unwrap(), Uploaded::Sent);
    assert_eq!(
        outcome.lines,
        [
            "HEAD sha256",
            "POST uploads/",
            "PUT uploads/1",
            "HEAD sha256",
            "GET uploads/1",
            "PATCH uploads/1 1000-99999",
            "HEAD sha256",
            "GET uploads/1",
            "PATCH uploads/1 1500-99999",
            "PUT uploads/1",
        ]
    );
}

#[test]
fn where_nothing_was_kept_it_starts_anew() {
    let taker = Taker {
        cuts: vec![Some(1000)],
        ..Taker::default()
    };
    let outcome = send(taker, 100_000, &[]);
    assert_eq!(outcome.result.unwrap(), Uploaded::Sent);
    assert_eq!(
        outcome.lines[4..],
        [
            "GET uploads/1",
            "DELETE uploads/1",
            "POST uploads/",
            "PUT uploads/2"
        ]
    );
    // The registry is asked first this time: what broke may have been a refusal.
    assert_eq!(
        outcome.server.seen()[7].header("expect"),
        Some("100-continue")
    );
}

#[test]
fn an_upload_that_breaks_again_and_again_ends() {
    let taker = Taker {
        cuts: vec![Some(10); 100],
        ..Taker::default()
    };
    let outcome = send(taker, 100_000, &[]);
    assert!(
        matches!(outcome.result, Err(Error::Unreachable { .. })),
        "{:?}",
        outcome.result
    );
    let puts = outcome.lines.iter().filter(|line| line.starts_with("PUT"));
    assert_eq!(puts.count(), 4);
    assert!(outcome.lines.last().unwrap().starts_with("DELETE"));
}

#[test]
fn an_upload_of_two_bytes_a_connection_ends() {
    let taker = Taker {
        cuts: vec![Some(2); 1000],
        keeps: true,
        ..Taker::default()
    };
    let outcome = send(taker, 1000, &[]);
    assert!(
        matches!(outcome.result, Err(Error::Unreachable { .. })),
        "{:?}",
        outcome.result
    );
    assert!(outcome.lines.len() < 50, "{}", outcome.lines.len());
}

#[test]
fn a_lost_answer_is_no_lost_blob() {
    let taker = Taker {
        loses_answer: true,
        ..Taker::default()
    };
    let outcome = send(taker, 1000, &[]);
    assert_eq!(outcome.result.unwrap(), Uploaded::Sent);
    assert_eq!(
        outcome.lines,
        [
            "HEAD sha256",
            "POST uploads/",
            "PUT uploads/1",
            "HEAD sha256"
        ]
    );
}

#[test]
fn a_passing_failure_passes() {
    for status in [500, 502, 503, 504, 429] {
        let taker = Taker {
            instead: vec![Some(Reply::new(status))],
            ..Taker::default()
        };
        let outcome = send(taker, 1000, &[]);
        assert_eq!(outcome.result.unwrap(), Uploaded::Sent, "{status}");
    }
}

#[test]
fn chunks_go_where_one_piece_is_refused() {
    let refusing = |status| Taker {
        whole: Some(status),
        ..Taker::default()
    };
    for status in [404, 405, 411, 413, 416, 501] {
        let outcome = send(refusing(status), 1000, &[]);
        assert_eq!(outcome.result.unwrap(), Uploaded::Sent, "{status}");
    }
    let outcome = send(refusing(413), (CHUNK + 5) as usize, &[]);
    assert_eq!(outcome.result.unwrap(), Uploaded::Sent);
    assert_eq!(
        outcome.lines[3..],
        [
            "DELETE uploads/1",
            "POST uploads/",
            "PATCH uploads/2 0-16777215",
            "PATCH uploads/2 16777216-16777220",
            "PUT uploads/2",
        ]
    );
}

#[test]
fn chunks_are_as_large_as_the_registry_wants() {
    let larger = Taker {
        whole: Some(413),
        least: Some(20 << 20),
        ..Taker::default()
    };
    let outcome = send(larger, (20 << 20) + 1, &[]);
    assert_eq!(outcome.result.unwrap(), Uploaded::Sent);
    assert_eq!(outcome.lines[5], "PATCH uploads/2 0-20971519");

    let smaller = Taker {
        whole: Some(413),
        most: Some(1 << 20),
        ..Taker::default()
    };
    let outcome = send(smaller, 3 << 20, &[]);
    assert_eq!(outcome.result.unwrap(), Uploaded::Sent);
    assert!(
        outcome
            .lines
            .contains(&"PATCH uploads/2 1048576-2097151".to_owned()),
        "{:?}",
        outcome.lines
    );

    let none = Taker {
        whole: Some(413),
        most: Some(1000),
        ..Taker::default()
    };
    let outcome = send(none, 1 << 20, &[]);
    assert!(matches!(outcome.result, Err(Error::Refused { fault, .. }) if fault.status == 413));
}

#[test]
fn chunks_go_on_where_the_registry_says() {
    let greedy = Taker {
        whole: Some(405),
        greedy: true,
        ..Taker::default()
    };
    assert_eq!(send(greedy, 1000, &[]).result.unwrap(), Uploaded::Sent);

    let broken = Taker {
        whole: Some(405),
        cuts: vec![None, Some(100), Some(0), Some(50)],
        keeps: true,
        ..Taker::default()
    };
    assert_eq!(send(broken, 1000, &[]).result.unwrap(), Uploaded::Sent);

    let forgetful = Taker {
        whole: Some(405),
        cuts: vec![None, Some(100)],
        ..Taker::default()
    };
    let outcome = send(forgetful, 1000, &[]);
    assert_eq!(outcome.result.unwrap(), Uploaded::Sent);
    assert_eq!(outcome.lines.last().unwrap(), "PUT uploads/3");

    let passing = Taker {
        whole: Some(405),
        instead: vec![None, Some(Reply::new(503))],
        ..Taker::default()
    };
    assert_eq!(send(passing, 1000, &[]).result.unwrap(), Uploaded::Sent);
}

#[test]
fn a_registry_that_takes_nothing_is_left() {
    let stuck = Taker {
        whole: Some(405),
        instead: vec![None]
            .into_iter()
            .chain(vec![Some(Reply::new(202).header("range", "0-0")); 50])
            .collect(),
        ..Taker::default()
    };
    let outcome = send(stuck, 1000, &[]);
    assert!(
        matches!(outcome.result, Err(Error::Protocol { .. })),
        "{:?}",
        outcome.result
    );
}

#[test]
fn a_refusal_is_final_and_ends_the_session() {
    let taker = Taker {
        instead: vec![Some(
            Reply::new(403).json(r#"{"errors":[{"code":"DENIED"}]}"#),
        )],
        ..Taker::default()
    };
    let outcome = send(taker, 1000, &[]);
    assert!(
        matches!(outcome.result, Err(Error::Denied { .. })),
        "{:?}",
        outcome.result
    );
    assert_eq!(
        outcome.lines,
        [
            "HEAD sha256",
            "POST uploads/",
            "PUT uploads/1",
            "DELETE uploads/1"
        ]
    );
}

#[test]
fn wrong_bytes_are_refused_once() {
    let (mut bytes, descriptor) = blob(1000);
    bytes[1] ^= 1;
    let server = Server::start(Taker::default());
    let wire = wire();
    let (result, _) = send_to(
        &repository(&wire, &[&server], Access::Push),
        &bytes,
        &descriptor,
        &[],
    );
    assert!(matches!(result, Err(Error::Refused { fault, .. }) if fault.code == "DIGEST_INVALID"));
}

#[test]
fn bytes_that_cannot_be_read_are_our_own_fault() {
    let (bytes, mut descriptor) = blob(1000);
    descriptor.size = 1001;
    let server = Server::start(Taker::default());
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Push);
    let (result, _) = send_to(&repository, &bytes, &descriptor, &[]);
    let Err(Error::Source { source, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(source.to_string(), "it ends 1 bytes too early");
    assert!(shortened(&server).last().unwrap().starts_with("DELETE"));

    let result = repository.upload(&Upload {
        descriptor: &descriptor,
        mount_from: &[],
        open: &|_| Err(io::ErrorKind::PermissionDenied.into()),
        sent: &|_| {},
    });
    assert!(matches!(result, Err(Error::Source { .. })), "{result:?}");
}

/// Refuses before the body comes, and closes: its answer is lost unless it is asked first.
struct Early(Taker);

impl Behaviour for Early {
    fn early(&mut self, head: &Seen) -> Option<Reply> {
        (head.method == "PUT").then(|| Reply::new(403).json(r#"{"errors":[{"code":"DENIED"}]}"#))
    }

    fn answer(&mut self, seen: &Seen) -> Reply {
        self.0.answer(seen)
    }
}

#[test]
fn a_refusal_while_bytes_go_out_is_seen_in_the_end() {
    let (bytes, descriptor) = blob(20 << 20);
    let server = Server::start(Early(Taker::default()));
    let wire = wire();
    let (result, _) = send_to(
        &repository(&wire, &[&server], Access::Push),
        &bytes,
        &descriptor,
        &[],
    );
    assert!(matches!(result, Err(Error::Denied { .. })), "{result:?}");
}

#[test]
fn locations_are_followed_however_they_are_written() {
    for relative in [true, false] {
        let (bytes, descriptor) = blob(10);
        let address = Arc::new(Mutex::new(String::new()));
        let base = Arc::clone(&address);
        let server = Server::start(move |seen: &Seen| match seen.method.as_str() {
            "POST" if relative => Reply::new(202).header("location", "id?state=x"),
            "POST" => {
                Reply::new(202).header("location", format!("{}/id?state=x", base.lock().unwrap()))
            }
            "PUT" => Reply::new(201),
            _ => Reply::new(404),
        });
        *address.lock().unwrap() = server.url("");
        let wire = wire();
        let (result, _) = send_to(
            &repository(&wire, &[&server], Access::Push),
            &bytes,
            &descriptor,
            &[],
        );
        assert_eq!(result.unwrap(), Uploaded::Sent);
        let path = if relative {
            "/v2/a/b/blobs/uploads/id"
        } else {
            "/id"
        };
        assert_eq!(
            server.lines()[2],
            format!("PUT {path}?state=x&digest={}", descriptor.digest)
        );
    }
}

#[test]
fn ranges_are_read_as_registries_write_them() {
    for (range, has) in [
        ("0-0", Some(0)),
        ("0-41", Some(42)),
        ("bytes=0-41", Some(42)),
        (" 0-9 ", Some(10)),
        ("5-9", None),
        ("", None),
        ("0-x", None),
    ] {
        assert_eq!(received(range), has, "{range}");
    }
}
