use smidge_image::{Index, Manifest};

use super::*;
use crate::testing::{Reply, Seen, Server, blob, repository, wire};

fn index() -> Vec<u8> {
    Index::new(Vec::new()).to_bytes()
}

fn pull(servers: &[&Server], reference: &str) -> Result<Document> {
    repository(&wire(), servers, Access::Pull).document(reference)
}

#[test]
fn a_document_is_fetched_by_tag_and_by_digest() {
    let bytes = index();
    let digest = Digest::of(&bytes);
    let answer = bytes.clone();
    let server = Server::start(move |_: &Seen| {
        Reply::new(200)
            .header("content-type", media_type::INDEX)
            .header("docker-content-digest", Digest::of(&answer).to_string())
            .body(answer.clone())
    });
    let document = pull(&[&server], "v1").unwrap();
    assert_eq!(
        document.descriptor,
        Descriptor::of(media_type::INDEX, &bytes)
    );
    assert_eq!(document.bytes, bytes);
    assert_eq!(pull(&[&server], &digest.to_string()).unwrap(), document);
    let seen = server.seen();
    assert_eq!(seen[0].line(), "GET /v2/a/b/manifests/v1");
    assert_eq!(seen[1].line(), format!("GET /v2/a/b/manifests/{digest}"));
    assert_eq!(
        seen[0].header("accept"),
        Some(
            "application/vnd.oci.image.index.v1+json, \
             application/vnd.oci.image.manifest.v1+json, \
             application/vnd.docker.distribution.manifest.list.v2+json, \
             application/vnd.docker.distribution.manifest.v2+json"
        )
    );
}

#[test]
fn what_is_not_what_was_asked_for_is_corrupt() {
    let bytes = index();
    let other = Digest::of(b"other");
    let server = Server::replies([Reply::new(200).body(bytes.clone())]);
    let error = pull(&[&server], &other.to_string()).unwrap_err();
    let Error::Corrupt {
        expected,
        received,
        received_size,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (expected, received, received_size),
        (other, Digest::of(&bytes), bytes.len() as u64)
    );

    let told = Reply::new(200).header("docker-content-digest", other.to_string());
    let error = pull(&[&Server::replies([told.body(bytes.clone())])], "v1").unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");

    // Other algorithms cannot be checked, and need not be where nothing was pinned.
    let told = Reply::new(200).header("docker-content-digest", "sha512:00");
    pull(&[&Server::replies([told.body(bytes)])], "v1").unwrap();
    let error = pull(&[&Server::replies([])], "sha512:00").unwrap_err();
    assert!(
        matches!(&error, Error::Refused { .. } | Error::Protocol { .. }),
        "{error}"
    );
}

#[test]
fn a_document_says_best_what_it_is() {
    let config = Descriptor::new(media_type::CONFIG, Digest::of(b""), 0);
    let mut manifest = Manifest::new(config, Vec::new());
    manifest.media_type = None;
    let plain_manifest = manifest.to_bytes();
    let mut index = Index::new(Vec::new());
    index.media_type = None;
    let plain_index = index.to_bytes();
    let said = br#"{"schemaVersion":2,"mediaType":"application/x-own"}"#.to_vec();
    for (content_type, bytes, media_type) in [
        (
            media_type::DOCKER_MANIFEST,
            plain_manifest.clone(),
            media_type::DOCKER_MANIFEST,
        ),
        (
            "application/json; charset=utf-8",
            plain_manifest.clone(),
            media_type::MANIFEST,
        ),
        ("text/plain", plain_index.clone(), media_type::INDEX),
        (media_type::INDEX, said, "application/x-own"),
    ] {
        let reply = Reply::new(200)
            .header("content-type", content_type)
            .body(bytes);
        let document = pull(&[&Server::replies([reply])], "1").unwrap();
        assert_eq!(document.descriptor.media_type, media_type);
    }
    let reply = Reply::new(200)
        .header("content-type", "text/html")
        .body("<html>");
    let error = pull(&[&Server::replies([reply])], "1").unwrap_err();
    assert!(error.to_string().contains("this is no manifest"), "{error}");
}

