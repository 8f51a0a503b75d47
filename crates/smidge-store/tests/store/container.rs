//! Containers' records and names.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use serde::{Deserialize, Serialize};
use smidge_store::{Error, Store, VolumeRecord};
use smidge_tests::InTime as _;

use crate::fixture::{add, child, entries, file, fixture, tar};

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Record {
    id: String,
    name: String,
    note: u32,
}

fn record(id: &str, name: &str) -> Record {
    Record {
        id: id.to_owned(),
        name: name.to_owned(),
        note: 1,
    }
}

#[test]
fn a_container_is_found_by_name_and_id() {
    let fixture = fixture();
    let web = fixture
        .store
        .create_container(Some("web"), &record)
        .unwrap();
    let other = fixture.store.create_container(None, &record).unwrap();
    assert_eq!(web.id.len(), 64);
    assert_eq!(web.record::<Record>().unwrap(), record(&web.id, "web"));
    for wanted in ["web", "/web", &web.id, &web.id[..12]] {
        assert_eq!(fixture.store.container(wanted).unwrap(), web, "{wanted}");
    }
    assert_eq!(fixture.store.container(&other.name).unwrap(), other);
    let all: BTreeSet<_> = fixture
        .store
        .containers()
        .unwrap()
        .into_iter()
        .map(|c| c.id)
        .collect();
    assert_eq!(all, BTreeSet::from([web.id.clone(), other.id.clone()]));
    for missing in ["nobody", "", "../etc", "0", &"f".repeat(64)] {
        let found = fixture.store.container(missing);
        if ![&web.id, &other.id]
            .iter()
            .any(|id| !missing.is_empty() && id.starts_with(missing))
        {
            assert!(
                matches!(found, Err(Error::NoSuchContainer(_))),
                "{missing}: {found:?}"
            );
        }
    }

    let changed = Record {
        note: 2,
        ..record(&web.id, "web")
    };
    web.write_record(&changed).unwrap();
    assert_eq!(
        fixture
            .store
            .container("web")
            .unwrap()
            .record::<Record>()
            .unwrap(),
        changed
    );

    fixture.store.remove_container(&web).unwrap();
    assert!(matches!(
        fixture.store.container("web"),
        Err(Error::NoSuchContainer(_))
    ));
    assert!(matches!(
        web.record::<Record>(),
        Err(Error::NoSuchContainer(_))
    ));
    assert!(!web.dir.exists());
    fixture
        .store
        .create_container(Some("web"), &record)
        .unwrap();
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn a_name_is_taken_by_one() {
    let fixture = fixture();
    let web = fixture
        .store
        .create_container(Some("web"), &record)
        .unwrap();
    let error = fixture
        .store
        .create_container(Some("/web"), &record)
        .unwrap_err();
    assert!(matches!(&error, Error::NameInUse { name, by } if name == "web" && *by == web.id));
    for bad in ["", "a", "-web", "we b", "a/b", ".."] {
        let refused = fixture.store.create_container(Some(bad), &record);
        assert!(matches!(refused, Err(Error::BadName { .. })), "{bad}");
    }
    assert_eq!(fixture.store.containers().unwrap().len(), 1);
}

#[test]
fn of_many_that_want_a_name_one_gets_it() {
    let fixture = fixture();
    let root = fixture.store.root();
    let created: usize = std::thread::scope(|scope| {
        let create = || {
            let store = Store::open(root).unwrap();
            (0..20)
                .filter(|n| {
                    store
                        .create_container(Some(&format!("name{n}")), &record)
                        .is_ok()
                })
                .count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(created, 20);
    assert_eq!(fixture.store.containers().unwrap().len(), 20);
    // The losers leave nothing.
    assert_eq!(crate::fixture::entries(&root.join("containers")).len(), 21);
}

#[test]
fn what_a_killed_maker_or_a_power_cut_left_is_garbage() {
    let fixture = fixture();
    let web = fixture
        .store
        .create_container(Some("web"), &record)
        .unwrap();
    // Killed before the name was linked.
    fs::remove_file(web.name_path()).unwrap();
    assert!(fixture.store.containers().unwrap().is_empty());
    assert!(matches!(
        fixture.store.container(&web.id),
        Err(Error::NoSuchContainer(_))
    ));
    let pruned = fixture.store.prune(false, &|_| None).unwrap();
    assert!(!web.dir.exists() && pruned.bytes > 0);
    // The directory did not reach the disk, its name did.
    let db = fixture.store.create_container(Some("db"), &record).unwrap();
    fs::remove_dir_all(&db.dir).unwrap();
    assert!(fixture.store.containers().unwrap().is_empty());
    fixture.store.create_container(Some("db"), &record).unwrap();
    fs::write(fixture.store.root().join("containers/names/torn"), "").unwrap();
    fixture
        .store
        .create_container(Some("torn"), &record)
        .unwrap();
    assert_eq!(fixture.store.containers().unwrap().len(), 2);
}

#[test]
fn a_volume_is_made_once() {
    let fixture = fixture();
    let data = fixture.store.volume("data").unwrap();
    fs::write(data.join("kept"), "").unwrap();
    assert_eq!(fixture.store.volume("data").unwrap(), data);
    assert!(data.join("kept").exists());
    assert!(matches!(
        fixture.store.volume("../data"),
        Err(Error::BadName { kind: "volume", .. })
    ));
}

#[test]
fn a_volume_is_open_to_all_whatever_the_umask() {
    let fixture = fixture();
    let output = child("container::with_a_strict_umask", fixture.directory.path())
        .output_in_time()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn with_a_strict_umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let store = Store::open(Path::new("strict")).unwrap();
    store.volume("found").unwrap();
    store
        .create_volume(Some("made"), &VolumeRecord::default())
        .unwrap();
    for volume in store.volumes().unwrap() {
        let mode = fs::metadata(&volume.data).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{}", volume.name);
    }
}

/// Whoever holds it may remove names that lead nowhere.
#[test]
fn names_appear_under_the_lock() {
    let fixture = fixture();
    let containers = fixture.store.root().join("containers");
    let lock = fixture.store.lock().unwrap();
    thread::scope(|scope| {
        let making = scope.spawn(|| {
            let store = Store::open(fixture.store.root()).unwrap();
            store.create_container(Some("web"), &record).map(drop)
        });
        smidge_tests::until("its directory", || {
            fs::read_dir(&containers).unwrap().count() >= 2
        });
        assert!(!containers.join("names/web").exists());
        drop(lock);
        making.join().unwrap().unwrap();
    });
    assert!(containers.join("names/web").exists());
}

#[test]
fn what_is_removed_goes_though_tmp_has_gone_before() {
    let fixture = fixture();
    let store = &fixture.store;
    let image = add(store, &["a"], &[tar(&[file("x", "")])]);
    let layers = store.checkout(&image).unwrap();
    fs::remove_dir(store.root().join("tmp")).unwrap();
    store.remove("a", false, &|_| None).unwrap();
    assert!(!layers[0].exists());
}

#[test]
fn a_volume_that_a_container_has_never_leaves_its_place() {
    let fixture = fixture();
    let store = &fixture.store;
    fs::write(store.volume("kept").unwrap().join("old"), "").unwrap();
    let kept = store.find_volume("kept").unwrap().unwrap();
    let is_used = || {
        // It can be mounted at any moment; and no container gets a name that is not known of.
        assert!(kept.data.join("old").exists());
        let lock = fs::File::open(store.root().join("lock")).unwrap();
        assert!(lock.try_lock().is_err());
        Ok::<_, Error>(true)
    };
    assert!(store.take_volume(&kept, is_used).unwrap().is_none());
    assert!(kept.data.join("old").exists());
    let grave = store.take_volume(&kept, || Ok::<_, Error>(false)).unwrap();
    assert!(grave.unwrap().path().join("volume/_data/old").exists());
    assert!(store.find_volume("kept").unwrap().is_none());
}

/// Whoever removes an image looks at the containers under the lock; whoever makes one, at the image.
#[test]
fn no_container_is_made_of_an_image_that_has_gone() {
    let fixture = fixture();
    let store = &fixture.store;
    let image = add(store, &["a"], &[tar(&[file("x", "")])]);
    let make = |name: &str| store.create_container_of(&image, Some(name), &|_, _| ());
    make("before").unwrap();
    let found = |_: &_| {
        let lock = fs::File::open(store.root().join("lock")).unwrap();
        assert!(lock.try_lock().is_err());
        None
    };
    store.remove("a", false, &found).unwrap();
    let late = make("late").unwrap_err();
    assert!(matches!(late, Error::NoSuchImage(id) if id == image.id.to_string()));
    assert_eq!(store.containers().unwrap().len(), 1);
    assert_eq!(entries(&store.root().join("containers")).len(), 2);
    assert_eq!(fixture.temporary(), Vec::<std::path::PathBuf>::new());
    // That one is in no index.
    let scratch = store.image("scratch").unwrap();
    store
        .create_container_of(&scratch, None, &|_, _| ())
        .unwrap();
}
