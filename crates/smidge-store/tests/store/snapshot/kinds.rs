//! Files of every kind.

use super::*;

#[test]
fn files_of_all_kinds_become_a_layer() {
    every_kind(fixture().store.root());
    as_nobody("snapshot::kinds::every_kind_as_user");
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
