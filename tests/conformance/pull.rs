//! Category pull: end-1, end-2, end-3.

use crate::case::{Case, Debian};
use crate::client::{Verdict, ensure};
use crate::content::{
    CONFIG, DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST, NOTHING, descriptor, digest,
};
use crate::server::Server;

pub(crate) const CASES: &[Case] = &[
    Case::new("end-1", "GET /v2/ is 200 and tells the version", base),
    Case::new(
        "end-2",
        "GET of a blob gives its bytes and its digest",
        get_blob,
    ),
    Case::new(
        "end-2",
        "HEAD of a blob gives its size and no body",
        head_blob,
    ),
    Case::new("end-2", "an unknown blob is 404 BLOB_UNKNOWN", unknown_blob),
    Case::new(
        "end-2",
        "a blob of another repository is 404",
        blob_of_another,
    ),
    Case::new("end-2", "a malformed digest is refused", malformed_digest),
    Case::new("end-2", "Range gives a part: from-to, from-, -last", ranges),
    Case::new("end-2", "Range behind the end is 416", range_behind_the_end)
        .at_debian(Debian::Differs("announces another length than it sends")),
    Case::new(
        "end-2",
        "Range that makes no sense gives all",
        senseless_range,
    )
    .at_debian(Debian::Differs("answers 416")),
    Case::new("end-2", "If-Range of another blob gives all", if_range),
    Case::new("end-2", "If-None-Match saves the transfer", if_none_match),
    Case::new(
        "end-2",
        "an empty blob can be pushed and pulled",
        empty_blob,
    ),
    Case::new(
        "end-3",
        "GET of a manifest by tag gives the very bytes",
        manifest_by_tag,
    ),
    Case::new(
        "end-3",
        "GET of a manifest by digest gives the very bytes",
        manifest_by_digest,
    ),
    Case::new(
        "end-3",
        "HEAD of a manifest gives size and digest",
        head_manifest,
    ),
    Case::new(
        "end-3",
        "an unknown tag or digest is 404 MANIFEST_UNKNOWN",
        unknown_manifest,
    ),
    Case::new("end-3", "an unknown repository is 404", unknown_repository),
    Case::new(
        "end-3",
        "a tag beyond the grammar is 404",
        ungrammatical_tag,
    ),
    Case::new("end-3", "the media type is that of the push", media_types),
    Case::new(
        "end-3",
        "a manifest of another repository is 404",
        manifest_of_another,
    ),
];

fn base(server: &Server) -> Verdict {
    for path in ["/v2/", "/v2"] {
        let response = server.get(path)?.among(&[200, 301])?;
        if response.status == 200 {
            response.has("Docker-Distribution-Api-Version", "registry/2.0")?;
        }
    }
    server.get("/v2/")?.is(200).map(drop)
}

fn get_blob(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = server.push_blob(&repository, b"some bytes")?;
    server
        .get(&format!("/v2/{repository}/blobs/{digest}"))?
        .is(200)?
        .has("Docker-Content-Digest", digest)?
        .has("Content-Length", 10)?
        .holds(b"some bytes")
        .map(drop)
}

fn head_blob(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = server.push_blob(&repository, b"eleven byte")?;
    server
        .head(&format!("/v2/{repository}/blobs/{digest}"))?
        .is(200)?
        .has("Docker-Content-Digest", digest)?
        .has("Content-Length", 11)?
        .holds(b"")
        .map(drop)
}

fn unknown_blob(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_blob(&repository, b"another")?;
    let target = format!("/v2/{repository}/blobs/{NOTHING}");
    server.get(&target)?.is(404)?.says(&["BLOB_UNKNOWN"])?;
    server.head(&target)?.is(404)?.holds(b"").map(drop)
}

fn blob_of_another(server: &Server) -> Verdict {
    let (one, other) = (server.repository(), server.repository());
    let digest = server.push_blob(&one, b"only in one")?;
    server.push_blob(&other, b"something else")?;
    let target = format!("/v2/{other}/blobs/{digest}");
    server.head(&target)?.is(404)?;
    server.get(&target)?.is(404).map(drop)
}

fn malformed_digest(server: &Server) -> Verdict {
    let repository = server.repository();
    for text in ["sha256:0", "sha256:", "md5", "x:y"] {
        let target = format!("/v2/{repository}/blobs/{text}");
        server.get(&target)?.among(&[400, 404])?;
    }
    Ok(())
}

fn ranges(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = server.push_blob(&repository, b"0123456789")?;
    for (range, shown, body) in [
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=0-0", "bytes 0-0/10", "0"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
        ("bytes=5-99", "bytes 5-9/10", "56789"),
    ] {
        server
            .request("GET", &format!("/v2/{repository}/blobs/{digest}"))
            .header("Range", range)
            .send()?
            .is(206)?
            .has("Content-Range", shown)?
            .has("Content-Length", body.len())?
            .holds(body.as_bytes())?;
    }
    Ok(())
}

fn range_behind_the_end(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = server.push_blob(&repository, b"0123456789")?;
    server
        .request("GET", &format!("/v2/{repository}/blobs/{digest}"))
        .header("Range", "bytes=10-")
        .send()?
        .is(416)?
        .has("Content-Range", "bytes */10")
        .map(drop)
}

