use object::elf;

use super::{Class, ElfError, Source};

/// The kernel refuses program headers that take more (`elf_load_phdrs` in Linux' fs/binfmt_elf.c).
const MAX_PROGRAM_HEADERS: u64 = 65_536;

/// How numbers are written in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) class: Class,
    pub(crate) big_endian: bool,
}

/// One fixed-size structure of the file. Offsets come in pairs: in ELF32, in ELF64.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl Layout {
    pub(crate) fn record(self, bytes: &[u8]) -> Record<'_> {
        Record {
            bytes,
            layout: self,
        }
    }

    /// Picks the figure of this file's class.
    pub(crate) fn pick<T>(self, elf32: T, elf64: T) -> T {
        match self.class {
            Class::Elf32 => elf32,
            Class::Elf64 => elf64,
        }
    }
}

impl Record<'_> {
    fn array<const N: usize>(self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        if let Some(bytes) = self.bytes.get(at..at + N) {
            array.copy_from_slice(bytes);
        }
        if self.layout.big_endian {
            array.reverse();
        }
        array
    }

    pub(crate) fn half(self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    pub(crate) fn word(self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    /// A number that is as wide as the file's addresses.
    pub(crate) fn wide(self, (elf32, elf64): (usize, usize)) -> u64 {
        match self.layout.class {
            Class::Elf32 => self.word(elf32).into(),
            Class::Elf64 => u64::from_le_bytes(self.array(elf64)),
        }
    }
}

/// The ELF header, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) layout: Layout,
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    pub(crate) program_headers: u64,
    pub(crate) program_header_size: u16,
    pub(crate) program_header_count: u16,
    pub(crate) section_headers: u64,
    pub(crate) section_header_size: u16,
    pub(crate) section_header_count: u16,
    pub(crate) section_names: u16,
}

impl Header {
    pub(crate) fn read(source: &mut Source<'_>) -> Result<Self, ElfError> {
        if source.size() < 4 || source.bytes(0, 4, "magic")? != elf::ELFMAG.as_slice() {
            return Err(ElfError::NotElf);
        }
        let ident = source.bytes(0, 16, "ELF header")?;
        let class = match ident[4] {
            1 => Class::Elf32,
            2 => Class::Elf64,
            other => return Err(ElfError::UnknownClass(other)),
        };
        let big_endian = match ident[5] {
            1 => false,
            2 => true,
            other => return Err(ElfError::UnknownByteOrder(other)),
        };
        let layout = Layout { class, big_endian };
        let record = layout.record(source.bytes(0, layout.pick(52, 64), "ELF header")?);
        let tail = layout.pick(42, 54);
        Ok(Self {
            layout,
            kind: record.half(16),
            machine: record.half(18),
            program_headers: record.wide((28, 32)),
            section_headers: record.wide((32, 40)),
            program_header_size: record.half(tail),
            program_header_count: record.half(tail + 2),
            section_header_size: record.half(tail + 4),
            section_header_count: record.half(tail + 6),
            section_names: record.half(tail + 8),
        })
    }

    /// Where the program headers end in the file.
    pub(crate) fn program_headers_end(&self) -> u64 {
        let len = u64::from(self.program_header_size) * u64::from(self.program_header_count);
        self.program_headers
            .saturating_add(len)
            .max(self.layout.pick(52, 64))
    }

    /// What to write where so that the file says that it has no sections; nothing if it says so.
    pub(crate) fn without_sections(&self) -> Vec<(u64, Vec<u8>)> {
        let counts = [self.section_header_count, self.section_names];
        if self.section_headers == 0 && counts == [0, 0] {
            return Vec::new();
        }
        let table = (self.layout.pick(32, 40), vec![0; self.layout.pick(4, 8)]);
        vec![table, (self.layout.pick(48, 60), vec![0; 4])]
    }

    /// Reads the program headers; each segment that has bytes in the file is known to lie inside it.
    pub(crate) fn segments(&self, source: &mut Source<'_>) -> Result<Vec<Segment>, ElfError> {
        const WHAT: &str = "program header table";
        if self.program_header_count == 0 {
            return Ok(Vec::new());
        }
        let expected: u16 = self.layout.pick(32, 56);
        let found = self.program_header_size;
        if found != expected {
            return Err(ElfError::EntrySize {
                what: WHAT,
                found,
                expected,
            });
        }
        let len = u64::from(expected) * u64::from(self.program_header_count);
        if len > MAX_PROGRAM_HEADERS {
            return Err(ElfError::TooLarge {
                what: WHAT,
                found: len,
                limit: MAX_PROGRAM_HEADERS,
            });
        }
        let size = source.size();
        let bytes = source.bytes(self.program_headers, len as usize, WHAT)?;
        let read = |entry| Segment::read(self.layout.record(entry));
        let segments: Vec<_> = bytes.chunks_exact(expected.into()).map(read).collect();
        match segments
            .iter()
            .find(|segment| segment.kind == elf::PT_LOAD && segment.end() > size)
        {
            Some(cut) => Err(ElfError::Truncated {
                what: "loaded segment",
                end: cut.end(),
                size,
            }),
            None => Ok(segments),
        }
    }
}

/// One program header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) kind: elf::ProgramType,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    /// Bytes that the segment takes from the file.
    pub(crate) file_size: u64,
}

impl Segment {
    fn read(record: Record<'_>) -> Self {
        Self {
            kind: elf::ProgramType(record.word(0)),
            offset: record.wide((4, 8)),
            address: record.wide((8, 16)),
            file_size: record.wide((16, 32)),
        }
    }

    /// Where the segment ends in the file.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.file_size)
    }

    /// Where in the file the byte lies that is loaded at `address`, if this segment loads it.
    pub(crate) fn offset_of(&self, address: u64) -> Option<u64> {
        let inside = address.checked_sub(self.address)?;
        (self.kind == elf::PT_LOAD && inside < self.file_size)
            .then(|| self.offset.checked_add(inside))
            .flatten()
    }
}
