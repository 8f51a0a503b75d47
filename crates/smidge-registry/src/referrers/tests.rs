use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::json;
use smidge_image::Manifest;

use super::*;
use crate::Access;
use crate::testing::{Reply, Seen, Server, repository, wire};

fn subject() -> Descriptor {
    Descriptor::of(media_type::MANIFEST, b"the subject")
}

fn artifact(number: usize) -> Vec<u8> {
    let config = Descriptor::of("application/x-config", b"{}");
    let mut manifest = Manifest::new(config, Vec::new());
    manifest.annotations = BTreeMap::from([("number".to_owned(), number.to_string())]);
    manifest
        .extra
        .insert("subject".to_owned(), json!(subject()));
    if number > 0 {
        manifest.extra.insert(
            "artifactType".to_owned(),
            json!(format!("application/x-{number}")),
        );
    }
    manifest.to_bytes()
}

/// A registry that keeps manifests and knows no referrers.
fn old_registry() -> Server {
    let kept: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
    Server::start(move |seen: &Seen| {
        let mut kept = kept.lock().unwrap();
        let Some(name) = seen.target.strip_prefix("/v2/a/b/manifests/") else {
            return Reply::new(404)
                .header("content-type", "text/plain")
                .body("404 page not found");
        };
        match seen.method.as_str() {
            "PUT" => {
                kept.insert(Digest::of(&seen.body).to_string(), seen.body.clone());
                kept.insert(name.to_owned(), seen.body.clone());
                Reply::new(201)
            }
            "DELETE" => Reply::new(kept.remove(name).map_or(404, |_| 202)),
            _ => kept
                .get(name)
                .map_or(Reply::new(404), |bytes| Reply::new(200).body(bytes.clone())),
        }
    })
}

#[test]
fn without_the_api_a_list_is_kept_under_a_tag() {
    let server = old_registry();
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Delete);
    let subject = subject().digest;
    assert_eq!(repository.referrers(&subject, None).unwrap().manifests, []);
    for number in [0, 1, 2, 1] {
        let bytes = artifact(number);
        let digest = Digest::of(&bytes).to_string();
        repository
            .put(&digest, media_type::MANIFEST, &bytes)
            .unwrap();
    }
    let listed = repository.referrers(&subject, None).unwrap();
    let facts: Vec<_> = listed
        .manifests
        .iter()
        .map(|found| {
            (
                found.extra["artifactType"].as_str().unwrap(),
                found.annotations["number"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            ("application/x-config", "0"),
            ("application/x-1", "1"),
            ("application/x-2", "2")
        ]
    );
    let first = &listed.manifests[0];
    assert_eq!(
        (first.digest, first.size),
        (Digest::of(&artifact(0)), artifact(0).len() as u64)
    );
    assert_eq!(first.media_type, media_type::MANIFEST);
    let tag = format!("/v2/a/b/manifests/sha256-{}", subject.hex());
    assert!(
        server
            .seen()
            .iter()
            .any(|seen| seen.is("PUT", &tag)
                && seen.header("content-type") == Some(media_type::INDEX))
    );

    let filtered = repository
        .referrers(&subject, Some("application/x-1"))
        .unwrap();
    assert_eq!(filtered.manifests.len(), 1);
    assert_eq!(filtered.manifests[0].digest, Digest::of(&artifact(1)));

    repository
        .delete(&Digest::of(&artifact(1)).to_string())
        .unwrap();
    let left = repository.referrers(&subject, None).unwrap();
    assert_eq!(left.manifests.len(), 2);
    assert!(
        left.manifests
            .iter()
            .all(|found| found.digest != Digest::of(&artifact(1)))
    );
}

#[test]
fn a_registry_that_knows_referrers_keeps_no_list() {
    let server = Server::start(|seen: &Seen| match seen.method.as_str() {
        "PUT" => Reply::new(201).header("oci-subject", subject().digest.to_string()),
        _ => Reply::new(500),
    });
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Push);
    repository
        .put("x", media_type::MANIFEST, &artifact(1))
        .unwrap();
    assert_eq!(server.lines(), ["PUT /v2/a/b/manifests/x"]);
}

#[test]
fn what_has_no_subject_is_not_listed() {
    let server = Server::start(|_: &Seen| Reply::new(201));
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Push);
    for bytes in [
        &b"{}"[..],
        br#"{"subject":null}"#,
        b"[",
        br#"{"subject":{"digest":"sha512:0"}}"#,
    ] {
        repository.put("x", media_type::MANIFEST, bytes).unwrap();
    }
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn the_api_is_asked_page_by_page_and_filtered_here_too() {
    let page = |numbers: &[usize]| {
        let entries = numbers.iter().map(|n| {
            let referrer: Referrer = serde_json::from_slice(&artifact(*n)).unwrap();
            referrer.entry(media_type::MANIFEST, &artifact(*n))
        });
        let reply = Reply::new(200).header("content-type", media_type::INDEX);
        reply.body(Index::new(entries.collect()).to_bytes())
    };
    let server = Server::start(move |seen: &Seen| match seen.parameter("last") {
        None => page(&[1, 2]).header("link", "<?last=2>; rel=\"next\""),
        Some(_) => page(&[1, 0]),
    });
    let wire = wire();
    let repository = repository(&wire, &[&server], Access::Pull);
    let all = repository.referrers(&subject().digest, None).unwrap();
    assert_eq!(all.manifests.len(), 4);
    let ours = repository
        .referrers(&subject().digest, Some("application/x-1"))
        .unwrap();
    assert_eq!(ours.manifests.len(), 2);
    let expected = format!(
        "GET /v2/a/b/referrers/{}?artifactType=application/x-1",
        subject().digest
    );
    assert_eq!(server.lines()[2], expected);
}

#[test]
fn refusals_are_errors() {
    let server = Server::replies([Reply::new(403)]);
    let wire = wire();
    let asked = repository(&wire, &[&server], Access::Pull).referrers(&subject().digest, None);
    assert!(matches!(asked, Err(Error::Denied { .. })));
    let server = Server::replies([Reply::new(404), Reply::new(200).body("[]")]);
    let asked = repository(&wire, &[&server], Access::Pull).referrers(&subject().digest, None);
    assert!(matches!(asked, Err(Error::Protocol { .. })));
}
