//! `ADD` of a local archive: it is unpacked, not copied.

use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use smidge_image::{Entry, EntryKind, LayerError, LayerPath, read_layer};

use super::copy::Copying;
use crate::build::content::{Content, Stream};
use crate::build::layer::Member;
use crate::build::scratch::Scratch;
use crate::packing::{HEAD, Packing, is_header};
use crate::{Error, Kind, Result};

/// Tells whether a file is an archive that `ADD` unpacks, and how it is packed; `None` for what is
/// copied. As for Docker, what counts is the content.
pub(super) fn recognise(content: &Content) -> io::Result<Option<Packing>> {
    let head = content.head(HEAD as usize)?;
    let packing = Packing::of(&head);
    if packing.is_bare() {
        return Ok(is_header(&head).then_some(packing));
    }
    let mut block = Vec::new();
    let file = content.open()?;
    let Ok(tar) = packing.open(Stream::new(&*file)) else {
        return Ok(None);
    };
    // What does not unpack is no archive, and is copied as it is.
    let unpacks = tar.take(HEAD).read_to_end(&mut block).is_ok();
    Ok((unpacks && is_header(&block)).then_some(packing))
}

/// Unpacks an archive into a directory of the image. Modes and times are the archive's, whatever
/// `--chmod` says, and so are owners, unless others were asked for.
pub(super) fn unpack(
    copying: &mut Copying<'_>,
    archive: &Content,
    packing: Packing,
    place: &LayerPath,
    scratch: &Scratch,
) -> Result<()> {
    let failed = |source| Error::io("cannot read the archive", source);
    let file = archive.open().map_err(failed)?;
    let tar = packing
        .open(BufReader::new(Stream::new(&*file)))
        .map_err(failed)?;
    // The contents are needed again when the layer is written; reading the archive twice would cost
    // more than keeping them, and sorted order does not come by itself.
    let mut spool = scratch.spool()?;
    let shared = Arc::new(spool.try_clone().map_err(failed)?);
    let result = read_layer(tar, |entry, content| -> std::result::Result<(), Stop> {
        let offset = spool.seek(SeekFrom::End(0))?;
        io::copy(content, &mut spool)?;
        let member = member(copying, entry, place)?.map(|mut member| {
            if let EntryKind::File { size } = member.entry.kind {
                member.content = Some(Content::spool(Arc::clone(&shared), offset, size));
            }
            member
        });
        member.map_or(Ok(()), |member| Ok(copying.replace(member)?))
    });
    spool
        .flush()
        .map_err(scratch.failed("cannot unpack the archive"))?;
    result.map_err(|stop| match stop {
        Stop::Archive(error) => {
            Error::new(Kind::Input, "cannot unpack the archive").caused_by(error)
        }
        Stop::Spool(source) => scratch.failed("cannot unpack the archive")(source),
        Stop::Engine(error) => error,
    })
}

/// An entry of the archive at its place in the image. The archive's own root is the destination;
/// `None` if that is the image's root, of which layers say nothing.
fn member(copying: &Copying<'_>, entry: Entry, place: &LayerPath) -> Result<Option<Member>> {
    if entry.path.is_root() && (place.is_root() || entry.kind != EntryKind::Directory) {
        return Ok(None);
    }
    let placed = |path: &LayerPath| {
        let path = path
            .components()
            .try_fold(place.clone(), |path, name| path.join(name));
        copying
            .view()
            .place(&path.map_err(|error| Error::of(Kind::Input, error))?)
    };
    let path = placed(&entry.path)?;
    let kind = match &entry.kind {
        EntryKind::Hardlink { target } => EntryKind::Hardlink {
            target: placed(target)?,
        },
        other => other.clone(),
    };
    let manner = copying.manner();
    let (uid, gid) = manner.owner.unwrap_or((entry.uid, entry.gid));
    let entry = Entry {
        path,
        kind,
        uid,
        gid,
        ..entry
    };
    Ok(Some(Member::bare(entry, &manner.reason)))
}

/// Why unpacking stopped.
enum Stop {
    Archive(LayerError),
    Spool(io::Error),
    Engine(Error),
}

impl From<LayerError> for Stop {
    fn from(error: LayerError) -> Self {
        Self::Archive(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Spool(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}
