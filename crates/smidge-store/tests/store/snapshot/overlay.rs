//! Overlayfs itself.

use smidge_tests::InTime as _;

use super::*;

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
    let command = child(
        "snapshot::overlay::inside_a_namespace",
        fixture.directory.path(),
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(fixture.directory.path())
        .output_in_time()
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
        .status_in_time();
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
            .status_in_time()
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
