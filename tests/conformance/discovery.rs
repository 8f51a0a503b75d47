//! Category content discovery: end-8, end-12, and Docker's catalog.

use serde_json::{Value, json};

use crate::case::{Case, Debian};
use crate::client::{Response, Verdict, ensure};
use crate::content::{EMPTY, INDEX, MANIFEST, NOTHING, descriptor, digest, manifest};
use crate::server::Server;

const NO_REFERRERS: Debian = Debian::Differs("has no referrers in 2.8");

pub(crate) const CASES: &[Case] = &[
    Case::new("end-8a", "tags are listed in order, with the name", tags)
        .at_debian(Debian::Differs("keeps them in no order in 2.8")),
    Case::new(
        "end-8a",
        "tags of an unknown repository are 404 NAME_UNKNOWN",
        unknown_repository,
    ),
    Case::new(
        "end-8a",
        "a repository whose manifests have no tags has none",
        no_tags,
    )
    .at_debian(Debian::Differs("tells 404")),
    Case::new(
        "end-8b",
        "`n` limits the list, and Link leads through all of it",
        pages,
    )
    .at_debian(Debian::Differs("knows no pages of tags in 2.8")),
    Case::new(
        "end-8b",
        "`last` starts behind a tag, whether that is there or not",
        last,
    )
    .at_debian(Debian::Differs("knows no pages of tags in 2.8")),
    Case::new("end-8b", "`n` of zero lists nothing, without a Link", zero)
        .at_debian(Debian::Differs("knows no pages of tags in 2.8")),
    Case::new(
        "end-8b",
        "`n` that is all of them or more has no Link",
        enough,
    )
    .at_debian(Debian::Differs("knows no pages of tags in 2.8")),
    Case::new("end-8b", "`n` that is no number is 400", no_number)
        .at_debian(Debian::Differs("knows no pages of tags in 2.8")),
    Case::new(
        "end-12a",
        "what nothing refers to has an empty index, 200",
        no_referrers,
    )
    .at_debian(NO_REFERRERS),
    Case::new(
        "end-12a",
        "an unknown repository has an empty index, too",
        unknown_subject,
    )
    .at_debian(NO_REFERRERS),
    Case::new("end-12a", "a malformed digest is 400", malformed_digest).at_debian(NO_REFERRERS),
    Case::new(
        "end-12a",
        "referrers have type, size, artifact type and annotations",
        referrers,
    )
    .at_debian(NO_REFERRERS),
    Case::new(
        "end-12a",
        "an index refers, and has no artifact type of its own",
        referring_index,
    )
    .at_debian(NO_REFERRERS),
    Case::new(
        "end-12a",
        "referrers are those of their own repository",
        of_another,
    )
    .at_debian(NO_REFERRERS),
    Case::new(
        "end-12b",
        "artifactType filters, and the answer says so",
        filter,
    )
    .at_debian(NO_REFERRERS),
    Case::new(
        "end-12a",
        "a deleted referrer refers no more",
        deleted_referrer,
    )
    .at_debian(NO_REFERRERS),
    Case::new(
        "end-12a",
        "many referrers come in pages that Link leads through",
        many_referrers,
    )
    .at_debian(NO_REFERRERS),
    Case::new(
        "catalog",
        "repositories are listed in order, in pages",
        catalog,
    ),
];

fn tags(server: &Server) -> Verdict {
    let repository = server.repository();
    for tag in ["v1", "latest", "10", "V1", "2", "a-b", "a_b", "_x"] {
        server.push_image(&repository, tag, tag)?;
    }
    let response = server
        .get(&format!("/v2/{repository}/tags/list"))?
        .is(200)?;
    let kind = response.must("Content-Type")?;
    ensure(kind.starts_with("application/json"), || {
        response.complaint("no JSON")
    })?;
    let expected = ["10", "2", "V1", "_x", "a-b", "a_b", "latest", "v1"];
    let document = response.json()?;
    ensure(
        document == json!({"name": repository, "tags": expected}),
        || response.complaint("other tags"),
    )
}