fn senseless_range(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = server.push_blob(&repository, b"0123456789")?;
    for range in ["bytes=4-2", "bytes=-1-2", "bytes=a-b", "lines=1-2"] {
        server
            .request("GET", &format!("/v2/{repository}/blobs/{digest}"))
            .header("Range", range)
            .send()?
            .is(200)?
            .holds(b"0123456789")?;
    }
    Ok(())
}

fn if_range(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = server.push_blob(&repository, b"0123456789")?;
    let target = format!("/v2/{repository}/blobs/{digest}");
    let tag = server.head(&target)?.is(200)?.must("Etag")?;
    for (tag, status) in [(&*tag, 206), ("\"other\"", 200)] {
        server
            .request("GET", &target)
            .header("Range", "bytes=1-2")
            .header("If-Range", tag)
            .send()?
            .is(status)?;
    }
    Ok(())
}

fn if_none_match(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "if none match")?;
    for target in [
        format!("/v2/{repository}/blobs/{}", digest(&image.layer)),
        format!("/v2/{repository}/manifests/1"),
    ] {
        let tag = server.get(&target)?.is(200)?.must("Etag")?;
        let again = server
            .request("GET", &target)
            .header("Accept", MANIFEST)
            .header("If-None-Match", tag);
        again.send()?.is(304)?.holds(b"")?;
    }
    Ok(())
}

fn empty_blob(server: &Server) -> Verdict {
    let repository = server.repository();
    let digest = server.push_blob(&repository, b"")?;
    let target = format!("/v2/{repository}/blobs/{digest}");
    server.get(&target)?.is(200)?.holds(b"")?;
    server
        .head(&target)?
        .is(200)?
        .has("Content-Length", 0)
        .map(drop)
}

fn manifest_by_tag(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "v1.0_a-b", "by tag")?;
    server
        .get(&format!("/v2/{repository}/manifests/v1.0_a-b"))?
        .is(200)?
        .has("Docker-Content-Digest", image.digest)?
        .has("Content-Type", MANIFEST)?
        .holds(&image.manifest)
        .map(drop)
}

fn manifest_by_digest(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "by digest")?;
    server
        .get(&format!("/v2/{repository}/manifests/{}", image.digest))?
        .is(200)?
        .has("Docker-Content-Digest", image.digest)?
        .has("Content-Type", MANIFEST)?
        .holds(&image.manifest)
        .map(drop)
}

fn head_manifest(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "1", "head")?;
    for reference in ["1", &image.digest] {
        server
            .head(&format!("/v2/{repository}/manifests/{reference}"))?
            .is(200)?
            .has("Docker-Content-Digest", &image.digest)?
            .has("Content-Length", image.manifest.len())?
            .holds(b"")?;
    }
    Ok(())
}

fn unknown_manifest(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_image(&repository, "1", "known")?;
    for reference in ["2", NOTHING] {
        let target = format!("/v2/{repository}/manifests/{reference}");
        server.get(&target)?.is(404)?.says(&["MANIFEST_UNKNOWN"])?;
        server.head(&target)?.is(404)?;
    }
    Ok(())
}

fn unknown_repository(server: &Server) -> Verdict {
    let repository = server.repository();
    let missing = ["NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"];
    for target in [
        "manifests/1",
        "manifests/sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "tags/list",
    ] {
        let response = server.get(&format!("/v2/{repository}/{target}"))?;
        response.is(404)?.says(&missing)?;
    }
    Ok(())
}

fn ungrammatical_tag(server: &Server) -> Verdict {
    let repository = server.repository();
    server.push_image(&repository, "1", "grammar")?;
    for tag in [".hidden", "-dash", "a+b", &"x".repeat(129)] {
        server
            .get(&format!("/v2/{repository}/manifests/{tag}"))?
            .is(404)?;
    }
    Ok(())
}

fn media_types(server: &Server) -> Verdict {
    let repository = server.repository();
    let image = server.push_image(&repository, "oci", "media types")?;
    let text = String::from_utf8_lossy(&image.manifest).into_owned();
    let docker = text
        .replace(MANIFEST, DOCKER_MANIFEST)
        .replace(CONFIG, "application/vnd.docker.container.image.v1+json")
        .replace(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        );
    let index = |kind: &str, child: &str, bytes: &[u8]| {
        let mut child = descriptor(child, bytes);
        child["platform"] = serde_json::json!({"architecture": "amd64", "os": "linux"});
        serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": [child]}).to_string()
    };
    for (tag, kind, bytes) in [
        ("docker", DOCKER_MANIFEST, docker.clone()),
        ("index", INDEX, index(INDEX, MANIFEST, text.as_bytes())),
        (
            "list",
            DOCKER_LIST,
            index(DOCKER_LIST, DOCKER_MANIFEST, docker.as_bytes()),
        ),
    ] {
        server
            .put(&repository, tag, kind, bytes.as_bytes())?
            .is(201)?;
        server
            .get(&format!("/v2/{repository}/manifests/{tag}"))?
            .is(200)?
            .has("Content-Type", kind)?
            .holds(bytes.as_bytes())?;
    }
    Ok(())
}

fn manifest_of_another(server: &Server) -> Verdict {
    let (one, other) = (server.repository(), server.repository());
    let image = server.push_image(&one, "1", "only in one repository")?;
    server.push_image(&other, "1", "something else")?;
    let target = format!("/v2/{other}/manifests/{}", image.digest);
    let response = server.get(&target)?;
    ensure(response.status == 404, || {
        response.complaint("expected 404")
    })
}
