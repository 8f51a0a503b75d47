//! Not tests: how fast blobs go and come. `cargo test --test debian -- --ignored --nocapture`

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use smidge_image::{Descriptor, Hasher, media_type};
use smidge_registry::{Access, Client, Repository, Settings, Upload};

use crate::registry::{Options, Registry};
use crate::{noise, reference, send};

const MEGABYTES: usize = 500;

#[test]
#[ignore = "a measurement"]
fn speed_over_plain_http() {
    measure(false);
}

#[test]
#[ignore = "a measurement"]
fn speed_over_tls() {
    measure(true);
}

fn measure(tls: bool) {
    let options = Options {
        tls,
        ..Options::default()
    };
    let Some(registry) = Registry::start(&options) else {
        return;
    };
    let mut sources = registry.sources();
    sources.ca_bundles = vec![registry.path("ca.pem")];
    let client = Client::new(Settings::load(sources).unwrap());
    let name = reference(&registry, "big:1");
    let repository = client.repository(&name, Access::Push).unwrap();
    let file = registry.path("blob");
    let descriptor = write(&file);
    let rate = |what: &str, start: Instant| {
        let seconds = start.elapsed().as_secs_f64();
        let rate = MEGABYTES as f64 / seconds;
        println!("tls {tls}: {what} {rate:.0} MB/s ({seconds:.2} s)");
    };
    let start = Instant::now();
    push(&repository, &descriptor, &file);
    rate("push", start);
    for _ in 0..3 {
        let start = Instant::now();
        pull(&repository, &descriptor);
        rate("pull", start);
    }
    let block = noise(100_000);
    let start = Instant::now();
    for index in 0..30_u8 {
        send(&repository, &[&[index][..], &block].concat(), &[]);
    }
    println!(
        "tls {tls}: 30 blobs of 100 kB sent in {:?}",
        start.elapsed()
    );
}

fn write(file: &Path) -> Descriptor {
    let block = noise(1_000_000);
    let mut hasher = Hasher::default();
    let mut out = File::create(file).unwrap();
    for _ in 0..MEGABYTES {
        hasher.update(&block);
        out.write_all(&block).unwrap();
    }
    let (digest, size) = hasher.finish();
    Descriptor::new(media_type::LAYER, digest, size)
}

fn push(repository: &Repository<'_>, descriptor: &Descriptor, file: &Path) {
    let open = |offset| -> std::io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(file)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    };
    let upload = Upload {
        descriptor,
        mount_from: &[],
        open: &open,
        sent: &|_| {},
    };
    repository.upload(&upload).unwrap();
}

fn pull(repository: &Repository<'_>, descriptor: &Descriptor) {
    let mut reader = repository.blob(descriptor, 0).unwrap();
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => break,
            read => total += read as u64,
        }
    }
    assert_eq!(total, descriptor.size);
}
