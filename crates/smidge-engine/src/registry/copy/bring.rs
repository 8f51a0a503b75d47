//! Images come into a store, from wherever they are.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use smidge_image::{Descriptor, Digest, Reference};
use smidge_store::{Choice, Error as StoreError, Image, Intake, MemberFault, Selection};

use super::origin::{Load, Origin};
use super::{CopyRequest, Location, containerd, daemon};
use crate::progress::{Action, Settled};
use crate::registry::parallel::{Teller, Work};
use crate::{Engine, Error, Kind, Progress, Result};

/// Takes what a request names into the engine's store, under a name if that is given, and tells the
/// digest that it is found by there.
pub(super) fn bring(
    engine: &Engine,
    request: &CopyRequest,
    name: Option<&Reference>,
    progress: &dyn Progress,
) -> Result<Digest> {
    let brought = match &request.source {
        Location::Registry(from) => from_registry(engine, request, (from, name), progress),
        Location::Containerd(from) => containerd::bring(engine, request, (from, name), progress),
        Location::DockerDaemon(from) => daemon::connect(engine)
            .and_then(|daemon| daemon::bring(engine, &daemon, from))
            .and_then(the_one),
        Location::Oci(path, name) => from_layout(engine, request, path, name.as_deref()),
        Location::OciArchive(path, name) | Location::DockerArchive(path, name) => {
            from_archive(engine, request, path, name.as_deref())
        }
        // It is there.
        Location::Store(name) => engine
            .store
            .document(name)
            .map(|(top, _)| top.digest)
            .map_err(Error::from),
    };
    match request.source {
        // What is said of registries says it itself.
        Location::Registry(_) => brought,
        _ => brought.map_err(|fault| request.blame_source(fault)),
    }
}

/// What one image, of however many platforms, is found by.
fn the_one(images: Vec<Image>) -> Result<Digest> {
    let first = images.into_iter().next();
    first
        .map(|image| image.index.map_or(image.digest, |index| index.digest))
        .ok_or_else(|| Error::new(Kind::NotFound, "it holds no image"))
}

fn selection<'a>(request: &'a CopyRequest, name: Option<&'a str>) -> Selection<'a> {
    Selection {
        choice: name.map_or(Choice::Only, Choice::Named),
        platform: request.platform.as_ref(),
    }
}

fn from_layout(
    engine: &Engine,
    request: &CopyRequest,
    path: &Path,
    name: Option<&str>,
) -> Result<Digest> {
    let directory = engine.host.absolute(path);
    if !directory.join("index.json").exists() {
        let error = match directory.is_dir() {
            true => Error::new(
                Kind::Input,
                "it is no OCI image layout: it has no `index.json`",
            ),
            false if directory.exists() => {
                let hint = format!("if it is an archive: `oci-archive:{}`", path.display());
                Error::new(Kind::Input, "it is a file, not a directory").with_hint(hint)
            }
            false => Error::new(Kind::NotFound, "there is no such directory"),
        };
        return Err(error);
    }
    let selection = selection(request, name);
    let loaded = engine
        .store
        .load_oci_layout_selected(&directory, &selection);
    loaded
        .map_err(|fault| which(fault, request))
        .and_then(the_one)
}

fn from_archive(
    engine: &Engine,
    request: &CopyRequest,
    path: &Path,
    name: Option<&str>,
) -> Result<Digest> {
    let absolute = engine.host.absolute(path);
    if absolute.is_dir() {
        let hint = format!("if it is an OCI image layout: `oci:{}`", path.display());
        let error = Error::new(Kind::Input, "it is a directory, not a file");
        return Err(error.with_hint(hint));
    }
    let file = File::open(&absolute);
    let file = file.map_err(|source| {
        let message = format!("cannot read `{}`", absolute.display());
        Error::io(message, source)
    })?;
    let selection = selection(request, name);
    let loaded = engine
        .store
        .load_selected(&mut BufReader::with_capacity(1 << 18, file), &selection);
    loaded
        .map_err(|fault| which(fault, request))
        .and_then(the_one)
}

/// Tells which images there are.
fn which(fault: StoreError, request: &CopyRequest) -> Error {
    let (held, hint) = match &fault {
        StoreError::NotHeld { held, .. } => (held, None),
        StoreError::ManyHeld { held } => {
            let first = held.first().map_or("NAME", String::as_str);
            (
                held,
                Some(format!("say which: `{}:{first}`", request.source)),
            )
        }
        StoreError::Member {
            fault: MemberFault::Platform(wanted),
            ..
        } => {
            let why = format!("there is no image for `{wanted}`");
            return Error::new(Kind::NotFound, why);
        }
        _ => return fault.into(),
    };
    let fact = match held.is_empty() {
        true => "there is: none".to_owned(),
        false => format!("there is: {}", held.join(", ")),
    };
    let error = Error::from(fault).with_fact(fact);
    hint.into_iter().fold(error, Error::with_hint)
}

fn from_registry(
    engine: &Engine,
    request: &CopyRequest,
    (from, name): (&Reference, Option<&Reference>),
    progress: &dyn Progress,
) -> Result<Digest> {
    let client = engine.client(&request.connection)?;
    let origin = Origin::new(engine, &client, from)?;
    let load = origin.load(origin.top(request)?)?;
    let intake = engine.store.intake()?;
    for document in load.children.iter().chain([&load.top]) {
        intake.put(&document.bytes)?;
    }
    if let Location::Oci(path, _) = &request.destination {
        // What the layout has need not be fetched.
        let blobs = engine.host.absolute(path).join("blobs/sha256");
        for blob in &load.blobs {
            intake.find(blob, &blobs.join(blob.digest.hex()));
        }
    }
    fetch(&intake, &origin, &load, progress)?;
    let top = load.top.descriptor;
    let digest = top.digest;
    let names = vec![name.unwrap_or(from).clone()];
    let committed = intake.commit(&[(top, names)]);
    committed.map_err(|fault| origin.remote.attempt.not_stored("the manifest", fault))?;
    if name == Some(from) {
        engine.store.set_repo_digest(from, digest)?;
    }
    Ok(digest)
}

/// Fetches all blobs that are not there, side by side, the largest first.
fn fetch(
    intake: &Intake<'_>,
    origin: &Origin<'_>,
    load: &Load,
    progress: &dyn Progress,
) -> Result<()> {
    let mut blobs = load.blobs.clone();
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    let missing = || blobs.iter().filter(|blob| !intake.has(blob));
    progress.expect(missing().count(), missing().map(|blob| blob.size).sum());
    let attempt = &origin.remote.attempt;
    let fetch_one = |blob: &Descriptor, teller: &Teller| {
        if intake.has(blob) {
            teller.settled(Settled::Exists);
            return Ok(());
        }
        let mut open = |offset| -> io::Result<Box<dyn io::Read + Send>> {
            teller.moves(offset);
            let blob = origin.remote.repository.blob(blob, offset);
            Ok(teller.reader(blob.map_err(io::Error::other)?))
        };
        let part = format!("blob {}", blob.digest.short());
        let taken = intake.blob(blob, &mut open);
        taken.map_err(|fault| attempt.not_stored(&part, fault))
    };
    let work = Work {
        action: Action::Copy,
        blob: |blob: &Descriptor| blob,
        act: &fetch_one,
    };
    work.run(&blobs, progress)
}
