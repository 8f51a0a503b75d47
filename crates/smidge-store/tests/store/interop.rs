//! What others read and write: skopeo, umoci, podman.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use smidge_image::{
    Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, Reference, Tree as _, media_type,
};
use smidge_store::{Image, Store};
use smidge_tests::InTime as _;

use crate::fixture::{
    Fixture, add, assert_whole, directory, file, fixture, gzip, has_program, hello, is_root, path,
    symlink, tar,
};

fn image(store: &Store) -> Image {
    let lower = tar(&[directory("etc"), file("etc/gone", "x"), file("hello", "hi")]);
    let upper = tar(&[
        file("etc/.wh.gone", ""),
        symlink("link", "hello"),
        file("etc/new", "n"),
    ]);
    add(store, &["smidge.test/acme/app:1.0"], &[lower, upper])
}

const NAME: &str = "smidge.test/acme/app:1.0";

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .output_in_time()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn skopeo_copy(from: &str, to: &str) {
    run(
        "skopeo",
        &["--insecure-policy", "copy", "--quiet", from, to],
    );
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn save(fixture: &Fixture, format: &str, images: &[(Image, Vec<Reference>)]) -> String {
    let path = fixture.path(&format!("{format}.tar"));
    let mut output = fs::File::create(&path).unwrap();
    match format {
        "docker" => fixture
            .store
            .save_docker_archive(images, &mut output)
            .unwrap(),
        _ => fixture.store.save_oci_archive(images, &mut output).unwrap(),
    }
    text(&path).to_owned()
}

#[test]
fn skopeo_reads_the_store_in_place() {
    if !has_program("skopeo") {
        return;
    }
    let fixture = fixture();
    let image = image(&fixture.store);
    hello(&fixture.store, &["other"], "1");
    let source = format!("oci:{}:{NAME}", text(fixture.store.root()));
    let inspected = run("skopeo", &["inspect", &source]);
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["Digest"], image.digest.to_string());
    assert_eq!(inspected["Architecture"], "amd64");

    let copy = fixture.path("copy");
    skopeo_copy(&source, &format!("oci:{}:copied", text(&copy)));
    let other = Store::open(&fixture.path("other")).unwrap();
    let loaded = other.load_oci_layout(&copy).unwrap();
    assert_eq!(loaded[0].id, image.id);
    assert_eq!(other.image("copied").unwrap().id, image.id);
    assert_whole(&other);
}

#[test]
fn what_skopeo_puts_into_the_store_is_found() {
    if !has_program("skopeo") {
        return;
    }
    let fixture = fixture();
    let image = image(&fixture.store);
    let root = text(fixture.store.root());
    skopeo_copy(&format!("oci:{root}:{NAME}"), &format!("oci:{root}:bare"));
    let copied = fixture.store.image("bare").unwrap();
    assert_eq!(copied.id, image.id);
    assert_eq!(copied.names[0].familiar(), "bare:latest");
    fixture
        .store
        .tag(&copied, &"ghcr.io/acme/bare:2".parse().unwrap())
        .unwrap();
    assert_eq!(
        fixture.store.image("ghcr.io/acme/bare:2").unwrap().digest,
        copied.digest
    );
    fixture.store.remove("bare", false, &|_| None).unwrap();
    fixture.store.prune(false, &|_| None).unwrap();
    assert_eq!(fixture.store.image(NAME).unwrap().digest, image.digest);
    assert_whole(&fixture.store);
}

#[test]
fn umoci_unpacks_the_store_in_place() {
    if !has_program("umoci") {
        return;
    }
    let fixture = fixture();
    image(&fixture.store);
    let bundle = fixture.path("bundle");
    let source = format!("{}:{NAME}", text(fixture.store.root()));
    let mut arguments = vec!["unpack", "--image", &source];
    if !is_root() {
        arguments.push("--rootless");
    }
    arguments.push(text(&bundle));
    run("umoci", &arguments);
    let rootfs = bundle.join("rootfs");
    assert_eq!(fs::read_to_string(rootfs.join("hello")).unwrap(), "hi");
    assert_eq!(fs::read_to_string(rootfs.join("etc/new")).unwrap(), "n");
    assert!(!rootfs.join("etc/gone").exists());
    assert_whole(&fixture.store);
}

