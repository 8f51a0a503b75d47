mod broken;
mod chunk;
mod mount;

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