#[test]
fn schema_1_is_refused_clearly() {
    let types = [
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/json",
    ];
    for content_type in types {
        let reply = Reply::new(200).header("content-type", content_type);
        let reply = reply.body(r#"{"schemaVersion":1,"name":"a/b"}"#);
        let error = pull(&[&Server::replies([reply])], "1").unwrap_err();
        assert!(matches!(error, Error::Schema1 { .. }), "{error}");
    }
}

#[test]
fn documents_have_a_longest_size() {
    let long = vec![b' '; 4 << 20];
    let fits = [&b"{}"[..], &long[2..]].concat();
    pull(
        &[&Server::replies([Reply::new(200).body(fits.clone())])],
        "1",
    )
    .unwrap();
    let error = pull(
        &[&Server::replies([
            Reply::new(200).body([fits, b" ".to_vec()].concat())
        ])],
        "1",
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("longer than 4194304 bytes")
    );
    let (_, mut descriptor) = blob(3);
    descriptor.size = (4 << 20) + 1;
    let server = Server::replies([]);
    let wire = wire();
    assert!(
        repository(&wire, &[&server], Access::Pull)
            .small_blob(&descriptor)
            .is_err()
    );
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn a_head_tells_without_sending() {
    let digest = Digest::of(b"x");
    let head = Reply::new(200)
        .header("content-type", media_type::INDEX)
        .header("content-length", "77");
    let told = head
        .clone()
        .header("docker-content-digest", digest.to_string());
    let server = Server::replies([told, Reply::new(404), head]);
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Pull);
    let expected = Head {
        media_type: media_type::INDEX.to_owned(),
        digest: Some(digest),
        size: 77,
    };
    assert_eq!(repository.head("1").unwrap(), Some(expected.clone()));
    assert_eq!(repository.head("1").unwrap(), None);
    let untold = Head {
        digest: None,
        ..expected
    };
    assert_eq!(repository.head("1").unwrap(), Some(untold));
    assert_eq!(server.lines(), ["HEAD /v2/a/b/manifests/1"; 3]);
}

#[test]
fn a_registry_without_head_is_asked_for_the_document() {
    let bytes = index();
    let answer = bytes.clone();
    let server = Server::start(move |seen: &Seen| match seen.method.as_str() {
        "HEAD" => Reply::new(405),
        _ => Reply::new(200).body(answer.clone()),
    });
    let wire = wire();
    let head = repository(&wire, &[&server], Access::Pull)
        .head("1")
        .unwrap()
        .unwrap();
    assert_eq!(
        (head.digest, head.size),
        (Some(Digest::of(&bytes)), bytes.len() as u64)
    );
}

#[test]
fn mirrors_are_asked_in_order_and_the_registry_last() {
    let failures = [
        Reply::new(404),
        Reply::new(403),
        Reply::new(500),
        Reply::new(200).body("<html>"),
        Reply::gone(),
    ];
    for failure in failures {
        let mirror = Server::start(move |_: &Seen| failure.clone());
        let own = Server::start(|_: &Seen| Reply::new(200).body(index()));
        pull(&[&mirror, &own], "1").unwrap();
        assert!(!mirror.seen().is_empty());
        assert_eq!(own.seen().len(), 1);
    }
    let mirror = Server::start(|_: &Seen| Reply::new(200).body(index()));
    let own = Server::replies([]);
    pull(&[&mirror, &own], "1").unwrap();
    assert_eq!(own.seen().len(), 0);

    // What the registry itself says counts.
    let (mirror, own) = (
        Server::replies([Reply::new(403)]),
        Server::replies([Reply::new(404)]),
    );
    let error = pull(&[&mirror, &own], "1").unwrap_err();
    let (error, mirrors) = error.into_parts();
    assert!(!mirrors.is_empty());
    assert!(
        matches!(&error, Error::NotFound { request, .. } if request.contains(&own.host())),
        "{error}"
    );
}

#[test]
fn a_mirror_for_digests_alone_is_not_asked_for_tags() {
    let bytes = index();
    let digest = Digest::of(&bytes).to_string();
    let answer = move |_: &Seen| Reply::new(200).body(index());
    let (mirror, own) = (Server::start(answer), Server::start(answer));
    let endpoint = Endpoint {
        digests_only: true,
        ..mirror.endpoint()
    };
    let wire = wire();
    let repository = Repository::new(&wire, vec![endpoint, own.endpoint()], Access::Pull).unwrap();
    repository.document("1").unwrap();
    repository.head("1").unwrap();
    assert_eq!((mirror.seen().len(), own.seen().len()), (0, 2));
    repository.document(&digest).unwrap();
    assert_eq!((mirror.seen().len(), own.seen().len()), (1, 2));
}

#[test]
fn small_blobs_are_verified() {
    let (bytes, descriptor) = blob(100);
    let mut wrong = bytes.clone();
    wrong[50] ^= 1;
    let server = Server::replies([
        Reply::new(200).body(bytes.clone()),
        Reply::new(200).body(wrong),
    ]);
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Pull);
    assert_eq!(repository.small_blob(&descriptor).unwrap(), bytes);
    let error = repository.small_blob(&descriptor).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn wrong_bytes_of_a_mirror_do_not_count() {
    let (bytes, descriptor) = blob(100);
    let (wrong, right) = ([0; 100], bytes.clone());
    let mirror = Server::start(move |_: &Seen| Reply::new(200).body(wrong));
    let own = Server::start(move |_: &Seen| Reply::new(200).body(right.clone()));
    let wire = wire();
    let repository = repository(&wire, &[&mirror, &own], Access::Pull);
    assert_eq!(repository.small_blob(&descriptor).unwrap(), bytes);
    let mut received = Vec::new();
    let mut reader = repository.without_mirrors().blob(&descriptor, 0).unwrap();
    reader.read_to_end(&mut received).unwrap();
    assert_eq!(received, bytes);
    assert_eq!((mirror.seen().len(), own.seen().len()), (1, 2));
}

#[test]
fn a_blob_behind_a_redirect_is_there() {
    let storage = Server::start(|seen: &Seen| Reply::new(seen.target[1..].parse().unwrap()));
    for (status, there) in [
        (200, true),
        (405, true),
        (404, false),
        (403, false),
        (401, false),
    ] {
        let to = storage.url(&format!("/{status}"));
        let server = Server::start(move |_: &Seen| Reply::new(307).header("location", to.clone()));
        let wire = wire();
        let repository = repository(&wire, &[&server], Access::Push);
        assert_eq!(repository.has_blob(&Digest::of(b"")).unwrap(), there);
    }
    let server = Server::replies([Reply::new(200), Reply::new(404), Reply::new(403)]);
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Push);
    assert!(repository.has_blob(&Digest::of(b"")).unwrap());
    assert!(!repository.has_blob(&Digest::of(b"")).unwrap());
    assert!(matches!(
        repository.has_blob(&Digest::of(b"")),
        Err(Error::Denied { .. })
    ));
}

