//! Reading layers.

use std::io::Read;

use super::header::{
    self, BLOCK, DEVMAJOR, DEVMINOR, Field, GID, GNU_IS_EXTENDED, GNU_REALSIZE, GNU_SPARSE_MAP,
    Header, LINKNAME, MAX_EXTENDED, MODE, MTIME, NAME, SIZE, UID, kind,
};
use super::pax::Extended;
use super::source::{Content, Source, padding};
use super::sparse::{Segment, is_sound, parse_gnu_map, read_map};
use super::{Entry, EntryKind, LayerError};
use crate::{LayerPath, PathError, Whiteout};

/// Reads a layer to its end, and hands each entry with its content to `visit`.
///
/// Entries come in the archive's order, and a name may come twice: the last one holds. What `visit`
/// leaves unread of a content is skipped. GNU, PAX, ustar and pre-POSIX archives are understood, and
/// the holes of GNU's sparse files are filled with zeros. As for Docker, global extended headers say
/// nothing, and only regular files have content, whatever size a header states. `reader` is read to
/// its end, past the archive's end.
///
/// Hostile archives are safe to read: memory is bounded, and every path is inside the image. What is
/// *not* bounded is the size of the contents; [`Entry::size`] tells it before the first byte.
///
/// # Errors
/// A [`LayerError`] for an archive that is not a layer, and whatever `visit` returns. A content that
/// ends too early is an error of its reader, too.
pub fn read_layer<R: Read, E: From<LayerError>>(
    reader: R,
    mut visit: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut source = Source::new(reader);
    while let Some(member) = Member::read(&mut source)? {
        let (entry, map) = member.entry(&mut source)?;
        let mut content = Content::new(&mut source, entry.size(), map);
        visit(entry, &mut content)?;
        content.finish()?;
    }
    source.drain()?;
    Ok(())
}