#[test]
fn skopeo_and_umoci_accept_the_archives() {
    if !has_program("skopeo") {
        return;
    }
    let fixture = fixture();
    let image = image(&fixture.store);
    let images = [(image.clone(), image.names.clone())];
    for format in ["docker", "oci"] {
        let archive = save(&fixture, format, &images);
        let layout = fixture.path(&format!("{format}-layout"));
        let target = format!("oci:{}:app", text(&layout));
        skopeo_copy(&format!("{format}-archive:{archive}"), &target);
        let other = Store::open(&fixture.path(&format!("{format}-store"))).unwrap();
        let loaded = other.load_oci_layout(&layout).unwrap();
        let tree = other.tree(&loaded[0]).unwrap();
        assert_eq!(tree.read(&path("etc/new"), 9).unwrap(), b"n");
        assert_eq!(tree.node(&path("etc/gone")).unwrap(), None);
        assert_eq!(loaded[0].config.config, image.config.config);
    }
}

#[test]
fn what_skopeo_writes_is_loaded() {
    if !has_program("skopeo") {
        return;
    }
    let fixture = fixture();
    let image = image(&fixture.store);
    let source = format!("oci:{}:{NAME}", text(fixture.store.root()));
    for format in ["docker-archive", "oci-archive"] {
        let archive = fixture.path(&format!("{format}.tar"));
        skopeo_copy(
            &source,
            &format!("{format}:{}:example.com/x:2", text(&archive)),
        );
        let other = Store::open(&fixture.path(&format!("{format}-store"))).unwrap();
        let loaded = other.load(&mut fs::File::open(&archive).unwrap()).unwrap();
        assert_eq!(
            other.image("example.com/x:2").unwrap(),
            loaded[0],
            "{format}"
        );
        assert_eq!(
            loaded[0].config.rootfs.diff_ids,
            image.config.rootfs.diff_ids
        );
        assert_whole(&other);
        assert_eq!(
            other
                .tree(&loaded[0])
                .unwrap()
                .read(&path("hello"), 9)
                .unwrap(),
            b"hi"
        );
    }
}

#[test]
fn skopeo_copies_indexes_whole_into_the_store_and_out_of_it() {
    if !has_program("skopeo") {
        return;
    }
    let fixture = fixture();
    let store = &fixture.store;
    let mut entries = Vec::new();
    for platform in ["linux/amd64", "linux/s390x"] {
        let mut config = ImageConfig::new(&platform.parse().unwrap());
        let layer = tar(&[file("hello", platform)]);
        config.rootfs.diff_ids = vec![DiffId(Digest::of(&layer))];
        let config = config.to_bytes();
        // Packed, since skopeo would pack it.
        let layer = gzip(&layer);
        let manifest = Manifest::new(
            Descriptor::of(media_type::CONFIG, &config),
            vec![Descriptor::of(media_type::LAYER_GZIP, &layer)],
        )
        .to_bytes();
        for blob in [&layer, &config, &manifest] {
            store.put(blob).unwrap();
        }
        let mut entry = Descriptor::of(media_type::MANIFEST, &manifest);
        entry.platform = Some(platform.parse().unwrap());
        entries.push(entry);
    }
    let index = Index::new(entries).to_bytes();
    store.add_index(&index, &[NAME.parse().unwrap()]).unwrap();
    let copy = |from: &str, to: &str| {
        let all = ["--insecure-policy", "copy", "--quiet", "--all", from, to];
        run("skopeo", &all);
    };
    let there = |store: &Store, name: &str| {
        let variants = store.variants(name).unwrap();
        assert!(variants.iter().all(|variant| variant.image.is_some()));
        assert_eq!(variants.len(), 2);
        assert_eq!(store.all_images().unwrap().len(), 2);
        assert_whole(store);
        store.document(name).unwrap().0.digest
    };
    // Read in place, and written in place.
    let layout = fixture.path("layout");
    let root = text(store.root());
    copy(
        &format!("oci:{root}:{NAME}"),
        &format!("oci:{}:copied", text(&layout)),
    );
    let target = Store::open(&fixture.path("target")).unwrap();
    target.load_oci_layout(&layout).unwrap();
    assert_eq!(there(&target, "copied"), Digest::of(&index));
    let placed = Store::open(&fixture.path("placed")).unwrap();
    copy(
        &format!("oci:{}:copied", text(&layout)),
        &format!("oci:{}:placed", text(placed.root())),
    );
    assert_eq!(there(&placed, "placed"), Digest::of(&index));
    placed.prune(false, &|_| None).unwrap();
    assert_eq!(there(&placed, "placed"), Digest::of(&index));

    // An archive of ours, and one of theirs.
    let found = store.image(NAME).unwrap();
    let archive = save(&fixture, "oci", &[(found.clone(), found.names)]);
    let theirs = text(&fixture.path("theirs.tar")).to_owned();
    copy(
        &format!("oci-archive:{archive}"),
        &format!("oci-archive:{theirs}:back"),
    );
    let back = Store::open(&fixture.path("back")).unwrap();
    back.load(&mut fs::File::open(&theirs).unwrap()).unwrap();
    let ours = Store::open(&fixture.path("ours")).unwrap();
    ours.load(&mut fs::File::open(&archive).unwrap()).unwrap();
    assert_eq!(there(&back, "back"), there(&ours, NAME));
}

