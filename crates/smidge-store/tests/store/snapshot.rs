//! What overlayfs leaves in an upper directory becomes a layer.

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
    match command.output() {
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
fn files_of_all_kinds_become_a_layer() {
    every_kind(fixture().store.root());
    as_nobody("snapshot::every_kind_as_user");
}

#[test]
#[ignore = "run by another test, as an ordinary user"]
fn every_kind_as_user() {
    every_kind(Path::new("store"));
}

fn every_kind(root: &Path) {
    let step = Step::new(root);
    let long = format!("{}/{}", "d".repeat(200), "n".repeat(250));
    step.file("etc/new", "new");
    step.file("etc/dated", "dated");
    date(&step.at("etc/dated"), 3, 500);
    step.file("bin/su", "#!");
    chmod(&step.at("bin/su"), 0o4755);
    fs::hard_link(step.at("bin/su"), step.at("bin/a-link")).unwrap();
    fs::hard_link(step.at("bin/su"), step.at("z-link")).unwrap();
    symlink("../etc", step.at("bin/link")).unwrap();
    step.file(&long, "x");
    step.file("marked", "x");
    mark(&step.at("marked"), "user.colour", b"blue");
    mark(&step.at("marked"), "user.overlay.origin", b"x");
    mark(&step.at("marked"), "user.smidge.other", b"x");
    mknodat(CWD, step.at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let socket = UnixListener::bind(step.at("socket"));
    step.directory("opaque");
    mark(&step.at("opaque"), "user.overlay.opaque", b"y");
    step.file("opaque/!first", "");
    step.directory("not-opaque");
    mark(&step.at("not-opaque"), "user.overlay.opaque", b"x");
    step.whiteout("gone");
    step.whiteout("etc/gone");
    let sparse = File::create(step.at("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    let paths = [
        "etc-more",
        "etc/new",
        "bin",
        "etc",
        "opaque",
        "not-opaque",
        "marked",
    ];
    fs::write(step.at("etc-more"), "").unwrap();
    for name in paths {
        chmod(&step.at(name), 0o755);
    }
    for name in ["sparse", "opaque/!first", "etc/dated", &long] {
        chmod(&step.at(name), 0o644);
    }
    chmod(step.at(&long).parent().unwrap(), 0o755);
    drop(socket);

    let ownership = Ownership::of_caller();
    let snapshot = step.take(&options(ownership));
    let expected = [
        ".wh.gone 644 0:0 @0 file \"\"".to_owned(),
        "bin 755 0:0 @7 directory".to_owned(),
        "bin/a-link 4755 0:0 @7 file \"#!\"".to_owned(),
        "bin/link 777 0:0 @7 -> ../etc".to_owned(),
        "bin/su 4755 0:0 @7 is bin/a-link".to_owned(),
        format!("{} 755 0:0 @7 directory", "d".repeat(200)),
        format!("{long} 644 0:0 @7 file \"x\""),
        "etc 755 0:0 @7 directory".to_owned(),
        "etc-more 755 0:0 @7 file \"\"".to_owned(),
        "etc/.wh.gone 644 0:0 @0 file \"\"".to_owned(),
        "etc/dated 644 0:0 @3 file \"dated\"".to_owned(),
        "etc/new 755 0:0 @7 file \"new\"".to_owned(),
        "marked 755 0:0 @7 file \"x\" user.colour".to_owned(),
        "not-opaque 755 0:0 @7 directory".to_owned(),
        "opaque 755 0:0 @7 directory".to_owned(),
        "opaque/.wh..wh..opq 644 0:0 @0 file \"\"".to_owned(),
        "opaque/!first 644 0:0 @7 file \"\"".to_owned(),
        "pipe 400 0:0 @7 pipe".to_owned(),
        "sparse 644 0:0 @7 file of 1048576".to_owned(),
        "z-link 4755 0:0 @7 is bin/a-link".to_owned(),
    ];
    assert_eq!(listed(&step.store, &snapshot), expected);
    let sparse = members(&step.store, &snapshot).remove(18);
    assert!(sparse.1.len() == 1 << 20 && sparse.1.iter().all(|byte| *byte == 0));

    let unpacked = step.unpacked(&snapshot);
    let of = |name: &str| fs::symlink_metadata(unpacked.join(name)).unwrap();
    assert!(!unpacked.join("socket").exists());
    assert!(of("gone").file_type().is_char_device());
    assert_eq!(
        (of("etc/dated").mtime(), of("etc/dated").mtime_nsec()),
        (3, 0)
    );
    assert_eq!((of("etc").mtime(), of("bin/link").mtime()), (7, 7));
    assert_eq!((of("").mode() & 0o7777, of("").mtime()), (0o755, 0));
    assert_eq!(of("bin/su").ino(), of("z-link").ino());
    assert_round_trip(&step, &snapshot, ownership);
    assert_whole(&step.store);
}

#[test]
fn owners_devices_and_capabilities_are_kept_where_root_steps() {
    if !is_root() {
        println!("skipped: only root may give files away");
        return;
    }
    let fixture = fixture();
    let step = Step::new(fixture.store.root());
    step.file("mine", "x");
    std::os::unix::fs::chown(step.at("mine"), Some(1000), Some(1001)).unwrap();
    chmod(&step.at("mine"), 0);
    mark(&step.at("mine"), Claim::ATTRIBUTE, b"5 5 777 -");
    symlink("x", step.at("link")).unwrap();
    std::os::unix::fs::lchown(step.at("link"), Some(7), Some(8)).unwrap();
    for (name, kind) in [
        ("null", FileType::CharacterDevice),
        ("disk", FileType::BlockDevice),
    ] {
        mknodat(CWD, step.at(name), kind, Mode::RUSR, makedev(1, 3)).unwrap();
    }
    let capability = |revision: u8| {
        let mut value = vec![1, 0, 0, revision, 0, 32];
        value.resize(20, 0);
        value
    };
    step.file("ping", "#!");
    mark(&step.at("ping"), "security.capability", &capability(2));
    step.file("bound", "#!");
    let bound = [&capability(3)[..], &1000_u32.to_le_bytes()].concat();
    mark(&step.at("bound"), "security.capability", &bound);
    for name in ["ping", "bound"] {
        chmod(&step.at(name), 0o755);
    }
    let snapshot = step.take(&options(Ownership::Layer));
    let expected = [
        "bound 755 0:0 @7 file \"#!\" security.capability",
        "disk 400 0:0 @7 block 1:3",
        "link 777 7:8 @7 -> x",
        "mine 0 1000:1001 @7 file \"x\"",
        "null 400 0:0 @7 char 1:3",
        "ping 755 0:0 @7 file \"#!\" security.capability",
    ];
    assert_eq!(listed(&step.store, &snapshot), expected);
    for number in [0, 5] {
        let (entry, _) = &members(&step.store, &snapshot)[number];
        assert_eq!(entry.xattrs[&b"security.capability"[..]], capability(2));
    }
    let unpacked = step.unpacked(&snapshot);
    assert_eq!(marked(&unpacked.join("mine"), Claim::ATTRIBUTE), None);
    // As unpacking would have it.
    mark(
        &unpacked.join("bound"),
        "security.capability",
        &capability(2),
    );
    assert_round_trip(&step, &snapshot, Ownership::Layer);
}

#[test]
fn claims_say_what_files_should_be() {
    claims(fixture().store.root());
    as_nobody("snapshot::claims_as_user");
}

#[test]
#[ignore = "run by another test, as an ordinary user"]
fn claims_as_user() {
    claims(Path::new("store"));
}

fn claims(root: &Path) {
    let step = Step::new(root);
    let claimed = |name: &str, claim: &str, mode: u32| {
        step.file(name, if claim.ends_with(['-']) { "x" } else { "" });
        mark(&step.at(name), Claim::ATTRIBUTE, claim.as_bytes());
        chmod(&step.at(name), mode);
    };
    claimed("owned", "1000 1001 - -", 0o640);
    claimed("su", "0 42 - -", 0o4711);
    claimed("shadow", "0 42 0 -", 0o400);
    claimed("changed-since", "0 42 0 -", 0o444);
    claimed("null", "0 0 666 c 1 3", 0o666);
    claimed("disk", "0 6 660 b 8 0", 0o660);
    claimed("queue", "9 9 - p", 0o600);
    claimed("empty-claim", "0 0 - -", 0o644);
    claimed("no-claim", "nonsense", 0o644);
    step.file("unreadable", "x");
    chmod(&step.at("unreadable"), 0);
    step.file("read-only", "x");
    chmod(&step.at("read-only"), 0o444);
    step.file("locked/in", "x");
    chmod(&step.at("locked/in"), 0o200);
    mark(&step.at("locked"), Claim::ATTRIBUTE, b"33 33 - -");
    chmod(&step.at("locked"), 0o011);
    symlink("x", step.at("link")).unwrap();
    symlink("x", step.at("other")).unwrap();
    let of = fs::symlink_metadata(step.at("link")).unwrap();
    let other = fs::symlink_metadata(step.at("other")).unwrap();

    let mut options = options(Ownership::Caller);
    options.link_owners = BTreeMap::from([
        ((of.dev(), of.ino()), (7, 8)),
        ((of.dev() + 1, other.ino()), (9, 10)),
    ]);
    let snapshot = step.take(&options);
    let expected = [
        "changed-since 444 0:42 @7 file \"x\"",
        "disk 660 0:6 @7 block 8:0",
        "empty-claim 644 0:0 @7 file \"x\"",
        "link 777 7:8 @7 -> x",
        "locked 11 33:33 @7 directory",
        "locked/in 200 0:0 @7 file \"x\"",
        "no-claim 644 0:0 @7 file \"\"",
        "null 666 0:0 @7 char 1:3",
        "other 777 0:0 @7 -> x",
        "owned 640 1000:1001 @7 file \"x\"",
        "queue 600 9:9 @7 pipe",
        "read-only 444 0:0 @7 file \"x\"",
        "shadow 0 0:42 @7 file \"x\"",
        "su 4711 0:42 @7 file \"x\"",
        "unreadable 0 0:0 @7 file \"x\"",
    ];
    assert_eq!(listed(&step.store, &snapshot), expected);

    let unpacked = step.unpacked(&snapshot);
    let tree = DirTree::open(&unpacked).unwrap();
    for (name, mode, claim) in [
        ("changed-since", 0o444, Some("0 42 - -")),
        ("empty-claim", 0o644, Some("0 0 - -")),
        ("locked", 0o711, Some("33 33 11 -")),
        ("locked/in", 0o600, Some("0 0 200 -")),
        ("null", 0o666, Some("0 0 - c 1 3")),
        ("owned", 0o640, Some("1000 1001 - -")),
        ("queue", 0o600, Some("9 9 - p")),
        ("read-only", 0o444, None),
        ("shadow", 0o400, Some("0 42 0 -")),
        ("unreadable", 0o400, Some("0 0 0 -")),
    ] {
        let at = unpacked.join(name);
        assert_eq!(fs::metadata(&at).unwrap().mode() & 0o7777, mode, "{name}");
        let found = marked(&at, Claim::ATTRIBUTE).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(found.as_deref(), claim, "{name}");
    }
    let layered = LayeredTree::open(std::slice::from_ref(&unpacked)).unwrap();
    let link = layered.node(&path("link")).unwrap().unwrap();
    assert_eq!((link.uid, link.gid), (7, 8));
    let node = |name: &str| {
        let node = tree.node(&path(name)).unwrap().unwrap();
        (node.mode, node.uid, node.gid)
    };
    assert_eq!(node("shadow"), (0, 0, 42));
    assert_eq!(node("locked"), (0o011, 33, 33));
    assert_eq!(node("owned"), (0o640, 1000, 1001));
    assert_eq!(
        tree.node(&path("null")).unwrap().unwrap().kind,
        NodeKind::Other
    );
}

#[test]
fn unpacked_layers_claim_what_the_disk_cannot_hold() {
    unpacking(fixture().store.root());
    as_nobody("snapshot::unpacking_as_user");
}

#[test]
#[ignore = "run by another test, as an ordinary user"]
fn unpacking_as_user() {
    unpacking(Path::new("store"));
}

/// A layer, unpacked with claims, laid over nothing and changed in nothing, is the same layer.
fn unpacking(root: &Path) {
    let store = Store::open(root).unwrap();
    let mut members = vec![
        special("dev/disk", EntryKind::BlockDevice { major: 8, minor: 0 }),
        special("dev/null", EntryKind::CharDevice { major: 1, minor: 3 }),
        file("etc/mine", "x"),
        file("etc/read-only", "x"),
        file("etc/shadow", "x"),
        special("etc/pipe", EntryKind::Fifo),
        file("etc/su", "x"),
        crate::fixture::symlink("etc/link", "su"),
        directory("locked"),
        file("locked/in", "x"),
    ];
    members.extend([directory("dev"), directory("etc")]);
    members.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    for (entry, _) in &mut members {
        entry.mtime = 5;
        let (uid, gid, mode) = match entry.path.to_string_lossy().as_ref() {
            "etc/mine" => (1000, 1001, 0o640),
            "etc/read-only" => (1, 1, 0o444),
            "etc/shadow" => (0, 42, 0),
            "etc/su" => (0, 0, 0o6755),
            "locked" => (33, 33, 0),
            "etc/link" => (1000, 1000, 0o777),
            "etc/pipe" => (0, 7, 0o600),
            "dev/null" => (0, 0, 0o666),
            "dev/disk" => (0, 6, 0o060),
            _ => continue,
        };
        (entry.uid, entry.gid, entry.mode) = (uid, gid, mode);
        entry
            .xattrs
            .insert(Claim::ATTRIBUTE.into(), b"66 66 - -".to_vec());
    }
    let image = add(&store, &["a"], &[tar(&members)]);
    for (entry, _) in &mut members {
        entry.xattrs.clear();
    }
    let layers = store
        .checkout_with(&image, Ownership::Caller, &mut |_| {})
        .unwrap();
    let tree = store.tree(&image).unwrap();
    for (entry, _) in &members {
        let node = tree.node(&entry.path).unwrap().unwrap();
        let expected = (entry.mode, entry.uid, entry.gid);
        assert_eq!((node.mode, node.uid, node.gid), expected, "{}", entry.path);
        assert_eq!(
            node.kind == NodeKind::Other,
            !matches!(
                entry.kind,
                EntryKind::File { .. } | EntryKind::Directory | EntryKind::Symlink { .. }
            ),
            "{}",
            entry.path
        );
    }
    let workspace = store.workspace().unwrap();
    let upper = workspace.path().join("upper");
    fs::rename(&layers[0], &upper).unwrap();
    let mut options = SnapshotOptions::new(Ownership::Caller);
    for (name, owner) in [("etc/link", (1000, 1000)), ("etc/pipe", (0, 7))] {
        let of = fs::symlink_metadata(upper.join(name)).unwrap();
        options.link_owners.insert((of.dev(), of.ino()), owner);
    }
    let snapshot = store.snapshot(&upper, &options).unwrap();
    assert_eq!(snapshot.diff_id, DiffId(Digest::of(&tar(&members))));
}

#[test]
fn links_belong_to_whom_the_layer_says() {
    links(fixture().store.root());
    as_nobody("snapshot::links_as_user");
}

#[test]
#[ignore = "run by another test, as an ordinary user"]
fn links_as_user() {
    links(Path::new("store"));
}

/// Links of a layer below, copied with and without being given away.
fn links(root: &Path) {
    let step = Step::new(root);
    let mut link = crate::fixture::symlink("bin/link", "target");
    (link.0.uid, link.0.gid) = (1000, 1001);
    let image = add(&step.store, &["a"], &[tar(&[directory("bin"), link])]);
    let mut options = options(Ownership::Caller);
    options.lower = step
        .store
        .checkout_with(&image, Ownership::Caller, &mut |_| {})
        .unwrap();
    for (owner, expected) in [
        (None, None),
        (Some((1000, 1001)), None),
        (Some((5, 6)), Some("bin/link 777 5:6 @0 -> target")),
        (Some((0, 0)), Some("bin/link 777 0:0 @0 -> target")),
    ] {
        step.directory("bin");
        chmod(&step.at("bin"), 0o755);
        symlink("target", step.at("bin/link")).unwrap();
        date(&step.at("bin/link"), 0, 0);
        let of = fs::symlink_metadata(step.at("bin/link")).unwrap();
        let id = (of.dev(), of.ino());
        options.link_owners = owner.into_iter().map(|owner| (id, owner)).collect();
        let snapshot = step.take(&options);
        let last = listed(&step.store, &snapshot).pop();
        assert_eq!(last.as_deref(), expected, "{owner:?}");
    }
    let count = |beside: bool| {
        let layers = entries(&root.join("layers")).into_iter();
        layers
            .filter(|path| path.extension().is_some() == beside)
            .count()
    };
    assert_eq!((count(false), count(true)), (4, 2));
    step.store.remove("a", false, &|_| None).unwrap();
    assert_eq!((count(false), count(true)), (3, 1));
    drop(step);
    let store = Store::open(root).unwrap();
    store.prune(true, &|_| None).unwrap();
    assert_eq!(entries(&root.join("layers")).len(), 0);
}

#[test]
fn capabilities_that_the_disk_refuses_are_kept() {
    as_nobody("snapshot::capabilities_as_user");
}

#[test]
#[ignore = "run by another test, as an ordinary user"]
fn capabilities_as_user() {
    let store = Store::open(Path::new("store")).unwrap();
    let mut capability = vec![1, 0, 0, 2, 0, 32];
    capability.resize(20, 0);
    let mut members = vec![file("ping", "#!"), file("written", "#!")];
    for (entry, _) in &mut members {
        let name = b"security.capability".to_vec();
        entry.xattrs.insert(name, capability.clone());
    }
    let image = add(&store, &["a"], &[tar(&members)]);
    let mut notes = Vec::new();
    let lower = store
        .checkout_with(&image, Ownership::Caller, &mut |note| notes.push(note))
        .unwrap();
    assert_eq!(notes, Vec::<String>::new());
    if marked(&lower[0].join("ping"), "security.capability").is_some() {
        println!("skipped: this user may set capabilities");
        return;
    }

    // As overlayfs would copy them, one with a new name, one written to.
    let step = Step {
        store,
        workspace: Store::open(Path::new("store"))
            .unwrap()
            .workspace()
            .unwrap(),
    };
    fs::create_dir(step.upper()).unwrap();
    let kept = marked(&lower[0].join("ping"), "user.smidge.capability").unwrap();
    for (name, time) in [("moved", 0), ("written", 9)] {
        step.file(name, "#!");
        chmod(&step.at(name), 0o644);
        mark(&step.at(name), "user.smidge.capability", &kept);
        date(&step.at(name), time, 0);
    }
    let mut options = options(Ownership::Caller);
    options.times.since = Some(0);
    let snapshot = step.take(&options);
    let expected = [
        "moved 644 0:0 @7 file \"#!\" security.capability",
        "written 644 0:0 @7 file \"#!\"",
    ];
    assert_eq!(listed(&step.store, &snapshot), expected);
    assert_eq!(
        members_of(&step, &snapshot)[0].xattrs[&b"security.capability"[..]],
        capability
    );
    let unpacked = step.unpacked(&snapshot);
    assert_eq!(
        marked(&unpacked.join("written"), "user.smidge.capability"),
        None
    );
    assert_round_trip(&step, &snapshot, Ownership::Caller);
}

fn members_of(step: &Step, snapshot: &Snapshot) -> Vec<Entry> {
    let members = members(&step.store, snapshot).into_iter();
    members.map(|(entry, _)| entry).collect()
}

#[test]
fn mount_points_that_nobody_used_leave_no_trace() {
    let fixture = fixture();
    let step = Step::new(fixture.store.root());
    step.directory("deep/er/est");
    step.file("etc/resolv.conf", "");
    step.file("etc/hosts", "written");
    step.file("used/by/program", "x");
    symlink("etc", step.at("link")).unwrap();
    let mut options = options(Ownership::of_caller());
    options.stubs = [
        "deep",
        "deep/er",
        "deep/er/est",
        "etc/resolv.conf",
        "etc/hosts",
        "used",
        "used/by",
        "missing/at/all",
        "link/resolv.conf",
        "/",
    ]
    .map(path)
    .to_vec();
    let snapshot = step.take(&options);
    let names: Vec<_> = members(&step.store, &snapshot)
        .iter()
        .map(|(entry, _)| entry.path.to_string_lossy().into_owned())
        .collect();
    let expected = [
        "etc",
        "etc/hosts",
        "link",
        "used",
        "used/by",
        "used/by/program",
    ];
    assert_eq!(names, expected);
    assert!(!step.unpacked(&snapshot).join("deep").exists());
}

/// A lower layer, and an upper directory with copies of some of its files.
#[test]
fn what_is_as_it_was_below_is_left_out() {
    let fixture = fixture();
    let step = Step::new(fixture.store.root());
    let names = [
        "same", "content", "mode", "time", "size", "both/of", "other/of",
    ];
    let mut bottom: Vec<_> = names.iter().map(|name| file(name, "old")).collect();
    bottom.push(file("replaced/by/another", "old"));
    bottom.push(file("was-file", "old"));
    bottom.push(crate::fixture::symlink("link", "same"));
    let top = vec![
        file("top/same", "top"),
        file("replaced/.wh..wh..opq", ""),
        file(".wh.other", ""),
    ];
    let image = add(&step.store, &["a"], &[tar(&bottom), tar(&top)]);
    let lower = step.store.checkout(&image).unwrap();
    for name in names {
        let old = if name == "size" { "older" } else { "old" };
        step.file(name, old);
        chmod(&step.at(name), 0o644);
        date(&step.at(name), 0, 0);
    }
    symlink("same", step.at("link")).unwrap();
    date(&step.at("link"), 0, 0);
    step.file("content", "new");
    date(&step.at("content"), 0, 0);
    chmod(&step.at("mode"), 0o600);
    date(&step.at("time"), 0, 1);
    step.file("top/same", "top");
    date(&step.at("top/same"), 0, 0);
    chmod(&step.at("top/same"), 0o644);
    // Hidden below: new here.
    step.directory("replaced/by");
    // Marked by overlayfs as it marks all new directories.
    step.directory("new");
    mark(&step.at("new"), "user.overlay.opaque", b"y");
    step.directory("was-file");
    step.directory("both/deep");
    for name in [
        "",
        "both",
        "both/deep",
        "other",
        "top",
        "new",
        "was-file",
        "replaced",
    ] {
        chmod(&step.at(name), 0o755);
    }
    chmod(&step.at("replaced/by"), 0o755);
    let mut options = options(Ownership::of_caller());
    options.lower = lower;
    let snapshot = step.take(&options);
    let expected = [
        "both 755 0:0 @7 directory",
        "both/deep 755 0:0 @7 directory",
        "content 644 0:0 @0 file \"new\"",
        "mode 600 0:0 @0 file \"old\"",
        "new 755 0:0 @7 directory",
        "other 755 0:0 @7 directory",
        "other/of 644 0:0 @0 file \"old\"",
        "replaced 755 0:0 @7 directory",
        "replaced/by 755 0:0 @7 directory",
        "size 644 0:0 @0 file \"older\"",
        "time 644 0:0 @0 file \"old\"",
        "was-file 755 0:0 @7 directory",
    ];
    assert_eq!(listed(&step.store, &snapshot), expected);
    let unpacked = step.unpacked(&snapshot);
    assert!(!unpacked.join("same").exists() && !unpacked.join("top").exists());
}

/// Whoever makes the same layer over other files must not find these hidden.
#[test]
fn marks_that_hide_nothing_are_not_kept() {
    let fixture = fixture();
    let step = Step::new(fixture.store.root());
    let base = add(&step.store, &["without"], &[tar(&[directory("etc")])]);
    step.file("new/own", "x");
    for (name, mode) in [("new", 0o755), ("new/own", 0o644)] {
        chmod(&step.at(name), mode);
    }
    mark(&step.at("new"), "user.overlay.opaque", b"y");
    let mut options = options(Ownership::of_caller());
    options.lower = step.store.checkout(&base).unwrap();
    let snapshot = step.take(&options);
    let mut layer = Vec::new();
    let mut reader = step.store.blob(&descriptor(&snapshot)).unwrap();
    reader.read_to_end(&mut layer).unwrap();
    let below = tar(&[file("new/kept", "y")]);
    let image = add(&step.store, &["with"], &[below, layer]);
    let tree = step.store.tree(&image).unwrap();
    assert_eq!(tree.list(&path("new")).unwrap(), [&b"kept"[..], b"own"]);
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

/// What the kernel makes of changes, not what we think it does.
#[test]
fn overlayfs_and_back_as_root() {
    if !is_root() {
        println!("skipped: only root may mount");
        return;
    }
    through_overlayfs(fixture().store.root(), "");
}

#[test]
fn overlayfs_and_back() {
    let fixture = fixture();
    let command = child("snapshot::inside_a_namespace", fixture.directory.path());
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(fixture.directory.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.starts_with("unshare:") {
        println!("skipped: no user namespace: {output:?}");
        return;
    }
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "run by another test, in a user namespace"]
fn inside_a_namespace() {
    through_overlayfs(Path::new("other"), "userxattr,");
}

fn through_overlayfs(root: &Path, mount_options: &str) {
    let step = Step::new(root);
    let lower = tar(&[
        file("etc/changed", "old"),
        file("etc/gone", "old"),
        file("etc/kept", "old"),
        file("etc/touched", "old"),
        file("hidden/deep", "old"),
        directory("var/empty"),
    ]);
    let image = add(&step.store, &["a"], &[lower]);
    let mut options = options(Ownership::of_caller());
    options.lower = step.store.checkout(&image).unwrap();
    let (work, merged) = (
        step.workspace.path().join("work"),
        step.workspace.path().join("merged"),
    );
    for directory in [&work, &merged] {
        fs::create_dir(directory).unwrap();
    }
    let mount = format!(
        "{mount_options}lowerdir={},upperdir={},workdir={}",
        options.lower[0].display(),
        step.upper().display(),
        work.display()
    );
    let mounted = Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &mount])
        .arg(&merged)
        .status();
    if !mounted.unwrap().success() {
        println!("skipped: no overlay can be mounted");
        return;
    }
    fs::write(merged.join("etc/changed"), "new").unwrap();
    fs::remove_file(merged.join("etc/gone")).unwrap();
    // A copy that nothing comes of.
    chmod(&merged.join("etc/touched"), 0o600);
    chmod(&merged.join("etc/touched"), 0o644);
    fs::remove_dir_all(merged.join("hidden")).unwrap();
    fs::create_dir(merged.join("hidden")).unwrap();
    fs::write(merged.join("hidden/new"), "").unwrap();
    fs::create_dir(merged.join("made")).unwrap();
    fs::write(merged.join("var/empty/x"), "").unwrap();
    fs::remove_file(merged.join("var/empty/x")).unwrap();
    fs::hard_link(merged.join("etc/kept"), merged.join("etc/twice")).unwrap();
    for name in ["hidden", "made"] {
        chmod(&merged.join(name), 0o755);
    }
    chmod(&merged.join("hidden/new"), 0o644);
    assert!(
        Command::new("umount")
            .arg(&merged)
            .status()
            .unwrap()
            .success()
    );
    let snapshot = step.take(&options);
    let expected = [
        "etc 755 0:0 @7 directory",
        "etc/.wh.gone 644 0:0 @0 file \"\"",
        "etc/changed 644 0:0 @7 file \"new\"",
        "etc/kept 644 0:0 @0 file \"old\"",
        "etc/twice 644 0:0 @0 is etc/kept",
        "hidden 755 0:0 @7 directory",
        "hidden/.wh..wh..opq 644 0:0 @0 file \"\"",
        "hidden/new 644 0:0 @7 file \"\"",
        "made 755 0:0 @7 directory",
    ];
    assert_eq!(listed(&step.store, &snapshot), expected);
}

#[test]
fn holes_take_up_no_room() {
    let fixture = fixture();
    let step = Step::new(fixture.store.root());
    let sparse = File::create(step.at("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 30 << 20).unwrap();
    drop(sparse);
    let snapshot = step.take(&options(Ownership::of_caller()));
    let (_, content) = members(&step.store, &snapshot).remove(0);
    assert_eq!(content.len(), 64 << 20);
    assert_eq!(&content[30 << 20..][..6], b"middle");
    assert_eq!(content.iter().filter(|byte| **byte != 0).count(), 6);
    let blob = step
        .store
        .root()
        .join("blobs/sha256")
        .join(snapshot.diff_id.0.hex());
    for path in [blob, step.unpacked(&snapshot).join("sparse")] {
        let of = fs::metadata(&path).unwrap();
        assert!(
            of.len() >= 64 << 20 && of.blocks() * 512 < 1 << 20,
            "{of:?}"
        );
    }

    // A blob may end in one.
    let mut writer = step.store.blob_writer().unwrap();
    let bytes = vec![0; 10 << 20];
    std::io::Write::write_all(&mut writer, &bytes).unwrap();
    assert_eq!(writer.commit().unwrap(), (Digest::of(&bytes), 10 << 20));
    let blob = step
        .store
        .root()
        .join("blobs/sha256")
        .join(Digest::of(&bytes).hex());
    assert_eq!(fs::metadata(blob).unwrap().len(), 10 << 20);
}

#[test]
fn directories_may_be_deep() {
    let fixture = fixture();
    let step = Step::new(fixture.store.root());
    let deep = "d/".repeat(1900);
    step.directory(&deep);
    let snapshot = step.take(&options(Ownership::of_caller()));
    assert_eq!(snapshot.entries, 1900);

    // Deeper than any path can say, which no layer can be.
    step.directory(&deep);
    let lower = step.workspace.path().join("lower");
    fs::create_dir_all(lower.join(&deep)).unwrap();
    chmod(&lower.join("d/d/d"), 0);
    fs::rename(&lower, step.at(&deep).join("lower")).unwrap();
    let refused = step
        .store
        .snapshot(&step.upper(), &options(Ownership::of_caller()));
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    drop(step);
    assert_eq!(fixture.temporary().len(), 0);
    fixture.store.prune(true, &|_| None).unwrap();
    assert_eq!(entries(&fixture.store.root().join("layers")).len(), 0);
    assert_eq!(fixture.temporary().len(), 0);
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
