//! Category content management: end-9, end-10.

use serde_json::json;

use crate::case::{Case, Debian};
use crate::client::{Verdict, ensure};
use crate::content::{
    CONFIG, INDEX, LAYER, MANIFEST, NOTHING, config, descriptor, digest, manifest,
};
use crate::server::Server;

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "end-9",
        "DELETE of a tag is 202: the tag is gone, the manifest stays",
        delete_tag,
    )
    .at_debian(Debian::Differs("deletes by digest alone: 400")),
    Case::new(
        "end-9",
        "DELETE of a manifest is 202: it is gone with all its tags",
        delete_manifest,
    ),
    Case::new(
        "end-9",
        "DELETE of what is not there is 404",
        delete_nothing,
    )
    .at_debian(Debian::Differs("takes no tags here: 400")),
    Case::new(
        "end-9",
        "a manifest stays where it was not deleted",
        delete_in_one_repository,
    ),
    Case::new(
        "end-9",
        "tags/list is 200 when all tags are gone",
        no_tags_left,
    ),
    Case::new(
        "end-9",
        "a part of an index is deleted, or kept with 400 or 405",
        delete_child,
    ),
    Case::new("end-10", "DELETE of a blob is 202, then 404", delete_blob),
    Case::new("end-10", "DELETE of an unknown blob is 404", delete_no_blob),
    Case::new(
        "end-10",
        "a blob in use is deleted, or kept with 400 or 405",
        delete_used_blob,
    ),
    Case::new(
        "end-10",
        "blobs outlive a manifest that was deleted, until they are",
        delete_in_order,
    ),
    Case::new("end-9", "what was deleted can be pushed again", push_again),
];

fn delete_tag(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "one", "delete tag")?;
    server
        .put(&repository, "two", MANIFEST, &image.manifest)?
        .is(201)?;
    for tag in ["one", "two"] {
        let target = format!("/v2/{repository}/manifests/{tag}");
        server.delete(&target)?.is(202)?;
        server.get(&target)?.is(404)?;
    }
    let target = format!("/v2/{repository}/manifests/{}", image.digest);
    server.get(&target)?.is(200)?.holds(&image.manifest)?;
    let tags = server.tags(&format!("/v2/{repository}/tags/list"))?;
    ensure(tags.is_empty(), || format!("tags: {tags:?}"))
}

fn delete_manifest(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "one", "delete manifest")?;
    let other = server.push_image(&repository, "other", "not deleted")?;
    server
        .put(&repository, "two", MANIFEST, &image.manifest)?
        .is(201)?;
    let target = format!("/v2/{repository}/manifests/{}", image.digest);
    server.delete(&target)?.is(202)?;
    server.get(&target)?.is(404)?;
    for tag in ["one", "two"] {
        server
            .get(&format!("/v2/{repository}/manifests/{tag}"))?
            .is(404)?;
    }
    let target = format!("/v2/{repository}/manifests/other");
    server
        .get(&target)?
        .is(200)?
        .holds(&other.manifest)
        .map(drop)
}

fn delete_nothing(server: &Server) -> Verdict {
    let repository = server.repository();
    let target = |reference: &str| format!("/v2/{repository}/manifests/{reference}");
    server.delete(&target(NOTHING))?.is(404)?;
    server.push_image(&repository, "1", "delete nothing")?;
    server
        .delete(&target(NOTHING))?
        .is(404)?
        .says(&["MANIFEST_UNKNOWN"])?;
    server.delete(&target("2"))?.is(404).map(drop)
}

fn delete_in_one_repository(server: &Server) -> Verdict {
    let (one, other) = (server.repository(), server.repository());
    let image = server.push_image(&one, "1", "in two repositories")?;
    server.push_image(&other, "1", "in two repositories")?;
    server
        .delete(&format!("/v2/{one}/manifests/{}", image.digest))?
        .is(202)?;
    server.get(&format!("/v2/{one}/manifests/1"))?.is(404)?;
    server
        .get(&format!("/v2/{other}/manifests/1"))?
        .is(200)?
        .holds(&image.manifest)?;
    let target = format!("/v2/{other}/blobs/{}", digest(&image.layer));
    server.get(&target)?.is(200)?.holds(&image.layer).map(drop)
}

fn no_tags_left(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "no tags left")?;
    server
        .delete(&format!("/v2/{repository}/manifests/{}", image.digest))?
        .is(202)?;
    let response = server.get(&format!("/v2/{repository}/tags/list"))?;
    // Debian's tells 404 for no tags at all; the specification allows both.
    let response = response.among(&[200, 404])?;
    let tags = response.json()?["tags"].as_array().map_or(0, Vec::len);
    ensure(tags == 0, || response.complaint("there are tags"))
}

fn delete_child(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "child")?;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, &image.manifest)]});
    server
        .put(&repository, "index", INDEX, index.to_string().as_bytes())?
        .is(201)?;
    let target = format!("/v2/{repository}/manifests/{}", image.digest);
    let deleted = server.delete(&target)?.among(&[202, 400, 405])?.status == 202;
    server.get(&target)?.is(if deleted { 404 } else { 200 })?;
    let target = format!("/v2/{repository}/manifests/index");
    server
        .get(&target)?
        .is(200)?
        .holds(index.to_string().as_bytes())
        .map(drop)
}

fn delete_blob(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = server.push_blob(&repository, b"to be deleted")?;
    let target = format!("/v2/{repository}/blobs/{digest}");
    server.delete(&target)?.is(202)?;
    server.get(&target)?.is(404)?.says(&["BLOB_UNKNOWN"])?;
    server.head(&target)?.is(404)?;
    server.delete(&target)?.is(404).map(drop)
}

fn delete_no_blob(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, b"another blob")?;
    let response = server.delete(&format!("/v2/{repository}/blobs/{NOTHING}"))?;
    response.is(404)?.says(&["BLOB_UNKNOWN"]).map(drop)
}

fn delete_used_blob(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "used blob")?;
    let target = format!("/v2/{repository}/blobs/{}", digest(&image.layer));
    let deleted = server.delete(&target)?.among(&[202, 400, 405])?.status == 202;
    server
        .get(&target)?
        .is(if deleted { 404 } else { 200 })
        .map(drop)
}

fn delete_in_order(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "in order")?;
    server
        .delete(&format!("/v2/{repository}/manifests/{}", image.digest))?
        .is(202)?;
    for blob in [image.layer, config("in order")] {
        let target = format!("/v2/{repository}/blobs/{}", digest(&blob));
        server.get(&target)?.is(200)?.holds(&blob)?;
        server.delete(&target)?.is(202)?;
        server.get(&target)?.is(404)?;
    }
    Ok(())
}

fn push_again(server: &Server) -> Verdict {
    let repository = server.repository();
    for _ in 0..2 {
        let image = server.push_image(&repository, "1", "again and again")?;
        let target = format!("/v2/{repository}/manifests/{}", image.digest);
        server.get(&target)?.is(200)?.holds(&image.manifest)?;
        server.delete(&target)?.is(202)?;
        server.get(&target)?.is(404)?;
    }
    let document = manifest(
        descriptor(CONFIG, &config("again and again")),
        vec![descriptor(LAYER, b"again and again")],
    );
    let response = server.put(&repository, "1", MANIFEST, document.to_string().as_bytes())?;
    response.is(201).map(drop)
}
