//! Killed at any point, the store opens and is whole.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use smidge_image::{Descriptor, Index, media_type};
use smidge_store::{Compression, Store};
use smidge_tests::InTime as _;

use crate::fixture::{add, assert_whole, child, file, fixture, hello, name, tar};

const ROUNDS: usize = 50;

#[test]
fn a_writer_that_is_killed_leaves_a_whole_store() {
    let fixture = fixture();
    hello(&fixture.store, &["kept"], "kept");
    let root = fixture.store.root();
    for round in 0..ROUNDS {
        let mut writer = child("crash::writer", root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The writer says each step; the kill comes a different number of steps in, and wherever in the
        // next step the scheduler has it.
        let mut steps = BufReader::new(writer.stdout.take().unwrap()).lines();
        let wanted = round * 7 % 29;
        let seen = steps
            .by_ref()
            .map_while(Result::ok)
            .filter(|line| line.contains("step"));
        assert_eq!(seen.take(wanted + 1).count(), wanted + 1);
        writer.kill().unwrap();
        writer.status_in_time().unwrap();

        let store = Store::open(root).unwrap();
        assert_whole(&store);
        assert_eq!(store.image("kept").unwrap().names, [name("kept")]);
        for container in store.containers().unwrap() {
            container.record::<String>().unwrap();
            store.remove_container(&container).unwrap();
        }
    }
    let store = Store::open(root).unwrap();
    store.prune(false, &|_| None).unwrap();
    assert_whole(&store);
    assert_eq!(fixture.temporary().len(), 0);
    for image in store.images().unwrap() {
        for layer in store.checkout(&image).unwrap() {
            assert!(crate::fixture::entries(&layer).len() == 1 || image.names != [name("kept")]);
        }
    }
    store.prune(true, &|_| None).unwrap();
    assert_eq!(crate::fixture::entries(&root.join("blobs/sha256")).len(), 0);
    assert_eq!(crate::fixture::entries(&root.join("layers")).len(), 0);
}

#[test]
#[ignore = "run by another test, which kills it"]
fn writer() {
    let store = Store::open(&std::env::current_dir().unwrap()).unwrap();
    let me = std::process::id();
    let mut steps = 0;
    let mut step = || {
        steps += 1;
        let mut output = std::io::stdout();
        writeln!(output, "step {steps}")
            .and_then(|()| output.flush())
            .unwrap();
    };
    for round in 0.. {
        let text = format!("{me} {round}");
        let base = tar(&[file("base", &text.repeat(10_000)), file("etc/x", &text)]);
        let top = tar(&[file("etc/.wh.x", ""), file("top", &text)]);
        step();
        let image = add(&store, &["app"], &[base, top]);
        step();
        store
            .tag(&image, &name(&format!("app:{me}-{}", round % 3)))
            .unwrap();
        step();
        store.checkout(&image).unwrap();
        step();
        store.transfer(&image, Compression::Gzip).unwrap();
        step();
        let other = hello(&store, &[], &format!("other {text}"));
        let absent = Descriptor::of(media_type::MANIFEST, text.as_bytes());
        let all = vec![image.descriptor(), other.descriptor(), absent];
        let several = [name("several"), name(&format!("several:{}", round % 3))];
        store
            .add_index(&Index::new(all).to_bytes(), &several)
            .unwrap();
        step();
        store.set_repo_digest(&several[0], other.digest).unwrap();
        step();
        store.remove(&other.id.hex(), false, &|_| None).unwrap();
        step();
        let mut archive = Vec::new();
        store
            .save_docker_archive(&[(image, vec![name("loaded")])], &mut archive)
            .unwrap();
        step();
        store.load(&mut archive.as_slice()).unwrap();
        step();
        let container = store
            .create_container(None, &|id, _| id.to_owned())
            .unwrap();
        container.write_record(&text).unwrap();
        step();
        store.remove_container(&container).unwrap();
        step();
        store.remove("loaded", false, &|_| None).unwrap();
        step();
        store.prune(false, &|_| None).unwrap();
    }
}
