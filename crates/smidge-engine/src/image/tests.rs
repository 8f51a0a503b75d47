//! The verbs on images, on a store of their own.

use std::path::Path;
use std::time::{Duration, SystemTime};

use smidge_image::{Digest, Entry, EntryKind, Index, LayerPath, LayerWriter, Platform};

use super::*;
use crate::Engine;
use crate::host::test_host;

/// An engine with an empty store.
pub(crate) fn engine(dir: &Path) -> Engine {
    let mut host = test_host(dir);
    host.now = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
    Engine::open(&dir.join("store"), host).unwrap()
}

/// A tar archive of files and directories (those end in `/`).
pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    for (path, content) in files {
        let size = content.len() as u64;
        let kind = if path.ends_with('/') {
            EntryKind::Directory
        } else {
            EntryKind::File { size }
        };
        let mut entry = Entry::new(LayerPath::parse(path.as_bytes()).unwrap(), kind);
        entry.mode = 0o755;
        writer.append(&entry, &mut content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

/// Imports files under a name.
pub(crate) fn import(
    engine: &Engine,
    name: &str,
    changes: &[&str],
    files: &[(&str, &str)],
) -> String {
    let request = ImportRequest {
        name: Some(name.to_owned()),
        changes: changes.iter().map(|change| (*change).to_owned()).collect(),
        source: "test.tar".to_owned(),
        ..ImportRequest::default()
    };
    engine
        .import(&request, &mut tar(files).as_slice())
        .unwrap()
        .id
        .to_string()
}

fn listed(engine: &Engine, reference: Option<&str>, filters: &[&str]) -> Vec<String> {
    let query = ImageQuery {
        reference: reference.map(str::to_owned),
        filters: filters
            .iter()
            .map(|filter| filter.parse().unwrap())
            .collect(),
        all: false,
    };
    let name = |image: Listed| {
        image
            .name
            .map_or("<none>".to_owned(), |name| name.familiar())
    };
    engine
        .images(&query)
        .unwrap()
        .into_iter()
        .map(name)
        .collect()
}

#[test]
fn changes_set_the_config() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let changes = [
        r#"CMD ["/a", "b"]"#,
        "ENTRYPOINT [\"/e\"]",
        "ENV A=1 B=\"two words\"",
        "ENV A=3",
        "EXPOSE 80 53/udp",
        "LABEL tier=gold",
        "STOPSIGNAL SIGINT",
        "USER app",
        "VOLUME /data",
        "WORKDIR /srv",
        "ONBUILD RUN true",
    ];
    import(&engine, "app", &changes, &[("a", "x")]);
    let shown = engine.inspect_image("app").unwrap().config;
    assert_eq!(
        shown,
        serde_json::json!({
            "User": "app",
            "ExposedPorts": {"53/udp": {}, "80/tcp": {}},
            "Env": ["A=3", "B=two words"],
            "Cmd": ["/a", "b"],
            "Healthcheck": null,
            "Volumes": {"/data": {}},
            "WorkingDir": "/srv",
            "Entrypoint": ["/e"],
            "OnBuild": ["RUN true"],
            "Labels": {"tier": "gold"},
            "StopSignal": "SIGINT",
            "Shell": null,
        })
    );
}

#[test]
fn faulty_changes_are_shown_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    for (change, column) in [
        ("COYP a b", 1),
        ("RUN true", 1),
        ("COPY a b", 1),
        ("USER", 1),
        ("", 1),
    ] {
        let request = ImportRequest {
            changes: vec![change.to_owned()],
            ..ImportRequest::default()
        };
        match engine.import(&request, &mut tar(&[]).as_slice()) {
            Ok(_) => assert_eq!(change, "", "nothing to do is no fault"),
            Err(fault) => {
                let place = fault.snippet().unwrap();
                assert_eq!(
                    (place.file.as_str(), place.line, place.column),
                    ("--change", 1, column)
                );
                assert_eq!(place.source_line, change);
            }
        }
    }
    assert_eq!(engine.store.images().unwrap().len(), 1);
}

