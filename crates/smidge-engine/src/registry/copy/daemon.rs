//! To and from Docker's own store.

use std::io::{self, BufWriter, ErrorKind, Write};

use smidge_image::{Manifest, Reference};
use smidge_registry::{Daemon, Error as RegistryError, Wants};
use smidge_store::Image;

use super::origin::Origin;
use super::{Copied, CopyRequest};
use crate::conversion::registry_kind;
use crate::{Engine, Error, Kind, Result};

const SOCKET: &str = "unix:///var/run/docker.sock";

const FORWARD: &str = "forward its socket: `ssh -L /tmp/docker.sock:/var/run/docker.sock HOST`, then \
                       `DOCKER_HOST=unix:///tmp/docker.sock`";

/// The daemon, where the surroundings say that it is, once it has answered.
pub(super) fn connect(engine: &Engine) -> Result<Daemon> {
    let variable = |name: &str| {
        let value = engine.host.env.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    };
    let address = variable("DOCKER_HOST").unwrap_or(SOCKET);
    if variable("DOCKER_TLS_VERIFY").is_some() && address.starts_with("tcp:") {
        let fault = format!("Docker at `{address}` wants TLS, which smidge does not speak with it");
        return Err(Error::new(Kind::Input, fault).with_hint(FORWARD));
    }
    let daemon = Daemon::at(address).map_err(|fault| {
        let error = Error::new(Kind::Input, format!("smidge cannot reach `{address}`"));
        error.caused_by(fault).with_hint(FORWARD)
    })?;
    daemon.ping().map_err(failed)?;
    Ok(daemon)
}

/// What Docker, or the way to it, did not do.
fn failed(fault: RegistryError) -> Error {
    let kind = registry_kind(&fault);
    let where_ = "say where Docker listens: `DOCKER_HOST=unix:///path/docker.sock smidge copy …`";
    let (why, hint) = match &fault {
        RegistryError::NotFound { .. } => (
            "Docker has no such image",
            Some("see what there is: `docker images`"),
        ),
        RegistryError::Refused { .. } => ("Docker refused it", None),
        RegistryError::Unreachable { source, .. } => match source.kind() {
            ErrorKind::PermissionDenied => (
                "Docker's socket is not for this user",
                Some(
                    "ask for membership of the group `docker`, or name a daemon of your own: `DOCKER_HOST=…`",
                ),
            ),
            ErrorKind::TimedOut => ("Docker does not answer", Some(where_)),
            _ => ("Docker cannot be reached", Some(where_)),
        },
        RegistryError::Protocol { .. } => ("what answers is no Docker daemon", Some(where_)),
        _ => return fault.into(),
    };
    let error = Error::new(kind, why).caused_by(fault);
    hint.into_iter().fold(error, Error::with_hint)
}

/// Takes an image of Docker's into the store.
pub(super) fn bring(engine: &Engine, daemon: &Daemon, name: &Reference) -> Result<Vec<Image>> {
    let mut archive = daemon.save(&name.familiar()).map_err(failed)?;
    Ok(engine.store.load(&mut archive)?)
}

/// Spares the way of an image that Docker has under another name.
pub(super) fn spare(
    engine: &Engine,
    request: &CopyRequest,
    from: &Reference,
    (daemon, to): (&Daemon, &Reference),
) -> Result<Option<Copied>> {
    let client = engine.client(&request.connection)?;
    let origin = Origin::new(engine, &client, from)?;
    let top = origin.top(request)?;
    if !top.descriptor.is_manifest() {
        return Ok(None);
    }
    let manifest: Manifest = origin.remote.read("manifest", &top.bytes)?;
    let id = manifest.config.digest;
    let is_there = daemon
        .has_image(&id)
        .map_err(|e| request.blame_destination(failed(e)))?;
    if !is_there {
        return Ok(None);
    }
    daemon
        .tag(&id, to)
        .map_err(|e| request.blame_destination(failed(e)))?;
    Ok(Some(Copied {
        digest: id,
        notes: vec![NOTHING.to_owned()],
    }))
}

const NOTHING: &str = "Docker has the image: nothing was sent";

/// Gives an image to Docker, and tells what is worth knowing about that. Layers that Docker has
/// are left out of what is sent.
pub(super) fn deliver(
    engine: &Engine,
    image: &Image,
    (daemon, name): (&Daemon, &Reference),
) -> Result<Vec<String>> {
    if daemon.has_image(&image.id).map_err(failed)? {
        daemon.tag(&image.id, name).map_err(failed)?;
        return Ok(vec![NOTHING.to_owned()]);
    }
    let layers = &image.config.rootfs.diff_ids;
    let wants_all = match daemon.wants().map_err(failed)? {
        Wants::Missing => None,
        Wants::AllForContainerd => Some("the API of Docker's containerd image store takes no less"),
        Wants::AllForPodman => Some("Podman takes no less"),
    };
    if let Some(why) = wants_all {
        send(engine, daemon, (image, name), 0)?;
        return Ok(vec![format!("sent all layers: {why}")]);
    }
    let known = daemon.shared_layers(layers).map_err(failed)?;
    if known == 0 {
        send(engine, daemon, (image, name), 0)?;
        return Ok(Vec::new());
    }
    match send(engine, daemon, (image, name), known) {
        // Docker may have removed them meanwhile.
        Err(_) if daemon.shared_layers(layers).is_ok_and(|now| now < known) => {
            send(engine, daemon, (image, name), 0)?;
            return Ok(Vec::new());
        }
        sent => sent?,
    }
    let (sent, all) = (layers.len() - known, layers.len());
    Ok(vec![format!(
        "sent {sent} of {all} layers: Docker has the rest"
    )])
}

/// Writes the archive at one end of a pipe while Docker reads it at the other.
fn send(engine: &Engine, daemon: &Daemon, image: (&Image, &Reference), known: usize) -> Result<()> {
    let no_pipe = |source| Error::io("cannot make a pipe", source);
    let (mut reader, writer) = io::pipe().map_err(no_pipe)?;
    // As much as an ordinary user may have; less is slower.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE);
    std::thread::scope(|scope| {
        let write = move || -> Result<()> {
            let mut writer = BufWriter::with_capacity(1 << 18, writer);
            engine.store.save_for_docker(image, known, &mut writer)?;
            let flushed = writer.flush();
            flushed.map_err(|e| Error::io("cannot write to Docker", e))
        };
        let writing = scope.spawn(write);
        let loaded = daemon.load(&mut reader);
        // Who writes must not wait for a reader that is gone.
        drop(reader);
        let written = writing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (loaded, written) {
            // What cannot be read of the store ends what Docker reads, too early.
            (Err(_), Err(fault)) if !is_of_pipe(&fault) => Err(fault),
            // What Docker says is the reason why it stopped reading.
            (Err(fault), _) => Err(failed(fault)),
            (Ok(()), written) => written,
        }
    })
}

/// Bytes that a pipe holds.
const PIPE: usize = 1 << 20;

/// Whether nobody was there any more to read what was written.
fn is_of_pipe(fault: &Error) -> bool {
    let mut cause = std::error::Error::source(fault);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == ErrorKind::BrokenPipe;
        }
        cause = error.source();
    }
    false
}
