use super::*;
use crate::Access;
use crate::testing::{Reply, Seen, Server, repository, wire};

fn tags(server: &Server) -> Result<Vec<String>> {
    repository(&wire(), &[server], Access::Pull).tags()
}

#[test]
fn tags_come_page_by_page() {
    let server = Server::start(|seen: &Seen| match seen.target.as_str() {
        "/v2/a/b/tags/list?n=1000" => Reply::new(200)
            .header("link", "</v2/a/b/tags/list?n=1000&last=2>; rel=\"next\"")
            .json(r#"{"name":"a/b","tags":["1","2"]}"#),
        "/v2/a/b/tags/list?n=1000&last=2" => Reply::new(200)
            .header(
                "link",
                "<list?last=3>; rel=prev, <list?last=4,5>; foo=bar; rel=next",
            )
            .json(r#"{"name":"a/b","tags":["3","4"]}"#),
        // The same registry, by the name it knows itself by.
        "/v2/a/b/tags/list?last=4,5" => Reply::new(200)
            .header(
                "link",
                "<https://inner.example:5000/v2/a/b/tags/list?last=5>; rel=\"next\"",
            )
            .json(r#"{"name":"a/b","tags":null}"#),
        "/v2/a/b/tags/list?last=5" => Reply::new(200).json(r#"{"tags":["5"]}"#),
        other => panic!("{other}"),
    });
    assert_eq!(tags(&server).unwrap(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn circles_of_pages_end() {
    let server = Server::start(|_: &Seen| {
        Reply::new(200)
            .header("link", "</v2/a/b/tags/list?last=1>; rel=\"next\"")
            .json(r#"{"tags":["1"]}"#)
    });
    assert_eq!(tags(&server).unwrap(), ["1", "1"]);
    let mut page = 0;
    let server = Server::start(move |_: &Seen| {
        page += 1;
        Reply::new(200)
            .header(
                "link",
                format!("</v2/a/b/tags/list?last={}>; rel=\"next\"", page % 2),
            )
            .json(r#"{"tags":["1"]}"#)
    });
    assert_eq!(tags(&server).unwrap().len(), 3);
}

#[test]
fn a_registry_that_minds_the_number_is_asked_without() {
    let server = Server::start(|seen: &Seen| match seen.parameter("n") {
        Some(_) => Reply::new(400),
        None => Reply::new(200).json(r#"{"tags":["1"]}"#),
    });
    assert_eq!(tags(&server).unwrap(), ["1"]);
}

#[test]
fn refusals_and_nonsense_are_errors() {
    let server = Server::replies([Reply::new(404)]);
    assert!(matches!(tags(&server), Err(Error::NotFound { .. })));
    let server = Server::replies([Reply::new(200).body("<html>")]);
    assert!(matches!(tags(&server), Err(Error::Protocol { .. })));
}

#[test]
fn the_catalog_is_read_with_its_own_right() {
    let server = Server::start(|seen: &Seen| {
        if seen.target.starts_with("/token") {
            assert_eq!(seen.parameter("scope"), Some("registry:catalog:%2A"));
            return Reply::new(200).json(r#"{"token":"t"}"#);
        }
        match (seen.header("authorization"), seen.parameter("last")) {
            (None, _) => Reply::new(401).header("www-authenticate", "Bearer realm=\"/token\""),
            (_, None) => Reply::new(200)
                .header("link", "</v2/_catalog?last=b&n=2>; rel=\"next\"")
                .json(r#"{"repositories":["a","b"]}"#),
            _ => Reply::new(200).json(r#"{"repositories":["c"]}"#),
        }
    });
    let wire = wire();
    assert_eq!(catalog(&wire, &server.endpoint()).unwrap(), ["a", "b", "c"]);
}

#[test]
fn lists_without_end_are_not_kept() {
    let mut sum = Sum::default();
    sum.add(MOST_NAMES, LONGEST_LIST).unwrap();
    assert_eq!(
        sum.add(0, 1).unwrap_err(),
        "the list is longer than 67108864 bytes"
    );
    let mut sum = Sum::default();
    sum.add(MOST_NAMES, 0).unwrap();
    assert_eq!(
        sum.add(1, 0).unwrap_err(),
        "the list has more than 1000000 names"
    );
    // Each page another one, and none of them short.
    let name = "n".repeat(1 << 20);
    let mut page = 0;
    let server = Server::start(move |_: &Seen| {
        page += 1;
        let next = format!("</v2/a/b/tags/list?last={page}>; rel=next");
        let names = vec![name.clone(); 30];
        let list = serde_json::json!({ "tags": names }).to_string();
        Reply::new(200).header("link", next).json(&list)
    });
    let error = tags(&server).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("the list is longer than 67108864 bytes"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 3);
}
