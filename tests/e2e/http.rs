//! The least of an HTTP client: published ports are asked as a browser would, without waiting
//! for the program first.

use std::io::{Read as _, Write as _};

/// Asks `127.0.0.1:port` for a path; gives the status line and the body.
pub(crate) fn fetch(port: u16, path: &str) -> (String, String) {
    let mut stream = smidge_tests::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{answer:?}"));
    (
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_owned(),
    )
}

/// The body of a page that must be there.
pub(crate) fn page(port: u16, path: &str) -> String {
    let (status, body) = fetch(port, path);
    assert_eq!(status, "HTTP/1.1 200 OK");
    body
}
