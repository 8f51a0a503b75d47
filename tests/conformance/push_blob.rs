//! Category push, blobs: end-4, end-5, end-6, end-11, end-13, end-14.

use std::thread;

use crate::case::{Case, Debian};
use crate::client::{Response, Verdict, ensure};
use crate::content::{NOTHING, digest, noise};
use crate::server::Server;

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "end-4a",
        "POST starts an upload: 202 and a location with a UUID",
        start,
    ),
    Case::new(
        "end-6",
        "POST, then PUT of everything: 201 and a pullable location",
        monolithic,
    ),
    Case::new(
        "end-4b",
        "a single POST: 201 and a pullable location, or 202",
        single_post,
    ),
    Case::new(
        "end-4b",
        "a single POST of other bytes is 400 DIGEST_INVALID",
        single_post_of_others,
    )
    .at_debian(Debian::Differs("has no single POST: 202")),
    Case::new(
        "end-6",
        "PUT of other bytes is 400 DIGEST_INVALID, and nothing is there",
        other_bytes,
    ),
    Case::new("end-6", "PUT without a digest is 400", no_digest),
    Case::new(
        "end-6",
        "PUT with a malformed digest is 400",
        malformed_digest,
    ),
    Case::new(
        "end-6",
        "PUT with a digest that is not supported says so",
        sha512,
    ),
    Case::new(
        "end-5",
        "chunks: PATCH is 202 with location and range, PUT is 201",
        chunks,
    ),
    Case::new(
        "end-6",
        "the last chunk may come with PUT",
        last_chunk_with_put,
    ),
    Case::new(
        "end-5",
        "a stream without Content-Range or length is taken",
        streamed,
    ),
    Case::new("end-5", "a chunk out of order is 416", out_of_order)
        .at_debian(Debian::Differs("does not look at Content-Range in 2.8")),
    Case::new("end-5", "a chunk that came before is 416", repeated)
        .at_debian(Debian::Differs("does not look at Content-Range in 2.8")),
    Case::new(
        "end-6",
        "PUT of a chunk out of order is 416",
        last_chunk_out_of_order,
    )
    .at_debian(Debian::Differs("does not look at Content-Range in 2.8")),
    Case::new(
        "end-5",
        "a malformed Content-Range is 416 or 400",
        malformed_range,
    )
    .at_debian(Debian::Differs("does not look at Content-Range in 2.8")),
    Case::new(
        "end-5",
        "Content-Range and Content-Length that differ are refused",
        differing_length,
    )
    .at_debian(Debian::Differs("does not look at Content-Range in 2.8")),
    Case::new(
        "end-13",
        "GET of an upload is 204 with location and range",
        status,
    ),
    Case::new(
        "end-13",
        "after 416 the upload goes on where it is",
        resumed,
    )
    .at_debian(Debian::Differs("does not look at Content-Range in 2.8")),
    Case::new(
        "end-14",
        "DELETE of an upload is 204, and it is gone",
        cancelled,
    ),
    Case::new(
        "end-5",
        "an unknown upload is 404 BLOB_UPLOAD_UNKNOWN",
        unknown_upload,
    )
    .at_debian(Debian::Differs(
        "calls it invalid: its locations are signed",
    )),
    Case::new(
        "end-5",
        "an upload is unknown in another repository",
        upload_of_another,
    )
    .at_debian(Debian::Differs(
        "calls it invalid: its locations are signed",
    )),
    Case::new("end-6", "a finished upload is gone", finished),
    Case::new(
        "end-11",
        "mounting is 201 with a pullable location",
        mounted,
    ),
    Case::new(
        "end-11",
        "mounting what is not there starts an upload: 202",
        mounting_nothing,
    ),
    Case::new(
        "end-11",
        "mounting without `from` is 201 or 202",
        mounted_from_anywhere,
    ),
    Case::new(
        "end-11",
        "mounting with malformed arguments starts an upload or is 4xx",
        mounted_wrongly,
    ),
    Case::new(
        "end-11",
        "a mounted blob outlives the one it came from",
        mounted_outlives,
    ),
    Case::new("end-6", "pushing a blob again is 201", again),
    Case::new(
        "end-6",
        "one blob pushed by eight at once is there once",
        at_once,
    ),
    Case::new(
        "end-5",
        "two requests cannot write to one upload",
        two_writers,
    )
    .at_debian(Debian::NotAsked),
];

const OCTETS: &str = "application/octet-stream";

