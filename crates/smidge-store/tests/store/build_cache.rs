//! What builds leave for builds to come.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use smidge_image::{Descriptor, DiffId, Digest, media_type};
use smidge_store::{
    CacheKind, CacheRecord, CachedStep, Error, Ownership, Sharing, SnapshotOptions, Store,
};
use smidge_tests::InTime as _;

use crate::fixture::{add, assert_whole, child, entries, file, fixture, tar};

/// Stores a layer with one file, unpacked as well, as steps make them.
fn layer(store: &Store, content: &str) -> CachedStep {
    let workspace = store.workspace().unwrap();
    let upper = workspace.path().join("upper");
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("file"), content).unwrap();
    let options = SnapshotOptions::new(Ownership::of_caller());
    let snapshot = store.snapshot(&upper, &options).unwrap();
    CachedStep {
        diff_id: snapshot.diff_id,
        size: snapshot.size,
        description: format!("RUN {content}"),
    }
}

fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn digest(step: &CachedStep) -> Digest {
    step.diff_id.0
}

fn reopened(store: &Store) -> Store {
    Store::open(store.root()).unwrap()
}

fn is_there(store: &Store, digest: &Digest) -> (bool, bool) {
    let (blob, layer) = (
        store.root().join("blobs/sha256"),
        store.root().join("layers"),
    );
    (
        blob.join(digest.hex()).exists(),
        layer.join(digest.hex()).exists(),
    )
}

fn find<'r>(records: &'r [CacheRecord], id: &str) -> &'r CacheRecord {
    records.iter().find(|record| record.id == id).unwrap()
}

#[test]
fn a_step_is_known_by_its_key() {
    let fixture = fixture();
    let store = &fixture.store;
    assert_eq!(store.cached_step(&key("1")), None);
    let step = layer(store, "1");
    store.keep_step(&key("1"), &step).unwrap();
    assert_eq!(store.cached_step(&key("2")), None);

    let other = reopened(store);
    for _ in 0..3 {
        assert_eq!(other.cached_step(&key("1")).as_ref(), Some(&step));
    }
    let records = other.build_cache().unwrap();
    let record = find(&records, &key("1").hex());
    assert_eq!(record.kind, CacheKind::Step);
    assert_eq!(record.description, "RUN 1");
    assert_eq!(
        (record.uses, record.in_use, record.shared),
        (3, false, false)
    );
    assert!(record.size >= step.size && record.created > 0);
    assert!(record.last_used >= record.created);

    // Again, by somebody who does not know: as good as new.
    store.keep_step(&key("1"), &step).unwrap();
    assert_eq!(find(&store.build_cache().unwrap(), &key("1").hex()).uses, 0);
}

#[test]
fn a_step_without_its_layer_is_not_known() {
    let fixture = fixture();
    let step = layer(&fixture.store, "1");
    fixture.store.keep_step(&key("1"), &step).unwrap();
    let blob = fixture
        .store
        .root()
        .join("blobs/sha256")
        .join(digest(&step).hex());
    fs::write(&blob, "cut off").unwrap();
    assert_eq!(fixture.store.cached_step(&key("1")), None);
    fs::remove_file(&blob).unwrap();
    assert_eq!(fixture.store.cached_step(&key("1")), None);
    let refused = fixture.store.keep_step(&key("2"), &step);
    assert!(
        matches!(refused, Err(Error::MissingBlob { .. })),
        "{refused:?}"
    );
    assert_eq!(fixture.store.cached_step(&key("2")), None);
}

#[test]
fn a_record_that_makes_no_sense_is_none() {
    let fixture = fixture();
    let step = layer(&fixture.store, "1");
    fixture.store.keep_step(&key("1"), &step).unwrap();
    let record = fixture
        .store
        .root()
        .join("cache/build/steps")
        .join(key("1").hex());
    for text in ["", "\n\n", "{", "{\"size\":-1}", "[]"] {
        fs::write(&record, text).unwrap();
        assert_eq!(fixture.store.cached_step(&key("1")), None, "{text}");
        assert_eq!(fixture.store.build_cache().unwrap(), []);
        fixture.store.prune(false, &|_| None).unwrap();
    }
    fixture.store.prune_build_cache(&|_| false).unwrap();
    assert!(!record.exists());
}

