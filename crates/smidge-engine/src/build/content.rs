//! The bytes of a file that is to go into an image: where they are, not the bytes themselves.
//!
//! A build looks at programs more than once (is it ELF, what does it need, can it be stripped) and
//! copies them once. Each look reads only what it needs; the copy streams.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use smidge_image::{Digest, Identity, LayerPath, ReadAt, Tree};
use smidge_store::FileAt;
use smidge_trim::StripPlan;

/// The content of a regular file, cheap to copy.
#[derive(Clone)]
pub(super) struct Content {
    place: Place,
    size: u64,
    strip: Option<Arc<StripPlan>>,
}

#[derive(Clone)]
enum Place {
    Memory(Arc<[u8]>),
    Path(Arc<Path>),
    Tree(Arc<dyn Tree>, LayerPath),
    Spool(Arc<File>, u64),
}

impl Content {
    /// Bytes at hand.
    pub(super) fn memory(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self {
            size: bytes.len() as u64,
            place: Place::Memory(bytes),
            strip: None,
        }
    }

    /// A file of the machine, of the size that it has now.
    pub(super) fn path(path: &Path, size: u64) -> Self {
        Self {
            place: Place::Path(path.into()),
            size,
            strip: None,
        }
    }

    /// A file of a tree, of the size that it has now.
    pub(super) fn tree(tree: Arc<dyn Tree>, path: LayerPath, size: u64) -> Self {
        Self {
            place: Place::Tree(tree, path),
            size,
            strip: None,
        }
    }

    /// A part of a file that nobody else writes to.
    pub(super) fn spool(file: Arc<File>, offset: u64, size: u64) -> Self {
        Self {
            place: Place::Spool(file, offset),
            size,
            strip: None,
        }
    }

    /// The same, less what the plan cuts off.
    pub(super) fn stripped(self, plan: StripPlan) -> Self {
        Self {
            size: plan.size,
            strip: Some(Arc::new(plan)),
            ..self
        }
    }

    /// Bytes there are.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Opens it for reading.
    pub(super) fn open(&self) -> io::Result<Box<dyn ReadAt + '_>> {
        let inner: Box<dyn ReadAt + '_> = match &self.place {
            Place::Memory(bytes) => Box::new(&**bytes),
            Place::Path(path) => Box::new(Part {
                file: File::open(path)?,
                offset: 0,
                size: self.size,
            }),
            Place::Tree(tree, path) => tree.open(path)?,
            Place::Spool(file, offset) => Box::new(Part {
                file: file.try_clone()?,
                offset: *offset,
                size: self.size,
            }),
        };
        let plan = self.strip.as_deref();
        Ok(Box::new(Patched {
            inner,
            size: self.size,
            patches: plan.map_or(&[], |p| &p.patches),
        }))
    }

    /// What tells the content from any other without reading it; `None` where nothing does.
    pub(super) fn identity(&self) -> Option<Identity> {
        let mut identity = match &self.place {
            Place::Memory(bytes) => Identity {
                text: Digest::of(bytes).to_string().into_bytes(),
                changed: Some(Duration::ZERO),
            },
            Place::Path(path) => FileAt::open(path).ok()?.identity()?,
            Place::Tree(tree, path) => tree.open(path).ok()?.identity()?,
            Place::Spool(..) => return None,
        };
        if self.strip.is_some() {
            identity.text.extend(b" stripped");
        }
        Some(identity)
    }

    /// The first bytes, up to `limit`.
    pub(super) fn head(&self, limit: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        let file = self.open()?;
        Stream::new(&*file)
            .take(limit as u64)
            .read_to_end(&mut head)?;
        Ok(head)
    }
}

/// A stretch of a file.
struct Part {
    file: File,
    offset: u64,
    size: u64,
}

impl ReadAt for Part {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(buffer) = within(self.size, offset, buffer) else {
            return Ok(0);
        };
        self.file
            .read_at(buffer, self.offset.saturating_add(offset))
    }
}

/// The beginning of something, with some bytes replaced.
struct Patched<'c> {
    inner: Box<dyn ReadAt + 'c>,
    size: u64,
    patches: &'c [(u64, Vec<u8>)],
}

impl ReadAt for Patched<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(buffer) = within(self.size, offset, buffer) else {
            return Ok(0);
        };
        let read = self.inner.read_at(offset, buffer)?;
        let end = offset + read as u64;
        for (start, bytes) in self.patches {
            let from = offset.max(*start);
            let to = end.min(start.saturating_add(bytes.len() as u64));
            if from < to {
                // Both differences are below the lengths of slices.
                let (target, source) = ((from - offset) as usize, (from - start) as usize);
                let count = (to - from) as usize;
                buffer[target..target + count].copy_from_slice(&bytes[source..source + count]);
            }
        }
        Ok(read)
    }
}

/// As much of a buffer as there are bytes from an offset on; `None` beyond the end.
fn within(size: u64, offset: u64, buffer: &mut [u8]) -> Option<&mut [u8]> {
    let rest = usize::try_from(size.checked_sub(offset)?).unwrap_or(usize::MAX);
    let length = rest.min(buffer.len());
    Some(&mut buffer[..length])
}

/// Reads from the beginning to the end.
pub(super) struct Stream<'f> {
    file: &'f dyn ReadAt,
    position: u64,
}

impl<'f> Stream<'f> {
    pub(super) fn new(file: &'f dyn ReadAt) -> Self {
        Self { file, position: 0 }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(self.position, buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_reads_the_same_in_pieces_of_any_size() {
        let plan = StripPlan {
            size: 9,
            patches: vec![(1, b"XY".to_vec()), (7, b"ZZZZ".to_vec())],
        };
        let content = Content::memory(*b"0123456789abcdef").stripped(plan);
        assert_eq!(content.size(), 9);
        let file = content.open().unwrap();
        for piece in 1..12 {
            let (mut stream, mut all) = (Stream::new(&*file), Vec::new());
            let mut buffer = vec![0; piece];
            while let read @ 1.. = stream.read(&mut buffer).unwrap() {
                all.extend_from_slice(&buffer[..read]);
            }
            assert_eq!(all, b"0XY3456ZZ", "in pieces of {piece}");
        }
        assert_eq!(content.head(4).unwrap(), b"0XY3");
        for beyond in [9, 10, u64::MAX] {
            assert_eq!(file.read_at(beyond, &mut [0; 4]).unwrap(), 0, "{beyond}");
        }
    }

    #[test]
    fn spooled_content_ends_where_it_should() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"one two three").unwrap();
        let content = Content::spool(Arc::new(file), 4, 3);
        assert_eq!(content.head(100).unwrap(), b"two");
        let file = content.open().unwrap();
        assert_eq!(file.read_at(u64::MAX, &mut [0; 4]).unwrap(), 0);
    }
}
