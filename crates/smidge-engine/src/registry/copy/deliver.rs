//! Images leave a store, to wherever they are wanted.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use smidge_image::{Descriptor, Digest, Index, Manifest, Reference};
use smidge_registry::Daemon;
use smidge_store::{Compression, Error as StoreError, Image, Intake, Store};

use super::file::Output;
use super::origin::DEPTH;
use super::sender::Sender;
use super::{Copied, CopyRequest, Location, copied, daemon};
use crate::registry::{PushRequest, parse_name};
use crate::{Engine, Error, Kind, Progress, Result};

/// A destination that can be written, as far as that can be known beforehand.
pub(super) enum Receiver<'r> {
    Registry(&'r Reference, &'r dyn Progress),
    Store(&'r Store, Reference),
    Layout(PathBuf, Option<&'r str>),
    OciArchive(Output, Option<&'r str>),
    DockerArchive(Output, Option<Reference>),
    Docker(Daemon, &'r Reference),
    Containerd(Sender<'r>, &'r Reference),
}

impl<'r> Receiver<'r> {
    pub(super) fn open(
        engine: &'r Engine,
        request: &'r CopyRequest,
        progress: &'r dyn Progress,
    ) -> Result<Self> {
        let absolute = |path: &Path| engine.host.absolute(path);
        Ok(match &request.destination {
            Location::Registry(name) => Self::Registry(name, progress),
            Location::Store(name) => Self::Store(&engine.store, parse_name(name)?),
            Location::Oci(path, name) => {
                let directory = absolute(path);
                check_layout(&directory)?;
                Self::Layout(directory, name.as_deref())
            }
            Location::OciArchive(path, name) => {
                Self::OciArchive(Output::create(&absolute(path))?, name.as_deref())
            }
            Location::DockerArchive(path, name) => {
                let name = name.as_deref().map(parse_name).transpose()?;
                Self::DockerArchive(Output::create(&absolute(path))?, name)
            }
            Location::DockerDaemon(name) => Self::Docker(daemon::connect(engine)?, name),
            Location::Containerd(name) => Self::Containerd(Sender::open(engine, progress)?, name),
        })
    }

    /// What is to be told of the other images of an index.
    fn left_behind(&self, stored: (&Store, &str), image: &Image) -> Result<Option<String>> {
        match self {
            _ if image.index.is_none() => Ok(None),
            Self::DockerArchive(..) => Ok(Some(alone("a docker-archive holds", image))),
            Self::Docker(..) => Ok(Some(alone("Docker keeps", image))),
            Self::Layout(..) | Self::OciArchive(..) | Self::Containerd(..) => missing(stored),
            // A push tells it itself, and may have found them there.
            Self::Registry(..) | Self::Store(..) => Ok(None),
        }
    }
}

/// Refuses a directory that cannot be written, or that others keep house in.
pub(crate) fn check_layout(directory: &Path) -> Result<()> {
    let shown = directory.display();
    let is_store = ["containers/names", "layers", "volumes"];
    if is_store.iter().all(|name| directory.join(name).exists()) {
        let fault = format!("`{shown}` is a store of smidge's, which adds images by their names");
        let hint = format!("copy to it as a store: `smidge --root {shown} copy … store:NAME`");
        return Err(Error::new(Kind::Input, fault).with_hint(hint));
    }
    if directory.exists() && !directory.is_dir() {
        let fault = format!("`{shown}` is a file, not a directory");
        return Err(Error::new(Kind::Input, fault));
    }
    let nearest = directory.ancestors().find(|path| path.exists());
    let allowed = access(
        nearest.unwrap_or(Path::new("/")),
        Access::WRITE_OK | Access::EXEC_OK,
    );
    allowed.map_err(|errno| Error::io(format!("cannot write `{shown}`"), errno.into()))
}

/// What a request wants of what the store calls `name`: the index, if that goes, is noted with it.
pub(super) fn find(engine: &Engine, name: &str, request: &CopyRequest) -> Result<Image> {
    let store = &engine.store;
    let mut image = match store.image_for(name, request.platform.as_ref()) {
        // All of its images are for others, but all are wanted.
        Err(StoreError::NoSuchPlatform { available, .. }) if request.all => {
            let mut image = store.image_for(name, available.first())?;
            image.index = Some(store.document(name)?.0).filter(|top| top.is_index());
            image
        }
        found => found?,
    };
    if !request.all {
        image.index = None;
    }
    Ok(image)
}

/// Sends what the store calls `name` to where a request wants it.
pub(super) fn deliver(
    engine: &Engine,
    (name, image): (&str, Image),
    request: &CopyRequest,
    receiver: Receiver<'_>,
) -> Result<Copied> {
    let (store, compression) = (&engine.store, request.compression);
    let note = receiver.left_behind((store, name), &image)?;
    let mut copied = match receiver {
        Receiver::Registry(to, progress) => push(engine, (name, &image), request, (to, progress))?,
        Receiver::Store(own, to) if std::ptr::eq(own, store) => {
            store.tag(&image, &to)?;
            copied(top(&image))
        }
        Receiver::Store(own, to) => adopt(own, store, &image, to)?,
        Receiver::Layout(directory, to) => {
            let entry = store.export_oci_layout((&image, to), compression, &directory)?;
            copied(entry.digest)
        }
        Receiver::OciArchive(output, to) => output.write(|output| {
            let entry = store.export_oci_archive((&image, to), compression, output)?;
            Ok(copied(entry.digest))
        })?,
        Receiver::DockerArchive(output, to) => {
            let names = to.map_or_else(|| image.names.clone(), |name| vec![name]);
            let images = [(image, names)];
            output.write(|output| Ok(store.save_docker_archive(&images, output)?))?;
            copied(images[0].0.id)
        }
        Receiver::Docker(daemon, to) => Copied {
            digest: image.id,
            notes: daemon::deliver(engine, &image, (&daemon, to))?,
        },
        Receiver::Containerd(sender, to) => to_containerd(engine, &image, request, (&sender, to))?,
    };
    copied.notes.extend(note);
    Ok(copied)
}

/// The digest of what an image was found as.
fn top(image: &Image) -> Digest {
    let index = image.index.as_ref();
    index.map_or(image.digest, |index| index.digest)
}

/// What an index lists, but nobody has.
fn missing((store, name): (&Store, &str)) -> Result<Option<String>> {
    let Some(index) = store.transfer_index(name, Compression::None)? else {
        return Ok(None);
    };
    let list: Vec<String> = index
        .missing
        .iter()
        .map(|entry| match &entry.platform {
            Some(platform) => format!("`{platform}`"),
            None => format!("`{}`", entry.digest),
        })
        .collect();
    Ok((!list.is_empty()).then(|| {
        let all = list.len() + index.images.len();
        let list = list.join(", ");
        format!("of the {all} that the index lists, not copied, since not there: {list}")
    }))
}

fn alone(takes: &str, image: &Image) -> String {
    let platform = image.config.platform();
    format!("{takes} images for one platform: the one for `{platform}` was copied alone")
}

fn push(
    engine: &Engine,
    (stored_as, image): (&str, &Image),
    request: &CopyRequest,
    (to, progress): (&Reference, &dyn Progress),
) -> Result<Copied> {
    let one = image.config.platform();
    let push = PushRequest {
        name: to.to_string(),
        stored_as: Some(stored_as.to_owned()),
        platform: (!request.all).then_some(one),
        compression: request.compression,
        connection: request.connection.clone(),
        ..PushRequest::default()
    };
    let pushed = engine.push(&push, progress)?.pop();
    Ok(match pushed {
        Some(pushed) => Copied {
            digest: pushed.digest,
            notes: pushed.notes,
        },
        None => copied(image.digest),
    })
}

fn to_containerd(
    engine: &Engine,
    image: &Image,
    request: &CopyRequest,
    (sender, name): (&Sender<'_>, &Reference),
) -> Result<Copied> {
    let (store, compression) = (&engine.store, request.compression);
    let index = match &image.index {
        Some(index) => store.transfer_index(&index.digest.to_string(), compression)?,
        None => None,
    };
    if let Some(index) = index {
        sender.index(&index, name)?;
        return Ok(copied(index.descriptor.digest));
    }
    let transfer = store.transfer(image, compression)?;
    sender.image(&transfer, name)?;
    Ok(copied(transfer.digest()))
}

/// Takes what a passing store has into the user's, under one name: those that it has elsewhere are
/// not those that it is to have here.
fn adopt(own: &Store, passing: &Store, image: &Image, name: Reference) -> Result<Copied> {
    let intake = own.intake()?;
    let top = take_over(&intake, passing, &top(image), DEPTH)?;
    let digest = top.digest;
    intake.commit(&[(top, vec![name])])?;
    Ok(copied(digest))
}

/// Takes over a manifest with all that it needs, or an index with all that there is.
fn take_over(
    intake: &Intake<'_>,
    passing: &Store,
    digest: &Digest,
    depth: usize,
) -> Result<Descriptor> {
    let (document, bytes) = passing.document(&digest.to_string())?;
    intake.put(&bytes)?;
    let unknown = |source| {
        Error::new(Kind::Input, format!("`{digest}` cannot be understood")).caused_by(source)
    };
    if !document.is_index() {
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(unknown)?;
        let mut blobs = manifest.layers.iter().chain([&manifest.config]);
        blobs.try_for_each(|blob| intake.take_over(passing, blob))?;
        return Ok(document);
    }
    let index: Index = serde_json::from_slice(&bytes).map_err(unknown)?;
    for entry in &index.manifests {
        let is_there = passing.document(&entry.digest.to_string()).is_ok();
        if let (true, Some(depth)) = (is_there, depth.checked_sub(1)) {
            take_over(intake, passing, &entry.digest, depth)?;
        }
    }
    Ok(document)
}