fn pullable(server: &Server, response: &Response, bytes: &[u8]) -> Verdict {
    let location = response.must("Location")?;
    server.get(&location)?.is(200)?.holds(bytes).map(drop)
}

fn patch(server: &Server, location: &str, range: &str, bytes: &[u8]) -> Result<Response, String> {
    server
        .request("PATCH", location)
        .header("Content-Type", OCTETS)
        .header("Content-Range", range)
        .body(bytes)
        .send()
}

fn start(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    let is_uuid = |part: &str| {
        let lengths: Vec<_> = part.split('-').map(str::len).collect();
        lengths == [8, 4, 4, 4, 12]
    };
    ensure(location.split(['/', '?']).any(is_uuid), || {
        format!("no UUID in `{location}`")
    })
}

fn monolithic(server: &Server) -> Verdict {
    let repository = server.repository();
    let bytes = b"monolithic";
    let response = server
        .request("PUT", &server.start(&repository)?)
        .query("digest", &digest(bytes))
        .header("Content-Type", OCTETS)
        .body(bytes)
        .send()?
        .is(201)?
        .has("Docker-Content-Digest", digest(bytes))?;
    pullable(server, &response, bytes)
}

fn single_post(server: &Server) -> Verdict {
    let bytes = b"at once";
    let response = server
        .request(
            "POST",
            &format!("/v2/{}/blobs/uploads/", server.repository()),
        )
        .query("digest", &digest(bytes))
        .header("Content-Type", OCTETS)
        .body(bytes)
        .send()?
        .among(&[201, 202])?;
    match response.status {
        201 => pullable(server, &response, bytes),
        _ => response.must("Location").map(drop),
    }
}

fn single_post_of_others(server: &Server) -> Verdict {
    let repository = server.repository();
    server
        .request("POST", &format!("/v2/{repository}/blobs/uploads/"))
        .query("digest", NOTHING)
        .body(b"not this")
        .send()?
        .is(400)?
        .says(&["DIGEST_INVALID"])?;
    server
        .head(&format!("/v2/{repository}/blobs/{NOTHING}"))?
        .is(404)
        .map(drop)
}

fn other_bytes(server: &Server) -> Verdict {
    let repository = server.repository();
    let wanted = digest(b"what was meant");
    server
        .request("PUT", &server.start(&repository)?)
        .query("digest", &wanted)
        .body(b"what was sent")
        .send()?
        .is(400)?
        .says(&["DIGEST_INVALID"])?;
    for digest in [wanted, digest(b"what was sent")] {
        server
            .head(&format!("/v2/{repository}/blobs/{digest}"))?
            .is(404)?;
    }
    Ok(())
}

fn no_digest(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    let response = server.request("PUT", &location).body(b"bytes").send()?;
    response.is(400)?.says(&["DIGEST_INVALID"]).map(drop)
}

fn malformed_digest(server: &Server) -> Verdict {
    for text in ["sha256:0", "nonsense", "sha256:", "sha256:0123456789ABCDEF"] {
        let location = server.start(&server.repository())?;
        let request = server.request("PUT", &location).query("digest", text);
        request
            .body(b"bytes")
            .send()?
            .is(400)?
            .says(&["DIGEST_INVALID"])?;
    }
    Ok(())
}

fn sha512(server: &Server) -> Verdict {
    let text = format!("sha512:{}", "0".repeat(128));
    let location = server.start(&server.repository())?;
    let request = server.request("PUT", &location).query("digest", &text);
    let response = request
        .body(b"bytes")
        .send()?
        .is(400)?
        .says(&["DIGEST_INVALID", "UNSUPPORTED"])?;
    let body = String::from_utf8_lossy(&response.body).into_owned();
    ensure(body.contains("sha512"), || {
        response.complaint("no word of sha512")
    })
}

fn chunks(server: &Server) -> Verdict {
    let repository = server.repository();
    let first = patch(server, &server.start(&repository)?, "0-3", b"0123")?
        .is(202)?
        .has("Range", "0-3")?;
    let second = patch(server, &first.must("Location")?, "4-9", b"456789")?
        .is(202)?
        .has("Range", "0-9")?;
    let response = server
        .request("PUT", &second.must("Location")?)
        .query("digest", &digest(b"0123456789"))
        .send()?
        .is(201)?;
    pullable(server, &response, b"0123456789")
}

fn last_chunk_with_put(server: &Server) -> Verdict {
    let repository = server.repository();
    let first = patch(server, &server.start(&repository)?, "0-3", b"0123")?.is(202)?;
    let response = server
        .request("PUT", &first.must("Location")?)
        .query("digest", &digest(b"0123456789"))
        .header("Content-Range", "4-9")
        .body(b"456789")
        .send()?
        .is(201)?;
    pullable(server, &response, b"0123456789")
}

