//! What no client should send, and what goes wrong on the way: every case ends with a server that
//! still answers.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use crate::case::{Case, Debian};
use crate::client::{Response, Verdict, connect, ensure, read_response};
use crate::content::{MANIFEST, NOTHING, digest, noise};
use crate::server::{Kind, Server};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "names",
        "names beyond the grammar are 4xx, and nothing is made",
        bad_names,
    )
    .at_debian(Debian::Differs("answers 500 to names that are too long")),
    Case::new("names", "no path leads out of the store", traversal),
    Case::new(
        "errors",
        "every error is the specification's document",
        error_documents,
    ),
    Case::new("methods", "a method that a place has not is 405", methods)
        .at_debian(Debian::Differs("tells 404 for some")),
    Case::new("http", "what is no HTTP is refused", garbage),
    Case::new("http", "huge heads are refused", huge_head),
    Case::new(
        "http",
        "requests in a row on one connection are answered in order",
        pipelined,
    ),
    Case::new(
        "http",
        "HTTP/1.0 is answered, and its connection closed",
        http_1_0,
    ),
    Case::new(
        "http",
        "Expect: 100-continue is told to go on",
        told_to_go_on,
    ),
    Case::new(
        "http",
        "Expect: 100-continue is told no before it sends",
        told_no,
    ),
    Case::new(
        "http",
        "a refused body can still be read about",
        refused_body,
    ),
    Case::new("push", "a blob that breaks off is not there", broken_off),
    Case::new(
        "push",
        "a body shorter than it says is not there",
        too_short,
    ),
    Case::new("push", "a broken chunked body is not there", broken_chunks),
    Case::new(
        "push",
        "an upload goes on where its chunk broke off",
        resumed_after_breaking_off,
    )
    .at_debian(Debian::NotAsked),
    Case::new(
        "push",
        "what was cancelled or broke off leaves no files",
        no_files,
    )
    .at_debian(Debian::NotAsked),
    Case::new("http", "clients that stall keep nobody waiting", stalled),
];

fn alive(server: &Server) -> Verdict {
    server.get("/v2/")?.is(200).map(drop)
}

fn io(error: std::io::Error) -> String {
    error.to_string()
}

/// Sends bytes as they are, and reads what comes until the end.
fn raw(server: &Server, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = connect(server.address).map_err(io)?;
    // It may be closed before all is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

fn is_refusal(response: &Response) -> Verdict {
    ensure((400..500).contains(&response.status), || {
        response.complaint("expected 4xx")
    })
}

fn bad_names(server: &Server) -> Verdict {
    let long = "a/".repeat(200) + "a";
    for name in [
        "UPPER",
        "a..b",
        "-a",
        "a-",
        "a//b",
        "a%00b",
        "a%20b",
        "a b".replace(' ', "%20").as_str(),
        "%C3%A9",
        "a:b",
        "a@b",
        &long,
    ] {
        for rest in ["manifests/1", "tags/list", &format!("blobs/{NOTHING}")] {
            let response = server.get(&format!("/v2/{name}/{rest}"))?;
            // Some routers clean a path before they look at it.
            ensure(matches!(response.status, 301 | 400..500), || {
                response.complaint("expected 4xx")
            })?;
        }
        let request = server.request("POST", &format!("/v2/{name}/blobs/uploads/"));
        let response = request.send()?;
        ensure(matches!(response.status, 301 | 400..500), || {
            response.complaint("expected 4xx")
        })?;
    }
    alive(server)
}

fn traversal(server: &Server) -> Verdict {
    let up = "..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc";
    for target in [
        format!("/v2/{up}/manifests/passwd"),
        format!("/v2/a/manifests/{up}%2fpasswd"),
        format!("/v2/a/blobs/{up}%2fpasswd"),
        format!("/v2/a/blobs/sha256:{up}%2fpasswd"),
        format!("/v2/a/blobs/uploads/{up}%2fpasswd"),
        format!("/v2/a/referrers/{up}"),
        "/v2/../../../../etc/passwd".to_owned(),
        "/../../../../etc/passwd".to_owned(),
        "/v2/a/../../../etc/passwd".to_owned(),
        "/v2/a%2f..%2f..%2fblobs/tags/list".to_owned(),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let response = server.request(method, &target).send()?;
            ensure(matches!(response.status, 301 | 400..500), || {
                response.complaint("expected 4xx")
            })?;
            let text = String::from_utf8_lossy(&response.body).into_owned();
            ensure(!text.contains("root:"), || {
                response.complaint("a file of the system")
            })?;
        }
    }
    alive(server)
}

