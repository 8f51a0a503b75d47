//! Several who want the same.

use smidge_tests::{InTime as _, PATIENCE};

use super::*;

#[test]
fn who_prunes_leaves_alone_what_is_coming() {
    let layer = Remote::gzip(&[file("big", &text(1 << 20))]);
    let fixture = fixture();
    let other = Store::open(fixture.store.root()).unwrap();
    let intake = fixture.store.intake().unwrap();
    let mut source = whole(&layer.bytes);
    let mut fetch = |offset| {
        other.prune(true, &|_| None).unwrap();
        source(offset)
    };
    intake
        .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
        .unwrap();
    other.prune(true, &|_| None).unwrap();
    commit(intake, std::slice::from_ref(&layer), "app").unwrap();
    assert_whole(&fixture.store);
    // What nobody is bringing goes.
    let leftover = Remote::gzip(&[file("other", &text(1 << 20))]);
    let intake = fixture.store.intake().unwrap();
    let mut broken = until(&leftover.bytes, 1000, io::ErrorKind::ConnectionReset);
    intake
        .layer(&leftover.descriptor, &leftover.diff_id, &mut broken)
        .unwrap_err();
    drop(intake);
    assert_eq!(fixture.temporary().len(), 1);
    other.prune(false, &|_| None).unwrap();
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn what_is_whole_is_shared_before_it_is_stored() {
    let [one, two] = ["one", "two"].map(|at| Remote::gzip(&[file(at, &text(100_000))]));
    let fixture = fixture();
    let other = Store::open(fixture.store.root()).unwrap();
    let (first, second) = (fixture.store.intake().unwrap(), other.intake().unwrap());
    let take = |intake: &Intake<'_>, layer: &Remote| {
        intake.layer(&layer.descriptor, &layer.diff_id, &mut whole(&layer.bytes))
    };
    let know = |intake: &Intake<'_>, layer: &Remote| {
        intake.layer(&layer.descriptor, &layer.diff_id, &mut never)
    };
    // Each has what the other needs: nobody may wait for the other's end.
    take(&first, &one).unwrap();
    take(&second, &two).unwrap();
    know(&first, &two).unwrap();
    know(&second, &one).unwrap();
    let layers = [one, two];
    commit(first, &layers, "first").unwrap();
    commit(second, &layers, "second").unwrap();
    assert_eq!(fixture.store.images().unwrap().len(), 1);
    assert_whole(&fixture.store);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn who_comes_second_waits_for_the_first() {
    let layer = Remote::gzip(&[file("a", &text(100_000))]);
    let fixture = fixture();
    let other = Store::open(fixture.store.root()).unwrap();
    let (started, begun) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let intake = fixture.store.intake().unwrap();
            let mut source = whole(&layer.bytes);
            let mut fetch = |offset| {
                started.send(()).unwrap();
                source(offset)
            };
            intake
                .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
                .unwrap();
            commit(intake, std::slice::from_ref(&layer), "first").unwrap();
        });
        begun.recv_timeout(PATIENCE).unwrap();
        let intake = other.intake().unwrap();
        intake
            .layer(&layer.descriptor, &layer.diff_id, &mut never)
            .unwrap();
        commit(intake, std::slice::from_ref(&layer), "second").unwrap();
    });
    assert_whole(&fixture.store);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
fn who_waits_goes_on_where_the_first_failed() {
    let layer = Remote::gzip(&[file("a", &text(1 << 20))]);
    for fault in [true, false] {
        let fixture = fixture();
        let other = Store::open(fixture.store.root()).unwrap();
        let (started, begun) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let intake = fixture.store.intake().unwrap();
                let mut broken = until(&layer.bytes, 1000, io::ErrorKind::ConnectionReset);
                let mut wrong = whole(&vec![1; layer.bytes.len()]);
                let mut fetch = |offset| {
                    started.send(()).unwrap();
                    if fault { broken(offset) } else { wrong(offset) }
                };
                intake
                    .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
                    .unwrap_err();
            });
            begun.recv_timeout(PATIENCE).unwrap();
            let offsets = Mutex::new(Vec::new());
            let mut source = whole(&layer.bytes);
            let mut fetch = |offset| {
                offsets.lock().unwrap().push(offset);
                source(offset)
            };
            let intake = other.intake().unwrap();
            intake
                .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
                .unwrap();
            let wanted = if fault { 1000 } else { 0 };
            assert_eq!(*offsets.lock().unwrap(), [wanted]);
            commit(intake, std::slice::from_ref(&layer), "second").unwrap();
        });
        assert_whole(&fixture.store);
    }
}

