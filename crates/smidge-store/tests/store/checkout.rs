//! Layers become directories, and nothing outside them.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use smidge_image::{EntryKind, LayerPath, NodeKind, Tree};
use smidge_store::{Error, LayeredTree, Ownership, Store};

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

#[test]
fn owners_and_devices_are_as_the_layer_says_where_root_unpacks() {
    if !is_root() {
        println!("skipped: only root may give files away");
        return;
    }
    let fixture = fixture();
    let device = EntryKind::CharDevice { major: 1, minor: 3 };
    let mut capable = with_owner(file("ping", "#!"), 1000, 1000);
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    capable
        .0
        .xattrs
        .insert(b"security.capability".to_vec(), capability.to_vec());
    let layer = tar(&[
        with_owner(with_mode(file("home/me/secret", "s"), 0o2640), 1000, 1001),
        with_owner(with_mode(directory("home/me"), 0o700), 1000, 1000),
        with_owner(symlink("link", "x"), 7, 8),
        with_mode(special("null", device), 0o666),
        with_mode(file("shadow", "s"), 0),
        capable,
    ]);
    let image = add(&fixture.store, &["a"], std::slice::from_ref(&layer));
    let layers = fixture.store.checkout(&image).unwrap();
    let at = |name: &str| fs::symlink_metadata(layers[0].join(name)).unwrap();
    let secret = at("home/me/secret");
    assert_eq!(
        (secret.uid(), secret.gid(), secret.mode() & 0o7777),
        (1000, 1001, 0o2640)
    );
    assert_eq!(
        (at("home/me").uid(), at("home/me").mode() & 0o7777),
        (1000, 0o700)
    );
    assert_eq!(
        (at("home").uid(), at("link").uid(), at("link").gid()),
        (0, 7, 8)
    );
    assert_eq!(
        (at("null").rdev(), at("null").mode() & 0o7777),
        (0x103, 0o666)
    );
    assert_eq!(at("shadow").mode() & 0o7777, 0);
    let mut value = [0; 32];
    let length = rustix::fs::lgetxattr(
        layers[0].join("ping"),
        "security.capability",
        &mut value[..],
    );
    assert_eq!(&value[..length.unwrap()], capability);

    // As an ordinary user would unpack it.
    let other = Store::open(&fixture.path("other")).unwrap();
    let image = add(&other, &["a"], &[layer]);
    let layers = other
        .checkout_with(&image, Ownership::Caller, &mut |_| {})
        .unwrap();
    let at = |name: &str| fs::symlink_metadata(layers[0].join(name)).unwrap();
    assert_eq!((at("home/me").uid(), at("home/me/secret").gid()), (0, 0));
    assert_eq!(at("shadow").mode() & 0o7777, 0o400);
}

