//! Archives that somebody prepared: each is refused with its fault named, and leaves nothing.

use std::path::PathBuf;

use serde_json::{Value, json};
use smidge_image::{Descriptor, DiffId, Digest, EntryKind, Manifest, media_type};
use smidge_store::Store;
use smidge_tests::InTime as _;

use crate::fixture::{
    Fixture, Member, assert_whole, chain, config, directory, file, fixture, gzip, hardlink, hello,
    name, special, symlink, tar,
};

fn bytes(at: &str, content: &[u8]) -> Member {
    let (mut entry, _) = file(at, "");
    entry.kind = EntryKind::File {
        size: content.len() as u64,
    };
    (entry, content.to_vec())
}

fn layer() -> Vec<u8> {
    tar(&[file("hello", "hello")])
}

/// A docker-archive of one image, with the given layer member.
fn docker(layer: &[u8], diff_id: &[u8]) -> Vec<Member> {
    let config = config(vec![DiffId(Digest::of(diff_id))]).to_bytes();
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": ["app:1"], "Layers": ["l/layer.tar"] }]);
    vec![
        bytes("l/layer.tar", layer),
        bytes("config.json", &config),
        bytes("manifest.json", manifest.to_string().as_bytes()),
    ]
}

/// An OCI archive of one image.
fn oci() -> Vec<Member> {
    let layer = layer();
    let config = config(vec![DiffId(Digest::of(&layer))]).to_bytes();
    let manifest = Manifest::new(
        Descriptor::of(media_type::CONFIG, &config),
        vec![Descriptor::of(media_type::LAYER, &layer)],
    )
    .to_bytes();
    let entry = Descriptor::of(media_type::MANIFEST, &manifest);
    let index = smidge_image::Index::new(vec![entry]).to_bytes();
    let blob = |content: &[u8]| {
        bytes(
            &format!("blobs/sha256/{}", Digest::of(content).hex()),
            content,
        )
    };
    vec![
        blob(&layer),
        blob(&config),
        blob(&manifest),
        bytes("index.json", &index),
    ]
}

fn without(mut members: Vec<Member>, index: usize) -> Vec<Member> {
    members.remove(index);
    members
}

fn with(mut members: Vec<Member>, member: Member) -> Vec<Member> {
    members.push(member);
    members
}

/// Replaces the content of a member.
fn but(mut members: Vec<Member>, index: usize, content: &[u8]) -> Vec<Member> {
    let at = members[index].0.path.to_string();
    members[index] = bytes(&at, content);
    members
}

fn manifest_json(value: &Value) -> Vec<Member> {
    but(docker(&layer(), &layer()), 2, value.to_string().as_bytes())
}

