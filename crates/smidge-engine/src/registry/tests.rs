//! The verbs that talk to registries.

use super::*;
use crate::container::PullPolicy;
use crate::image::tests::{engine, import};

#[test]
fn names_with_a_tag_are_no_repositories() {
    for (text, expected) in [
        ("alpine", true),
        ("localhost:5000/a", true),
        ("alpine:3", false),
        ("localhost:5000/a:b", false),
        ("a@sha256:00", false),
    ] {
        assert_eq!(is_bare(text), expected, "{text}");
    }
}

#[test]
fn what_is_missing_is_fetched_if_it_can_be() {
    use PullPolicy::{Always, Missing, Never};
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path());
    let id = import(&engine, "here", &[], &[("f", "1")]);
    for (image, policy, expected) in [
        ("here", Missing, false),
        ("here", Always, true),
        ("here", Never, false),
        (&id, Missing, false),
        (&id[7..19], Missing, false),
        ("there", Missing, true),
        ("there", Never, false),
        ("scratch", Always, false),
        ("Not A Name", Missing, false),
        ("Not A Name", Always, false),
    ] {
        assert_eq!(
            engine.needs_pull(image, policy, None),
            expected,
            "{image} {policy:?}"
        );
    }
}

#[test]
fn what_makes_no_sense_is_not_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path());
    import(&engine, "here:1", &[], &[("f", "1")]);
    let connection = Connection::default();
    let pull = |name: &str, all_tags| {
        let request = PullRequest {
            name: name.to_owned(),
            all_tags,
            ..PullRequest::default()
        };
        engine.pull(&request, &crate::Silent).unwrap_err()
    };
    assert_eq!(
        pull("Here", false).message(),
        "invalid reference format: repository name (Here) must be lowercase"
    );
    assert_eq!(
        pull("here:1", true).message(),
        "`here:1` names one image, but `-a` means all"
    );
    let push = |name: &str, all_tags| {
        let request = PushRequest {
            name: name.to_owned(),
            all_tags,
            ..PushRequest::default()
        };
        engine.push(&request, &crate::Silent).unwrap_err()
    };
    let fault = push("localhost:1/none", false);
    assert_eq!(
        (fault.kind(), fault.message()),
        (
            Kind::NotFound,
            "cannot push `localhost:1/none:latest`: there is no image of that name"
        )
    );
    let fault = push("localhost:1/here", true);
    assert_eq!(fault.hints()[0], "there is `here:1`");
    assert_eq!(push("here:1", true).kind(), Kind::Input);
    let pinned = format!("here@sha256:{}", "0".repeat(64));
    assert_eq!(push(&pinned, false).kind(), Kind::Input);
    let fault = engine.remote_tags("here:1", &connection).unwrap_err();
    assert_eq!(fault.hints(), ["leave its tag out: `smidge ls here`"]);
}

#[test]
fn credentials_that_were_named_must_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path());
    let connection = Connection {
        auth_file: Some(directory.path().join("auth.json")),
        tls_verify: None,
    };
    let fault = engine
        .remote_tags("localhost:1/x", &connection)
        .unwrap_err();
    assert!(
        fault
            .message()
            .starts_with("cannot read the credentials in"),
        "{fault}"
    );
}