#[test]
fn a_manifest_that_is_put_keeps_its_digest() {
    let bytes = index();
    let digest = Digest::of(&bytes);
    let told = |digest: Digest| Reply::new(201).header("docker-content-digest", digest.to_string());
    let server = Server::replies([told(digest), Reply::new(201), told(Digest::of(b"other"))]);
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Push);
    assert_eq!(
        repository
            .put("1", media_type::INDEX, &bytes)
            .unwrap()
            .digest,
        digest
    );
    assert_eq!(
        repository
            .put(&digest.to_string(), media_type::INDEX, &bytes)
            .unwrap()
            .digest,
        digest
    );
    let error = repository.put("1", media_type::INDEX, &bytes).unwrap_err();
    assert!(
        error.to_string().contains("the registry took it for"),
        "{error}"
    );
    let seen = &server.seen()[0];
    assert_eq!(seen.line(), "PUT /v2/a/b/manifests/1");
    assert_eq!(seen.header("content-type"), Some(media_type::INDEX));
    assert_eq!(seen.body, bytes);
}

#[test]
fn a_put_that_fails_in_passing_is_repeated() {
    let server = Server::replies([Reply::new(503), Reply::gone(), Reply::new(201)]);
    let wire = wire();
    repository(&wire, &[&server], Access::Push)
        .put("1", media_type::INDEX, &index())
        .unwrap();
    assert!(server.seen().iter().all(|seen| seen.body == index()));
}

#[test]
fn what_is_deleted_is_deleted_by_name() {
    let server = Server::replies([Reply::new(202), Reply::new(405)]);
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Delete);
    repository.delete("1").unwrap();
    let error = repository.delete("1").unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(server.lines(), ["DELETE /v2/a/b/manifests/1"; 2]);
}

#[test]
fn what_the_mirrors_said_is_told_when_the_registry_fails_too() {
    let mirror =
        Server::start(|_: &Seen| Reply::new(403).json(r#"{"errors":[{"code":"DENIED"}]}"#));
    let lacks = Server::start(|_: &Seen| Reply::new(404));
    let own = Server::start(|_: &Seen| Reply::new(404));
    let wire = wire();
    let servers = [&mirror, &lacks, &own];
    let repository = repository(&wire, &servers, Access::Pull);
    let told = |error: Error| {
        let (error, mirrors) = error.into_parts();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        assert_eq!(mirrors.len(), 1, "{mirrors:?}");
        assert!(mirrors[0].contains(&mirror.host()), "{mirrors:?}");
        assert!(mirrors[0].ends_with(": 403 DENIED"), "{mirrors:?}");
    };
    told(repository.document("1").unwrap_err());
    let descriptor = Descriptor::of("x", b"blob");
    told(repository.small_blob(&descriptor).unwrap_err());
    told(repository.blob(&descriptor, 0).err().unwrap());
    assert_eq!(repository.head("1").unwrap(), None);
}
