//! The server as a whole: memory, restarts, reading alone, its end.

use std::io::{BufReader, Read as _, Write as _};
use std::thread;

use crate::case::{Case, Debian};
use crate::client::{Verdict, connect, ensure};
use crate::content::{ACCEPT, CONFIG, MANIFEST, config, descriptor, digest, manifest, noise};
use crate::server::Server;

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "memory",
        "100 MB pushed and pulled four times at once take 64 MB at most",
        memory,
    )
    .at_debian(Debian::NotAsked),
    Case::new(
        "memory",
        "eight manifests of 4 MiB at once take 64 MB at most",
        many_parts,
    )
    .at_debian(Debian::NotAsked),
    Case::new(
        "restart",
        "everything is there after a restart, untagged manifests too",
        restart,
    )
    .at_debian(Debian::NotAsked),
    Case::new(
        "read-only",
        "a server that only reads serves, refuses, and changes nothing",
        read_only,
    )
    .at_debian(Debian::NotAsked),
    Case::new(
        "end",
        "SIGTERM lets a transfer finish, and the process ends with 0",
        graceful_end,
    )
    .at_debian(Debian::NotAsked),
    Case::new(
        "end",
        "SIGTERM ends a server whose clients do nothing",
        idle_end,
    )
    .at_debian(Debian::NotAsked),
];

fn io(error: std::io::Error) -> String {
    error.to_string()
}

const LIMIT: u64 = 64 << 20;

fn memory(_: &Server) -> Verdict {
    let server = Server::smidge(&[]);
    let repository = server.repository();
    let blobs: Vec<_> = (0..4).map(|seed| noise(seed, 100_000_000)).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = blobs
            .iter()
            .map(|bytes| {
                scope.spawn(|| {
                    let digest = server.push_blob(&repository, bytes)?;
                    let target = format!("/v2/{repository}/blobs/{digest}");
                    server.get(&target)?.is(200)?.holds(bytes).map(drop)
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap())
    })?;
    let peak = server.peak_memory();
    ensure(peak <= LIMIT, || format!("{} MB", peak >> 20))
}

/// Manifests of as many layers as there can be: some that are there, some that are not.
fn many_parts(_: &Server) -> Verdict {
    let server = Server::smidge(&[]);
    let repository = server.repository();
    server.push_blob(&repository, &config("many parts"))?;
    server.push_blob(&repository, b"layer")?;
    let config = descriptor(CONFIG, &config("many parts"));
    thread::scope(|scope| {
        let pushing: Vec<_> = (0..8_usize)
            .map(|number| {
                let (server, repository, config) = (&server, &repository, config.clone());
                scope.spawn(move || {
                    let layers = (0..27_000_usize).map(|layer| match number % 2 {
                        0 => descriptor("layer", b"layer"),
                        _ => descriptor("layer", &layer.to_le_bytes()),
                    });
                    let document = manifest(config, layers.collect()).to_string();
                    let answer = server.put(repository, "1", MANIFEST, document.as_bytes())?;
                    match number % 2 {
                        0 => answer.is(201).map(drop),
                        _ => answer.is(404)?.says(&["MANIFEST_BLOB_UNKNOWN"]).map(drop),
                    }
                })
            })
            .collect();
        pushing
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap())
    })?;
    let peak = server.peak_memory();
    ensure(peak <= LIMIT, || format!("{} MB", peak >> 20))
}

