//! Many at once.

use std::process::Stdio;

use smidge_image::{Descriptor, Index, media_type};
use smidge_store::Store;
use smidge_tests::InTime as _;

use crate::fixture::{assert_whole, child, fixture, hello, name};

const WORKERS: usize = 4;
const ROUNDS: usize = 12;

#[test]
fn processes_that_tag_build_and_prune_at_once_lose_nothing() {
    let fixture = fixture();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            child("parallel::worker", fixture.store.root())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for _ in 0..ROUNDS {
        fixture.store.prune(false, &|_| None).unwrap();
    }
    for worker in workers {
        let output = worker.output_in_time().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_whole(&fixture.store);
    // Everybody's last image has everybody's contested name or a name of its own.
    let images = fixture.store.images().unwrap();
    let named: usize = images.iter().map(|image| image.names.len()).sum();
    assert_eq!(named, WORKERS * ROUNDS + 2);
    fixture.store.prune(false, &|_| None).unwrap();
    assert_whole(&fixture.store);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn worker() {
    let root = std::env::current_dir().unwrap();
    let me = std::process::id();
    let absent = Descriptor::of(media_type::MANIFEST, b"for another machine");
    for round in 0..ROUNDS {
        let store = Store::open(&root).unwrap();
        // The same blobs as the others', and some of its own.
        let shared = hello(&store, &["contested"], &format!("shared {round}"));
        let own = hello(&store, &["contested"], &format!("{me} {round}"));
        store
            .tag(&own, &name(&format!("own:{me}-{round}")))
            .unwrap();
        store.checkout(&own).unwrap();
        assert_eq!(store.image(&own.id.hex()).unwrap().id, own.id);
        let index = Index::new(vec![own.descriptor(), absent.clone()]).to_bytes();
        store.add_index(&index, &[name("contested:index")]).unwrap();
        // Somebody may have pruned it by now; then it is gone whole.
        if let Ok(shared) = store.image(&shared.id.hex()) {
            let _ = store.checkout(&shared);
        }
    }
}

#[test]
fn many_may_make_the_same_store() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let root = &root;
            scope.spawn(move || {
                let store = Store::open(root).unwrap();
                hello(&store, &[&format!("w:{worker}")], "1");
            });
        }
    });
    let store = Store::open(&root).unwrap();
    assert_eq!(store.images().unwrap()[0].names.len(), 8);
    assert_whole(&store);
}

#[test]
fn threads_may_share_a_store() {
    let fixture = fixture();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let store = &fixture.store;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let tag = format!("w{worker}:{round}");
                    let image = hello(store, &[&tag, "contested"], &format!("{}", round % 3));
                    store.checkout(&image).unwrap();
                    store.prune(false, &|_| None).unwrap();
                }
            });
        }
    });
    assert_whole(&fixture.store);
    assert_eq!(fixture.store.images().unwrap().len(), 3);
}
