//! What overlayfs leaves in an upper directory becomes a layer.

mod changes;
mod claims;
mod kinds;
mod overlay;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, lsetxattr, makedev,
    mknodat, utimensat,
};
use smidge_image::{
    Claim, Descriptor, DiffId, Digest, Entry, EntryKind, NodeKind, Tree as _, media_type,
    read_layer,
};
use smidge_store::{
    DirTree, Error, LayeredTree, Ownership, Snapshot, SnapshotOptions, Store, Times, Workspace,
};
use smidge_tests::InTime as _;

use crate::fixture::{
    add, assert_whole, child, directory, entries, file, fixture, is_root, path, special, tar,
};

/// A store, and an upper directory in it.
struct Step {
    store: Store,
    workspace: Workspace,
}

impl Step {
    fn new(root: &Path) -> Self {
        let store = Store::open(root).unwrap();
        let workspace = store.workspace().unwrap();
        let step = Self { store, workspace };
        fs::create_dir(step.upper()).unwrap();
        step
    }

    fn upper(&self) -> PathBuf {
        self.workspace.path().join("upper")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.upper().join(name)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn directory(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.at(name)).unwrap();
        self.at(name)
    }

    fn whiteout(&self, name: &str) {
        let made = mknodat(
            CWD,
            self.at(name),
            FileType::CharacterDevice,
            Mode::empty(),
            makedev(0, 0),
        );
        made.unwrap();
    }

    fn take(&self, options: &SnapshotOptions) -> Snapshot {
        self.store.snapshot(&self.upper(), options).unwrap()
    }

    fn unpacked(&self, snapshot: &Snapshot) -> PathBuf {
        let layer = self.store.root().join("layers");
        layer.join(snapshot.diff_id.0.hex())
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn date(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn mark(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn marked(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 64];
    let length = lgetxattr(path, name, &mut value[..]).ok()?;
    Some(value[..length].to_vec())
}

/// The options of most tests: everything is root's and dates from second 7.
fn options(ownership: Ownership) -> SnapshotOptions {
    SnapshotOptions {
        times: Times {
            since: None,
            clamp: true,
            value: 7,
        },
        ..SnapshotOptions::new(ownership)
    }
}

fn descriptor(snapshot: &Snapshot) -> Descriptor {
    Descriptor::new(media_type::LAYER, snapshot.diff_id.0, snapshot.size)
}

/// The entries of a layer with their content.
fn members(store: &Store, snapshot: &Snapshot) -> Vec<(Entry, Vec<u8>)> {
    let mut members = Vec::new();
    let reader = store.blob(&descriptor(snapshot)).unwrap();
    read_layer(reader, |entry, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).unwrap();
        members.push((entry, bytes));
        Ok::<_, smidge_image::LayerError>(())
    })
    .unwrap();
    assert_eq!(members.len() as u64, snapshot.entries);
    members
}

/// The entries, one a line: kind, path, mode, owner, time, what else there is.
fn listed(store: &Store, snapshot: &Snapshot) -> Vec<String> {
    let members = members(store, snapshot);
    let lines = members.iter().map(|(entry, content)| {
        let kind = match &entry.kind {
            EntryKind::File { size } if *size < 20 => {
                format!("file {:?}", String::from_utf8_lossy(content))
            }
            EntryKind::File { size } => format!("file of {size}"),
            EntryKind::Directory => "directory".to_owned(),
            EntryKind::Symlink { target } => format!("-> {}", target.escape_ascii()),
            EntryKind::Hardlink { target } => format!("is {}", target.to_string_lossy()),
            EntryKind::CharDevice { major, minor } => format!("char {major}:{minor}"),
            EntryKind::BlockDevice { major, minor } => format!("block {major}:{minor}"),
            EntryKind::Fifo => "pipe".to_owned(),
        };
        let names = entry.xattrs.keys();
        let xattrs: String = names
            .map(|name| format!(" {}", name.escape_ascii()))
            .collect();
        let (name, mode) = (entry.path.to_string_lossy(), entry.mode);
        let (uid, gid, time) = (entry.uid, entry.gid, entry.mtime);
        format!("{name} {mode:o} {uid}:{gid} @{time} {kind}{xattrs}")
    });
    lines.collect()
}

/// Everything that a directory on disk holds: type, mode, owner, time, names of attributes, content.
fn on_disk(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(at) = pending.pop() {
        let of = fs::symlink_metadata(&at).unwrap();
        let mut line = format!("{:o} {}:{} {:x}", of.mode(), of.uid(), of.gid(), of.rdev());
        if !of.file_type().is_char_device() {
            line += &format!(" {}.{}", of.mtime(), of.mtime_nsec());
        }
        for name in [
            "user.colour",
            "security.capability",
            "user.smidge.capability",
            Claim::ATTRIBUTE,
        ] {
            line += &format!(" {:?}", marked(&at, name));
        }
        if of.is_dir() {
            pending.extend(entries(&at));
        } else if of.is_symlink() {
            line += &format!(" {:?}", fs::read_link(&at).unwrap());
        } else if of.is_file() {
            line += &format!(" {} {}", of.nlink(), Digest::of(&fs::read(&at).unwrap()));
        }
        all.insert(at.strip_prefix(root).unwrap().to_owned(), line);
    }
    all
}

/// Unpacking the archive gives what is unpacked already, to the last attribute.
fn assert_round_trip(step: &Step, snapshot: &Snapshot, ownership: Ownership) {
    let place = step.unpacked(snapshot);
    let aside = step.workspace.path().join("aside");
    fs::rename(&place, &aside).unwrap();
    let layer = step.store.blob(&descriptor(snapshot)).unwrap();
    let mut bytes = Vec::new();
    { layer }.read_to_end(&mut bytes).unwrap();
    let image = add(&step.store, &["round-trip"], &[bytes]);
    let unpacked = step
        .store
        .checkout_with(&image, ownership, &mut |note| println!("{note}"))
        .unwrap();
    assert_eq!(unpacked, std::slice::from_ref(&place));
    assert_eq!(on_disk(&place), on_disk(&aside));
}

/// Runs one of this file's ignored tests as an ordinary user, in a directory of that user's.
fn as_nobody(test: &str) {
    let fixture = fixture();
    let mut command = child(test, fixture.directory.path());
    if is_root() {
        use std::os::unix::process::CommandExt as _;
        let nobody = 65534;
        std::os::unix::fs::chown(fixture.directory.path(), Some(nobody), Some(nobody)).unwrap();
        command.uid(nobody).gid(nobody);
    }
    fs::remove_dir_all(fixture.store.root()).unwrap();
    match command.output_in_time() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => println!("skipped: an ordinary user cannot run the tests: {error}"),
    }
}