fn unknown_repository(server: &Server) -> Verdict {
    let target = format!("/v2/{}/tags/list", server.repository());
    server
        .get(&target)?
        .is(404)?
        .says(&["NAME_UNKNOWN"])
        .map(drop)
}

fn no_tags(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, b"{}")?;
    let document = manifest(descriptor(EMPTY, b"{}"), vec![]).to_string();
    let reference = digest(document.as_bytes());
    server
        .put(&repository, &reference, MANIFEST, document.as_bytes())?
        .is(201)?;
    let tags = server.tags(&format!("/v2/{repository}/tags/list"))?;
    ensure(tags.is_empty(), || format!("tags: {tags:?}"))
}

/// Where a `Link` leads.
fn next(response: &Response) -> Result<Option<String>, String> {
    let Some(link) = response.header("Link") else {
        return Ok(None);
    };
    let target = link
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .filter(|(_, rest)| rest.replace(' ', "") == ";rel=\"next\"");
    match target {
        Some((target, _)) => Ok(Some(target.to_owned())),
        None => Err(response.complaint(&format!("no link: `{link}`"))),
    }
}

/// Follows links, and gathers what each page has under a key.
fn walk(server: &Server, target: &str, key: &str) -> Result<(Vec<Value>, usize), String> {
    let (mut found, mut pages) = (Vec::new(), 0);
    let mut target = Some(target.to_owned());
    while let Some(at) = target {
        let response = server.get(&at)?.is(200)?;
        let page = response.json()?[key].as_array().cloned();
        found.extend(page.ok_or_else(|| response.complaint("no list"))?);
        pages += 1;
        target = next(&response)?;
        if pages > 100 {
            return Err("links lead on for ever".to_owned());
        }
    }
    Ok((found, pages))
}

fn five_tags(server: &Server) -> Result<String, String> {
    let repository = server.repository();
    for tag in ["a", "b", "c", "d", "e"] {
        server.push_image(&repository, tag, "five tags")?;
    }
    Ok(repository)
}

fn pages(server: &Server) -> Verdict {
    let repository = five_tags(server)?;
    let (tags, pages) = walk(server, &format!("/v2/{repository}/tags/list?n=2"), "tags")?;
    ensure(
        tags == json!(["a", "b", "c", "d", "e"])
            .as_array()
            .cloned()
            .unwrap(),
        || format!("tags: {tags:?}"),
    )?;
    ensure(pages == 3, || format!("{pages} pages"))
}

fn last(server: &Server) -> Verdict {
    let repository = five_tags(server)?;
    for (query, expected) in [
        ("last=c", vec!["d", "e"]),
        ("last=bb", vec!["c", "d", "e"]),
        ("n=1&last=a", vec!["b"]),
        ("last=e", vec![]),
        ("n=2&last=z", vec![]),
    ] {
        let tags = server.tags(&format!("/v2/{repository}/tags/list?{query}"))?;
        ensure(tags == expected, || format!("{query}: {tags:?}"))?;
    }
    Ok(())
}

fn zero(server: &Server) -> Verdict {
    let repository = five_tags(server)?;
    let response = server
        .get(&format!("/v2/{repository}/tags/list?n=0"))?
        .is(200)?
        .lacks("Link")?;
    ensure(response.json()?["tags"] == json!([]), || {
        response.complaint("there are tags")
    })
}

fn enough(server: &Server) -> Verdict {
    let repository = five_tags(server)?;
    for n in [5, 6, usize::MAX] {
        let target = format!("/v2/{repository}/tags/list?n={n}");
        server.get(&target)?.is(200)?.lacks("Link")?;
    }
    let target = format!("/v2/{repository}/tags/list?n=4");
    server.get(&target)?.is(200)?.must("Link").map(drop)
}

fn no_number(server: &Server) -> Verdict {
    let repository = five_tags(server)?;
    for n in ["x", "-1", "1.5", "99999999999999999999999"] {
        server
            .get(&format!("/v2/{repository}/tags/list?n={n}"))?
            .is(400)?;
    }
    Ok(())
}