/// podman with a store of its own.
struct Podman(Vec<String>);

impl Podman {
    fn new(fixture: &Fixture) -> Option<Self> {
        if !is_root() || !has_program("podman") {
            println!("skipped: podman is tried as root only");
            return None;
        }
        let graph = fixture.path("podman");
        let run = fixture.path("podman-run");
        let options = [
            "--root",
            text(&graph),
            "--runroot",
            text(&run),
            "--storage-driver",
            "vfs",
        ];
        Some(Self(options.map(str::to_owned).to_vec()))
    }

    fn run(&self, arguments: &[&str]) -> String {
        let all: Vec<&str> = self
            .0
            .iter()
            .map(String::as_str)
            .chain(arguments.iter().copied())
            .collect();
        String::from_utf8(run("podman", &all).stdout).unwrap()
    }
}

#[test]
fn podman_loads_and_its_archives_are_loaded() {
    let fixture = fixture();
    let Some(podman) = Podman::new(&fixture) else {
        return;
    };
    let image = image(&fixture.store);
    let images = [(image.clone(), image.names.clone())];
    for format in ["docker", "oci"] {
        let archive = save(&fixture, format, &images);
        let loaded = podman.run(&["load", "-i", &archive]);
        assert!(loaded.contains(NAME), "{format}: {loaded}");
        let id = podman.run(&["image", "inspect", "--format", "{{.Id}}", NAME]);
        assert_eq!(id.trim(), image.id.hex(), "{format}");

        let back = fixture.path(&format!("back-{format}.tar"));
        podman.run(&[
            "save",
            "--format",
            &format!("{format}-archive"),
            "-o",
            text(&back),
            NAME,
        ]);
        let other = Store::open(&fixture.path(&format!("{format}-store"))).unwrap();
        other.load(&mut fs::File::open(&back).unwrap()).unwrap();
        assert_eq!(other.image(NAME).unwrap().id, image.id, "{format}");
        assert_whole(&other);
        podman.run(&["rmi", NAME]);
    }
    let rootfs = fixture.path("rootfs.tar");
    fixture
        .store
        .save_rootfs(&image, &mut fs::File::create(&rootfs).unwrap())
        .unwrap();
    podman.run(&["import", text(&rootfs), "smidge.test/flat:1"]);
}

#[test]
fn docker_loads_and_its_archives_are_loaded() {
    let reachable = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .output_in_time();
    if !reachable.is_ok_and(|output| output.status.success()) {
        println!("skipped: no Docker daemon answers");
        return;
    }
    let fixture = fixture();
    let image = image(&fixture.store);
    let name = format!("smidge.test/docker:{}", std::process::id());
    fixture.store.tag(&image, &name.parse().unwrap()).unwrap();
    let image = fixture.store.image(&name).unwrap();
    let archive = save(
        &fixture,
        "docker",
        &[(image.clone(), vec![name.parse().unwrap()])],
    );
    run("docker", &["load", "--quiet", "--input", &archive]);
    let back = fixture.path("back.tar");
    let inspected = run(
        "docker",
        &["image", "inspect", "--format", "{{.Id}}", &name],
    );
    let saved = run("docker", &["save", "--output", text(&back), &name]);
    run("docker", &["rmi", &name]);
    assert_eq!(
        String::from_utf8_lossy(&inspected.stdout).trim(),
        image.id.to_string()
    );
    assert!(saved.stdout.is_empty());
    let other = Store::open(&fixture.path("other")).unwrap();
    other.load(&mut fs::File::open(&back).unwrap()).unwrap();
    assert_eq!(other.image(&name).unwrap().id, image.id);
    assert_whole(&other);
}