#[test]
fn a_step_that_changes_nothing_is_an_empty_layer() {
    let fixture = fixture();
    let step = Step::new(fixture.store.root());
    let snapshot = step.take(&SnapshotOptions::new(Ownership::Caller));
    assert_eq!((snapshot.entries, snapshot.size), (0, 1024));
    assert_eq!(snapshot.diff_id, DiffId(Digest::of(&[0; 1024])));
    assert!(step.unpacked(&snapshot).is_dir() && !step.upper().exists());

    // Again: the layer is there already.
    fs::create_dir(step.upper()).unwrap();
    assert_eq!(
        step.take(&SnapshotOptions::new(Ownership::Caller)),
        snapshot
    );
    assert!(!step.upper().exists());
    drop(step);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn what_cannot_be_in_a_layer_is_named() {
    let fixture = fixture();
    let step = Step::new(fixture.store.root());
    step.file("etc/.wh.trick", "");
    let error = step
        .store
        .snapshot(&step.upper(), &options(Ownership::of_caller()))
        .unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let text = crate::fixture::chain(&error);
    assert!(
        text.contains("etc/.wh.trick") && text.contains("means that something is gone"),
        "{text}"
    );
    let missing = step
        .store
        .snapshot(&step.at("missing"), &options(Ownership::Layer));
    assert!(matches!(missing, Err(Error::Io { .. })));
    assert_eq!(entries(&step.store.root().join("blobs/sha256")).len(), 0);
}

#[test]
fn two_that_make_the_same_layer_both_have_it() {
    let fixture = fixture();
    std::thread::scope(|scope| {
        let make = || {
            let step = Step::new(fixture.store.root());
            for number in 0..50 {
                step.file(&format!("file-{number}"), "same");
                chmod(&step.at(&format!("file-{number}")), 0o644);
            }
            step.take(&options(Ownership::of_caller()))
        };
        let makers: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        let made: Vec<_> = makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect();
        assert!(made.iter().all(|snapshot| *snapshot == made[0]));
    });
    assert_eq!(entries(&fixture.store.root().join("layers")).len(), 1);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn one_layer_alone_can_be_unpacked() {
    let fixture = fixture();
    let image = crate::fixture::hello(&fixture.store, &["a"], "content");
    let diff_id = image.config.rootfs.diff_ids[0];
    let layers = [(image.manifest.layers[0].clone(), diff_id)];
    for _ in 0..2 {
        let unpacked = fixture.store.checkout_layers(&layers).unwrap();
        assert_eq!(fs::read(unpacked[0].join("hello")).unwrap(), b"content");
    }
}
