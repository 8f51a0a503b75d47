//! Blobs of other repositories.

use super::*;

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
