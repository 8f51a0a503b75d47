//! Full disks and read-only stores. The disks are small tmpfs mounts, so these tests need root.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use smidge_image::{Descriptor, EntryKind, LayerWriter};
use smidge_store::{Compression, Error, Store};
use smidge_tests::InTime as _;

use crate::fixture::{
    add, assert_whole, config, directory, entries, file, fixture, gzip, hello, name, tar,
};

/// A mounted file system; unmounted when dropped.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status_in_time();
    }
}

impl Disk {
    fn mount(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs", "-o", options])
            .arg(at)
            .output_in_time()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: a tmpfs cannot be mounted");
        }
        mounted.then(|| Self(at.to_owned()))
    }

    fn remount(&self, options: &str) {
        let remounted = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.0)
            .status_in_time();
        assert!(remounted.unwrap().success());
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    let fixture = fixture();
    let Some(disk) = Disk::mount(&fixture.path("disk"), "size=2m") else {
        return;
    };
    let store = Store::open(&disk.0.join("store")).unwrap();
    let kept = hello(&store, &["kept"], "1");
    let large = vec![7; 3 << 20];
    let archive = tar(&[file("large", &"x".repeat(3 << 20))]);

    let mut writer = store.blob_writer().unwrap();
    let written = writer.write_all(&large).and_then(|()| writer.flush());
    let error = written.unwrap_err().downcast::<Error>().unwrap();
    let root = store.root().to_owned();
    assert!(
        matches!(&error, Error::NoSpace { root: named, .. } if *named == root),
        "{error:?}"
    );
    drop(writer);

    let error = store.put(&large).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no space left on the disk of the store `{}`: 3145728 bytes are needed",
            root.display()
        )
    );
    for outcome in [
        store
            .import(&mut archive.as_slice(), config(Vec::new()), &[name("new")])
            .map(drop),
        store.load(&mut archive.as_slice()).map(drop),
    ] {
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, Error::NoSpace { .. } | Error::Bomb { .. }),
            "{error:?}"
        );
    }
    assert_eq!(entries(&root.join("tmp")).len(), 0);
    assert_eq!(store.images().unwrap(), [kept]);
    assert_whole(&store);
    hello(&store, &["still"], "2");
}