/// A header with all that was said about it in front.
struct Member {
    header: Header,
    offset: u64,
    extended: Extended,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Member {
    /// Reads up to the next header of a file; `None` at the end of the archive.
    fn read<R: Read>(source: &mut Source<R>) -> Result<Option<Self>, LayerError> {
        let (mut extended, mut long_name, mut long_link) = (Extended::default(), None, None);
        loop {
            let offset = source.offset;
            let Some(header) = next_header(source)? else {
                return Ok(None);
            };
            match header.kind() {
                kind::EXTENDED => {
                    let records = read_extended(&header, source, offset)?;
                    extended = Extended::parse(&records)
                        .map_err(|field| LayerError::Field { field, offset })?;
                }
                kind::GNU_LONG_NAME => {
                    let name = read_extended(&header, source, offset)?;
                    long_name = Some(header::until_nul(&name).to_vec());
                }
                kind::GNU_LONG_LINK => {
                    let link = read_extended(&header, source, offset)?;
                    long_link = Some(header::until_nul(&link).to_vec());
                }
                kind::GLOBAL => {
                    let size = size(&header, offset)?;
                    source.skip(size)?;
                    source.skip(padding(size))?;
                }
                _ => {
                    return Ok(Some(Self {
                        header,
                        offset,
                        extended,
                        long_name,
                        long_link,
                    }));
                }
            }
        }
    }

    /// What the header means, and which parts of the content are stored.
    fn entry<R: Read>(
        mut self,
        source: &mut Source<R>,
    ) -> Result<(Entry, Vec<Segment>), LayerError> {
        let name = self.name();
        let path = self.layer_path(&name)?;
        if Whiteout::is_malformed(&path) {
            return Err(LayerError::Whiteout {
                path: path.to_string(),
            });
        }
        let (kind, map) = self.entry_kind(&name, source)?;
        if path.is_root() && kind != EntryKind::Directory {
            return Err(self.malformed(NAME.name));
        }
        let entry = Entry {
            path,
            kind,
            mode: self.unsigned(&MODE)? & 0o7777,
            uid: self.extended.uid.map_or_else(|| self.unsigned(&UID), Ok)?,
            gid: self.extended.gid.map_or_else(|| self.unsigned(&GID), Ok)?,
            mtime: self
                .extended
                .mtime
                .map_or_else(|| self.number(&MTIME), Ok)?,
            xattrs: std::mem::take(&mut self.extended.xattrs),
        };
        Ok((entry, map))
    }

    fn entry_kind<R: Read>(
        &mut self,
        name: &[u8],
        source: &mut Source<R>,
    ) -> Result<(EntryKind, Vec<Segment>), LayerError> {
        let kind = match self.header.kind() {
            kind::OLD_FILE if name.ends_with(b"/") => EntryKind::Directory,
            kind::FILE | kind::OLD_FILE | kind::CONTIGUOUS_FILE | kind::GNU_SPARSE => {
                let (size, map) = self.content(source)?;
                return Ok((EntryKind::File { size }, map));
            }
            kind::DIRECTORY => EntryKind::Directory,
            kind::SYMLINK => EntryKind::Symlink {
                target: self.symlink()?,
            },
            kind::HARDLINK => {
                let target = self.layer_path(&self.link())?;
                if target.is_root() {
                    return Err(self.malformed(LINKNAME.name));
                }
                EntryKind::Hardlink { target }
            }
            kind::CHAR_DEVICE => {
                let (major, minor) = self.device()?;
                EntryKind::CharDevice { major, minor }
            }
            kind::BLOCK_DEVICE => {
                let (major, minor) = self.device()?;
                EntryKind::BlockDevice { major, minor }
            }
            kind::FIFO => EntryKind::Fifo,
            kind => {
                let path = String::from_utf8_lossy(name).into_owned();
                return Err(LayerError::Unsupported { path, kind });
            }
        };
        Ok((kind, Vec::new()))
    }

    /// The size of a regular file, and which parts of it are stored.
    fn content<R: Read>(
        &mut self,
        source: &mut Source<R>,
    ) -> Result<(u64, Vec<Segment>), LayerError> {
        let stated = match self.extended.size {
            Some(size) => size,
            None => size(&self.header, self.offset)?,
        };
        let sparse = &mut self.extended.sparse;
        let (size, stored, map) = match sparse.size {
            _ if self.header.kind() == kind::GNU_SPARSE => {
                let size = self.size_field(&GNU_REALSIZE)?;
                (size, stated, self.gnu_map(source)?)
            }
            Some(size) if sparse.major.is_some_and(|major| major > 0) => {
                let (map, length) = self.map_in_content(source)?;
                let stored = stated
                    .checked_sub(length)
                    .ok_or_else(|| self.malformed(SIZE.name))?;
                (size, stored, map)
            }
            Some(size) => (size, stated, std::mem::take(&mut sparse.map)),
            None => (
                stated,
                stated,
                vec![Segment {
                    offset: 0,
                    length: stated,
                }],
            ),
        };
        // What a file system can hold is signed, and so no offset can overflow.
        if i64::try_from(size).is_err() || !is_sound(&map, size, stored) {
            return Err(self.malformed(SIZE.name));
        }
        Ok((size, map))
    }

    /// The map of a GNU header and the blocks that continue it.
    fn gnu_map<R: Read>(&self, source: &mut Source<R>) -> Result<Vec<Segment>, LayerError> {
        let malformed = || self.malformed(GNU_SPARSE_MAP.name);
        let mut map = Vec::new();
        parse_gnu_map(self.header.bytes(&GNU_SPARSE_MAP), &mut map).ok_or_else(malformed)?;
        let mut continues = self.header.bytes(&GNU_IS_EXTENDED) != [0];
        let start = source.offset;
        while continues {
            self.check_extended(source.offset - start)?;
            let block = source.block()?;
            let (pairs, rest) = block.split_at(21 * 24);
            parse_gnu_map(pairs, &mut map).ok_or_else(malformed)?;
            continues = rest[0] != 0;
        }
        Ok(map)
    }

    /// The map at the start of the content, and how many bytes it takes up.
    fn map_in_content<R: Read>(
        &self,
        source: &mut Source<R>,
    ) -> Result<(Vec<Segment>, u64), LayerError> {
        let start = source.offset;
        let map = read_map(|| {
            self.check_extended(source.offset - start)?;
            source.block()
        })?;
        let map = map.ok_or_else(|| self.malformed("GNU.sparse.map"))?;
        Ok((map, source.offset - start))
    }

    fn check_extended(&self, size: u64) -> Result<(), LayerError> {
        check_extended(size, self.offset)
    }

    fn name(&mut self) -> Vec<u8> {
        let extended = &mut self.extended;
        let extended = extended.sparse.name.take().or_else(|| extended.path.take());
        self.long_name
            .take()
            .or(extended)
            .unwrap_or_else(|| self.header.name())
    }

    fn link(&self) -> Vec<u8> {
        let link = self.long_link.as_ref().or(self.extended.linkpath.as_ref());
        link.map_or_else(|| self.header.text(&LINKNAME), Vec::as_slice)
            .to_vec()
    }

    fn symlink(&self) -> Result<Vec<u8>, LayerError> {
        let target = self.link();
        if target.is_empty() || target.contains(&0) {
            return Err(self.malformed(LINKNAME.name));
        }
        Ok(target)
    }

    fn device(&self) -> Result<(u32, u32), LayerError> {
        Ok((self.unsigned(&DEVMAJOR)?, self.unsigned(&DEVMINOR)?))
    }

    fn layer_path(&self, name: &[u8]) -> Result<LayerPath, LayerError> {
        let at = |source: PathError| LayerError::Path {
            offset: self.offset,
            source,
        };
        LayerPath::parse(name).map_err(at)
    }

    fn number(&self, field: &Field) -> Result<i64, LayerError> {
        self.header
            .number(field)
            .ok_or_else(|| self.malformed(field.name))
    }

    fn unsigned(&self, field: &Field) -> Result<u32, LayerError> {
        self.number(field)?
            .try_into()
            .map_err(|_| self.malformed(field.name))
    }

    fn size_field(&self, field: &Field) -> Result<u64, LayerError> {
        self.number(field)?
            .try_into()
            .map_err(|_| self.malformed(field.name))
    }

    fn malformed(&self, field: &str) -> LayerError {
        malformed(field, self.offset)
    }
}

/// Reads the next header. At the end of the archive there are two blocks of zeros, or nothing.
fn next_header<R: Read>(source: &mut Source<R>) -> Result<Option<Header>, LayerError> {
    let offset = source.offset;
    let Some(block) = source.next_block()? else {
        return Ok(None);
    };
    if block == [0; BLOCK] {
        return match source.next_block()? {
            Some(block) if block != [0; BLOCK] => Err(LayerError::NotHeader { offset }),
            _ => Ok(None),
        };
    }
    let header = Header(block);
    if !header.is_sealed() {
        return Err(LayerError::NotHeader { offset });
    }
    Ok(Some(header))
}

/// Reads the content of a header that extends the one of the next file.
fn read_extended<R: Read>(
    header: &Header,
    source: &mut Source<R>,
    offset: u64,
) -> Result<Vec<u8>, LayerError> {
    let size = size(header, offset)?;
    check_extended(size, offset)?;
    source.short(size)
}

fn check_extended(size: u64, offset: u64) -> Result<(), LayerError> {
    if size > MAX_EXTENDED {
        return Err(LayerError::HeaderTooLarge {
            offset,
            limit: MAX_EXTENDED,
        });
    }
    Ok(())
}

fn size(header: &Header, offset: u64) -> Result<u64, LayerError> {
    let size = header.number(&SIZE).and_then(|size| size.try_into().ok());
    size.ok_or_else(|| malformed(SIZE.name, offset))
}

fn malformed(field: &str, offset: u64) -> LayerError {
    LayerError::Field {
        field: field.to_owned(),
        offset,
    }
}