fn streamed(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    let response = server
        .request("PATCH", &location)
        .header("Transfer-Encoding", "chunked")
        .body(b"4\r\nsome\r\n6\r\nstream\r\n0\r\n\r\n")
        .send()?
        .is(202)?
        .has("Range", "0-9")?;
    let response = server
        .request("PUT", &response.must("Location")?)
        .query("digest", &digest(b"somestream"))
        .send()?
        .is(201)?;
    pullable(server, &response, b"somestream")
}

fn out_of_order(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    patch(server, &location, "4-9", b"456789")?
        .is(416)
        .map(drop)
}

fn repeated(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    let first = patch(server, &location, "0-3", b"0123")?.is(202)?;
    patch(server, &first.must("Location")?, "0-3", b"0123")?
        .is(416)
        .map(drop)
}

fn last_chunk_out_of_order(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    server
        .request("PUT", &location)
        .query("digest", &digest(b"0123456789"))
        .header("Content-Range", "4-9")
        .body(b"456789")
        .send()?
        .is(416)
        .map(drop)
}

fn malformed_range(server: &Server) -> Verdict {
    for range in ["a-b", "-5", "5-4", "0", "-1--2"] {
        let location = server.start(&server.repository())?;
        patch(server, &location, range, b"01234")?.among(&[416, 400])?;
    }
    Ok(())
}

fn differing_length(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    patch(server, &location, "0-9", b"01234")?
        .among(&[400, 416])
        .map(drop)
}

fn status(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    let response = server.get(&location)?.is(204)?;
    response.must("Location")?;
    response.must("Range")?;
    let patched = patch(server, &location, "0-6", b"0123456")?.is(202)?;
    let response = server
        .get(&patched.must("Location")?)?
        .is(204)?
        .has("Range", "0-6")?;
    response.must("Location").map(drop)
}

fn resumed(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    let first = patch(server, &location, "0-3", b"0123")?.is(202)?;
    patch(server, &first.must("Location")?, "6-9", b"6789")?.is(416)?;
    let status = server
        .get(&first.must("Location")?)?
        .is(204)?
        .has("Range", "0-3")?;
    let second = patch(server, &status.must("Location")?, "4-9", b"456789")?.is(202)?;
    let response = server
        .request("PUT", &second.must("Location")?)
        .query("digest", &digest(b"0123456789"))
        .send()?
        .is(201)?;
    pullable(server, &response, b"0123456789")
}

fn cancelled(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    let first = patch(server, &location, "0-3", b"0123")?.is(202)?;
    let location = first.must("Location")?;
    server.delete(&location)?.is(204)?;
    server
        .get(&location)?
        .is(404)?
        .says(&["BLOB_UPLOAD_UNKNOWN"])?;
    server.delete(&location)?.is(404).map(drop)
}

fn unknown_upload(server: &Server) -> Verdict {
    let repository = server.repository();
    let id = "01234567-89ab-4def-8123-456789abcdef";
    let target = format!("/v2/{repository}/blobs/uploads/{id}");
    server
        .get(&target)?
        .is(404)?
        .says(&["BLOB_UPLOAD_UNKNOWN"])?;
    server.delete(&target)?.is(404)?;
    server
        .request("PATCH", &target)
        .body(b"bytes")
        .send()?
        .is(404)?;
    let put = server.request("PUT", &target).query("digest", NOTHING);
    put.body(b"bytes").send()?.is(404).map(drop)
}

fn upload_of_another(server: &Server) -> Verdict {
    let (one, other) = (server.repository(), server.repository());
    let location = server.start(&one)?.replace(&one, &other);
    server
        .get(&location)?
        .is(404)?
        .says(&["BLOB_UPLOAD_UNKNOWN"])
        .map(drop)
}

fn finished(server: &Server) -> Verdict {
    let location = server.start(&server.repository())?;
    let put = || {
        server
            .request("PUT", &location)
            .query("digest", &digest(b"once"))
            .body(b"once")
            .send()
    };
    put()?.is(201)?;
    server.get(&location)?.is(404)?;
    put()?.is(404).map(drop)
}

fn mount(
    server: &Server,
    into: &str,
    digest: &str,
    from: Option<&str>,
) -> Result<Response, String> {
    let request = server.request("POST", &format!("/v2/{into}/blobs/uploads/"));
    let request = request.query("mount", digest);
    match from {
        Some(from) => request.query("from", from).send(),
        None => request.send(),
    }
}

