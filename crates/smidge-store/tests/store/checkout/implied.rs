//! Directories that layers do not mention.

use super::*;

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
