//! What goes wrong on the way.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use expect_test::expect;
use smidge_engine::Kind;
use smidge_image::{Descriptor, Manifest, media_type};
use smidge_registry::{Access, Client, Settings, Sources, Upload};

use crate::debian::Registry;
use crate::support::{Machine, connection, noise, shown};

/// A registry with an image of one layer, and that layer.
fn with_image(size: usize) -> Option<(Registry, String, Descriptor)> {
    let registry = Registry::start()?;
    let here = Machine::new();
    let name = registry.name("app:1");
    here.import(&name, size, None);
    here.push(&name).unwrap();
    let document = here.engine.remote_manifest(&name, None, &connection());
    let manifest: Manifest = serde_json::from_slice(&document.unwrap().bytes).unwrap();
    let layer = manifest.layers[0].clone();
    Some((registry, name, layer))
}

#[test]
fn a_corrupt_layer_is_told_and_nothing_is_stored() {
    let Some((registry, name, layer)) = with_image(100_000) else {
        return;
    };
    let path = registry.blob(&layer.digest);
    let good = std::fs::read(&path).unwrap();
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(50_000)).unwrap();
    file.write_all(b"something else").unwrap();

    let there = Machine::new();
    let fault = there.pull(&name).unwrap_err();
    assert_eq!(fault.kind(), Kind::Host);
    let bad = smidge_image::Digest::of(&std::fs::read(&path).unwrap());
    let text = shown(&fault, &registry.host)
        .replace(&layer.digest.to_string(), "sha256:(expected)")
        .replace(&bad.to_string(), "sha256:(received)")
        .replace(&layer.size.to_string(), "SIZE");
    expect![[r#"
        error: layer 1 of `localhost:5000/app:1` is corrupt; nothing was stored
          expected: sha256:(expected), SIZE bytes
          received: sha256:(received), SIZE bytes
          from: localhost:5000
        hint: pull again: `smidge pull localhost:5000/app:1`; if it repeats, the registry, or a proxy on the way, changes the bytes
    "#]]
    .assert_eq(&text);
    assert_eq!(there.engine.store.images().unwrap().len(), 0);
    assert_eq!(there.files("blobs"), [""; 0]);

    std::fs::write(&path, good).unwrap();
    assert!(
        !there.pull(&name).unwrap()[0].up_to_date,
        "what was wrong is not kept"
    );
}

/// A way to a registry that breaks for ever once so many bytes have come along it.
struct Broken {
    host: String,
}

impl Broken {
    fn before(registry: &Registry, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let port = registry.host.replace("localhost", "127.0.0.1");
        let left = Arc::new(AtomicU64::new(bytes));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if left.load(Ordering::Relaxed) == 0 {
                    break;
                }
                let server = TcpStream::connect(&port).unwrap();
                let left = Arc::clone(&left);
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || io::copy(&mut &from, &mut &to));
                thread::spawn(move || {
                    relay(&server, &client, &left);
                    // Lets the other thread see that nobody is to be let in any more.
                    drop(TcpStream::connect(address));
                });
            }
        });
        Self {
            host: format!("localhost:{}", address.port()),
        }
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }
}

/// Passes an answer on while bytes are left.
fn relay(mut server: &TcpStream, mut client: &TcpStream, left: &AtomicU64) {
    let mut buffer = [0; 1 << 16];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        let rest = left.load(Ordering::Relaxed);
        let count = count.min(usize::try_from(rest).unwrap());
        left.store(rest - count as u64, Ordering::Relaxed);
        if count == 0 || client.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

#[test]
fn a_pull_goes_on_where_it_broke_off() {
    let Some((registry, name, layer)) = with_image(4 << 20) else {
        return;
    };
    let there = Machine::new();
    let broken = Broken::before(&registry, 3 << 20);
    let fault = there.pull(&broken.name("app:1")).unwrap_err();
    assert_eq!(fault.kind(), Kind::Host, "{}", shown(&fault, &broken.host));
    assert_eq!(there.engine.store.images().unwrap().len(), 0);

    let resumed = registry.requests_of(|| drop(there.pull(&name).unwrap()));
    let layer = format!("GET /v2/app/blobs/{} 206", layer.digest);
    assert!(
        resumed.contains(&layer),
        "asks for the rest alone: {resumed:?}"
    );
}

#[test]
fn what_is_not_there_is_said() {
    let Some((registry, _, _)) = with_image(1000) else {
        return;
    };
    let there = Machine::new();
    let fault = there.pull(&registry.name("app:2")).unwrap_err();
    expect![[r#"
        error: cannot pull `localhost:5000/app:2`: the repository has no such tag
          caused by: GET http://localhost:5000/v2/app/manifests/2: 404 MANIFEST_UNKNOWN "manifest unknown"
        hint: see which tags there are: `smidge ls localhost:5000/app`
    "#]]
    .assert_eq(&shown(&fault, &registry.host));
    let fault = there
        .engine
        .remote_tags(&registry.name("none"), &connection())
        .unwrap_err();
    assert_eq!(fault.kind(), Kind::NotFound);
    expect![[r#"
        error: cannot list the tags of `localhost:5000/none`: there is no such repository
          caused by: GET http://localhost:5000/v2/none/tags/list?n=1000: 404 NAME_UNKNOWN "repository name not known to registry"
    "#]]
    .assert_eq(&shown(&fault, &registry.host));
}

const CONFIG: &[u8] = br#"{"name":"chart"}"#;

#[test]
fn what_is_no_image_is_named() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let name = registry.name("chart:1");
    // What `helm push` makes of a chart.
    let config = Descriptor::of("application/vnd.cncf.helm.config.v1+json", CONFIG);
    let chart = noise(500);
    let layer = Descriptor::of(
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        &chart,
    );
    let client = Client::new(Settings::load(Sources::default()).unwrap());
    let reference = name.parse().unwrap();
    let repository = client.repository(&reference, Access::Push).unwrap();
    for (descriptor, bytes) in [(&config, CONFIG.to_vec()), (&layer, chart)] {
        let open = |_| -> io::Result<Box<dyn io::Read + Send>> {
            Ok(Box::new(io::Cursor::new(bytes.clone())))
        };
        let upload = Upload {
            descriptor,
            mount_from: &[],
            open: &open,
            sent: &|_| {},
        };
        repository.upload(&upload).unwrap();
    }
    let manifest = Manifest::new(config, vec![layer]);
    let put = repository.put("1", media_type::MANIFEST, &manifest.to_bytes());
    put.unwrap();

    let there = Machine::new();
    let fault = there.pull(&name).unwrap_err();
    assert_eq!(fault.kind(), Kind::Input);
    expect![[r#"
        error: cannot pull `localhost:5000/chart:1`: it is no container image: its media type is `application/vnd.cncf.helm.config.v1+json`
        hint: see what it is: `smidge manifest inspect localhost:5000/chart:1`
    "#]].assert_eq(&shown(&fault, &registry.host));
    assert_eq!(there.files("blobs"), [""; 0]);
}

#[test]
fn a_registry_that_is_gone_is_said() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let name = registry.name("app:1");
    let host = registry.host.clone();
    drop(registry);
    let fault = Machine::new().pull(&name).unwrap_err();
    assert_eq!(fault.kind(), Kind::Host);
    expect![[r#"
        error: cannot pull `localhost:5000/app:1`: the registry cannot be reached
          caused by: GET http://localhost:5000/v2/app/manifests/1
          caused by: cannot connect to `localhost:5000`: nobody listens there
    "#]]
    .assert_eq(&shown(&fault, &host));
}
