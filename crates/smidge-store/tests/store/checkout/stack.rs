//! Layers over layers.

use smidge_tests::InTime as _;

use super::*;

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
        .output_in_time();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: overlayfs cannot be mounted: {mounted:?}");
        return;
    }
    let shown = all_below(&mount);
    let unmounted = Command::new("umount").arg(&mount).status_in_time().unwrap();
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