fn mounted(server: &Server) -> Verdict {
    let (one, other) = (server.repository(), server.repository());
    let digest = server.push_blob(&one, b"to be mounted")?;
    server
        .head(&format!("/v2/{other}/blobs/{digest}"))?
        .is(404)?;
    let response = mount(server, &other, &digest, Some(&one))?.is(201)?;
    pullable(server, &response, b"to be mounted")?;
    server
        .head(&format!("/v2/{other}/blobs/{digest}"))?
        .is(200)
        .map(drop)
}

fn mounting_nothing(server: &Server) -> Verdict {
    let (one, other) = (server.repository(), server.repository());
    server.push_blob(&one, b"something else")?;
    let response = mount(server, &other, NOTHING, Some(&one))?.is(202)?;
    let put = server.request("PUT", &response.must("Location")?);
    put.query("digest", &digest(b"x"))
        .body(b"x")
        .send()?
        .is(201)
        .map(drop)
}

fn mounted_from_anywhere(server: &Server) -> Verdict {
    let (one, other) = (server.repository(), server.repository());
    let digest = server.push_blob(&one, b"from anywhere")?;
    let response = mount(server, &other, &digest, None)?.among(&[201, 202])?;
    match response.status {
        201 => pullable(server, &response, b"from anywhere"),
        _ => response.must("Location").map(drop),
    }
}

fn mounted_wrongly(server: &Server) -> Verdict {
    let repository = server.repository();
    for (digest, from) in [
        ("nonsense", "a"),
        (NOTHING, "..%2f"),
        ("", ""),
        (NOTHING, "UPPER"),
    ] {
        let response = mount(server, &repository, digest, Some(from))?;
        ensure((200..500).contains(&response.status), || {
            response.complaint("expected 2xx or 4xx")
        })?;
    }
    Ok(())
}

fn mounted_outlives(server: &Server) -> Verdict {
    let (one, other) = (server.repository(), server.repository());
    let digest = server.push_blob(&one, b"outlives")?;
    mount(server, &other, &digest, Some(&one))?.is(201)?;
    server
        .delete(&format!("/v2/{one}/blobs/{digest}"))?
        .is(202)?;
    server.head(&format!("/v2/{one}/blobs/{digest}"))?.is(404)?;
    server
        .get(&format!("/v2/{other}/blobs/{digest}"))?
        .is(200)?
        .holds(b"outlives")
        .map(drop)
}

fn again(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = server.push_blob(&repository, b"again")?;
    server.push_blob(&repository, b"again")?;
    server
        .get(&format!("/v2/{repository}/blobs/{digest}"))?
        .is(200)?
        .holds(b"again")
        .map(drop)
}

fn at_once(server: &Server) -> Verdict {
    let repository = server.repository();
    let bytes = noise(8, 3_000_000);
    let pushed = thread::scope(|scope| {
        let pushing: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| server.push_blob(&repository, &bytes)))
            .collect();
        pushing
            .into_iter()
            .map(|pushing| pushing.join().unwrap())
            .collect::<Result<Vec<_>, _>>()
    })?;
    let target = format!("/v2/{repository}/blobs/{}", pushed[0]);
    server.get(&target)?.is(200)?.holds(&bytes).map(drop)
}

/// While one request's body is on its way, another's is refused, and the first goes on.
fn two_writers(server: &Server) -> Verdict {
    use std::io::{BufReader, Write as _};
    let location = server.start(&server.repository())?;
    let io = |error: std::io::Error| error.to_string();
    let mut slow = crate::client::connect(server.address).map_err(io)?;
    let head = server
        .request("PATCH", &location)
        .header("Content-Length", 10)
        .header("Expect", "100-continue")
        .head();
    slow.write_all(head.as_bytes()).map_err(io)?;
    let mut reader = BufReader::new(slow.try_clone().map_err(io)?);
    // Told to go on, it is the one that writes.
    crate::client::read_response(&mut reader, false)
        .map_err(io)?
        .is(100)?;
    server
        .request("PATCH", &location)
        .body(b"others")
        .send()?
        .is(409)?;
    slow.write_all(b"0123456789").map_err(io)?;
    crate::client::read_response(&mut reader, false)
        .map_err(io)?
        .is(202)?
        .has("Range", "0-9")?;
    let put = server
        .request("PUT", &location)
        .query("digest", &digest(b"0123456789"));
    put.send()?.is(201).map(drop)
}
