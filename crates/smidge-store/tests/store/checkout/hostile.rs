//! Layers that would lead elsewhere.

use super::*;

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

/// Compressed, they are next to nothing.
#[test]
fn attributes_do_not_fill_the_memory() {
    let fixture = fixture();
    let attributed = |mut member: Member| {
        let value = vec![b'x'; 900_000];
        member.0.xattrs.insert(b"user.long".to_vec(), value);
        member
    };
    let directories = (0..20).map(|n| attributed(directory(&format!("d{n}"))));
    let image = add(
        &fixture.store,
        &["a"],
        &[tar(&directories.collect::<Vec<_>>())],
    );
    let error = fixture.store.checkout(&image).unwrap_err();
    assert!(error.to_string().contains("more than 16 MiB"), "{error}");
    let files = (0..80).map(|n| attributed(file(&format!("f{n}"), "")));
    let image = add(&fixture.store, &["b"], &[tar(&files.collect::<Vec<_>>())]);
    let error = fixture.store.save_rootfs(&image, &mut Vec::new());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("more than 64 MiB"), "{error}");
}
