//! Writing layers.

use std::io::{self, Read, Write};

use super::header::{
    BLOCK, DEVMAJOR, DEVMINOR, Field, GID, Header, LINKNAME, MAX_EXTENDED, MODE, MTIME, NAME,
    PREFIX, SIZE, UID, kind,
};
use super::pax::Records;
use super::source::padding;
use super::{Entry, EntryKind};

/// Writes a layer: a tar archive of which every byte follows from its entries.
///
/// Headers are ustar, and say no more than they must: no names of users and groups, no device
/// numbers but for devices, NULs in all that is unused. What does not fit (names over 100 bytes that
/// cannot be split, ids from 2,097,152, sizes from 8 GiB, times before 1970, extended attributes) is
/// in a PAX header in front. Directories end with a slash. Two blocks of zeros end the archive.
/// Changing any of this is a format break: it changes the ids of images.
///
/// The order of entries is the caller's.
pub struct LayerWriter<W> {
    output: W,
    buffer: Vec<u8>,
}

impl<W: Write> LayerWriter<W> {
    /// Starts an archive.
    pub fn new(output: W) -> Self {
        Self {
            output,
            buffer: Vec::new(),
        }
    }

    /// Appends one entry; `content` is read only for a regular file, and then to its end.
    ///
    /// # Errors
    /// When reading or writing fails, when `content` is not as long as the entry says
    /// (`InvalidData`; the archive is then of no use), and when tar has no way to express the entry
    /// (`InvalidInput`).
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let (records, header) = encode(entry)?;
        let records = records.as_bytes();
        if !records.is_empty() {
            if records.len() as u64 > MAX_EXTENDED {
                return Err(inexpressible(
                    entry,
                    "more extended attributes than a layer can hold",
                ));
            }
            self.output.write_all(&extended_header(records.len()).0)?;
            self.output.write_all(records)?;
            self.pad(records.len() as u64)?;
        }
        self.output.write_all(&header.0)?;
        if let EntryKind::File { size } = entry.kind {
            self.copy(entry, size, content)?;
            self.pad(size)?;
        }
        Ok(())
    }

    /// Ends the archive, and gives the writer back.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        Ok(self.output)
    }

    fn copy(&mut self, entry: &Entry, size: u64, content: &mut dyn Read) -> io::Result<()> {
        self.buffer.resize(64 * 1024, 0);
        let mut copied = 0;
        loop {
            let read = match content.read(&mut self.buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            copied += read as u64;
            if copied > size || (read == 0 && copied < size) {
                return Err(wrong_size(entry, size, copied));
            }
            if read == 0 {
                return Ok(());
            }
            self.output.write_all(&self.buffer[..read])?;
        }
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = padding(size) as usize;
        self.output.write_all(&[0; BLOCK][..padding])
    }
}

/// The header of an entry, and the records that go in front of it.
fn encode(entry: &Entry) -> io::Result<(Records, Header)> {
    let mut header = Header::ustar(typeflag(&entry.kind));
    let mut records = Records::default();
    let name = name(entry)?;
    let target = target(entry)?;
    let long_name = !set_name(&mut header, &name);
    let long_target = !LINKNAME.fits(target);
    header.set_text(&LINKNAME, target);

    let is_text = |long: bool, bytes: &[u8]| !long || str::from_utf8(bytes).is_ok();
    if !is_text(long_name, &name) || !is_text(long_target, target) {
        records.push(b"hdrcharset", b"BINARY");
    }
    if long_name {
        records.push(b"path", &name);
    }
    if long_target {
        records.push(b"linkpath", target);
    }
    header.set_number(&MODE, u64::from(entry.mode & 0o7777));
    let owner = [(&UID, i64::from(entry.uid)), (&GID, i64::from(entry.gid))];
    let size = i64::try_from(entry.size()).map_err(|_| inexpressible(entry, "such a size"))?;
    for (field, number) in owner
        .into_iter()
        .chain([(&SIZE, size), (&MTIME, entry.mtime)])
    {
        set_or_record(&mut header, &mut records, field, number);
    }
    for (name, value) in &entry.xattrs {
        if name.is_empty() || name.iter().any(|byte| matches!(byte, b'=' | 0)) {
            return Err(inexpressible(
                entry,
                "an extended attribute with such a name",
            ));
        }
        records.push_xattr(name, value);
    }
    set_device(&mut header, entry)?;
    header.seal();
    Ok((records, header))
}