fn referrers_of(server: &Server, repository: &str, query: &str) -> Result<Vec<Value>, String> {
    let response = server.get(&format!("/v2/{repository}/referrers/{query}"))?;
    let response = response.is(200)?.has("Content-Type", INDEX)?;
    let document = response.json()?;
    let sound = document["schemaVersion"] == 2 && document["mediaType"] == INDEX;
    ensure(sound, || response.complaint("no index"))?;
    let found = document["manifests"].as_array().cloned();
    found.ok_or_else(|| response.complaint("no list of manifests"))
}

fn no_referrers(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "lonely")?;
    for subject in [&*image.digest, NOTHING] {
        let found = referrers_of(server, &repository, subject)?;
        ensure(found.is_empty(), || format!("{found:?}"))?;
    }
    Ok(())
}

fn unknown_subject(server: &Server) -> Verdict {
    let found = referrers_of(server, &server.repository(), NOTHING)?;
    ensure(found.is_empty(), || format!("{found:?}"))
}

fn malformed_digest(server: &Server) -> Verdict {
    let repository = server.repository();
    for text in ["sha256:0", "latest", "sha256%3A"] {
        server
            .get(&format!("/v2/{repository}/referrers/{text}"))?
            .is(400)?;
    }
    Ok(())
}

/// A manifest about another one, pushed without a tag.
fn refer(
    server: &Server,
    repository: &str,
    subject: &[u8],
    change: impl FnOnce(&mut Value),
) -> Result<Value, String> {
    server.push_blob(repository, b"{}")?;
    let mut document = manifest(descriptor(EMPTY, b"{}"), vec![]);
    document["subject"] = descriptor(MANIFEST, subject);
    change(&mut document);
    let kind = document["mediaType"]
        .as_str()
        .unwrap_or(MANIFEST)
        .to_owned();
    let bytes = document.to_string().into_bytes();
    server
        .put(repository, &digest(&bytes), &kind, &bytes)?
        .is(201)?;
    Ok(descriptor(&kind, &bytes))
}

/// Whether two lists hold the same, in whatever order.
fn same(found: &[Value], expected: &[Value]) -> Verdict {
    let all = expected.iter().all(|one| found.contains(one));
    ensure(all && found.len() == expected.len(), || {
        format!("found {found:?}, expected {expected:?}")
    })
}

fn referrers(server: &Server) -> Verdict {
    let repository = server.repository();
    // The first one comes before what it is about.
    let subject = manifest(descriptor(EMPTY, b"{}"), vec![]).to_string();
    let mut first = refer(server, &repository, subject.as_bytes(), |document| {
        document["artifactType"] = json!("application/x.sbom");
        document["annotations"] = json!({"org.example.format": "json", "n": "1"});
    })?;
    server
        .put(&repository, "1", MANIFEST, subject.as_bytes())?
        .is(201)?;
    let mut second = refer(server, &repository, subject.as_bytes(), |document| {
        document["annotations"] = json!({"n": "2"});
    })?;
    let mut third = refer(server, &repository, subject.as_bytes(), |document| {
        document["artifactType"] = json!("");
        document["config"]["mediaType"] = json!("application/x.config");
    })?;
    first["artifactType"] = json!("application/x.sbom");
    first["annotations"] = json!({"org.example.format": "json", "n": "1"});
    second["artifactType"] = json!(EMPTY);
    second["annotations"] = json!({"n": "2"});
    third["artifactType"] = json!("application/x.config");
    let found = referrers_of(server, &repository, &digest(subject.as_bytes()))?;
    same(&found, &[first, second, third])
}

