//! Layers become directories, and nothing outside them.

mod hostile;
mod implied;
mod owner;
mod stack;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use smidge_image::{EntryKind, LayerPath, NodeKind, Tree};
use smidge_store::{Error, LayeredTree, Owned, Ownership, Store};

use crate::fixture::{
    Member, add, child, directory, file, fixture, gzip, hardlink, hello, is_root, path, special,
    symlink, tar,
};

fn with_mode((mut entry, content): Member, mode: u32) -> Member {
    entry.mode = mode;
    (entry, content)
}

fn with_owner((mut entry, content): Member, uid: u32, gid: u32) -> Member {
    (entry.uid, entry.gid) = (uid, gid);
    (entry, content)
}

/// Every path below a directory, sorted.
fn all_below(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for path in crate::fixture::entries(&directory) {
            if path.is_dir() && !path.is_symlink() {
                pending.push(path.clone());
            }
            all.push(path.strip_prefix(root).unwrap().to_owned());
        }
    }
    all.sort();
    all
}

#[test]
fn files_are_as_the_layer_says() {
    let fixture = fixture();
    let mut dated = file("etc/dated", "x");
    dated.0.mtime = 1_000_000_000;
    let mut marked = file("marked", "x");
    marked
        .0
        .xattrs
        .insert(b"user.colour".to_vec(), b"blue".to_vec());
    marked
        .0
        .xattrs
        .insert(b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec());
    marked
        .0
        .xattrs
        .insert(b"user.overlay.redirect".to_vec(), b"/etc".to_vec());
    let mut var = with_mode(directory("var"), 0o1777);
    var.0.mtime = 1_234_567;
    let layer = tar(&[
        var,
        file("var/late", ""),
        with_mode(file("bin/su", "#!"), 0o4755),
        dated,
        marked,
        symlink("bin/sh", "/bin/su"),
        hardlink("bin/link", "bin/su"),
        special("pipe", EntryKind::Fifo),
        file("implied/by/this", "file"),
    ]);
    let image = add(&fixture.store, &["a"], &[layer]);
    assert!(!fixture.store.is_checked_out(&image));
    let layers = fixture.store.checkout(&image).unwrap();
    assert!(fixture.store.is_checked_out(&image));
    let at = |name: &str| fs::symlink_metadata(layers[0].join(name)).unwrap();

    assert_eq!(at("").mode() & 0o7777, 0o755);
    assert_eq!(
        (at("var").mode() & 0o7777, at("var").mtime()),
        (0o1777, 1_234_567)
    );
    assert_eq!(at("bin/su").mode() & 0o7777, 0o4755);
    assert_eq!(at("bin/su").ino(), at("bin/link").ino());
    assert_eq!(at("etc/dated").mtime(), 1_000_000_000);
    assert_eq!(
        (at("implied/by").mode() & 0o7777, at("implied/by").mtime()),
        (0o755, 0)
    );
    assert!(at("pipe").file_type().is_fifo());
    assert_eq!(
        fs::read_link(layers[0].join("bin/sh")).unwrap(),
        Path::new("/bin/su")
    );
    let attribute = |name: &str| {
        let mut value = [0; 16];
        rustix::fs::lgetxattr(layers[0].join("marked"), name, &mut value[..])
            .map(|length| value[..length].to_vec())
    };
    assert_eq!(attribute("user.colour").unwrap(), b"blue");
    assert!(attribute("trusted.overlay.redirect").is_err());
    assert!(attribute("user.overlay.redirect").is_err());
    assert_eq!(fixture.temporary().len(), 0);
}

/// An image in which an upper layer removes, replaces and hides what a lower one has.
fn stacked(store: &Store) -> smidge_store::Image {
    let lower = tar(&[
        file("etc/removed", ""),
        file("etc/kept", "lower"),
        file("etc/replaced", "lower"),
        file("opt/hidden/deep", ""),
        file("gone/deep/er", ""),
        file("file-to-directory", ""),
        file("directory-to-file/x", ""),
        directory("merged/a"),
        symlink("link", "etc"),
        file("remade/old", ""),
    ]);
    let upper = tar(&[
        file("etc/.wh.removed", ""),
        file("etc/replaced", "upper"),
        directory("opt"),
        directory("opt/hidden"),
        file("opt/hidden/.wh..wh..opq", ""),
        file("opt/hidden/new", ""),
        file(".wh.gone", ""),
        directory("file-to-directory"),
        file("file-to-directory/y", ""),
        file("directory-to-file", ""),
        directory("merged/b"),
        file(".wh..wh.aufs", ""),
        file(".wh.remade", ""),
        file("remade/new", ""),
        file("stays", "this layer's own"),
        file(".wh.stays", ""),
    ]);
    add(store, &["stacked"], &[lower, upper])
}

const SEEN: [&str; 16] = [
    "directory-to-file",
    "etc",
    "etc/kept",
    "etc/replaced",
    "file-to-directory",
    "file-to-directory/y",
    "link",
    "merged",
    "merged/a",
    "merged/b",
    "opt",
    "opt/hidden",
    "opt/hidden/new",
    "remade",
    "remade/new",
    "stays",
];

fn seen() -> Vec<PathBuf> {
    SEEN.iter().map(PathBuf::from).collect()
}

fn all_in(tree: &dyn Tree) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut pending = vec![path("/")];
    while let Some(directory) = pending.pop() {
        for name in tree.list(&directory).unwrap() {
            let path = directory.join(&name).unwrap();
            if tree.node(&path).unwrap().unwrap().kind == NodeKind::Directory {
                pending.push(path.clone());
            }
            all.push(path.as_path().to_owned());
        }
    }
    all.sort();
    all
}

#[test]
fn a_layer_is_unpacked_once() {
    let fixture = fixture();
    let image = hello(&fixture.store, &["a"], "1");
    let layers = fixture.store.checkout(&image).unwrap();
    fs::write(layers[0].join("witness"), "").unwrap();
    assert_eq!(fixture.store.checkout(&image).unwrap(), layers);
    assert!(layers[0].join("witness").exists());
    let path = fixture
        .store
        .root()
        .join("blobs/sha256")
        .join(image.manifest.layers[0].digest.hex());
    fs::remove_file(path).unwrap();
    fixture.store.checkout(&image).unwrap();
}

#[test]
fn a_corrupt_layer_is_not_unpacked() {
    let fixture = fixture();
    let image = hello(&fixture.store, &["a"], "content");
    let layer = image.manifest.layers[0].digest;
    let path = fixture.store.root().join("blobs/sha256").join(layer.hex());
    let mut bytes = fs::read(&path).unwrap();
    bytes[512] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = fixture.store.checkout(&image).unwrap_err();
    assert!(
        matches!(error, Error::Corrupt { expected, .. } if expected == layer),
        "{error:?}"
    );
    assert!(!fixture.store.is_checked_out(&image));
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn a_compressed_layer_must_have_its_diff_id() {
    let fixture = fixture();
    let layer = gzip(&tar(&[file("a", "1")]));
    // The image claims that the compressed bytes are the diff id.
    let image = add(&fixture.store, &["a"], &[layer]);
    let error = fixture.store.checkout(&image).unwrap_err();
    assert!(matches!(error, Error::DiffId { .. }), "{error:?}");
    assert!(!fixture.store.is_checked_out(&image));
}
