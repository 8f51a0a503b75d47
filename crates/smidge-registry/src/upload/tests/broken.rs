//! Uploads that break off, and refusals.

use super::*;

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
