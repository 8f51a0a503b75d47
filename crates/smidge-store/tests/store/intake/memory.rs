//! How much memory it takes.

use smidge_tests::InTime as _;

use super::*;

/// Layers large enough to be noticed in memory, in files: `N.blob`.
fn large(directory: &Path) -> Vec<Remote> {
    let once = text(1 << 20);
    let kinds = [
        (media_type::LAYER_GZIP, true),
        (media_type::LAYER_ZSTD, false),
        (media_type::LAYER_GZIP, true),
        (media_type::LAYER_ZSTD, false),
    ];
    let layers = kinds.iter().enumerate().map(|(number, (kind, gzipped))| {
        let members: Vec<_> = (0..40)
            .map(|n| file(&format!("{number}/{n}"), &once))
            .collect();
        let tar = tar(&members);
        let packed = match gzipped {
            true => gzip(&tar),
            // Two windows of 32 MiB would be too much at a time.
            false => {
                let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
                encoder.window_log(25).unwrap();
                encoder.write_all(&tar).unwrap();
                encoder.finish().unwrap()
            }
        };
        std::fs::write(directory.join(format!("{number}.blob")), &packed).unwrap();
        let mut layer = Remote::new(kind, &tar, packed);
        layer.bytes.clear();
        layer
    });
    layers.collect()
}

#[test]
fn memory_does_not_grow_with_layers() {
    let fixture = fixture();
    let layers = large(fixture.directory.path());
    let facts: Vec<_> = layers.iter().map(|l| (&l.descriptor, &l.diff_id)).collect();
    let facts = serde_json::to_vec(&facts).unwrap();
    std::fs::write(fixture.path("layers.json"), facts).unwrap();
    let output = child("intake::memory::eater", fixture.directory.path())
        .output_in_time()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = String::from_utf8(output.stdout).unwrap();
    let peak = output.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(peak < 64 << 10, "{peak} KiB");
    assert!(
        fixture
            .store
            .is_checked_out(&fixture.store.image("app").unwrap())
    );
}

#[test]
#[ignore = "run by another test, which measures it"]
fn eater() {
    let facts = std::fs::read("layers.json").unwrap();
    let facts: Vec<(Descriptor, DiffId)> = serde_json::from_slice(&facts).unwrap();
    let store = Store::open(Path::new("store")).unwrap();
    let intake = store.intake().unwrap();
    thread::scope(|scope| {
        for (number, (descriptor, diff_id)) in facts.iter().enumerate() {
            let intake = &intake;
            scope.spawn(move || {
                let mut fetch = |offset| -> Opened {
                    let mut file = std::fs::File::open(format!("{number}.blob"))?;
                    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
                    Ok(Box::new(file))
                };
                intake.layer(descriptor, diff_id, &mut fetch).unwrap();
            });
        }
    });
    let layers: Vec<_> = facts
        .into_iter()
        .map(|(descriptor, diff_id)| Remote {
            descriptor,
            diff_id,
            bytes: Vec::new(),
        })
        .collect();
    commit(intake, &layers, "app").unwrap();
    println!("{}", std::fs::read_to_string("/proc/self/status").unwrap());
}