#[test]
fn layers_of_steps_are_no_garbage() {
    let fixture = fixture();
    let (kept, lost) = {
        let store = reopened(&fixture.store);
        let kept = layer(&store, "kept");
        store.keep_step(&key("kept"), &kept).unwrap();
        (kept, layer(&store, "lost"))
    };
    let store = &fixture.store;
    // An image of the step's layer goes; the step's layer stays.
    let bytes = fs::read(store.root().join("blobs/sha256").join(digest(&kept).hex())).unwrap();
    add(store, &["app"], &[bytes, tar(&[file("own", "x")])]);
    assert!(find(&store.build_cache().unwrap(), &key("kept").hex()).shared);
    store.remove("app", false, &|_| None).unwrap();
    assert_eq!(is_there(store, &digest(&kept)), (true, true));
    assert!(!find(&store.build_cache().unwrap(), &key("kept").hex()).shared);
    let pruned = store.prune(true, &|_| None).unwrap();
    assert!(pruned.bytes > 0);
    assert_eq!(is_there(store, &digest(&kept)), (true, true));
    assert_eq!(is_there(store, &digest(&lost)), (false, false));
    assert_eq!(reopened(store).cached_step(&key("kept")), Some(kept));
    assert_whole(store);
}

#[test]
fn pruning_removes_what_is_picked_and_nothing_that_is_needed() {
    let fixture = fixture();
    let (shared, twice, single) = {
        let store = reopened(&fixture.store);
        let made = ["shared", "twice", "single"].map(|content| layer(&store, content));
        let [shared, twice, single] = &made;
        for (name, step) in [
            ("shared", shared),
            ("twice", twice),
            ("again", twice),
            ("single", single),
        ] {
            store.keep_step(&key(name), step).unwrap();
        }
        let bytes = fs::read(store.root().join("blobs/sha256").join(digest(shared).hex()));
        add(&store, &["app"], &[bytes.unwrap()]);
        let [shared, twice, single] = made;
        (shared, twice, single)
    };
    let store = &fixture.store;
    store.cache_mount("go", Sharing::Shared).unwrap();
    let picked = [key("shared").hex(), key("twice").hex(), key("single").hex()];
    let pruned = store
        .prune_build_cache(&|record| picked.contains(&record.id))
        .unwrap();
    assert!(pruned.bytes > single.size);
    assert_eq!(is_there(store, &digest(&shared)), (true, true));
    assert_eq!(is_there(store, &digest(&twice)), (true, true));
    assert_eq!(is_there(store, &digest(&single)), (false, false));
    let left: Vec<_> = store
        .build_cache()
        .unwrap()
        .iter()
        .map(|record| record.id.clone())
        .collect();
    assert_eq!(left, [key("again").hex(), "go".to_owned()]);
    assert_eq!(reopened(store).cached_step(&key("again")), Some(twice));
    assert_whole(store);

    store.prune_build_cache(&|_| true).unwrap();
    assert_eq!(store.build_cache().unwrap(), []);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn a_layer_that_a_build_relies_on_is_not_pruned_by_another() {
    let fixture = fixture();
    let step = layer(&fixture.store, "1");
    fixture.store.keep_step(&key("1"), &step).unwrap();
    // The build that found it lives on.
    let builder = reopened(&fixture.store);
    drop(fixture.store);
    assert!(builder.cached_step(&key("1")).is_some());
    let pruner = reopened(&builder);
    pruner.prune_build_cache(&|_| true).unwrap();
    assert_eq!(is_there(&builder, &digest(&step)), (true, true));
    assert_eq!(builder.cached_step(&key("1")), None);
    let layer = Descriptor::new(media_type::LAYER, digest(&step), step.size);
    let layers = [(layer, DiffId(digest(&step)))];
    assert!(builder.checkout_layers(&layers).unwrap()[0].is_dir());
    drop(builder);
    pruner.prune(false, &|_| None).unwrap();
    assert_eq!(is_there(&pruner, &digest(&step)), (false, false));
}

#[test]
fn builds_that_are_killed_leave_a_whole_cache() {
    let fixture = fixture();
    for round in 0..20 {
        let mut builders: Vec<Child> = (0..2).map(|_| builder(fixture.store.root())).collect();
        let steps = BufReader::new(builders[0].stdout.take().unwrap()).lines();
        let steps = steps
            .map_while(Result::ok)
            .filter(|line| line.contains("step"));
        assert_eq!(steps.take(round % 7 + 1).count(), round % 7 + 1);
        for builder in &mut builders {
            builder.kill().unwrap();
            builder.status_in_time().unwrap();
        }
        let store = reopened(&fixture.store);
        assert_whole(&store);
        for record in store.build_cache().unwrap() {
            let step = store
                .cached_step(&Digest::from_hex(&record.id).unwrap())
                .unwrap();
            let layer = Descriptor::new(media_type::LAYER, digest(&step), step.size);
            let layers = [(layer, DiffId(digest(&step)))];
            let unpacked = store.checkout_layers(&layers).unwrap();
            let content = fs::read_to_string(unpacked[0].join("file")).unwrap();
            assert_eq!(format!("RUN {content}"), step.description);
        }
    }
    let store = reopened(&fixture.store);
    assert!(!store.build_cache().unwrap().is_empty());
    store.prune_build_cache(&|_| true).unwrap();
    store.prune(true, &|_| None).unwrap();
    for directory in ["blobs/sha256", "layers", "tmp", "cache/build/steps"] {
        assert_eq!(
            entries(&store.root().join(directory)).len(),
            0,
            "{directory}"
        );
    }
}

fn builder(root: &Path) -> Child {
    let mut command = child("build_cache::build", root);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
#[ignore = "run by another test, which kills it"]
fn build() {
    let store = Store::open(&std::env::current_dir().unwrap()).unwrap();
    for number in 0.. {
        let content = format!("{} ", number % 40).repeat(1000);
        let key = key(&content);
        if store.cached_step(&key).is_none() {
            store.keep_step(&key, &layer(&store, &content)).unwrap();
        }
        if number % 13 == 12 {
            let uses = |record: &CacheRecord| record.uses > 1;
            store.prune_build_cache(&uses).unwrap();
        }
        let mut output = std::io::stdout();
        writeln!(output, "step {number}")
            .and_then(|()| output.flush())
            .unwrap();
    }
}

#[test]
fn a_cache_mount_keeps_what_is_put_in_it() {
    let fixture = fixture();
    let mount = fixture
        .store
        .cache_mount("/root/.cache", Sharing::Shared)
        .unwrap();
    assert!(mount.is_new && entries(&mount.path).is_empty());
    fs::write(mount.path.join("kept"), "x").unwrap();
    let path = mount.path.clone();
    let records = fixture.store.build_cache().unwrap();
    let record = find(&records, "/root/.cache");
    assert_eq!(
        (record.kind, record.in_use, record.uses),
        (CacheKind::Mount, true, 0)
    );
    // In use: it stays.
    fixture.store.prune_build_cache(&|_| true).unwrap();
    drop(mount);

    let mount = fixture
        .store
        .cache_mount("/root/.cache", Sharing::Locked)
        .unwrap();
    assert_eq!((&mount.path, mount.is_new), (&path, false));
    assert!(mount.path.join("kept").exists());
    let other = fixture
        .store
        .cache_mount("../../etc", Sharing::Locked)
        .unwrap();
    assert!(
        other.is_new
            && other
                .path
                .starts_with(fixture.store.root().join("cache/mounts"))
    );
    drop((mount, other));
    let records = fixture.store.build_cache().unwrap();
    let record = find(&records, "/root/.cache");
    assert_eq!((record.in_use, record.uses), (false, 1));

    fixture
        .store
        .prune_build_cache(&|record| record.id == "/root/.cache")
        .unwrap();
    assert_eq!(fixture.store.build_cache().unwrap().len(), 1);
    assert!(
        fixture
            .store
            .cache_mount("/root/.cache", Sharing::Shared)
            .unwrap()
            .is_new
    );
}

#[test]
fn cache_mounts_are_shared_as_is_asked_for() {
    let fixture = fixture();
    let store = &fixture.store;
    let shared = [(); 2].map(|()| store.cache_mount("a", Sharing::Shared).unwrap());
    assert_eq!(shared[0].path, shared[1].path);
    let private = [(); 2].map(|()| store.cache_mount("a", Sharing::Private).unwrap());
    assert_ne!(private[0].path, shared[0].path);
    assert_ne!(private[0].path, private[1].path);
    let second = private[1].path.clone();
    drop(private);

    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let locked = store.cache_mount("a", Sharing::Locked).unwrap();
            sender.send(locked.path.clone()).unwrap();
        });
        let waited = receiver.recv_timeout(Duration::from_millis(200));
        assert!(waited.is_err(), "{waited:?}");
        let path = shared[0].path.clone();
        drop(shared);
        assert_eq!(receiver.recv_timeout(smidge_tests::PATIENCE), Ok(path));
    });
    // The first that is free.
    let private = [(); 3].map(|()| store.cache_mount("a", Sharing::Private).unwrap());
    assert_eq!(private[2].path, second);
    assert!(!private[2].is_new);
}