fn restart(_: &Server) -> Verdict {
    let dir = tempfile::tempdir().map_err(io)?;
    let store = dir.path().join("store");
    let untagged = manifest(descriptor(CONFIG, &config("untagged")), vec![]).to_string();
    let image = {
        let server = Server::smidge_over(&store, &[]);
        server.push_blob("kept", &config("untagged"))?;
        server
            .put(
                "kept",
                &digest(untagged.as_bytes()),
                MANIFEST,
                untagged.as_bytes(),
            )?
            .is(201)?;
        server.push_image("kept", "1", "restart")?
        // Dropping it kills it.
    };
    let server = Server::smidge_over(&store, &[]);
    let target = |rest: &str| format!("/v2/kept/{rest}");
    server
        .get(&target("manifests/1"))?
        .is(200)?
        .holds(&image.manifest)?;
    server
        .get(&target(&format!(
            "manifests/{}",
            digest(untagged.as_bytes())
        )))?
        .is(200)?
        .holds(untagged.as_bytes())?;
    server
        .get(&target(&format!("blobs/{}", digest(&image.layer))))?
        .is(200)?
        .holds(&image.layer)?;
    let tags = server.tags(&target("tags/list"))?;
    ensure(tags == ["1"], || format!("tags: {tags:?}"))
}

fn read_only(_: &Server) -> Verdict {
    let dir = tempfile::tempdir().map_err(io)?;
    let store = dir.path().join("store");
    let image = Server::smidge_over(&store, &[]).push_image("kept", "1", "read only")?;
    let index = || std::fs::read(store.join("index.json")).map_err(io);
    let before = index()?;
    let server = Server::smidge_over(&store, &["--read-only"]);
    server
        .get("/v2/kept/manifests/1")?
        .is(200)?
        .holds(&image.manifest)?;
    let layer = format!("/v2/kept/blobs/{}", digest(&image.layer));
    server.get(&layer)?.is(200)?.holds(&image.layer)?;
    for (method, target) in [
        ("POST", "/v2/kept/blobs/uploads/".to_owned()),
        ("PUT", "/v2/kept/manifests/2".to_owned()),
        ("DELETE", "/v2/kept/manifests/1".to_owned()),
        ("DELETE", format!("/v2/kept/manifests/{}", image.digest)),
        ("DELETE", layer),
    ] {
        let request = server
            .request(method, &target)
            .header("Content-Type", MANIFEST);
        let response = request.body(&image.manifest).send()?;
        response.is(405)?.says(&["UNSUPPORTED"])?;
    }
    ensure(index()? == before, || "the index changed".to_owned())
}

fn graceful_end(_: &Server) -> Verdict {
    let mut server = Server::smidge(&[]);
    let bytes = noise(9, 30_000_000);
    let digest = server.push_blob("kept", &bytes)?;
    let request = server.request("GET", &format!("/v2/kept/blobs/{digest}"));
    let mut stream = connect(server.address).map_err(io)?;
    let head = request.header("Accept", ACCEPT).head();
    stream.write_all(head.as_bytes()).map_err(io)?;
    let mut reader = BufReader::new(stream);
    // The transfer has begun, and is too large to lie in the sockets' buffers.
    let mut first = [0];
    reader.read_exact(&mut first).map_err(io)?;
    server.interrupt();
    let response = crate::client::read_response_after(&mut reader, first[0]).map_err(io)?;
    response.is(200)?.holds(&bytes)?;
    let status = server.wait();
    ensure(status.code() == Some(0), || {
        format!("it ended with {status}")
    })?;
    ensure(connect(server.address).is_err(), || {
        "it still listens".to_owned()
    })
}

fn idle_end(_: &Server) -> Verdict {
    let mut server = Server::smidge(&[]);
    let location = server.start("kept")?;
    server
        .request("PATCH", &location)
        .body(b"some")
        .send()?
        .is(202)?;
    let mut idle = connect(server.address).map_err(io)?;
    idle.write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")
        .map_err(io)?;
    let mut reader = BufReader::new(idle);
    crate::client::read_response(&mut reader, false)
        .map_err(io)?
        .is(200)?;
    server.interrupt();
    let status = server.wait();
    ensure(status.code() == Some(0), || {
        format!("it ended with {status}")
    })?;
    let left = std::fs::read_dir(server.store().join("tmp")).map_err(io)?;
    ensure(left.count() == 0, || "files of uploads are left".to_owned())
}