#[test]
fn lists_are_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    import(&engine, "one", &["LABEL a=1"], &[("f", "1")]);
    import(
        &engine,
        "ghcr.io/acme/two:x",
        &["LABEL a=2", "LABEL b="],
        &[("f", "2")],
    );
    engine.tag("one", "one:old").unwrap();
    import(&engine, "one", &[], &[("f", "3")]);
    let both = ["ghcr.io/acme/two:x", "one:latest", "one:old"];
    let mut all = listed(&engine, None, &[]);
    all.sort();
    assert_eq!(all, both);
    assert_eq!(listed(&engine, Some("one:old"), &[]), ["one:old"]);
    assert_eq!(listed(&engine, Some("*/*/t*"), &[]), ["ghcr.io/acme/two:x"]);
    assert_eq!(
        listed(&engine, None, &["label=a=2"]),
        ["ghcr.io/acme/two:x"]
    );
    assert_eq!(listed(&engine, None, &["label=a=2", "label=c"]), [""; 0]);
    assert_eq!(listed(&engine, None, &["dangling=true"]), [""; 0]);
    engine.remove_image("one:old", false).unwrap();
    import(&engine, "one", &[], &[("f", "4")]);
    assert_eq!(listed(&engine, None, &["dangling=true"]), ["<none>"]);
    let unknown = ImageQuery {
        reference: None,
        filters: vec!["before=nothing".parse().unwrap()],
        all: false,
    };
    assert_eq!(
        engine.images(&unknown).unwrap_err().kind(),
        crate::Kind::NotFound
    );
}

#[test]
fn names_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let id = import(&engine, "app", &[], &[("f", "1")]);
    engine.tag("app", "other:1").unwrap();
    engine.tag(&id[7..17], "other:2").unwrap();
    assert!(engine.tag("app", "Bad Name").is_err());
    assert!(engine.tag("none", "x").is_err());
    assert_eq!(engine.inspect_image("other:2").unwrap().repo_tags.len(), 3);
    assert_eq!(
        engine.remove_image(&id, false).unwrap_err().kind(),
        crate::Kind::Conflict
    );
    let removed = engine.remove_image("other:1", false).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
    let removed = engine.remove_image(&id, true).unwrap();
    assert_eq!(removed.untagged.len(), 2);
    assert_eq!(removed.deleted[0].to_string(), id);
    assert_eq!(
        engine.inspect_image("app").unwrap_err().kind(),
        crate::Kind::NotFound
    );
}

#[test]
fn archives_go_out_and_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let id = import(&engine, "app", &["CMD [\"/f\"]"], &[("f", "1")]);
    engine.tag("app", "app:old").unwrap();
    for (format, names, expected) in [
        (
            ArchiveFormat::Docker,
            vec!["app".to_owned()],
            vec!["app:latest", "app:old"],
        ),
        (
            ArchiveFormat::Docker,
            vec!["app:old".to_owned()],
            vec!["app:old"],
        ),
        (
            ArchiveFormat::Oci,
            vec!["app".to_owned()],
            vec!["app:latest", "app:old"],
        ),
        (ArchiveFormat::Docker, vec![id.clone()], vec![]),
    ] {
        let mut archive = Vec::new();
        engine.save(&names, format, None, &mut archive).unwrap();
        let place = tempfile::tempdir().unwrap();
        let other = super::tests::engine(place.path());
        let loaded = other.load(&mut archive.as_slice(), None).unwrap();
        let lines: Vec<String> = loaded.iter().flat_map(Loaded::lines).collect();
        let mut wanted: Vec<String> = expected
            .iter()
            .map(|name| format!("Loaded image: {name}"))
            .collect();
        if wanted.is_empty() {
            wanted.push(format!("Loaded image ID: {id}"));
        }
        assert_eq!(lines, wanted, "{format:?} {names:?}");
        assert_eq!(other.inspect_image(&id[7..]).unwrap().id, id);
    }
    let missing = engine.save(
        &["none".to_owned()],
        ArchiveFormat::Docker,
        None,
        &mut Vec::new(),
    );
    assert_eq!(missing.unwrap_err().kind(), crate::Kind::NotFound);
}

