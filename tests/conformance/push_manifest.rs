//! Category push, manifests: end-7.

use serde_json::json;

use crate::case::{Case, Debian};
use crate::client::{Verdict, ensure};
use crate::content::{
    CONFIG, DOCKER_MANIFEST, EMPTY, INDEX, LAYER, MANIFEST, NOTHING, config, descriptor, digest,
    manifest,
};
use crate::server::Server;

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "end-7",
        "PUT by tag: 201, a pullable location, the digest",
        by_tag,
    ),
    Case::new(
        "end-7",
        "PUT by digest: 201, and it is there without a tag",
        by_digest,
    ),
    Case::new(
        "end-7",
        "PUT by another digest is 400 DIGEST_INVALID",
        by_other_digest,
    ),
    Case::new(
        "end-7",
        "the very bytes are kept, spaces and all",
        very_bytes,
    ),
    Case::new(
        "end-7",
        "a tag moves, and what had it stays by digest",
        moved_tag,
    ),
    Case::new("end-7", "a manifest without layers is taken", no_layers),
    Case::new(
        "end-7",
        "a config that is no image's is taken, with an artifact type",
        artifact,
    ),
    Case::new(
        "end-7",
        "an image whose config does not fit is taken",
        unfitting_config,
    ),
    Case::new("end-7", "bare layers stay as they were pushed", bare_layers),
    Case::new(
        "end-7",
        "missing blobs are MANIFEST_BLOB_UNKNOWN, each of them",
        missing_blobs,
    ),
    Case::new(
        "end-7",
        "a blob of another repository is missing",
        blob_of_another,
    ),
    Case::new(
        "end-7",
        "an index with a missing manifest is MANIFEST_BLOB_UNKNOWN",
        missing_child,
    ),
    Case::new("end-7", "an index of indexes is taken", nested_index),
    Case::new(
        "end-7",
        "what is no manifest is 400 MANIFEST_INVALID",
        nonsense,
    )
    .at_debian(Debian::Differs("answers 500 to some")),
    Case::new(
        "end-7",
        "a document that is manifest and index at once is refused",
        both,
    ),
    Case::new(
        "end-7",
        "a manifest that contradicts its Content-Type is refused",
        contradiction,
    ),
    Case::new(
        "end-7",
        "parameters of the Content-Type are ignored",
        parameters,
    ),
    Case::new(
        "end-7",
        "a manifest without a media type is known by its Content-Type",
        untyped,
    ),
    Case::new("end-7", "Docker's schema 1 is refused", schema_1),
    Case::new("end-7", "4 MiB are taken", large),
    Case::new("end-7", "more than 4 MiB are 413", too_large)
        .at_debian(Debian::Differs("tells 400")),
    Case::new(
        "end-7",
        "a tag beyond the grammar is 4xx",
        ungrammatical_tag,
    ),
    Case::new("end-7", "a subject is answered with OCI-Subject", subject)
        .at_debian(Debian::Differs("knows no subjects in 2.8")),
    Case::new("end-7", "a subject may be missing", missing_subject)
        .at_debian(Debian::Differs("knows no subjects in 2.8")),
    Case::new(
        "end-7",
        "a layer that lies elsewhere may be missing",
        foreign_layer,
    )
    .at_debian(Debian::Differs(
        "takes only URLs that its configuration allows",
    )),
    Case::new(
        "end-7",
        "a size that is not the blob's is refused",
        wrong_size,
    )
    .at_debian(Debian::Differs("does not look")),
    Case::new(
        "end-7",
        "a digest of an unknown algorithm in a manifest is refused",
        unknown_algorithm,
    )
    .at_debian(Debian::Differs("takes sha512 for missing")),
];

fn put(
    server: &Server,
    repository: &str,
    tag: &str,
    document: &serde_json::Value,
) -> Result<crate::client::Response, String> {
    let kind = document["mediaType"].as_str().unwrap_or(MANIFEST);
    server.put(repository, tag, kind, document.to_string().as_bytes())
}

fn by_tag(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "first", "put by tag")?;
    let response = server
        .put(&repository, "second", MANIFEST, &image.manifest)?
        .is(201)?
        .has("Docker-Content-Digest", &image.digest)?;
    let location = response.must("Location")?;
    server
        .get(&location)?
        .is(200)?
        .holds(&image.manifest)
        .map(drop)
}

