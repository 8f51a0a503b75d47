//! Stores, layers and images to try things on.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use smidge_image::{
    Descriptor, DiffId, Digest, Effort, Entry, EntryKind, ImageConfig, LayerPath, LayerWriter,
    Manifest, Platform, Reference, compress_gzip, media_type,
};
use smidge_store::{Image, Store};
use smidge_tests::InTime as _;
use tempfile::TempDir;

/// A store in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    pub(crate) store: Store,
}

pub(crate) fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    Fixture { directory, store }
}

impl Fixture {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Files below `tmp/`: what is being made, or was left.
    pub(crate) fn temporary(&self) -> Vec<PathBuf> {
        entries(&self.store.root().join("tmp"))
    }
}

pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

pub(crate) type Member = (Entry, Vec<u8>);

pub(crate) fn path(text: &str) -> LayerPath {
    LayerPath::try_from(text).unwrap()
}

pub(crate) fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

pub(crate) fn file(at: &str, content: &str) -> Member {
    let kind = EntryKind::File {
        size: content.len() as u64,
    };
    (Entry::new(path(at), kind), content.as_bytes().to_vec())
}

pub(crate) fn special(at: &str, kind: EntryKind) -> Member {
    (Entry::new(path(at), kind), Vec::new())
}

pub(crate) fn directory(at: &str) -> Member {
    special(at, EntryKind::Directory)
}

pub(crate) fn symlink(at: &str, target: &str) -> Member {
    special(
        at,
        EntryKind::Symlink {
            target: target.as_bytes().to_vec(),
        },
    )
}

pub(crate) fn hardlink(at: &str, target: &str) -> Member {
    special(
        at,
        EntryKind::Hardlink {
            target: path(target),
        },
    )
}

pub(crate) fn tar(members: &[Member]) -> Vec<u8> {
    let mut tar = LayerWriter::new(Vec::new());
    for (entry, content) in members {
        tar.append(entry, &mut content.as_slice()).unwrap();
    }
    tar.finish().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    compress_gzip(&mut &*bytes, &mut packed, Effort::Canonical, 1).unwrap();
    packed
}

pub(crate) fn config(diff_ids: Vec<DiffId>) -> ImageConfig {
    let mut config = ImageConfig::new(&Platform::linux("amd64"));
    config.rootfs.diff_ids = diff_ids;
    config.config.cmd = Some(vec!["/hello".to_owned()]);
    config
}

/// Stores an image of the given layers, bottom first.
pub(crate) fn add(store: &Store, names: &[&str], layers: &[Vec<u8>]) -> Image {
    let diff_ids = layers
        .iter()
        .map(|layer| DiffId(Digest::of(layer)))
        .collect();
    let descriptors = layers.iter().map(|layer| {
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(layer).unwrap();
        let (digest, size) = writer.commit().unwrap();
        Descriptor::new(media_type::LAYER, digest, size)
    });
    let descriptors = descriptors.collect();
    let config = config(diff_ids).to_bytes();
    store.put(&config).unwrap();
    let manifest = Manifest::new(Descriptor::of(media_type::CONFIG, &config), descriptors);
    let names: Vec<_> = names.iter().map(|text| name(text)).collect();
    store.add_image(&manifest.to_bytes(), &names).unwrap()
}

/// Stores an image with one file of the given content.
pub(crate) fn hello(store: &Store, names: &[&str], content: &str) -> Image {
    add(store, names, &[tar(&[file("hello", content)])])
}

pub(crate) fn read(reader: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map(|_| bytes)
}

/// An error with all its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

pub(crate) fn assert_whole(store: &Store) {
    let problems = store.check().unwrap();
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Whether a program is there; says so if it is not.
pub(crate) fn has_program(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status_in_time()
        .is_ok_and(|status| status.success());
    if !found {
        println!("skipped: `{program}` is not installed");
    }
    found
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs one of this binary's ignored tests in a process of its own; it finds its subject in its
/// working directory.
pub(crate) fn child(test: &str, directory: &Path) -> Command {
    // Without one of that name nothing would be run, and nothing fail.
    static ALL: LazyLock<String> = LazyLock::new(|| {
        let mut list = Command::new(std::env::current_exe().unwrap());
        let listed = list.args(["--list", "--ignored"]).output_in_time();
        String::from_utf8(listed.unwrap().stdout).unwrap()
    });
    let line = format!("{test}: test");
    assert!(ALL.lines().any(|known| known == line), "no test `{test}`");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            test,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .current_dir(directory);
    command
}
