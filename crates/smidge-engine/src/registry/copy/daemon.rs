//! To and from Docker's own store.

use std::io::{self, BufWriter, Write};

use smidge_image::{Digest, Reference};
use smidge_registry::Daemon;
use smidge_store::Image;

use crate::{Engine, Error, Kind, Result};

const SOCKET: &str = "unix:///var/run/docker.sock";

/// The daemon, where the surroundings say that it is.
fn connect(engine: &Engine) -> Result<Daemon> {
    let host = engine.host.env.get("DOCKER_HOST");
    let address = host.filter(|host| !host.is_empty());
    Ok(Daemon::at(address.map_or(SOCKET, String::as_str))?)
}

fn unreachable(fault: smidge_registry::Error) -> Error {
    let error = Error::from(fault);
    match error.kind() {
        Kind::Host => {
            error.with_hint("say where Docker listens: `DOCKER_HOST=unix:///path/docker.sock`")
        }
        _ => error,
    }
}

/// Takes an image of Docker's into the store.
pub(super) fn bring(engine: &Engine, name: &Reference) -> Result<()> {
    let daemon = connect(engine)?;
    let mut archive = daemon.save(&name.familiar()).map_err(unreachable)?;
    engine.store.load(&mut archive)?;
    Ok(())
}

/// Gives an image to Docker, and tells what is worth knowing about that. Layers that Docker has
/// are left out of what is sent.
pub(super) fn deliver(engine: &Engine, image: &Image, name: &Reference) -> Result<Vec<String>> {
    let daemon = connect(engine)?;
    if daemon.has_image(&image.id).map_err(unreachable)? {
        daemon.tag(&image.id, name)?;
        return Ok(vec!["Docker has the image: nothing was sent".to_owned()]);
    }
    let layers = &image.config.rootfs.diff_ids;
    let (known, note) = match daemon.reuses_layers()? {
        true => {
            let known = daemon.shared_layers(layers)?;
            let note = format!(
                "sent {} of {} layers: Docker has the rest",
                layers.len() - known,
                layers.len()
            );
            (known, (known > 0).then_some(note))
        }
        false => {
            let note = "sent all layers: the API of Docker's containerd image store takes no less";
            (0, Some(note.to_owned()))
        }
    };
    let left_out: Vec<Digest> = image.manifest.layers[..known]
        .iter()
        .map(|layer| layer.digest)
        .collect();
    send(engine, &daemon, (image, name), &left_out)?;
    Ok(note.into_iter().collect())
}

/// Writes the archive at one end of a pipe while Docker reads it at the other.
fn send(
    engine: &Engine,
    daemon: &Daemon,
    (image, name): (&Image, &Reference),
    left_out: &[Digest],
) -> Result<()> {
    let failed = |source| Error::io("cannot make a pipe", source);
    let (mut reader, writer) = io::pipe().map_err(failed)?;
    let images = [(image.clone(), vec![name.clone()])];
    std::thread::scope(|scope| {
        let write = move || -> Result<()> {
            let mut writer = BufWriter::with_capacity(1 << 18, writer);
            engine
                .store
                .save_docker_archive_without(&images, left_out, &mut writer)?;
            writer
                .flush()
                .map_err(|e| Error::io("cannot write to Docker", e))
        };
        let writing = scope.spawn(write);
        let loaded = daemon.load(&mut reader);
        // Who writes must not wait for a reader that is gone.
        drop(reader);
        let written = writing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What Docker says is the reason why it stopped reading.
        loaded.map_err(unreachable)?;
        written
    })
}