fn typeflag(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File { .. } => kind::FILE,
        EntryKind::Directory => kind::DIRECTORY,
        EntryKind::Symlink { .. } => kind::SYMLINK,
        EntryKind::Hardlink { .. } => kind::HARDLINK,
        EntryKind::CharDevice { .. } => kind::CHAR_DEVICE,
        EntryKind::BlockDevice { .. } => kind::BLOCK_DEVICE,
        EntryKind::Fifo => kind::FIFO,
    }
}

/// The name as the archive has it. The root's is `./`, as an empty one would name nothing.
fn name(entry: &Entry) -> io::Result<Vec<u8>> {
    let path = entry.path.as_bytes();
    match entry.kind {
        EntryKind::Directory if path.is_empty() => Ok(b"./".to_vec()),
        EntryKind::Directory => Ok([path, b"/"].concat()),
        _ if path.is_empty() => Err(inexpressible(entry, "a root that is no directory")),
        _ => Ok(path.to_vec()),
    }
}

fn target(entry: &Entry) -> io::Result<&[u8]> {
    let target = match &entry.kind {
        EntryKind::Symlink { target } => target.as_slice(),
        EntryKind::Hardlink { target } => target.as_bytes(),
        _ => return Ok(&[]),
    };
    if target.is_empty() || target.contains(&0) {
        return Err(inexpressible(entry, "a link to such a target"));
    }
    Ok(target)
}

/// Puts the name in its field, or, split at a slash, in its two fields. Returns whether it fits; if
/// not, as much of it is there as the field can hold, for readers that do not know PAX.
fn set_name(header: &mut Header, name: &[u8]) -> bool {
    if NAME.fits(name) {
        header.set_text(&NAME, name);
        return true;
    }
    let fits = |slash: &usize| {
        let (prefix, rest) = (&name[..*slash], &name[slash + 1..]);
        name[*slash] == b'/' && !rest.is_empty() && PREFIX.fits(prefix) && NAME.fits(rest)
    };
    let Some(slash) = (1..name.len()).find(fits) else {
        header.set_text(&NAME, name);
        return false;
    };
    header.set_text(&PREFIX, &name[..slash]);
    header.set_text(&NAME, &name[slash + 1..]);
    true
}

fn set_or_record(header: &mut Header, records: &mut Records, field: &Field, number: i64) {
    let fits = u64::try_from(number).is_ok_and(|number| header.set_number(field, number));
    if !fits {
        records.push(field.name.as_bytes(), number.to_string().as_bytes());
    }
}

fn set_device(header: &mut Header, entry: &Entry) -> io::Result<()> {
    let (EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor }) =
        entry.kind
    else {
        return Ok(());
    };
    let fits = header.set_number(&DEVMAJOR, u64::from(major))
        && header.set_number(&DEVMINOR, u64::from(minor));
    if fits {
        Ok(())
    } else {
        Err(inexpressible(entry, "such a device number"))
    }
}

/// The header of the records that go in front of an entry.
fn extended_header(size: usize) -> Header {
    let mut header = Header::ustar(kind::EXTENDED);
    header.set_text(&NAME, b"PaxHeader");
    header.set_number(&MODE, 0o644);
    header.set_number(&SIZE, size as u64);
    header.seal();
    header
}

fn inexpressible(entry: &Entry, what: &str) -> io::Error {
    let message = format!(
        "`{}` cannot be in a layer: tar cannot express {what}",
        entry.path
    );
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn wrong_size(entry: &Entry, size: u64, copied: u64) -> io::Error {
    let than = if copied > size { "more" } else { "less" };
    let message = format!("`{}` has {than} content than its {size} bytes", entry.path);
    io::Error::new(io::ErrorKind::InvalidData, message)
}