fn referring_index(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "referring index")?;
    let refer = |change: &dyn Fn(&mut Value)| {
        refer(server, &repository, &image.manifest, |document| {
            document["mediaType"] = json!(INDEX);
            document["manifests"] = json!([descriptor(MANIFEST, &image.manifest)]);
            let fields = document.as_object_mut().unwrap();
            fields.remove("config");
            fields.remove("layers");
            change(document);
        })
    };
    let plain = refer(&|_| {})?;
    let mut typed = refer(&|document| document["artifactType"] = json!("application/x.set"))?;
    typed["artifactType"] = json!("application/x.set");
    same(
        &referrers_of(server, &repository, &image.digest)?,
        &[plain, typed],
    )
}

fn of_another(server: &Server) -> Verdict {
    let (one, other) = (server.repository(), server.repository());
    let image = server.push_image(&one, "1", "of another repository")?;
    refer(server, &one, &image.manifest, |_| {})?;
    let found = referrers_of(server, &other, &image.digest)?;
    ensure(found.is_empty(), || format!("{found:?}"))
}

fn filter(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "filter")?;
    let kinds = ["application/x.a+json", "application/x.b"];
    for kind in kinds {
        refer(server, &repository, &image.manifest, |document| {
            document["artifactType"] = json!(kind);
        })?;
    }
    let target = format!("/v2/{repository}/referrers/{}", image.digest);
    server.get(&target)?.is(200)?.lacks("OCI-Filters-Applied")?;
    for (wanted, count) in [
        ("application/x.a%2Bjson", 1),
        ("application/x.b", 1),
        ("application/x.c", 0),
    ] {
        let target = format!("{target}?artifactType={wanted}");
        let response = server
            .get(&target)?
            .is(200)?
            .has("OCI-Filters-Applied", "artifactType")?;
        let found = response.json()?["manifests"].as_array().map_or(9, Vec::len);
        ensure(found == count, || {
            response.complaint(&format!("expected {count}"))
        })?;
    }
    Ok(())
}

fn deleted_referrer(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "deleted referrer")?;
    let referrer = refer(server, &repository, &image.manifest, |_| {})?;
    ensure(
        referrers_of(server, &repository, &image.digest)?.len() == 1,
        || "none".to_owned(),
    )?;
    let digest = referrer["digest"].as_str().unwrap_or_default();
    server
        .delete(&format!("/v2/{repository}/manifests/{digest}"))?
        .is(202)?;
    let found = referrers_of(server, &repository, &image.digest)?;
    ensure(found.is_empty(), || format!("{found:?}"))
}

fn many_referrers(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "many referrers")?;
    let mut expected = Vec::new();
    for number in 0..4 {
        let note = json!({"number": number.to_string(), "note": "x".repeat(1_500_000)});
        let mut referrer = refer(server, &repository, &image.manifest, |document| {
            document["annotations"] = note.clone();
        })?;
        referrer["artifactType"] = json!(EMPTY);
        referrer["annotations"] = note;
        expected.push(referrer);
    }
    let target = format!("/v2/{repository}/referrers/{}", image.digest);
    let (found, pages) = walk(server, &target, "manifests")?;
    ensure(pages > 1, || "6 MB came in one document".to_owned())?;
    ensure(
        found.len() == 4 && expected.iter().all(|one| found.contains(one)),
        || format!("{} referrers", found.len()),
    )
}

fn catalog(server: &Server) -> Verdict {
    let mut expected = Vec::new();
    for _ in 0..3 {
        let repository = server.repository();
        server.push_image(&repository, "1", "catalog")?;
        expected.push(repository);
    }
    let (all, _) = walk(server, "/v2/_catalog?n=1000", "repositories")?;
    let names: Vec<_> = all.iter().filter_map(Value::as_str).collect();
    ensure(names.is_sorted(), || "the names are in no order".to_owned())?;
    for name in &expected {
        ensure(names.contains(&&**name), || {
            format!("`{name}` is not listed")
        })?;
    }
    let (paged, pages) = walk(server, "/v2/_catalog?n=2", "repositories")?;
    ensure(paged == all && pages == all.len().div_ceil(2), || {
        format!("{} of {} in {pages} pages", paged.len(), all.len())
    })
}
