//! `ADD` of a local archive: it is unpacked, not copied.

use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use smidge_image::{
    Entry, EntryKind, LayerError, LayerKind, LayerPath, decompress, read_layer, sniff,
};

use super::copy::Copying;
use crate::build::content::{Content, Stream};
use crate::build::layer::Member;
use crate::build::scratch::Scratch;
use crate::{Error, Kind, Result};

/// What `ADD` makes of a file. As for Docker, what counts is the content.
pub(super) enum Recognised {
    /// It is copied.
    File,
    /// A tar archive, bare or compressed: it is unpacked.
    Archive(LayerKind),
    /// It may be an archive, but smidge cannot undo this compression.
    Foreign(&'static str),
}

/// Tells whether a file is an archive that `ADD` unpacks, and how it is compressed.
pub(super) fn recognise(content: &Content) -> io::Result<Recognised> {
    const HEADER: usize = 512;
    let head = content.head(HEADER)?;
    if let Some(name) = foreign(&head) {
        return Ok(Recognised::Foreign(name));
    }
    let kind = sniff(&head);
    let mut block = Vec::new();
    match kind {
        LayerKind::Tar => block = head,
        LayerKind::Gzip | LayerKind::Zstd => {
            let file = content.open()?;
            let Ok(tar) = decompress(kind, Stream::new(&*file)) else {
                return Ok(Recognised::File);
            };
            // What does not unpack is no archive, and is copied as it is.
            if tar.take(HEADER as u64).read_to_end(&mut block).is_err() {
                return Ok(Recognised::File);
            }
        }
    }
    Ok(if is_header(&block) {
        Recognised::Archive(kind)
    } else {
        Recognised::File
    })
}

/// The compression that Docker can undo and smidge cannot, by its magic number (the .xz file format,
/// 2.1.1.1; bzip2's has the level between `BZh` and the first block's mark).
fn foreign(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [
            b'B',
            b'Z',
            b'h',
            b'1'..=b'9',
            b'1',
            b'A',
            b'Y',
            b'&',
            b'S',
            b'Y',
            ..,
        ] => Some("bzip2"),
        _ => None,
    }
}

/// Whether a block is the header of a tar entry: its checksum is right (POSIX.1-2024, pax).
fn is_header(block: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    if block.len() != 512 || block[0] == 0 {
        return false;
    }
    let stated = str::from_utf8(&block[CHECKSUM]).ok().and_then(|text| {
        let digits = text.trim_matches(|c| c == ' ' || c == '\0');
        u32::from_str_radix(digits, 8).ok()
    });
    let byte = |(at, byte): (usize, &u8)| {
        if CHECKSUM.contains(&at) {
            32
        } else {
            u32::from(*byte)
        }
    };
    stated == Some(block.iter().enumerate().map(byte).sum())
}

/// Unpacks an archive into a directory of the image. Modes and times are the archive's, whatever
/// `--chmod` says, and so are owners, unless others were asked for.
pub(super) fn unpack(
    copying: &mut Copying<'_>,
    archive: &Content,
    kind: LayerKind,
    place: &LayerPath,
    scratch: &Scratch,
) -> Result<()> {
    let failed = |source| Error::io("cannot read the archive", source);
    let file = archive.open().map_err(failed)?;
    let tar = decompress(kind, BufReader::new(Stream::new(&*file))).map_err(failed)?;
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
    spool.flush().map_err(failed)?;
    result.map_err(|stop| match stop {
        Stop::Archive(error) => {
            Error::new(Kind::Input, "cannot unpack the archive").caused_by(error)
        }
        Stop::Spool(source) => Error::io("cannot unpack the archive", source),
        Stop::Engine(error) => error,
    })
}

/// An entry of the archive at its place in the image; `None` for the archive's own root, which is
/// the destination, there already.
fn member(copying: &Copying<'_>, entry: Entry, place: &LayerPath) -> Result<Option<Member>> {
    if entry.path.is_root() {
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