fn by_digest(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, &config("untagged"))?;
    let document = manifest(descriptor(CONFIG, &config("untagged")), vec![]).to_string();
    let digest = digest(document.as_bytes());
    server
        .put(&repository, &digest, MANIFEST, document.as_bytes())?
        .is(201)?;
    let target = format!("/v2/{repository}/manifests/{digest}");
    server.get(&target)?.is(200)?.holds(document.as_bytes())?;
    let tags = server.tags(&format!("/v2/{repository}/tags/list"));
    ensure(tags.is_err() || tags == Ok(vec![]), || {
        format!("tags: {tags:?}")
    })
}

fn by_other_digest(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "other digest")?;
    let response = server.put(&repository, NOTHING, MANIFEST, &image.manifest)?;
    response.is(400)?.says(&["DIGEST_INVALID"])?;
    server
        .get(&format!("/v2/{repository}/manifests/{NOTHING}"))?
        .is(404)
        .map(drop)
}

fn very_bytes(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, &config("spaces"))?;
    let mut document = manifest(descriptor(CONFIG, &config("spaces")), vec![]);
    document["unknown"] = json!({"b": 1.50, "a": [null, "\u{1f980}"]});
    let text = format!(
        "\n {}\t\n",
        serde_json::to_string_pretty(&document).unwrap()
    );
    server
        .put(&repository, "1", MANIFEST, text.as_bytes())?
        .is(201)?;
    server
        .get(&format!("/v2/{repository}/manifests/1"))?
        .is(200)?
        .has("Docker-Content-Digest", digest(text.as_bytes()))?
        .holds(text.as_bytes())
        .map(drop)
}

fn moved_tag(server: &Server) -> Verdict {
    let repository = server.repository();
    let old = server.push_image(&repository, "latest", "old")?;
    let new = server.push_image(&repository, "latest", "new")?;
    let target = format!("/v2/{repository}/manifests/latest");
    server.get(&target)?.is(200)?.holds(&new.manifest)?;
    let target = format!("/v2/{repository}/manifests/{}", old.digest);
    server.get(&target)?.is(200)?.holds(&old.manifest)?;
    let tags = server.tags(&format!("/v2/{repository}/tags/list"))?;
    ensure(tags == ["latest"], || format!("tags: {tags:?}"))
}

fn no_layers(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, &config("no layers"))?;
    let document = manifest(descriptor(CONFIG, &config("no layers")), vec![]);
    put(server, &repository, "1", &document)?.is(201).map(drop)
}

fn artifact(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, b"{}")?;
    server.push_blob(&repository, b"bill of materials")?;
    let mut document = manifest(
        descriptor(EMPTY, b"{}"),
        vec![descriptor("application/x.sbom", b"bill of materials")],
    );
    document["artifactType"] = json!("application/x.sbom");
    put(server, &repository, "sbom", &document)?.is(201)?;
    server
        .get(&format!("/v2/{repository}/manifests/sbom"))?
        .is(200)?
        .holds(document.to_string().as_bytes())
        .map(drop)
}

fn unfitting_config(server: &Server) -> Verdict {
    let repository = server.repository();
    let bare = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
    let bare = bare.to_string().into_bytes();
    server.push_blob(&repository, &bare)?;
    server.push_blob(&repository, b"no layer at all")?;
    let layers = vec![descriptor(LAYER, b"no layer at all")];
    let document = manifest(descriptor(CONFIG, &bare), layers);
    put(server, &repository, "1", &document)?.is(201)?;
    server
        .get(&format!("/v2/{repository}/manifests/1"))?
        .is(200)?
        .holds(document.to_string().as_bytes())
        .map(drop)
}

fn bare_layers(server: &Server) -> Verdict {
    let repository = server.repository();
    let layer = vec![0; 1024];
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    server.push_blob(&repository, &config)?;
    server.push_blob(&repository, &layer)?;
    let layers = vec![descriptor("application/vnd.oci.image.layer.v1.tar", &layer)];
    let document = manifest(descriptor(CONFIG, &config), layers);
    put(server, &repository, "bare", &document)?.is(201)?;
    server
        .get(&format!("/v2/{repository}/manifests/bare"))?
        .is(200)?
        .holds(document.to_string().as_bytes())
        .map(drop)
}