/// A builder gets a directory of its own at any moment: between finding no lock and removing all, too.
#[test]
fn a_cache_mount_that_somebody_enters_stays() {
    let fixture = fixture();
    let store = &fixture.store;
    let mount = store.cache_mount("a", Sharing::Private).unwrap();
    let directory = mount.path.parent().unwrap().to_owned();
    drop(mount);
    let entering = fs::File::open(&directory).unwrap();
    entering.lock_shared().unwrap();
    store.prune_build_cache(&|_| true).unwrap();
    assert!(directory.exists());
    drop(entering);
    store.prune_build_cache(&|_| true).unwrap();
    assert!(!directory.exists());
    // Builders and one who prunes, all at once.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let mount = store.cache_mount("a", Sharing::Private).unwrap();
                    fs::write(mount.path.join("file"), "").unwrap();
                    assert!(mount.path.join("file").exists());
                }
            });
        }
        for _ in 0..200 {
            store.prune_build_cache(&|_| true).unwrap();
        }
    });
}

#[test]
fn a_cache_mount_is_free_when_its_user_is_killed() {
    let fixture = fixture();
    let mut user = child("build_cache::mount_user", fixture.store.root());
    let mut user = user.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(user.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("locked")));
    let record = fixture.store.build_cache().unwrap().remove(0);
    assert!(record.in_use);
    user.kill().unwrap();
    user.status_in_time().unwrap();
    let mount = fixture.store.cache_mount("a", Sharing::Locked).unwrap();
    assert!(!mount.is_new && mount.path.join("left").exists());
}

#[test]
#[ignore = "run by another test, which kills it"]
fn mount_user() {
    let store = Store::open(&std::env::current_dir().unwrap()).unwrap();
    let mount = store.cache_mount("a", Sharing::Locked).unwrap();
    fs::write(mount.path.join("left"), "").unwrap();
    let mut output = std::io::stdout();
    writeln!(output, "locked")
        .and_then(|()| output.flush())
        .unwrap();
    std::thread::sleep(Duration::from_secs(60));
}
