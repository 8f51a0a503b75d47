//! Images as root file systems.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use smidge_image::{Descriptor, Entry, EntryKind, LayerError, media_type, read_layer};
use smidge_store::{Squash, Store};

use crate::fixture::{
    add, directory, file, fixture, hardlink, is_root, path, special, symlink, tar,
};

fn image(store: &Store) -> smidge_store::Image {
    let mut tmp = directory("tmp");
    tmp.0.mode = 0o1777;
    let mut owned = file("home/owned", "mine");
    (owned.0.uid, owned.0.gid, owned.0.mtime) = (1000, 1001, 77);
    let lower = tar(&[
        tmp,
        owned,
        file("z-first", "content"),
        hardlink("a-second", "z-first"),
        hardlink("m-third", "a-second"),
        file("etc/gone", ""),
        special("dev/null", EntryKind::CharDevice { major: 1, minor: 3 }),
        directory("usr/lib"),
        symlink("lib", "usr/lib"),
        file("lib/through", "link"),
    ]);
    let upper = tar(&[
        file("etc/.wh.gone", ""),
        file("tmp/new", "n"),
        file("z-first", "replaced"),
    ]);
    add(store, &["image"], &[lower, upper])
}

fn listing(archive: &[u8]) -> Vec<(Entry, String)> {
    let mut entries = Vec::new();
    read_layer(archive, |entry, content| {
        let bytes = crate::fixture::read(content).unwrap();
        entries.push((entry, String::from_utf8(bytes).unwrap()));
        Ok::<_, LayerError>(())
    })
    .unwrap();
    entries
}

#[test]
fn a_flattened_archive_has_each_file_once_and_true() {
    let fixture = fixture();
    let image = image(&fixture.store);
    let mut archive = Vec::new();
    fixture.store.save_rootfs(&image, &mut archive).unwrap();
    let entries = listing(&archive);
    let names: Vec<_> = entries
        .iter()
        .map(|(entry, _)| entry.path.to_string())
        .collect();
    assert_eq!(
        names,
        [
            "/a-second",
            "/dev",
            "/dev/null",
            "/etc",
            "/home",
            "/home/owned",
            "/lib",
            "/m-third",
            "/tmp",
            "/tmp/new",
            "/usr",
            "/usr/lib",
            "/usr/lib/through",
            "/z-first",
        ]
    );
    let find = |name: &str| {
        entries
            .iter()
            .find(|(entry, _)| entry.path == path(name))
            .unwrap()
    };
    assert_eq!(find("a-second").1, "content");
    assert_eq!(
        find("m-third").0.kind,
        EntryKind::Hardlink {
            target: path("a-second")
        }
    );
    assert_eq!(find("z-first").1, "replaced");
    assert_eq!(find("tmp").0.mode, 0o1777);
    assert_eq!(
        find("dev/null").0.kind,
        EntryKind::CharDevice { major: 1, minor: 3 }
    );
    let owned = &find("home/owned").0;
    assert_eq!((owned.uid, owned.gid, owned.mtime), (1000, 1001, 77));

    // Whoever unpacked the layers, and whenever.
    let other = Store::open(&fixture.path("other")).unwrap();
    let image = self::image(&other);
    other
        .checkout_with(&image, smidge_store::Ownership::Caller, &mut |_| {})
        .unwrap();
    let mut again = Vec::new();
    other.save_rootfs(&image, &mut again).unwrap();
    assert!(archive == again);
}

#[test]
fn a_directory_gets_the_same_files() {
    let fixture = fixture();
    let image = image(&fixture.store);
    let target = fixture.path("rootfs");
    fixture
        .store
        .save_rootfs_directory(&image, &target)
        .unwrap();
    assert_eq!(
        fs::read_to_string(target.join("usr/lib/through")).unwrap(),
        "link"
    );
    assert_eq!(
        fs::read_to_string(target.join("lib/through")).unwrap(),
        "link"
    );
    assert!(!target.join("etc/gone").exists() && target.join("etc").is_dir());
    let inode = |name: &str| fs::metadata(target.join(name)).unwrap().ino();
    assert_eq!(inode("a-second"), inode("m-third"));
    assert_ne!(inode("a-second"), inode("z-first"));
    assert_eq!(
        fs::metadata(target.join("tmp")).unwrap().mode() & 0o7777,
        0o1777
    );
    if is_root() {
        assert_eq!(fs::metadata(target.join("home/owned")).unwrap().uid(), 1000);
    }
    // Once more over it.
    fixture
        .store
        .save_rootfs_directory(&image, &target)
        .unwrap();
}

#[test]
fn a_layer_that_is_there_twice_counts_once() {
    let fixture = fixture();
    let mut owned = file("owned", "x");
    owned.0.uid = 7;
    let [one, other] = [tar(&[owned]), tar(&[file("other", "y")])];
    let image = add(&fixture.store, &["a"], &[one.clone(), one, other]);
    let mut archive = Vec::new();
    fixture.store.save_rootfs(&image, &mut archive).unwrap();
    let owners: Vec<_> = listing(&archive)
        .iter()
        .map(|(entry, _)| (entry.path.to_string(), entry.uid))
        .collect();
    assert_eq!(owners, [("/other".to_owned(), 0), ("/owned".to_owned(), 7)]);
}

#[test]
fn a_name_that_was_given_to_another_file_is_no_link_any_more() {
    let fixture = fixture();
    let layer = tar(&[
        file("b", "old"),
        hardlink("c", "b"),
        hardlink("d", "c"),
        file("b", "new"),
        hardlink("e", "b"),
    ]);
    let image = add(&fixture.store, &["a"], &[layer]);
    let mut archive = Vec::new();
    fixture.store.save_rootfs(&image, &mut archive).unwrap();
    let files: Vec<_> = listing(&archive)
        .into_iter()
        .map(|(entry, content)| (entry.path.to_string(), entry.kind, content))
        .collect();
    let content = |name: &str, text: &str| {
        let size = text.len() as u64;
        (name.to_owned(), EntryKind::File { size }, text.to_owned())
    };
    let link = |name: &str, target: &str| {
        let target = path(target);
        (
            name.to_owned(),
            EntryKind::Hardlink { target },
            String::new(),
        )
    };
    let expected = [
        content("/b", "new"),
        content("/c", "old"),
        link("/d", "c"),
        link("/e", "b"),
    ];
    assert_eq!(files, expected);
}

#[test]
fn joined_layers_leave_directories_that_they_only_imply_as_they_are_below() {
    let fixture = fixture();
    let mut tmp = directory("tmp");
    tmp.0.mode = 0o1777;
    let layers = [tar(&[tmp]), tar(&[file("tmp/x", "")])];
    let image = add(&fixture.store, &["a"], &layers);
    let stack: Vec<_> = image
        .manifest
        .layers
        .iter()
        .cloned()
        .zip(image.config.rootfs.diff_ids.iter().copied())
        .collect();
    let joined = fixture
        .store
        .squash(&Squash {
            below: &stack[..1],
            layers: &stack[1..],
            wanted: None,
        })
        .unwrap();
    let blob = Descriptor::new(media_type::LAYER, joined.diff_id.0, joined.size);
    let bytes = crate::fixture::read(&mut fixture.store.blob(&blob).unwrap()).unwrap();
    let names: Vec<_> = listing(&bytes)
        .iter()
        .map(|(entry, _)| entry.path.to_string())
        .collect();
    assert_eq!(names, ["/tmp/x"]);
}
