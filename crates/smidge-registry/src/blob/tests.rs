use std::io::Read;
use std::time::Duration;

use serde_json::json;
use smidge_image::Descriptor;

use super::*;
use crate::Access;
use crate::testing::{Reply, Seen, Server, blob, policy, repository, wire, wire_with};

/// Answers as a registry does that knows ranges; what is returned is how it goes wrong.
fn ranged(bytes: Vec<u8>, mut wrong: impl FnMut(usize, Reply) -> Reply + Send + 'static) -> Server {
    let mut count = 0;
    Server::start(move |seen: &Seen| {
        count += 1;
        let reply = match seen.header("range") {
            None => Reply::new(200).body(bytes.clone()),
            Some(range) => {
                let from = range
                    .strip_prefix("bytes=")
                    .unwrap()
                    .strip_suffix('-')
                    .unwrap();
                let from: usize = from.parse().unwrap();
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::new(206)
                    .header("content-range", range)
                    .body(&bytes[from..])
            }
        };
        wrong(count, reply)
    })
}

fn read(server: &[&Server], descriptor: &Descriptor, offset: u64) -> Result<Vec<u8>> {
    let wire = wire();
    let mut reader = repository(&wire, server, Access::Pull).blob(descriptor, offset)?;
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.downcast().unwrap()),
    }
}

fn ranges(server: &Server) -> Vec<Option<String>> {
    let ranges = server.seen();
    ranges
        .iter()
        .map(|seen| seen.header("range").map(str::to_owned))
        .collect()
}

#[test]
fn a_reader_can_go_to_another_thread() {
    fn is_send<T: Send + 'static>() {}
    is_send::<BlobReader>();
}

#[test]
fn bytes_come_from_an_offset_on() {
    let (bytes, descriptor) = blob(5000);
    let server = ranged(bytes.clone(), |_, reply| reply);
    assert_eq!(read(&[&server], &descriptor, 0).unwrap(), bytes);
    assert_eq!(read(&[&server], &descriptor, 4999).unwrap(), bytes[4999..]);
    assert_eq!(ranges(&server), [None, Some("bytes=4999-".to_owned())]);
    // What is complete is not asked for.
    assert_eq!(read(&[&server], &descriptor, 5000).unwrap(), b"");
    assert_eq!(server.seen().len(), 2);
    let past = read(&[&server], &descriptor, 5001).unwrap_err();
    assert!(matches!(past, Error::Protocol { .. }), "{past}");
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let (bytes, descriptor) = blob(5000);
    let server = ranged(bytes.clone(), |count, reply| match count {
        1 => reply.cut(1000),
        2 => reply.cut(2000),
        3 => Reply::new(503),
        4 => Reply::gone(),
        _ => reply,
    });
    assert_eq!(read(&[&server], &descriptor, 0).unwrap(), bytes);
    let from = |offset: u64| Some(format!("bytes={offset}-"));
    assert_eq!(
        ranges(&server),
        [None, from(1000), from(3000), from(3000), from(3000)]
    );
}

