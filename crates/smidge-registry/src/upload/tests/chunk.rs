//! Uploads in chunks.

use super::*;

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