fn error_documents(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, b"errors")?;
    for (target, code) in [
        (format!("/v2/{repository}/blobs/{NOTHING}"), "BLOB_UNKNOWN"),
        (
            format!("/v2/{repository}/manifests/none"),
            "MANIFEST_UNKNOWN",
        ),
        (
            format!("/v2/{}/tags/list", server.repository()),
            "NAME_UNKNOWN",
        ),
    ] {
        let response = server.get(&target)?.is(404)?;
        let kind = response.must("Content-Type")?;
        ensure(kind.starts_with("application/json"), || {
            response.complaint("no JSON")
        })?;
        let document = response.json()?;
        let error = &document["errors"][0];
        let sound = error["code"] == code && error["message"].is_string();
        ensure(sound, || response.complaint(&format!("expected {code}")))?;
    }
    Ok(())
}

fn methods(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "methods")?;
    for (method, rest) in [
        ("POST", "manifests/1".to_owned()),
        ("PATCH", "manifests/1".to_owned()),
        ("POST", format!("blobs/{}", image.digest)),
        ("PUT", "tags/list".to_owned()),
        ("DELETE", format!("referrers/{}", image.digest)),
        ("GET", "blobs/uploads/".to_owned()),
    ] {
        let request = server.request(method, &format!("/v2/{repository}/{rest}"));
        request.send()?.is(405)?.must("Allow")?;
    }
    alive(server)
}

fn garbage(server: &Server) -> Verdict {
    for bytes in [
        &b"\r\n\r\n"[..],
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v2/ HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    ] {
        let answer = raw(server, bytes)?;
        let sound = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 505");
        ensure(sound, || {
            format!("{:?}: {:?}", String::from_utf8_lossy(bytes), String::from_utf8_lossy(&answer))
        })?;
    }
    alive(server)
}