#[test]
fn a_chunked_answer_that_breaks_is_taken_up_too() {
    let (bytes, descriptor) = blob(5000);
    let server = ranged(bytes.clone(), |count, reply| match count {
        1 => reply.chunked().cut(1500),
        _ => reply.chunked(),
    });
    assert_eq!(read(&[&server], &descriptor, 0).unwrap(), bytes);
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn without_progress_it_ends() {
    let (bytes, descriptor) = blob(5000);
    let server = ranged(bytes, |count, reply| match count {
        1 => reply.cut(1000),
        _ => reply.cut(0),
    });
    let error = read(&[&server], &descriptor, 0).unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { source, .. } if source.to_string().contains("broke off")),
        "{error:?}"
    );
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn a_byte_for_each_connection_is_no_progress() {
    let (bytes, descriptor) = blob(5000);
    let server = ranged(bytes, |_, reply| reply.cut(1));
    let error = read(&[&server], &descriptor, 0).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn progress_is_worth_new_attempts() {
    let (bytes, descriptor) = blob(1_000_000);
    let server = ranged(bytes.clone(), |_, reply| reply.cut(100_000));
    assert_eq!(read(&[&server], &descriptor, 0).unwrap(), bytes);
}

#[test]
fn a_server_that_starts_anew_is_waited_for() {
    let (bytes, descriptor) = blob(5000);
    let server = ranged(bytes.clone(), |_, reply| reply.cut(1000));
    let policy = crate::retry::Policy {
        attempts: 1000,
        ..policy()
    };
    let wire = wire_with(policy, std::collections::HashMap::new());
    let mut reader = repository(&wire, &[&server], Access::Pull)
        .blob(&descriptor, 0)
        .unwrap();
    let mut received = vec![0; 1000];
    reader.read_exact(&mut received).unwrap();
    let address = server.host();
    drop(server);
    let reading = std::thread::spawn(move || reader.read_to_end(&mut received).map(|_| received));
    let whole = bytes.clone();
    let _server = Server::start_at(&address, move |_: &Seen| {
        Reply::new(200).body(whole.clone())
    });
    assert_eq!(reading.join().unwrap().unwrap(), bytes);
}

#[test]
fn a_silent_server_is_left_and_asked_again() {
    let (bytes, descriptor) = blob(5000);
    let server = ranged(bytes.clone(), |count, reply| match count {
        1 => reply.silent(1000),
        _ => reply,
    });
    let policy = crate::retry::Policy {
        idle: Duration::from_millis(200),
        ..policy()
    };
    let wire = wire_with(policy, std::collections::HashMap::new());
    let mut reader = repository(&wire, &[&server], Access::Pull)
        .blob(&descriptor, 0)
        .unwrap();
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    assert_eq!(received, bytes);
    assert!(server.seen().len() > 1);
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let (bytes, descriptor) = blob(500_000);
    let whole = bytes.clone();
    let mut count = 0;
    let server = Server::start(move |_: &Seen| {
        count += 1;
        let reply = Reply::new(200).body(whole.clone());
        if count == 1 {
            reply.cut(300_001)
        } else {
            reply
        }
    });
    assert_eq!(read(&[&server], &descriptor, 0).unwrap(), bytes);
    assert_eq!(
        read(&[&server], &descriptor, 499_990).unwrap(),
        bytes[499_990..]
    );
}

#[test]
fn wrong_ranges_and_sizes_are_errors() {
    let (bytes, descriptor) = blob(100);
    let part = |range: &str| {
        Reply::new(206)
            .header("content-range", range)
            .body(&bytes[10..])
    };
    for (reply, offset, why) in [
        (
            part("bytes 11-99/100"),
            10,
            "bytes from 10 on were asked for, bytes from 11 on came",
        ),
        (
            part("bytes 10-99/101"),
            10,
            "the blob has 101 bytes, not 100",
        ),
        (
            part("items 10-99/100"),
            10,
            "206 with `Content-Range: items 10-99/100`",
        ),
        (Reply::new(206).body("x"), 10, "206 with `Content-Range: `"),
        (
            Reply::new(200).body("x"),
            0,
            "the blob has 1 bytes, not 100",
        ),
        (
            Reply::new(200).body([0; 101]),
            0,
            "the blob has 101 bytes, not 100",
        ),
    ] {
        let server = Server::replies([reply]);
        let error = read(&[&server], &descriptor, offset).unwrap_err();
        assert!(matches!(&error, Error::Protocol { .. }), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(
        read(
            &[&Server::replies([part("bytes 10-99/*")])],
            &descriptor,
            10
        )
        .unwrap(),
        bytes[10..]
    );
}

#[test]
fn surplus_bytes_are_an_error() {
    let (mut bytes, descriptor) = blob(100);
    bytes.push(0);
    let server = Server::replies([Reply::new(200).body(bytes).chunked()]);
    let error = read(&[&server], &descriptor, 0).unwrap_err();
    assert!(
        error.to_string().contains("more bytes came than the 100"),
        "{error}"
    );
}

#[test]
fn mirrors_come_first_and_can_fail_at_any_point() {
    let (bytes, descriptor) = blob(5000);
    let lacking = Server::replies([Reply::new(404)]);
    let failing = ranged(bytes.clone(), |count, reply| match count {
        1 => reply.cut(1000),
        _ => Reply::new(500),
    });
    let own = ranged(bytes.clone(), |_, reply| reply);
    let received = read(&[&lacking, &failing, &own], &descriptor, 0).unwrap();
    assert_eq!(received, bytes);
    assert_eq!(lacking.seen().len(), 1);
    assert_eq!(failing.seen().len(), 3);
    assert_eq!(ranges(&own), [Some("bytes=1000-".to_owned())]);
}

#[test]
fn foreign_layers_come_from_their_urls_without_credentials() {
    let (bytes, mut descriptor) = blob(5000);
    let own = Server::start(|seen: &Seen| match seen.header("authorization") {
        None => Reply::new(401).header("www-authenticate", "Basic realm=r"),
        Some(_) => Reply::new(404),
    });
    let elsewhere = ranged(bytes.clone(), |_, reply| reply);
    let urls = json!([
        "ftp://x/y",
        elsewhere.url("/missing/no?x"),
        elsewhere.url("/layer?sig=1")
    ]);
    descriptor.extra.insert("urls".to_owned(), urls);
    descriptor.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned();
    let credentials = [(own.host(), crate::testing::basic())].into();
    let wire = wire_with(policy(), credentials);
    let mut reader = repository(&wire, &[&own], Access::Pull)
        .blob(&descriptor, 10)
        .unwrap();
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    assert_eq!(received, bytes[10..]);
    assert_eq!(own.seen().len(), 2);
    assert!(
        elsewhere
            .seen()
            .iter()
            .all(|seen| seen.header("authorization").is_none())
    );
}

#[test]
fn a_kept_connection_serves_the_next_blob() {
    let (bytes, descriptor) = blob(5000);
    let server = ranged(bytes, |_, reply| reply);
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Pull);
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut reader = repository.blob(&descriptor, 0).unwrap();
        kept.clear();
        reader.read_to_end(&mut kept).unwrap();
    }
    assert_eq!(server.connections(), 1);
}
