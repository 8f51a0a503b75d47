//! What counts as changed.

use super::*;

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
