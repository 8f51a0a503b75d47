//! Whose files are, and who may read them.

use smidge_tests::InTime as _;

use super::*;

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
    let output = child("checkout::owner::as_user", fixture.directory.path())
        .uid(nobody)
        .gid(nobody)
        .output_in_time();
    match output {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => println!("skipped: an ordinary user cannot run the tests: {error}"),
    }
}

#[test]
fn the_root_of_a_user_namespace_keeps_what_it_can() {
    let fixture = fixture();
    let command = child("checkout::owner::as_mapped_root", fixture.directory.path());
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(fixture.directory.path())
        .output_in_time()
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

#[test]
fn files_with_several_names_have_their_owners_by_all_of_them() {
    if !is_root() {
        println!("skipped: only root may give files away");
        return;
    }
    let fixture = fixture();
    let layer = tar(&[
        with_owner(file("z/first", "x"), 5, 6),
        with_owner(hardlink("a/second", "z/first"), 5, 6),
    ]);
    let image = add(&fixture.store, &["a"], &[layer]);
    let store = &fixture.store;
    let layers = store.checkout_with(&image, Ownership::Caller, &mut |_| {});
    let layers = layers.unwrap();
    let Owned::Missing(path) = store.owned_layer(&layers, "map") else {
        panic!("it is there already");
    };
    store.make_owned_layer(&layers, &path).unwrap();
    let [one, other] = ["z/first", "a/second"].map(|name| fs::metadata(path.join(name)).unwrap());
    assert_eq!((one.uid(), one.gid()), (5, 6));
    assert_eq!(one.ino(), other.ino());
}
