//! Images leave a store, to wherever they are wanted.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use smidge_image::{Digest, Reference};
use smidge_store::Image;

use super::containerd::Sender;
use super::{Copied, CopyRequest, Location, daemon};
use crate::registry::{PushRequest, parse_name};
use crate::{Engine, Error, Progress, Result};

/// Sends what the store calls `name` to where a request wants it.
pub(super) fn deliver(
    engine: &Engine,
    name: &str,
    request: &CopyRequest,
    progress: &dyn Progress,
) -> Result<Copied> {
    let mut image = engine.store.image_for(name, request.platform.as_ref())?;
    if !request.all {
        image.index = None;
    }
    let delivery = Delivery {
        engine,
        image,
        request,
        progress,
    };
    delivery.run(name)
}

/// An image, with its index if that goes, too.
struct Delivery<'d> {
    engine: &'d Engine,
    image: Image,
    request: &'d CopyRequest,
    progress: &'d dyn Progress,
}

impl Delivery<'_> {
    fn run(&self, stored_as: &str) -> Result<Copied> {
        let Self { engine, image, .. } = self;
        let compression = self.request.compression;
        match &self.request.destination {
            Location::Registry(name) => self.push(stored_as, name),
            Location::Store(name) => {
                engine.store.tag(image, &parse_name(name)?)?;
                let digest = image
                    .index
                    .as_ref()
                    .map_or(image.digest, |index| index.digest);
                Ok(copied(digest))
            }
            Location::Oci(path, name) => {
                let directory = engine.host.absolute(path);
                let image = (image, name.as_deref());
                let entry = engine
                    .store
                    .export_oci_layout(image, compression, &directory)?;
                Ok(copied(entry.digest))
            }
            Location::OciArchive(path, name) => {
                let image = (image, name.as_deref());
                let mut digest = None;
                write(&engine.host.absolute(path), &mut |output| {
                    let entry = engine
                        .store
                        .export_oci_archive(image, compression, output)?;
                    digest = Some(entry.digest);
                    Ok(())
                })?;
                Ok(copied(digest.unwrap_or(self.image.digest)))
            }
            Location::DockerArchive(path, name) => {
                let names = match name {
                    Some(name) => vec![parse_name(name)?],
                    None => image.names.clone(),
                };
                let images = [(image.clone(), names)];
                write(&engine.host.absolute(path), &mut |output| {
                    Ok(engine.store.save_docker_archive(&images, output)?)
                })?;
                Ok(copied(image.id))
            }
            Location::DockerDaemon(name) => Ok(Copied {
                digest: image.id,
                notes: daemon::deliver(engine, image, name)?,
            }),
            Location::Containerd(name) => self.to_containerd(name),
        }
    }

    fn push(&self, stored_as: &str, name: &Reference) -> Result<Copied> {
        let one = self.image.config.platform();
        let request = PushRequest {
            name: name.to_string(),
            stored_as: Some(stored_as.to_owned()),
            platform: (!self.request.all).then_some(one),
            compression: self.request.compression,
            connection: self.request.connection.clone(),
            ..PushRequest::default()
        };
        let pushed = self.engine.push(&request, self.progress)?.pop();
        let digest = pushed
            .as_ref()
            .map_or(self.image.digest, |pushed| pushed.digest);
        Ok(Copied {
            digest,
            notes: pushed.map(|pushed| pushed.notes).unwrap_or_default(),
        })
    }

    fn to_containerd(&self, name: &Reference) -> Result<Copied> {
        let (store, compression) = (&self.engine.store, self.request.compression);
        let sender = Sender::open(self.engine, self.progress)?;
        let index = match &self.image.index {
            Some(index) => store.transfer_index(&index.digest.to_string(), compression)?,
            None => None,
        };
        if let Some(index) = index {
            sender.index(&index, name)?;
            return Ok(copied(index.descriptor.digest));
        }
        let transfer = store.transfer(&self.image, compression)?;
        sender.image(&transfer, name)?;
        Ok(copied(transfer.digest()))
    }
}

fn copied(digest: Digest) -> Copied {
    Copied {
        digest,
        notes: Vec::new(),
    }
}

/// Writes a file: whole, or not at all. What is there and no file, as a pipe, is written to as it is.
fn write(path: &Path, content: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()> {
    let failed = |source| Error::io(format!("cannot write `{}`", path.display()), source);
    let direct = path.metadata().is_ok_and(|found| !found.is_file());
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = Path::new(&name);
    let target = if direct { path } else { temporary };
    let written = File::create(target).map_err(failed).and_then(|file| {
        let mut file = BufWriter::with_capacity(1 << 18, file);
        content(&mut file)?;
        file.flush().map_err(failed)
    });
    if direct {
        return written;
    }
    let placed = written.and_then(|()| fs::rename(temporary, path).map_err(failed));
    if placed.is_err() {
        let _ = fs::remove_file(temporary);
    }
    placed
}