/// Puts a name into the archive that no careful writer would.
fn renamed(members: &[Member], from: &str, to: &str) -> Vec<u8> {
    let mut archive = tar(members);
    let at = archive
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .unwrap();
    let header = at / 512 * 512;
    archive[at..at + from.len()].fill(0);
    archive[at..at + to.len()].copy_from_slice(to.as_bytes());
    archive[header + 148..header + 156].fill(b' ');
    let sum: u32 = archive[header..header + 512]
        .iter()
        .map(|byte| u32::from(*byte))
        .sum();
    archive[header + 148..header + 155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive
}

fn refuse(fixture: &Fixture, case: &str, archive: &[u8], expected: &str) {
    let error = fixture.store.load(&mut &*archive).unwrap_err();
    let text = chain(&error);
    assert!(text.contains(expected), "{case}: {text}");
    assert_eq!(fixture.store.images().unwrap().len(), 0, "{case}");
    assert_eq!(fixture.temporary(), Vec::<PathBuf>::new(), "{case}");
    let blobs = crate::fixture::entries(&fixture.store.root().join("blobs/sha256"));
    assert_eq!(blobs, Vec::<PathBuf>::new(), "{case}");
}

#[test]
fn docker_archives_that_do_not_add_up_are_refused() {
    let fixture = fixture();
    let good = || docker(&layer(), &layer());
    let entry = |key: &str, value: Value| {
        let mut image =
            json!({ "Config": "config.json", "RepoTags": ["a"], "Layers": ["l/layer.tar"] });
        image[key] = value;
        manifest_json(&json!([image]))
    };
    let huge = format!("[{}]", " ".repeat(5 << 20));
    for (case, members, expected) in [
        (
            "no layer",
            without(good(), 0),
            "archive member `l/layer.tar` is missing",
        ),
        (
            "no config",
            without(good(), 1),
            "archive member `config.json` is missing",
        ),
        (
            "no manifest",
            without(good(), 2),
            "neither `manifest.json` nor `index.json`, but `l/layer.tar`",
        ),
        (
            "only what Docker before 1.10 wrote",
            vec![file("repositories", "{}"), file("x/json", "{}")],
            "archive member `repositories` stands alone",
        ),
        (
            "twice",
            with(good(), file("config.json", "{}")),
            "archive member `config.json` occurs twice",
        ),
        (
            "a device",
            with(
                good(),
                special("dev", EntryKind::BlockDevice { major: 8, minor: 0 }),
            ),
            "archive member `dev` is neither a file, a directory nor a link",
        ),
        (
            "a pipe",
            with(good(), special("pipe", EntryKind::Fifo)),
            "`pipe` is neither a file",
        ),
        (
            "a link that leads out",
            with(
                without(good(), 1),
                symlink("config.json", "../../etc/passwd"),
            ),
            "archive member `config.json` leads out of the archive",
        ),
        (
            "an absolute link",
            with(without(good(), 1), symlink("config.json", "/etc/passwd")),
            "archive member `config.json` leads out of the archive",
        ),
        (
            "a link to nothing",
            with(without(good(), 1), symlink("config.json", "nothing")),
            "`config.json` is a link that leads nowhere",
        ),
        (
            "links in a circle",
            with(
                with(without(good(), 1), symlink("config.json", "b")),
                hardlink("b", "config.json"),
            ),
            "`config.json` is a link that leads nowhere",
        ),
        (
            "a config path that climbs",
            entry("Config", json!("../../etc/passwd")),
            "`../../etc/passwd` leads out",
        ),
        (
            "a layer path that climbs",
            entry("Layers", json!(["../x"])),
            "`../x` leads out",
        ),
        (
            "a bad name",
            entry("RepoTags", json!(["UPPER"])),
            "names an image `UPPER`",
        ),
        (
            "an unknown type",
            entry("Layers", json!(3)),
            "`manifest.json` is not a valid docker-archive manifest: invalid type",
        ),
        (
            "no JSON",
            but(good(), 2, b"hello"),
            "`manifest.json` is not a valid docker-archive manifest",
        ),
        (
            "deep JSON",
            but(good(), 2, "[".repeat(200_000).as_bytes()),
            "`manifest.json` is not a valid docker-archive manifest",
        ),
        (
            "deep config",
            but(
                good(),
                1,
                format!("{{\"a\":{}", "[".repeat(200_000)).as_bytes(),
            ),
            "recursion limit exceeded",
        ),
        (
            "a huge manifest",
            but(good(), 2, huge.as_bytes()),
            "`manifest.json` has 5242882 bytes, more than the 4194304",
        ),
        (
            "another layer",
            docker(&tar(&[file("x", "")]), &layer()),
            "`l/layer.tar` is not the layer that the image config names",
        ),
        (
            "another packed layer",
            docker(&gzip(&tar(&[file("x", "")])), &layer()),
            "`l/layer.tar` is not the layer",
        ),
        (
            "a layer too many",
            entry("Layers", json!(["l/layer.tar", "l/layer.tar"])),
            "2 layers, but config has 1",
        ),
        (
            "a layer that is text",
            docker(&[b'x'; 600], &[b'x'; 600]),
            "layer `l/layer.tar` cannot be unpacked",
        ),
        (
            "half a layer",
            docker(&gzip(&layer())[..40], &layer()),
            "layer `l/layer.tar` cannot be unpacked",
        ),
        (
            "a config for another name",
            {
                let hex = "0".repeat(64) + ".json";
                let mut members = entry("Config", json!(hex));
                members[1].0.path = crate::fixture::path(&hex);
                members
            },
            ".json` is corrupt: expected sha256:0000",
        ),
    ] {
        refuse(&fixture, case, &tar(&members), expected);
    }
    fixture.store.load(&mut tar(&good()).as_slice()).unwrap();
    assert_eq!(fixture.store.image("app:1").unwrap().names, [name("app:1")]);
    assert_whole(&fixture.store);
}

#[test]
fn oci_archives_that_do_not_add_up_are_refused() {
    let fixture = fixture();
    let manifest = oci()[2].0.path.to_string();
    let other = |value: Value| but(oci(), 3, value.to_string().as_bytes());
    let digest = Digest::of(b"x");
    let descriptor = |media_type: &str| {
        json!({ "schemaVersion": 2, "manifests": [
            { "mediaType": media_type, "digest": digest, "size": 1 }
        ]})
    };
    for (case, members, expected) in [
        ("no layer", without(oci(), 0), "is missing"),
        ("no config", without(oci(), 1), "is missing"),
        ("no manifest", without(oci(), 2), "is missing"),
        (
            "another layer",
            but(oci(), 0, &tar(&[file("x", "")])),
            "is corrupt: expected",
        ),
        (
            "another config",
            but(oci(), 1, b"{}"),
            "is corrupt: expected",
        ),
        (
            "another manifest",
            but(oci(), 2, b"{}"),
            "is corrupt: expected",
        ),
        (
            "no JSON",
            but(oci(), 3, b"]"),
            "`index.json` is not a valid image index",
        ),
        (
            "an unknown document",
            other(descriptor("text/plain")),
            "has the unknown media type `text/plain`",
        ),
        (
            "an index that is not there",
            other(descriptor(media_type::INDEX)),
            "is missing",
        ),
        (
            "a digest that is none",
            other(json!({ "schemaVersion": 2, "manifests": [
                { "mediaType": media_type::MANIFEST, "digest": "sha256:../../x", "size": 1 }
            ]})),
            "`index.json` is not a valid image index",
        ),
    ] {
        refuse(&fixture, case, &tar(&members), expected);
    }
    // An index that holds itself cannot be made; one that goes deep can.
    let mut members = oci();
    let mut inner = Descriptor::of(media_type::MANIFEST, &members[2].1);
    for _ in 0..6 {
        let index = smidge_image::Index::new(vec![inner]).to_bytes();
        inner = Descriptor::of(media_type::INDEX, &index);
        members.push(bytes(
            &format!("blobs/sha256/{}", inner.digest.hex()),
            &index,
        ));
    }
    let index = smidge_image::Index::new(vec![inner]).to_bytes();
    refuse(
        &fixture,
        "deep",
        &tar(&but(members, 3, &index)),
        "has the unknown media type",
    );
    assert!(manifest.starts_with("/blobs"));
    fixture.store.load(&mut tar(&oci()).as_slice()).unwrap();
}

/// Each is small enough, and all of them are kept until all are known to be right.
#[test]
fn an_archive_does_not_fill_the_memory_with_manifests() {
    let fixture = fixture();
    let mut members = oci();
    let manifest: Value = serde_json::from_slice(&members[2].1).unwrap();
    let mut entries = Vec::new();
    for number in 0..11 {
        let mut padded = manifest.clone();
        padded["annotations"] =
            json!({"padding": "x".repeat(3 << 20), "number": number.to_string()});
        let padded = padded.to_string().into_bytes();
        let member = format!("blobs/sha256/{}", Digest::of(&padded).hex());
        entries.push(Descriptor::of(media_type::MANIFEST, &padded));
        members.push(bytes(&member, &padded));
    }
    let index = smidge_image::Index::new(entries).to_bytes();
    let archive = tar(&but(members, 3, &index));
    refuse(&fixture, "many manifests", &archive, "that are accepted");
}

#[test]
fn archives_that_are_none_are_refused() {
    let fixture = fixture();
    let good = tar(&docker(&layer(), &layer()));
    let packed = gzip(&good);
    for (case, archive, expected) in [
        (
            "nothing",
            Vec::new(),
            "it has neither `manifest.json` nor `index.json`",
        ),
        (
            "an empty archive",
            tar(&[]),
            "it has neither `manifest.json` nor `index.json`",
        ),
        (
            "a directory",
            tar(&[directory("d")]),
            "it has neither `manifest.json`",
        ),
        (
            "text",
            b"hello world".repeat(100),
            "cannot read the archive",
        ),
        (
            "half an archive",
            good[..good.len() / 2].to_vec(),
            "cannot read the archive",
        ),
        (
            "half of it packed",
            packed[..packed.len() / 2].to_vec(),
            "the gzip data is truncated",
        ),
        (
            "a climbing member",
            renamed(&docker(&layer(), &layer()), "l/layer.tar", "../../etc/x"),
            "`../../etc/x` contains `..`",
        ),
    ] {
        refuse(&fixture, case, &archive, expected);
    }
    // An absolute name is the same name.
    let members = docker(&layer(), &layer());
    let archive = renamed(&members, "config.json", "/config.json");
    refuse(
        &fixture,
        "absolute twice",
        &[&tar(&members)[..tar(&members).len() - 1024], &archive].concat(),
        "occurs twice",
    );
}

#[test]
fn members_may_come_in_any_order_and_through_links() {
    let fixture = fixture();
    let mut members = docker(&gzip(&layer()), &layer());
    members.reverse();
    members[2].0.path = crate::fixture::path("real.tar");
    members.insert(0, symlink("l/layer.tar", "../real.tar"));
    members.insert(0, directory("l"));
    fixture.store.load(&mut tar(&members).as_slice()).unwrap();
    let image = fixture.store.image("app:1").unwrap();
    assert_eq!(image.manifest.layers[0].media_type, media_type::LAYER_GZIP);
    assert_eq!(image.manifest.layers[0].digest, Digest::of(&gzip(&layer())));
    assert_whole(&fixture.store);
    let store: &Store = &fixture.store;
    assert_eq!(store.checkout(&image).unwrap().len(), 1);
}

#[test]
fn of_several_platforms_the_host_s_is_stored() {
    let fixture = fixture();
    let members = oci();
    let mut mine = Descriptor::of(media_type::MANIFEST, &members[2].1);
    let host = fixture.store.image("scratch").unwrap().config.platform();
    mine.platform = Some(host);
    let mut foreign = Descriptor::of(media_type::MANIFEST, b"not here");
    foreign.platform = Some("linux/s390x".parse().unwrap());
    let nested = |entries: Vec<Descriptor>| {
        let index = smidge_image::Index::new(entries).to_bytes();
        let top = Descriptor::of(media_type::INDEX, &index);
        let mut members = but(
            oci(),
            3,
            &smidge_image::Index::new(vec![top.clone()]).to_bytes(),
        );
        members.push(bytes(&format!("blobs/sha256/{}", top.digest.hex()), &index));
        tar(&members)
    };
    refuse(
        &fixture,
        "foreign",
        &nested(vec![foreign.clone()]),
        "holds no image for `linux/",
    );
    let loaded = fixture
        .store
        .load(&mut nested(vec![foreign, mine.clone()]).as_slice())
        .unwrap();
    assert_eq!(loaded[0].digest, mine.digest);
}

#[test]
fn what_is_no_file_is_not_read() {
    let fixture = fixture();
    let store = &fixture.store;
    let image = hello(store, &["app"], "1");
    let container = store
        .create_container(Some("kept"), &|_, _| json!({}))
        .unwrap();
    let blob = |digest: &Digest| store.root().join("blobs/sha256").join(digest.hex());
    let documents = [
        store.root().join("oci-layout"),
        store.root().join("index.json"),
        blob(&image.digest),
        blob(&image.id),
        blob(&image.manifest.layers[0].digest),
        container.dir.join("config.json"),
        container.name_path(),
    ];
    for document in documents {
        let kept = std::fs::read(&document).unwrap();
        std::fs::remove_file(&document).unwrap();
        for made in ["mkfifo", "mkdir", "ln -s /dev/zero"] {
            let mut words = made.split(' ');
            let mut command = std::process::Command::new(words.next().unwrap());
            assert!(
                command
                    .args(words)
                    .arg(&document)
                    .status_in_time()
                    .unwrap()
                    .success()
            );
            let outcome = Store::open(store.root())
                .map_err(|error| chain(&error))
                .and_then(|store| {
                    let image = store.image("app").map_err(|error| chain(&error))?;
                    let mut layer = store
                        .blob(&image.manifest.layers[0])
                        .map_err(|error| chain(&error))?;
                    std::io::copy(&mut layer, &mut std::io::sink())
                        .map_err(|error| chain(&error))?;
                    let container = store.container("kept").map_err(|error| chain(&error))?;
                    container.record::<Value>().map_err(|error| chain(&error))
                });
            let fault = outcome.unwrap_err();
            assert!(
                fault.contains("not a regular file"),
                "{made} {}: {fault}",
                document.display()
            );
            match made {
                "mkdir" => std::fs::remove_dir(&document).unwrap(),
                _ => std::fs::remove_file(&document).unwrap(),
            }
        }
        std::fs::write(&document, kept).unwrap();
    }
    let lock = store.root().join("lock");
    std::fs::remove_file(&lock).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(&lock)
        .status_in_time();
    assert!(made.unwrap().success());
    store.tag(&image, &name("other")).unwrap();
    assert_whole(store);
}