fn missing_blobs(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, &config("missing"))?;
    let layers = vec![
        descriptor(LAYER, b"missing 1"),
        descriptor(LAYER, b"missing 2"),
    ];
    let document = manifest(descriptor(CONFIG, &config("missing")), layers);
    let response = put(server, &repository, "1", &document)?;
    let response = response
        .among(&[400, 404])?
        .says(&["MANIFEST_BLOB_UNKNOWN"])?;
    let text = String::from_utf8_lossy(&response.body).into_owned();
    for bytes in [b"missing 1", b"missing 2"] {
        ensure(text.contains(&digest(bytes)), || {
            response.complaint("a blob is not named")
        })?;
    }
    server
        .get(&format!("/v2/{repository}/manifests/1"))?
        .is(404)
        .map(drop)
}

fn blob_of_another(server: &Server) -> Verdict {
    let (one, other) = (server.repository(), server.repository());
    server.push_blob(&one, &config("of another"))?;
    let document = manifest(descriptor(CONFIG, &config("of another")), vec![]);
    let response = put(server, &other, "1", &document)?;
    response
        .among(&[400, 404])?
        .says(&["MANIFEST_BLOB_UNKNOWN"])
        .map(drop)
}

fn missing_child(server: &Server) -> Verdict {
    let repository = server.repository();
    let child = json!({"mediaType": MANIFEST, "digest": NOTHING, "size": 7});
    let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]});
    let response = put(server, &repository, "1", &document)?;
    response
        .among(&[400, 404])?
        .says(&["MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN"])
        .map(drop)
}

fn nested_index(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "image", "nested")?;
    let index = |kind: &str, bytes: &[u8]| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(kind, bytes)]});
    let inner = index(MANIFEST, &image.manifest);
    put(server, &repository, "inner", &inner)?.is(201)?;
    let outer = index(INDEX, inner.to_string().as_bytes());
    put(server, &repository, "outer", &outer)?.is(201)?;
    let target = format!("/v2/{repository}/manifests/outer");
    server
        .get(&target)?
        .is(200)?
        .holds(outer.to_string().as_bytes())
        .map(drop)
}

fn nonsense(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, b"{}")?;
    for text in [
        "",
        "{",
        "nonsense",
        "[]",
        "null",
        "{}",
        r#"{"schemaVersion":2}"#,
        "\u{0}",
    ] {
        let response = server.put(&repository, "1", MANIFEST, text.as_bytes())?;
        response.is(400)?.says(&["MANIFEST_INVALID"])?;
    }
    server
        .get(&format!("/v2/{repository}/manifests/1"))?
        .is(404)
        .map(drop)
}

fn both(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "both")?;
    let mut document: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    document["manifests"] = json!([descriptor(MANIFEST, &image.manifest)]);
    for kind in [MANIFEST, INDEX] {
        document["mediaType"] = json!(kind);
        let response = put(server, &repository, "2", &document)?;
        response.is(400)?.says(&["MANIFEST_INVALID"])?;
    }
    Ok(())
}

fn contradiction(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "contradiction")?;
    for kind in [INDEX, DOCKER_MANIFEST] {
        let response = server.put(&repository, "2", kind, &image.manifest)?;
        response.is(400)?.says(&["MANIFEST_INVALID"])?;
    }
    Ok(())
}

fn parameters(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "parameters")?;
    let kind = format!("{MANIFEST}; charset=utf-8");
    server
        .put(&repository, "2", &kind, &image.manifest)?
        .is(201)?;
    server
        .get(&format!("/v2/{repository}/manifests/2"))?
        .is(200)?
        .has("Content-Type", MANIFEST)
        .map(drop)
}

fn untyped(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, &config("untyped"))?;
    let document =
        json!({"schemaVersion": 2, "config": descriptor(CONFIG, &config("untyped")), "layers": []});
    let text = document.to_string();
    server
        .put(&repository, "1", MANIFEST, text.as_bytes())?
        .is(201)?;
    let target = format!("/v2/{repository}/manifests/1");
    server
        .get(&target)?
        .is(200)?
        .has("Content-Type", MANIFEST)?
        .holds(text.as_bytes())
        .map(drop)
}