#[test]
fn hostile_layers_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("victim"), "intact").unwrap();
    let absolute = target.to_str().unwrap();
    let up = format!("../../../../../../../..{absolute}");
    // Each layer, and the file that must come out where a container would see it, or nothing if the
    // layer makes no sense.
    let cases: Vec<(&str, Vec<Member>, Option<&str>)> = vec![
        (
            "a parent that is an absolute link",
            vec![symlink("d", absolute), file("d/victim", "!")],
            None,
        ),
        (
            "a parent that climbs",
            vec![symlink("d", &up), file("d/victim", "!")],
            None,
        ),
        (
            "a parent that leads around inside",
            vec![
                directory("usr/lib"),
                symlink("lib", "usr/lib"),
                file("lib/x", "!"),
            ],
            Some("usr/lib/x"),
        ),
        (
            "an absolute parent that exists inside",
            vec![
                directory("usr/lib"),
                symlink("lib", "/usr/lib"),
                file("lib/x", "!"),
            ],
            Some("usr/lib/x"),
        ),
        (
            "a climbing parent that exists inside",
            vec![
                directory("usr"),
                symlink("u", "../../usr"),
                file("u/x", "!"),
            ],
            Some("usr/x"),
        ),
        (
            "a file over a link that leads out",
            vec![symlink("f", &format!("{absolute}/victim")), file("f", "!")],
            Some("f"),
        ),
        (
            "a directory over a link that leads out",
            vec![
                symlink("d", absolute),
                directory("d"),
                file("d/victim", "!"),
            ],
            Some("d/victim"),
        ),
        (
            "a hard link through a link",
            vec![symlink("d", absolute), hardlink("h", "d/victim")],
            None,
        ),
        (
            "a hard link to nothing",
            vec![hardlink("h", "nothing")],
            None,
        ),
        (
            "a hard link to a directory",
            vec![directory("d"), hardlink("h", "d")],
            None,
        ),
        (
            "a link in circles",
            vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "!")],
            None,
        ),
        (
            "a file below a file",
            vec![file("a", ""), file("a/x", "!")],
            None,
        ),
        (
            "a whiteout through a link",
            vec![symlink("d", absolute), file("d/.wh.victim", "")],
            None,
        ),
        (
            "an opaque link",
            vec![symlink("d", absolute), file("d/.wh..wh..opq", "")],
            None,
        ),
        (
            "a name that is too long",
            vec![file(&"n".repeat(300), "!")],
            None,
        ),
        (
            "a path that is too long",
            vec![file(&"n/".repeat(3000), "!")],
            None,
        ),
        (
            "a directory in place of a file",
            vec![file("a", ""), directory("a"), file("a/x", "!")],
            Some("a/x"),
        ),
        (
            "a file in place of a directory",
            vec![file("a/b/c", ""), file("a", "!")],
            Some("a"),
        ),
        (
            "a name twice",
            vec![file("a", "1"), hardlink("b", "a"), file("a", "!")],
            Some("a"),
        ),
        (
            "a hard link to itself",
            vec![file("a", "!"), hardlink("a", "a")],
            Some("a"),
        ),
    ];
    for (case, members, expected) in cases {
        let fixture = fixture();
        let image = add(&fixture.store, &["a"], &[tar(&members)]);
        let checkout = fixture.store.checkout(&image);
        match (&checkout, expected) {
            (Ok(layers), Some(expected)) => {
                let path = layers[0].join(expected);
                assert!(!path.is_symlink(), "{case}");
                assert_eq!(fs::read_to_string(path).unwrap(), "!", "{case}");
            }
            (Err(Error::Entry { entry, .. }), None) => assert!(entry.starts_with('/'), "{case}"),
            _ => panic!("{case}: {checkout:?}"),
        }
        assert_eq!(
            all_below(outside.path()),
            [Path::new("target"), Path::new("target/victim")]
        );
        assert_eq!(
            fs::read_to_string(target.join("victim")).unwrap(),
            "intact",
            "{case}"
        );
        assert_eq!(fixture.temporary().len(), 0, "{case}");
    }
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
fn upper_layers_remove_replace_and_hide() {
    let fixture = fixture();
    let image = stacked(&fixture.store);
    let tree = fixture.store.tree(&image).unwrap();
    assert_eq!(all_in(&tree), seen());
    assert_eq!(tree.read(&path("etc/replaced"), 9).unwrap(), b"upper");
    assert_eq!(tree.read(&path("etc/kept"), 9).unwrap(), b"lower");
    for gone in [
        "etc/removed",
        "gone/deep",
        "gone/deep/er",
        "directory-to-file/x",
        "link/kept",
    ] {
        assert_eq!(tree.node(&path(gone)).unwrap(), None, "{gone}");
    }
    assert_eq!(
        tree.resolve(b"link/kept").unwrap().unwrap().0,
        path("etc/kept")
    );
}

#[test]
fn overlayfs_shows_what_the_tree_shows() {
    let fixture = fixture();
    let image = stacked(&fixture.store);
    let layers: Vec<_> = fixture
        .store
        .checkout(&image)
        .unwrap()
        .into_iter()
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    let mount = fixture.path("mount");
    fs::create_dir(&mount).unwrap();
    let options = format!("lowerdir={}", layers.join(":"));
    let mounted = Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(&mount)
        .output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: overlayfs cannot be mounted: {mounted:?}");
        return;
    }
    let shown = all_below(&mount);
    let unmounted = Command::new("umount").arg(&mount).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(shown, seen());
}

