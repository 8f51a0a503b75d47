//! What the disk cannot hold is claimed.

use super::*;

#[test]
fn claims_say_what_files_should_be() {
    claims(fixture().store.root());
    as_nobody("snapshot::claims::claims_as_user");
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
    as_nobody("snapshot::claims::unpacking_as_user");
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
    as_nobody("snapshot::claims::links_as_user");
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
    as_nobody("snapshot::claims::capabilities_as_user");
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