#[test]
fn history_and_similar_names() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let id = import(&engine, "helloworld", &[], &[("f", "1")]);
    let steps = engine.history("helloworld", None).unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].id.as_deref(), Some(id.as_str()));
    assert_eq!(steps[0].comment, "Imported from test.tar");
    assert_eq!(steps[0].tags, ["helloworld:latest"]);
    assert!(steps[0].size > 0);
    assert_eq!(similar_names(&engine, "helloword"), ["`helloworld:latest`"]);
    assert_eq!(
        similar_names(&engine, "acme/helloworld:2"),
        ["`helloworld:latest`"]
    );
    assert_eq!(similar_names(&engine, "postgres"), [""; 0]);
}

/// An index of two images under a name: this machine's, and one for a machine that nobody has here.
fn multi(engine: &Engine, name: &str) -> (String, String, Digest) {
    let mut entries = Vec::new();
    let mut ids = Vec::new();
    let host = Platform::linux(engine.host.architecture());
    for platform in [Platform::linux("s390x"), host] {
        let request = ImportRequest {
            platform: Some(platform.clone()),
            source: platform.to_string(),
            ..ImportRequest::default()
        };
        let files = tar(&[("f", &platform.architecture)]);
        let image = engine.import(&request, &mut files.as_slice()).unwrap();
        ids.push(image.id.to_string());
        let mut entry = image.descriptor();
        entry.platform = Some(platform);
        entries.push(entry);
    }
    let index = Index::new(entries).to_bytes();
    let names = [name.parse().unwrap()];
    let entry = engine.store.add_index(&index, &names).unwrap();
    let [foreign, mine] = ids.try_into().unwrap();
    (mine, foreign, entry.digest)
}

#[test]
fn a_name_for_several_platforms_is_shown_as_this_machine_s_unless_asked() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let (mine, foreign, index) = multi(&engine, "app");
    let s390x: Platform = "linux/s390x".parse().unwrap();
    let arm64: Platform = "linux/arm/v5".parse().unwrap();

    let shown = engine.inspect_image("app").unwrap();
    assert_eq!((shown.id, shown.descriptor.digest), (mine.clone(), index));
    assert_eq!((shown.repo_tags.len(), shown.repo_digests.len()), (1, 0));
    let shown = engine.inspect_image_for("app", Some(&s390x)).unwrap();
    assert_eq!(
        (shown.id, shown.architecture),
        (foreign.clone(), "s390x".to_owned())
    );
    assert_ne!(shown.descriptor.digest, index);
    let absent = engine.inspect_image_for("app", Some(&arm64)).unwrap_err();
    assert_eq!(absent.kind(), crate::Kind::NotFound);
    let hint = "pull it: `smidge pull --platform linux/arm/v5 app`";
    assert!(
        absent.hints().iter().any(|known| *known == hint),
        "{absent:?}"
    );

    let steps = engine.history("app", Some(&s390x)).unwrap();
    assert_eq!(steps[0].comment, "Imported from linux/s390x");

    let query = |all| ImageQuery {
        all,
        ..ImageQuery::default()
    };
    let listed = |all| {
        let lines = engine.images(&query(all)).unwrap().into_iter();
        lines
            .map(|line| (line.name.unwrap().familiar(), line.id.to_string()))
            .collect::<Vec<_>>()
    };
    let app = "app:latest".to_owned();
    assert_eq!(listed(false), [(app.clone(), mine.clone())]);
    assert_eq!(listed(true).len(), 2);

    // A tag is the index's, of an id the image's.
    engine.tag("app", "copy").unwrap();
    assert_eq!(
        engine.inspect_image("copy").unwrap().descriptor.digest,
        index
    );
    engine.tag(&foreign, "alone").unwrap();
    assert_eq!(engine.inspect_image("alone").unwrap().id, foreign);
    engine.remove_image("alone", false).unwrap();
    engine.remove_image("copy", false).unwrap();
    let removed = engine.remove_platform("app", &s390x, false).unwrap();
    assert_eq!(removed.deleted[0].to_string(), foreign);
    assert_eq!(listed(true), [(app, mine)]);
    assert!(engine.remove_platform("app", &s390x, false).is_err());
}