#[test]
fn an_opaque_root_hides_all_below() {
    let fixture = fixture();
    let lower = tar(&[file("lower", "")]);
    let upper = tar(&[file(".wh..wh..opq", ""), file("upper", "")]);
    let image = add(&fixture.store, &["a"], &[lower, upper]);
    assert_eq!(fixture.store.checkout(&image).unwrap().len(), 1);
    assert_eq!(
        all_in(&fixture.store.tree(&image).unwrap()),
        [Path::new("upper")]
    );
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

#[test]
fn directories_without_permissions_can_be_read_and_removed() {
    let fixture = fixture();
    let layer = tar(&[
        with_mode(directory("locked"), 0),
        file("locked/in", "x"),
        with_mode(file("shadow", "x"), 0),
    ]);
    fs::write(fixture.directory.path().join("layer.tar"), &layer).unwrap();
    if !is_root() {
        as_user_in(fixture.directory.path());
        return;
    }
    let nobody = 65534;
    for path in [
        fixture.directory.path().to_owned(),
        fixture.path("layer.tar"),
    ] {
        std::os::unix::fs::chown(path, Some(nobody), Some(nobody)).unwrap();
    }
    use std::os::unix::process::CommandExt as _;
    let output = child("checkout::as_user", fixture.directory.path())
        .uid(nobody)
        .gid(nobody)
        .output();
    match output {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => println!("skipped: an ordinary user cannot run the tests: {error}"),
    }
}

#[test]
fn the_root_of_a_user_namespace_keeps_what_it_can() {
    let fixture = fixture();
    let command = child("checkout::as_mapped_root", fixture.directory.path());
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(fixture.directory.path())
        .output()
        .unwrap();
    if String::from_utf8_lossy(&output.stderr).starts_with("unshare:") {
        println!("skipped: no user namespace: {output:?}");
        return;
    }
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "run by another test, in a user namespace"]
fn as_mapped_root() {
    let store = Store::open(Path::new("store")).unwrap();
    let null = special("null", EntryKind::CharDevice { major: 1, minor: 3 });
    let foreign = with_mode(with_owner(file("foreign", "x"), 1000, 1000), 0o640);
    let image = add(&store, &["a"], &[tar(&[null, foreign])]);
    let mut notes = Vec::new();
    let layers = store
        .checkout_with(&image, Ownership::Layer, &mut |note| notes.push(note))
        .unwrap();
    assert_eq!(notes, ["`/null` is an empty file instead of a device"]);
    let foreign = fs::metadata(layers[0].join("foreign")).unwrap();
    assert_eq!((foreign.uid(), foreign.mode() & 0o7777), (0, 0o640));
    assert_eq!(all_in(&store.tree(&stacked(&store)).unwrap()), seen());
}

#[test]
#[ignore = "run by another test, as an ordinary user"]
fn as_user() {
    as_user_in(Path::new("."));
}

/// What an ordinary user gets: everything readable and removable, whiteouts included.
fn as_user_in(directory: &Path) {
    let store = Store::open(&directory.join("users")).unwrap();
    let locked = fs::read(directory.join("layer.tar")).unwrap();
    let null = special("null", EntryKind::CharDevice { major: 1, minor: 3 });
    let image = add(&store, &["a"], &[locked, tar(&[null])]);
    let mut notes = Vec::new();
    let layers = store
        .checkout_with(&image, Ownership::Caller, &mut |note| notes.push(note))
        .unwrap();
    assert_eq!(notes, ["`/null` is an empty file instead of a device"]);
    assert_eq!(fs::metadata(layers[0].join("null")).unwrap().len(), 0);
    let mode = |name: &str| {
        fs::metadata(layers[1].join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!(
        (mode("locked") & 0o777, mode("shadow") & 0o777),
        (0o700, 0o400)
    );
    let tree = store.tree(&image).unwrap();
    assert_eq!(tree.read(&path("locked/in"), 1).unwrap(), b"x");
    assert_eq!(tree.read(&path("shadow"), 1).unwrap(), b"x");
    let stacked = stacked(&store);
    assert_eq!(all_in(&store.tree(&stacked).unwrap()), seen());

    // Whatever somebody did to the permissions since.
    fs::set_permissions(layers[1].join("locked"), fs::Permissions::from_mode(0o0)).unwrap();
    let pruned = store.prune(true, &|_| None).unwrap();
    assert_eq!(pruned.left, Vec::<PathBuf>::new());
    assert_eq!(
        crate::fixture::entries(&store.root().join("layers")).len(),
        0
    );
    assert_eq!(crate::fixture::entries(&store.root().join("tmp")).len(), 0);
}

#[test]
fn no_link_leads_out_of_a_tree_of_layers() {
    let dir = tempfile::tempdir().unwrap();
    let layers: Vec<PathBuf> = ["top", "bottom"].map(|name| dir.path().join(name)).into();
    std::fs::create_dir_all(layers[0].join("sub")).unwrap();
    std::fs::create_dir_all(layers[1].join("sub/dir")).unwrap();
    std::fs::write(dir.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink(dir.path(), layers[0].join("out")).unwrap();
    std::os::unix::fs::symlink(dir.path(), layers[1].join("sub/out")).unwrap();
    let tree = LayeredTree::open(&layers).unwrap();
    let seen = |path: &str| {
        let path = LayerPath::parse(path.as_bytes()).unwrap();
        tree.node(&path).unwrap().is_some()
    };
    assert!(seen("out") && seen("sub/out") && seen("sub/dir"));
    for path in [
        "out/secret",
        "sub/out/secret",
        "out/top/sub",
        "sub/out/bottom/sub",
    ] {
        assert!(!seen(path), "{path}");
        let path = LayerPath::parse(path.as_bytes()).unwrap();
        assert!(tree.list(&path).is_err() && Tree::open(&tree, &path).is_err());
    }
}

/// What `checkout` shows at a path: mode, owner, group, and an attribute.
fn shown(layers: &[PathBuf], at: &str) -> (u32, u32, u32, Option<Vec<u8>>) {
    let tree = LayeredTree::open(layers).unwrap();
    let node = tree.node(&path(at)).unwrap().unwrap();
    let attributes = tree.attributes(&path(at)).unwrap();
    let colour = attributes.get(&b"user.colour"[..]).cloned();
    (node.mode, node.uid, node.gid, colour)
}

#[test]
fn implied_directories_are_those_of_the_layers_below() {
    for ownership in [Ownership::of_caller(), Ownership::Caller] {
        implied_directories(ownership);
    }
}

fn implied_directories(ownership: Ownership) {
    let fixture = fixture();
    let mut marked = with_owner(with_mode(directory("srv/data"), 0o2750), 7, 8);
    marked
        .0
        .xattrs
        .insert(b"user.colour".to_vec(), b"blue".to_vec());
    let below = [
        with_mode(directory("tmp"), 0o1777),
        with_owner(with_mode(directory("srv"), 0o711), 5, 5),
        marked,
        with_mode(directory("gone"), 0o700),
        directory("plain"),
    ];
    let middle = [
        file("tmp/a", "a"),
        file("srv/data/deep/b", "b"),
        file(".wh.gone", ""),
        file("plain/c", "c"),
    ];
    let above = [
        file("gone/d", "d"),
        file("tmp/e", "e"),
        file("srv/data/deep/.wh.b", ""),
    ];
    let layers = [&below[..], &middle, &above].map(tar);
    let image = add(&fixture.store, &["a"], &layers);
    let checkout = || {
        let stack = fixture.store.checkout_with(&image, ownership, &mut |_| {});
        stack.unwrap()
    };
    let stack = checkout();
    assert_eq!(stack.len(), 4, "{stack:?}");
    assert_eq!(shown(&stack, "tmp"), (0o1777, 0, 0, None));
    assert_eq!(shown(&stack, "srv"), (0o711, 5, 5, None));
    let colour = Some(b"blue".to_vec());
    assert_eq!(shown(&stack, "srv/data"), (0o2750, 7, 8, colour));
    assert_eq!(shown(&stack, "srv/data/deep"), (0o755, 0, 0, None));
    // Another directory than the one that was removed.
    assert_eq!(shown(&stack, "gone"), (0o755, 0, 0, None));
    assert_eq!(shown(&stack, "plain"), (0o755, 0, 0, None));
    let tree = LayeredTree::open(&stack).unwrap();
    for (at, there) in [("tmp/a", true), ("tmp/e", true), ("srv/data/deep/b", false)] {
        assert_eq!(tree.node(&path(at)).unwrap().is_some(), there, "{at}");
    }
    // The next one finds it made.
    assert_eq!(checkout(), stack);
    fixture.store.remove("a", false, &|_| None).unwrap();
    fixture.store.prune(true, &|_| None).unwrap();
    let layers = crate::fixture::entries(&fixture.store.root().join("layers"));
    assert_eq!(layers, Vec::<PathBuf>::new());
}

#[test]
fn stacks_that_imply_nothing_new_stay_as_they_are() {
    let fixture = fixture();
    let layers = [
        tar(&[directory("var"), file("var/a", "a")]),
        tar(&[file("var/b", "b"), file("opt/c", "c")]),
    ];
    let image = add(&fixture.store, &["a"], &layers);
    assert_eq!(fixture.store.checkout(&image).unwrap().len(), 2);
}

#[test]
fn whose_links_are_is_known_by_all_their_names_and_as_the_last_entry_says() {
    let fixture = fixture();
    let owned = |name: &str, target: &str| with_owner(crate::fixture::symlink(name, target), 5, 6);
    let layer = tar(&[
        owned("one", "x"),
        crate::fixture::hardlink("two", "one"),
        owned("three", "x"),
        crate::fixture::symlink("three", "x"),
    ]);
    let image = add(&fixture.store, &["a"], &[layer]);
    let ownership = smidge_store::Ownership::Caller;
    let layers = fixture.store.checkout_with(&image, ownership, &mut |_| {});
    let tree = LayeredTree::open(&layers.unwrap()).unwrap();
    let owner = |name: &str| {
        let node = tree.node(&path(name)).unwrap().unwrap();
        (node.uid, node.gid)
    };
    assert_eq!(["one", "two"].map(owner), [(5, 6); 2]);
    assert_eq!(owner("three"), (0, 0));
}