fn huge_head(server: &Server) -> Verdict {
    let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
    for head in [
        format!(
            "GET /v2/ HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "y".repeat(2 << 20)
        ),
        format!(
            "GET /v2/{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "y".repeat(2 << 20)
        ),
    ] {
        let answer = raw(server, head.as_bytes())?;
        ensure(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            || String::from_utf8_lossy(&answer).into_owned(),
        )?;
    }
    let answer = raw(
        server,
        format!("GET /v2/ HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes(),
    )?;
    // Go's server takes any number of small ones.
    let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
    ensure(refused || server.kind == Kind::Debian, || {
        String::from_utf8_lossy(&answer).into_owned()
    })?;
    alive(server)
}

fn pipelined(server: &Server) -> Verdict {
    let repository = server.repository();
    let digests: Vec<_> = [b"first".as_slice(), b"second", b"third"]
        .into_iter()
        .map(|bytes| server.push_blob(&repository, bytes))
        .collect::<Result<_, _>>()?;
    let mut stream = connect(server.address).map_err(io)?;
    let requests: String = digests
        .iter()
        .map(|digest| {
            server
                .request("GET", &format!("/v2/{repository}/blobs/{digest}"))
                .head()
        })
        .collect();
    stream.write_all(requests.as_bytes()).map_err(io)?;
    let mut reader = BufReader::new(stream);
    for bytes in [b"first".as_slice(), b"second", b"third"] {
        read_response(&mut reader, false)
            .map_err(io)?
            .is(200)?
            .holds(bytes)?;
    }
    Ok(())
}

fn http_1_0(server: &Server) -> Verdict {
    let answer = raw(server, b"GET /v2/ HTTP/1.0\r\n\r\n")?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let sound = text.starts_with("HTTP/1.0 200") || text.starts_with("HTTP/1.1 200");
    ensure(sound && text.ends_with("{}"), || text)
}

fn expecting(
    server: &Server,
    method: &'static str,
    target: &str,
    length: usize,
) -> Result<BufReader<TcpStream>, String> {
    let mut stream = connect(server.address).map_err(io)?;
    let request = server.request(method, target);
    let request = request
        .header("Content-Length", length)
        .header("Content-Type", MANIFEST);
    let head = request.header("Expect", "100-continue").head();
    stream.write_all(head.as_bytes()).map_err(io)?;
    Ok(BufReader::new(stream))
}

fn told_to_go_on(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    let separator = if location.contains('?') { '&' } else { '?' };
    let target = format!("{location}{separator}digest={}", digest(b"0123456789"));
    let mut reader = expecting(server, "PUT", &target, 10)?;
    read_response(&mut reader, false).map_err(io)?.is(100)?;
    reader.get_mut().write_all(b"0123456789").map_err(io)?;
    read_response(&mut reader, false)
        .map_err(io)?
        .is(201)
        .map(drop)
}

fn told_no(server: &Server) -> Verdict {
    let target = format!("/v2/{}/blobs/uploads/none", server.repository());
    let mut reader = expecting(server, "PATCH", &target, 1 << 40)?;
    read_response(&mut reader, false)
        .map_err(io)?
        .is(404)
        .map(drop)
}

fn refused_body(server: &Server) -> Verdict {
    let bytes = noise(3, 20 << 20);
    let target = format!("/v2/{}/blobs/uploads/none", server.repository());
    let request = server.request("PATCH", &target);
    let response = request.body(&bytes).send();
    // Debian's closes the connection under a client that is still sending.
    match (response, server.kind) {
        (Err(_), Kind::Debian) => Ok(()),
        (response, _) => response?.is(404).map(drop),
    }
}

/// Sends the beginning of a request and is gone.
fn send_and_vanish(server: &Server, head: &str, bytes: &[u8]) -> Verdict {
    let mut stream = connect(server.address).map_err(io)?;
    stream.write_all(head.as_bytes()).map_err(io)?;
    stream.write_all(bytes).map_err(io)
}

fn broken_off(server: &Server) -> Verdict {
    let repository = server.repository();
    let bytes = noise(4, 1 << 20);
    let digest = digest(&bytes);
    let request = server.request("POST", &format!("/v2/{repository}/blobs/uploads/"));
    let head = request
        .query("digest", &digest)
        .header("Content-Length", bytes.len())
        .head();
    send_and_vanish(server, &head, &bytes[..bytes.len() / 2])?;
    let request = server.request("PUT", &server.start(&repository)?);
    let head = request
        .query("digest", &digest)
        .header("Content-Length", bytes.len())
        .head();
    send_and_vanish(server, &head, &bytes[..bytes.len() / 2])?;
    server
        .head(&format!("/v2/{repository}/blobs/{digest}"))?
        .is(404)?;
    alive(server)
}

/// It says more than it sends, and ends: what came would fit the digest.
fn too_short(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = digest(b"short");
    let request = server.request("PUT", &server.start(&repository)?);
    let head = request
        .query("digest", &digest)
        .header("Content-Length", 10)
        .head();
    let answer = raw(server, &[head.as_bytes(), b"short"].concat())?;
    ensure(
        answer.is_empty() || !answer.starts_with(b"HTTP/1.1 2"),
        || String::from_utf8_lossy(&answer).into_owned(),
    )?;
    server
        .head(&format!("/v2/{repository}/blobs/{digest}"))?
        .is(404)
        .map(drop)
}

fn broken_chunks(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = digest(b"short");
    for body in [
        &b"5\r\nshort\r\n"[..],
        b"5\r\nshort\r\nxyz\r\n",
        b"5\r\nshortnonsense",
    ] {
        let request = server.request("PUT", &server.start(&repository)?);
        let request = request
            .query("digest", &digest)
            .header("Transfer-Encoding", "chunked");
        let answer = raw(server, &[request.head().as_bytes(), body].concat())?;
        ensure(!answer.starts_with(b"HTTP/1.1 2"), || {
            String::from_utf8_lossy(&answer).into_owned()
        })?;
    }
    server
        .head(&format!("/v2/{repository}/blobs/{digest}"))?
        .is(404)
        .map(drop)
}

/// How far an upload is, once it is as far as it gets: what was sent may still be on its way, before
/// which nothing came (which is written `0-0`).
fn settled_offset(server: &Server, location: &str) -> Result<usize, String> {
    let deadline = Instant::now() + smidge_tests::PATIENCE;
    loop {
        ensure(Instant::now() < deadline, || "it goes on and on".to_owned())?;
        let response = server
            .request("PATCH", location)
            .header("Content-Range", "9999-9999")
            .body(b"x")
            .send()?;
        // While the broken request is still being read, others are told 409.
        if response.status != 409 {
            let range = response.is(416)?.must("Range")?;
            if range == "0-0" {
                continue;
            }
            let last = range
                .strip_prefix("0-")
                .and_then(|last| last.parse::<usize>().ok());
            return last.map(|last| last + 1).ok_or(range);
        }
        std::thread::yield_now();
    }
}

fn resumed_after_breaking_off(server: &Server) -> Verdict {
    let repository = server.repository();
    let bytes = noise(5, 1 << 20);
    let location = server.start(&repository)?;
    let head = server
        .request("PATCH", &location)
        .header("Content-Length", bytes.len())
        .head();
    send_and_vanish(server, &head, &bytes[..700_000])?;
    let offset = settled_offset(server, &location)?;
    ensure(offset <= 700_000, || format!("{offset} bytes came"))?;
    server
        .request("PATCH", &location)
        .header("Content-Range", format!("{offset}-{}", bytes.len() - 1))
        .body(&bytes[offset..])
        .send()?
        .is(202)?;
    let put = server
        .request("PUT", &location)
        .query("digest", &digest(&bytes));
    put.send()?.is(201)?;
    let target = format!("/v2/{repository}/blobs/{}", digest(&bytes));
    server.get(&target)?.is(200)?.holds(&bytes).map(drop)
}

fn no_files(_: &Server) -> Verdict {
    let server = Server::smidge(&[]);
    let files = || {
        let entries = std::fs::read_dir(server.store().join("tmp")).map_err(io)?;
        Ok::<_, String>(entries.count())
    };
    let repository = server.repository();
    let bytes = noise(6, 1 << 20);
    let location = server.start(&repository)?;
    server
        .request("PATCH", &location)
        .body(&bytes)
        .send()?
        .is(202)?;
    ensure(files()? == 1, || {
        "no file for an upload in progress".to_owned()
    })?;
    server.delete(&location)?.is(204)?;
    broken_off(&server)?;
    let put = server
        .request("PUT", &server.start(&repository)?)
        .query("digest", NOTHING);
    put.body(&bytes).send()?.is(400)?;
    // A request that broke off ends in its own time; nothing else is left to wait for.
    let deadline = Instant::now() + smidge_tests::PATIENCE;
    while files()? > 0 {
        ensure(Instant::now() < deadline, || {
            "an upload that broke off is still there".to_owned()
        })?;
        alive(&server)?;
        std::thread::yield_now();
    }
    let blobs = std::fs::read_dir(server.store().join("blobs/sha256")).map_err(io)?;
    ensure(blobs.count() == 0, || "there are blobs".to_owned())
}

/// Sixty clients that send half a head, half a body, or never read what they asked for.
fn stalled(server: &Server) -> Verdict {
    let repository = server.repository();
    let big = server.push_blob(&repository, &noise(7, 8 << 20))?;
    let mut stalled = Vec::new();
    for number in 0..60 {
        let mut stream = connect(server.address).map_err(io)?;
        let text = match number % 3 {
            0 => "GET /v2/ HTTP/1.1\r\nHost".to_owned(),
            1 => {
                let request = server.request("PATCH", &server.start(&repository)?);
                request.header("Content-Length", 1 << 20).head() + "half"
            }
            _ => server
                .request("GET", &format!("/v2/{repository}/blobs/{big}"))
                .head(),
        };
        stream.write_all(text.as_bytes()).map_err(io)?;
        stalled.push(stream);
    }
    let image = server.push_image(&repository, "1", "not stalled")?;
    let target = format!("/v2/{repository}/manifests/1");
    server.get(&target)?.is(200)?.holds(&image.manifest)?;
    let target = format!("/v2/{repository}/blobs/{big}");
    let response = server.get(&target)?.is(200)?;
    is_refusal(&server.get("/v2/UPPER/tags/list")?)?;
    ensure(response.body.len() == 8 << 20, || "not all came".to_owned())
}
