//! Pushing and pulling.

use smidge_engine::Kind;
use smidge_engine::registry::{Compression, PullRequest, PushRequest};
use smidge_image::{LayerKind, Manifest};

use crate::debian::Registry;
use crate::support::{Machine, connection};

#[test]
fn an_image_goes_there_and_back_and_only_once() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let (here, there) = (Machine::new(), Machine::new());
    let name = registry.name("team/app:1");
    let id = here.import(&name, 3 << 20, None);

    let pushed = here.push(&name).unwrap().remove(0);
    assert_eq!(
        (pushed.name.to_string(), pushed.up_to_date),
        (name.clone(), false)
    );
    let again = registry.requests_of(|| {
        let again = here.push(&name).unwrap().remove(0);
        assert_eq!((again.digest, again.up_to_date), (pushed.digest, true));
    });
    assert_eq!(again, ["HEAD /v2/team/app/manifests/1 200"]);

    let fetched = registry.requests_of(|| {
        let pulled = there.pull(&name).unwrap().remove(0);
        assert_eq!((pulled.digest, pulled.up_to_date), (pushed.digest, false));
        assert_eq!(pulled.image.id.to_string(), id);
        assert_eq!(pulled.image.digest, pushed.digest);
    });
    assert_eq!(fetched.len(), 3, "manifest, config, layer: {fetched:?}");
    let again = registry.requests_of(|| {
        assert!(there.pull(&name).unwrap().remove(0).up_to_date);
        // What was pushed from here is what is there.
        assert!(here.pull(&name).unwrap().remove(0).up_to_date);
    });
    assert_eq!(again, ["HEAD /v2/team/app/manifests/1 200"; 2]);

    let image = there.engine.store.image(&name).unwrap();
    assert!(
        there.engine.store.is_checked_out(&image),
        "unpacked while it came"
    );
    assert_eq!(image.repo_digests.len(), 1);
    // What came travels on as it came.
    there.engine.tag(&name, &registry.name("other:2")).unwrap();
    let onward = there.push(&registry.name("other:2")).unwrap().remove(0);
    assert_eq!(onward.digest, pushed.digest);
}

#[test]
fn a_layer_that_another_repository_has_is_not_sent() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let here = Machine::new();
    here.import(&registry.name("first:1"), 1 << 20, None);
    here.push(&registry.name("first:1")).unwrap();
    here.engine
        .tag(&registry.name("first:1"), &registry.name("second:1"))
        .unwrap();
    let sent = registry.requests_of(|| drop(here.push(&registry.name("second:1")).unwrap()));
    let mounted = sent.contains(&"POST /v2/second/blobs/uploads/ 201".to_owned());
    assert!(mounted, "{sent:?}");
}

#[test]
fn all_tags_travel_together() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let (here, there) = (Machine::new(), Machine::new());
    for (tag, size) in [("one", 100), ("two", 200)] {
        here.import(&registry.name(&format!("app:{tag}")), size, None);
    }
    here.import(&registry.name("else:1"), 300, None);
    let pushed = here.push_with(PushRequest {
        name: registry.name("app"),
        all_tags: true,
        ..PushRequest::default()
    });
    let tags: Vec<_> = pushed.unwrap().iter().map(|p| p.name.familiar()).collect();
    let expected = [registry.name("app:one"), registry.name("app:two")];
    assert_eq!(tags, expected);
    let tags = there
        .engine
        .remote_tags(&registry.name("app"), &connection());
    assert_eq!(tags.unwrap(), ["one", "two"]);
    let pulled = there.pull_with(PullRequest {
        name: registry.name("app"),
        all_tags: true,
        ..PullRequest::default()
    });
    let tags: Vec<_> = pulled.unwrap().iter().map(|p| p.name.familiar()).collect();
    assert_eq!(tags, expected);
    assert_eq!(there.engine.store.images().unwrap().len(), 2);
}

#[test]
fn layers_are_compressed_as_asked() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let here = Machine::new();
    here.import("app", 10_000, None);
    for (compression, kind) in [
        (Compression::Gzip, LayerKind::Gzip),
        (Compression::SmallestGzip, LayerKind::Gzip),
        (Compression::Zstd, LayerKind::Zstd),
        (Compression::SmallestZstd, LayerKind::Zstd),
        (Compression::None, LayerKind::Tar),
    ] {
        let name = registry.name(&format!("app:{compression:?}"));
        here.engine.tag("app", &name).unwrap();
        let pushed = here.push_with(PushRequest {
            name: name.clone(),
            compression,
            ..PushRequest::default()
        });
        let document = here
            .engine
            .remote_manifest(&name, None, &connection())
            .unwrap();
        assert_eq!(document.descriptor.digest, pushed.unwrap()[0].digest);
        let manifest: Manifest = serde_json::from_slice(&document.bytes).unwrap();
        assert_eq!(LayerKind::of(&manifest.layers[0].media_type), Some(kind));
        let there = Machine::new();
        assert_eq!(
            there.pull(&name).unwrap()[0].digest,
            document.descriptor.digest
        );
    }
}

#[test]
fn names_with_a_digest_mean_what_they_say() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let (here, there) = (Machine::new(), Machine::new());
    let name = registry.name("app:1");
    let id = here.import(&name, 1000, None);
    let digest = here.push(&name).unwrap()[0].digest;
    // The tag moves on.
    here.import(&name, 2000, None);
    here.push(&name).unwrap();

    let pinned = registry.name(&format!("app@{digest}"));
    let pulled = there.pull(&pinned).unwrap().remove(0);
    assert_eq!((pulled.digest, pulled.image.id.to_string()), (digest, id));
    let image = there.engine.store.image(&pinned).unwrap();
    assert_eq!(image.id, pulled.image.id);
    let nothing = registry.requests_of(|| {
        assert!(there.pull(&pinned).unwrap()[0].up_to_date);
    });
    assert_eq!(nothing, [""; 0], "a digest never changes");
    assert_eq!(here.push(&pinned).unwrap_err().kind(), Kind::Input);
}

#[test]
fn what_is_looked_at_is_not_fetched() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let (here, there) = (Machine::new(), Machine::new());
    let name = registry.name("app:1");
    let id = here.import(&name, 1000, None);
    let digest = here.push(&name).unwrap()[0].digest;
    let looked = registry.requests_of(|| {
        let engine = &there.engine;
        let connection = connection();
        assert_eq!(
            engine.remote_digest(&name, None, &connection).unwrap(),
            digest
        );
        let config = engine.remote_config(&name, None, &connection).unwrap();
        assert_eq!(smidge_image::Digest::of(&config).to_string(), id);
    });
    assert_eq!(looked.len(), 3, "{looked:?}");
    assert_eq!(there.engine.store.images().unwrap().len(), 0);
    assert_eq!(there.files("blobs"), [""; 0]);
}