/// What the processes below bring.
fn crowd() -> Vec<Remote> {
    let members = |n: usize| [file(&format!("file{n}"), &text((1 << 20) + n))];
    (0..3).map(|n| Remote::gzip(&members(n))).collect()
}

#[test]
fn a_puller_that_is_killed_leaves_what_came() {
    let fixture = fixture();
    let layers = crowd();
    let size: u64 = layers.iter().map(|layer| layer.descriptor.size).sum();
    let mut rounds = 0;
    let mut came = 0;
    while fixture.store.image("app").is_err() {
        rounds += 1;
        assert!(rounds < 100);
        let mut puller = child("intake::crowd::puller", fixture.store.root())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut steps = BufReader::new(puller.stdout.take().unwrap()).lines();
        let seen = steps
            .by_ref()
            .map_while(Result::ok)
            .filter(|line| line.contains("step"));
        let _ = seen.take(rounds * 5 % 13 + 4).count();
        puller.kill().unwrap();
        puller.status_in_time().unwrap();
        let store = Store::open(fixture.store.root()).unwrap();
        assert_whole(&store);
        // What was written before is still there.
        let now: u64 = layers
            .iter()
            .filter_map(|layer| std::fs::metadata(partial(&fixture, layer)).ok())
            .map(|metadata| metadata.len())
            .sum();
        if store.images().unwrap().is_empty() && now < size {
            assert!(now >= came, "{now} bytes after {came}");
            came = now;
        }
    }
    // How far one comes before it is killed is up to the machine.
    assert!(rounds > 1, "{rounds}");
    assert!(
        fixture
            .store
            .is_checked_out(&fixture.store.image("app").unwrap())
    );
    fixture.store.prune(false, &|_| None).unwrap();
    assert_eq!(fixture.temporary().len(), 0);
    assert_whole(&fixture.store);
}

#[test]
fn several_processes_fetch_each_blob_once() {
    let fixture = fixture();
    let pullers: Vec<_> = (0..4)
        .map(|_| {
            child("intake::crowd::puller", fixture.store.root())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut fetched = 0;
    for puller in pullers {
        let output = puller.output_in_time().unwrap();
        assert!(output.status.success());
        let output = String::from_utf8(output.stdout).unwrap();
        fetched += output.matches("fetch from 0").count();
        assert_eq!(
            output.matches("fetch from").count(),
            output.matches("fetch from 0").count()
        );
    }
    assert_eq!(fetched, 3);
    assert_whole(&fixture.store);
    assert_eq!(fixture.temporary().len(), 0);
}

#[test]
#[ignore = "run by others, which kill it"]
fn puller() {
    struct Steps(Cursor<Vec<u8>>);
    impl Read for Steps {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(64 << 10);
            let read = self.0.read(&mut buffer[..most])?;
            println!("step");
            io::stdout().flush()?;
            Ok(read)
        }
    }
    let store = Store::open(&std::env::current_dir().unwrap()).unwrap();
    let intake = store.intake().unwrap();
    let layers = crowd();
    for layer in &layers {
        let mut fetch = |offset| -> Opened {
            println!("fetch from {offset}");
            let bytes = layer.bytes[offset as usize..].to_vec();
            Ok(Box::new(Steps(Cursor::new(bytes))))
        };
        intake
            .layer(&layer.descriptor, &layer.diff_id, &mut fetch)
            .unwrap();
    }
    commit(intake, &layers, "app").unwrap();
    println!("committed; now a step more, to be killed after");
}