fn schema_1(server: &Server) -> Verdict {
    let repository = server.repository();
    let document = json!({
        "schemaVersion": 1, "name": repository, "tag": "1", "architecture": "amd64",
        "fsLayers": [], "history": [], "signatures": [],
    });
    for kind in [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ] {
        let response = server.put(&repository, "1", kind, document.to_string().as_bytes())?;
        response.is(400)?.says(&["MANIFEST_INVALID"])?;
    }
    Ok(())
}

/// A manifest of so many bytes.
fn padded(server: &Server, repository: &str, size: usize) -> Result<Vec<u8>, String> {
    server.push_blob(repository, &config("padded"))?;
    let mut document = manifest(descriptor(CONFIG, &config("padded")), vec![]);
    document["annotations"] = json!({"padding": ""});
    let padding = size - document.to_string().len();
    document["annotations"]["padding"] = json!("x".repeat(padding));
    Ok(document.to_string().into_bytes())
}

fn large(server: &Server) -> Verdict {
    let repository = server.repository();
    let document = padded(server, &repository, 4 << 20)?;
    server.put(&repository, "1", MANIFEST, &document)?.is(201)?;
    server
        .get(&format!("/v2/{repository}/manifests/1"))?
        .is(200)?
        .holds(&document)
        .map(drop)
}

fn too_large(server: &Server) -> Verdict {
    let repository = server.repository();
    let document = padded(server, &repository, (4 << 20) + 1)?;
    server.put(&repository, "1", MANIFEST, &document)?.is(413)?;
    let mut chunked = format!("{:x}\r\n", document.len()).into_bytes();
    chunked.extend_from_slice(&document);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    server
        .request("PUT", &format!("/v2/{repository}/manifests/1"))
        .header("Content-Type", MANIFEST)
        .header("Transfer-Encoding", "chunked")
        .body(&chunked)
        .send()?
        .is(413)?;
    server
        .get(&format!("/v2/{repository}/manifests/1"))?
        .is(404)
        .map(drop)
}

fn ungrammatical_tag(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "put grammar")?;
    for tag in [".hidden", "-dash", "a+b", &"x".repeat(129)] {
        server
            .put(&repository, tag, MANIFEST, &image.manifest)?
            .among(&[400, 404])?;
    }
    let longest = "x".repeat(128);
    server
        .put(&repository, &longest, MANIFEST, &image.manifest)?
        .is(201)
        .map(drop)
}

fn subject(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "subject")?;
    server.push_blob(&repository, b"{}")?;
    let mut document = manifest(descriptor(EMPTY, b"{}"), vec![]);
    document["artifactType"] = json!("application/x.signature");
    document["subject"] = descriptor(MANIFEST, &image.manifest);
    put(server, &repository, "signature", &document)?
        .is(201)?
        .has("OCI-Subject", &image.digest)?;
    let without = server.put(&repository, "2", MANIFEST, &image.manifest)?;
    without.is(201)?.lacks("OCI-Subject").map(drop)
}

fn missing_subject(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, b"{}")?;
    let mut document = manifest(descriptor(EMPTY, b"{}"), vec![]);
    document["subject"] = json!({"mediaType": MANIFEST, "digest": NOTHING, "size": 7});
    put(server, &repository, "1", &document)?
        .is(201)?
        .has("OCI-Subject", NOTHING)
        .map(drop)
}

fn foreign_layer(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, &config("foreign"))?;
    let mut layer = descriptor(
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        b"elsewhere",
    );
    layer["urls"] = json!(["https://example.com/layer"]);
    let document = manifest(descriptor(CONFIG, &config("foreign")), vec![layer]);
    put(server, &repository, "1", &document)?.is(201).map(drop)
}

fn wrong_size(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, &config("size"))?;
    let mut config = descriptor(CONFIG, &config("size"));
    config["size"] = json!(7);
    let response = put(server, &repository, "1", &manifest(config, vec![]))?;
    response
        .is(400)?
        .says(&["MANIFEST_INVALID", "SIZE_INVALID"])
        .map(drop)
}

fn unknown_algorithm(server: &Server) -> Verdict {
    let repository = server.repository();
    let mut config = descriptor(CONFIG, b"{}");
    config["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
    let response = put(server, &repository, "1", &manifest(config, vec![]))?;
    response
        .is(400)?
        .says(&["MANIFEST_INVALID", "DIGEST_INVALID"])
        .map(drop)
}