#[test]
fn one_platform_of_several_is_saved_and_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let (mine, foreign, _) = multi(&engine, "app");
    let s390x: Platform = "linux/s390x".parse().unwrap();
    let save = |format, platform: Option<&Platform>| {
        let mut archive = Vec::new();
        engine
            .save(&["app".to_owned()], format, platform, &mut archive)
            .unwrap();
        archive
    };
    let load = |archive: &[u8], platform: Option<&Platform>| {
        let place = tempfile::tempdir().unwrap();
        let other = super::tests::engine(place.path());
        let lines: Vec<String> = other
            .load(&mut &*archive, platform)?
            .iter()
            .flat_map(Loaded::lines)
            .collect();
        assert_eq!(lines, ["Loaded image: app:latest"]);
        let images = other.store.all_images().unwrap();
        Ok::<_, crate::Error>(
            images
                .iter()
                .map(|image| image.id.to_string())
                .collect::<Vec<_>>(),
        )
    };
    use ArchiveFormat::{Docker, Oci};
    let both = [foreign.clone(), mine.clone()];
    assert_eq!(load(&save(Oci, None), None).unwrap(), both);
    assert_eq!(load(&save(Oci, None), Some(&s390x)).unwrap(), both[..1]);
    assert_eq!(load(&save(Oci, Some(&s390x)), None).unwrap(), both[..1]);
    assert_eq!(load(&save(Docker, None), None).unwrap(), both[1..]);
    assert_eq!(load(&save(Docker, Some(&s390x)), None).unwrap(), both[..1]);
    assert!(load(&save(Docker, None), Some(&s390x)).is_err());
}

#[test]
fn what_registries_know_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    import(&engine, "reg.test/app:1", &[], &[("f", "1")]);
    engine.tag("reg.test/app:1", "reg.test/app:2").unwrap();
    engine.tag("reg.test/app:1", "local").unwrap();
    let digest = Digest::of(b"pushed");
    let name: smidge_image::Reference = "reg.test/app:1".parse().unwrap();
    engine.store.set_repo_digest(&name, digest).unwrap();
    let shown = engine.inspect_image("local").unwrap();
    assert_eq!(shown.repo_tags.len(), 3);
    assert_eq!(shown.repo_digests, [format!("reg.test/app@{digest}")]);
    let digests = |engine: &Engine| {
        let lines = engine.images(&ImageQuery::default()).unwrap().into_iter();
        let mut lines: Vec<_> = lines
            .map(|line| (line.name.unwrap().familiar(), line.digest))
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(
        digests(&engine),
        [
            ("local:latest".to_owned(), None),
            ("reg.test/app:1".to_owned(), Some(digest)),
            ("reg.test/app:2".to_owned(), Some(digest)),
        ]
    );
    // A newer image takes the tags; the older keeps the digest, as Docker's `<none>`.
    for tag in ["1", "2"] {
        import(&engine, &format!("reg.test/app:{tag}"), &[], &[("f", "2")]);
    }
    engine.remove_image("local", false).unwrap();
    let pinned = format!("reg.test/app@{digest}");
    assert!(digests(&engine).contains(&(pinned, Some(digest))));
    let filtered = listed(&engine, None, &["dangling=true"]);
    assert_eq!(filtered, [format!("reg.test/app@{digest}")]);
}

#[test]
fn several_images_are_removed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    for number in 0..3 {
        import(
            &engine,
            &format!("app:{number}"),
            &[],
            &[("f", &number.to_string())],
        );
    }
    let names = ["app:0", "none", "app:2"].map(str::to_owned);
    let outcomes = engine.remove_images(&names, false).unwrap();
    let fine: Vec<bool> = outcomes.iter().map(|outcome| outcome.is_ok()).collect();
    assert_eq!(fine, [true, false, true]);
    assert_eq!(listed(&engine, None, &[]), ["app:1"]);
}