#[test]
fn a_disk_that_fills_up_at_the_index_keeps_the_old_one() {
    let fixture = fixture();
    let Some(disk) = Disk::mount(&fixture.path("disk"), "size=1m") else {
        return;
    };
    let store = Store::open(&disk.0.join("store")).unwrap();
    let image = hello(&store, &["kept"], "1");
    let mut filler = fs::File::create(disk.0.join("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    let error = store.tag(&image, &name("more")).unwrap_err();
    assert!(
        matches!(
            error,
            Error::NoSpace {
                needed: Some(_),
                ..
            }
        ),
        "{error:?}"
    );
    let error = store
        .create_container(Some("web"), &|_, _| "x".repeat(10_000))
        .unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    let checkout = store.checkout(&image);
    assert!(
        matches!(checkout, Err(Error::NoSpace { .. } | Error::Bomb { .. })),
        "{checkout:?}"
    );
    drop(filler);
    fs::remove_file(disk.0.join("filler")).unwrap();
    assert_eq!(store.image("kept").unwrap(), image);
    assert!(store.containers().unwrap().is_empty());
    assert_eq!(entries(&store.root().join("tmp")).len(), 0);
    assert_whole(&store);
    store.tag(&image, &name("more")).unwrap();
    store.checkout(&image).unwrap();
}

#[test]
fn a_layer_that_unpacks_to_more_than_the_disk_holds_is_refused() {
    let fixture = fixture();
    let Some(disk) = Disk::mount(&fixture.path("disk"), "size=8m") else {
        return;
    };
    let store = Store::open(&disk.0.join("store")).unwrap();
    // 64 MiB of zeros: 64 kB of gzip.
    let kind = EntryKind::File { size: 64 << 20 };
    let entry = smidge_image::Entry::new(crate::fixture::path("zeros"), kind);
    let mut writer = LayerWriter::new(Vec::new());
    writer
        .append(
            &entry,
            &mut std::io::Read::take(std::io::repeat(0), 64 << 20),
        )
        .unwrap();
    let layer = writer.finish().unwrap();
    let packed = gzip(&layer);
    assert!(packed.len() < 1 << 20);
    let imported = store.import(&mut packed.as_slice(), config(Vec::new()), &[]);
    assert!(
        matches!(imported, Err(Error::Bomb { .. } | Error::NoSpace { .. })),
        "{imported:?}"
    );

    // In an archive, the layer itself is small enough.
    let diff_id = smidge_image::DiffId(smidge_image::Digest::of(&layer));
    let config = config(vec![diff_id]).to_bytes();
    let config = String::from_utf8(config).unwrap();
    let manifest = r#"[{"Config":"c","Layers":["l.tar"]}]"#;
    let (mut packed_entry, _) = file("l.tar", "");
    packed_entry.kind = EntryKind::File {
        size: packed.len() as u64,
    };
    let archive = tar(&[
        (packed_entry, packed),
        file("c", &config),
        file("manifest.json", manifest),
    ]);
    let error = store.load(&mut archive.as_slice()).unwrap_err();
    assert!(
        matches!(&error, Error::Bomb { what, .. } if what == "l.tar"),
        "{error:?}"
    );
    assert!(store.images().unwrap().is_empty());
    assert_eq!(entries(&store.root().join("tmp")).len(), 0);
}

#[test]
fn a_read_only_store_can_be_read() {
    let fixture = fixture();
    let Some(disk) = Disk::mount(&fixture.path("disk"), "size=8m") else {
        return;
    };
    let root = disk.0.join("store");
    let store = Store::open(&root).unwrap();
    let image = hello(&store, &["app"], "1");
    store.checkout(&image).unwrap();
    let unpacked_not = hello(&store, &["other"], "2");
    let web = store
        .create_container(Some("web"), &|id, _| id.to_owned())
        .unwrap();
    drop(store);
    disk.remount("ro");

    let store = Store::open(&root).unwrap();
    assert_eq!(store.image("app").unwrap(), image);
    assert_eq!(store.images().unwrap().len(), 2);
    assert_eq!(store.container("web").unwrap(), web);
    assert_eq!(store.checkout(&image).unwrap().len(), 1);
    assert!(store.has(&image.manifest.layers[0]));
    assert_whole(&store);
    let mut archive = Vec::new();
    store
        .save_docker_archive(&[(image.clone(), vec![])], &mut archive)
        .unwrap();

    for (case, outcome) in [
        ("put", store.put(b"x").map(drop)),
        ("blob", store.blob_writer().map(drop)),
        ("tag", store.tag(&image, &name("x"))),
        ("remove", store.remove("app", true, &|_| None).map(drop)),
        ("prune", store.prune(true, &|_| None).map(drop)),
        ("load", store.load(&mut archive.as_slice()).map(drop)),
        ("checkout", store.checkout(&unpacked_not).map(drop)),
        (
            "transfer",
            store.transfer(&image, Compression::Gzip).map(drop),
        ),
        (
            "container",
            store.create_container(None, &|_, _| ()).map(drop),
        ),
        ("record", web.write_record(&1)),
        ("volume", store.volume("data").map(drop)),
    ] {
        let error = outcome.unwrap_err();
        assert!(
            matches!(&error, Error::ReadOnly { root: named, .. } if *named == root),
            "{case}: {error:?}"
        );
        assert_eq!(
            error.to_string(),
            format!("the store `{}` is read-only", root.display())
        );
    }
    let fresh = Store::open(&disk.0.join("fresh")).unwrap_err();
    assert!(matches!(fresh, Error::ReadOnly { .. }), "{fresh:?}");
    disk.remount("rw");
    assert_whole(&Store::open(&root).unwrap());
}

#[test]
fn an_output_that_fails_is_not_the_store_s_fault() {
    let fixture = fixture();
    let image = add(
        &fixture.store,
        &["a"],
        &[tar(&[directory("d"), file("f", &"x".repeat(9000))])],
    );
    let Ok(mut full) = fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full");
        return;
    };
    let images = [(image.clone(), vec![])];
    let outcomes = [
        fixture.store.save_docker_archive(&images, &mut full),
        fixture.store.save_oci_archive(&images, &mut full),
        fixture.store.save_rootfs(&image, &mut full),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Err(Error::Output(_))), "{outcome:?}");
    }
    assert!(
        fixture
            .store
            .has(&Descriptor::new("", image.id, image.manifest.config.size))
    );
}
