use object::elf;
use smidge_image::ReadAt;
use thiserror::Error;

use crate::elf::{Header, Source};
use crate::{ElfError, ElfKind};

/// Zeros behind the last section up to a page are a linker's padding, not a payload: up to 64 KiB,
/// as Go pads for arm64.
const MAX_PADDING: usize = 65_536;
/// Far more than any linked file has; only object files have more.
const MAX_SECTIONS: u64 = 65_536;

/// Sections without which a program runs the same: debug information, and notes of compilers.
const FOR_TOOLS: [&str; 19] = [
    ".debug",
    ".zdebug",
    ".stab",
    ".line",
    ".mdebug",
    ".comment",
    ".note",
    ".gdb_index",
    ".gnu_debug",
    ".gnu.build.attributes",
    ".gnu.lto",
    ".gnu.warning",
    ".GCC.command.line",
    ".llvm",
    ".BTF",
    ".ctf",
    ".SUNW_ctf",
    ".dep-v0",
    ".pdr",
];

/// How to make a program smaller: keep the first `size` bytes, with the patches applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripPlan {
    /// Bytes to keep; the rest of the file goes.
    pub size: u64,
    /// Offsets, ascending, and the bytes to put there.
    pub patches: Vec<(u64, Vec<u8>)>,
}

/// Why a file must be left as it is.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StripRefusal {
    /// It is no sound ELF file.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// It is an object file or a kernel module, which is nothing without its sections.
    #[error("it is a relocatable object, not a program")]
    Relocatable,
    /// It is what a crash left.
    #[error("it is a core dump, not a program")]
    Core,
    /// It is neither a program nor a library.
    #[error("it is of ELF type {0}, neither a program nor a library")]
    UnknownType(u16),
    /// It has no program headers, so nothing in it can be loaded.
    #[error("it has no program headers")]
    NoProgramHeaders,
    /// Bytes follow the ELF file proper, as in an AppImage or a self-extracting program.
    #[error("{size} bytes follow the program, from byte {offset} on, which it may read")]
    Payload {
        /// Where they begin, in bytes.
        offset: u64,
        /// How many they are, in bytes.
        size: u64,
    },
    /// A section outside the loaded part is none of those that only tools read.
    #[error("its section `{name}` of {size} bytes is not loaded, but the program may read it")]
    UnknownSection {
        /// Name of the section.
        name: String,
        /// Size of the section in bytes.
        size: u64,
    },
}

/// Plans to cut off what no kernel and no loader reads: symbols, debug information and the section
/// headers. Reads headers only, whatever the file's size.
///
/// # Errors
/// When the file must be left as it is, with the reason.
pub fn strip(file: &dyn ReadAt) -> Result<StripPlan, StripRefusal> {
    let mut source = Source::new(file);
    let header = Header::read(&mut source)?;
    match ElfKind::of(header.kind) {
        ElfKind::Executable | ElfKind::Shared => {}
        ElfKind::Relocatable => return Err(StripRefusal::Relocatable),
        ElfKind::Core => return Err(StripRefusal::Core),
        ElfKind::Other(kind) => return Err(StripRefusal::UnknownType(kind)),
    }
    let segments = header.segments(&mut source)?;
    if !segments.iter().any(|segment| segment.kind == elf::PT_LOAD) {
        return Err(StripRefusal::NoProgramHeaders);
    }
    let size = source.size();
    let ends = segments.iter().map(|segment| segment.end().min(size));
    let kept = ends.fold(header.program_headers_end(), u64::max);
    let sections = Sections::read(&mut source, &header, kept)?;
    refuse_payload(file, sections.end.max(kept))?;
    refuse_unknown(&mut source, &sections)?;
    Ok(StripPlan {
        size: kept,
        patches: header.without_sections(),
    })
}

/// The section header table, as far as it speaks of bytes that would go.
struct Sections {
    /// Where the last section, or the table itself, ends.
    end: u64,
    /// Sections behind what is kept.
    cut: Vec<Section>,
    /// Where the table of names begins.
    names: u64,
}

struct Section {
    name: u32,
    kind: elf::SectionType,
    offset: u64,
    size: u64,
    link: u32,
}

impl Sections {
    fn read(source: &mut Source<'_>, header: &Header, kept: u64) -> Result<Self, StripRefusal> {
        const WHAT: &str = "section header table";
        let mut sections = Self {
            end: 0,
            cut: Vec::new(),
            names: 0,
        };
        if header.section_headers == 0 {
            return Ok(sections);
        }
        let expected: u16 = header.layout.pick(40, 64);
        let found = header.section_header_size;
        if found != expected {
            return Err(ElfError::EntrySize {
                what: WHAT,
                found,
                expected,
            }
            .into());
        }
        let first = Section::read(source, header, 0)?;
        // Counts that do not fit in the header are in the first section's fields.
        let count = match header.section_header_count {
            0 => first.size,
            count => count.into(),
        };
        if count > MAX_SECTIONS {
            return Err(ElfError::TooLarge {
                what: WHAT,
                found: count,
                limit: MAX_SECTIONS,
            }
            .into());
        }
        let names = match header.section_names {
            index if index == elf::SHN_XINDEX.0 => first.link,
            index => index.into(),
        };
        sections.end = header
            .section_headers
            .saturating_add(count * u64::from(expected));
        for index in 0..count {
            let section = Section::read(source, header, index)?;
            if index == u64::from(names) {
                sections.names = section.offset;
            }
            if index == 0 || section.size == 0 || section.kind == elf::SHT_NOBITS {
                continue;
            }
            let end = section.offset.saturating_add(section.size);
            sections.end = sections.end.max(end);
            if end > kept {
                sections.cut.push(section);
            }
        }
        Ok(sections)
    }
}

impl Section {
    fn read(source: &mut Source<'_>, header: &Header, index: u64) -> Result<Self, ElfError> {
        let len = header.layout.pick(40, 64);
        let at = header.section_headers.saturating_add(index * len as u64);
        let record = header
            .layout
            .record(source.bytes(at, len, "section header table")?);
        Ok(Self {
            name: record.word(0),
            kind: elf::SectionType(record.word(4)),
            offset: record.wide((16, 24)),
            size: record.wide((20, 32)),
            link: record.word(header.layout.pick(24, 40)),
        })
    }

    /// Whether only linkers, debuggers and the like read sections of this kind.
    fn is_for_tools(&self, name: &str) -> bool {
        let by_kind = [
            elf::SHT_SYMTAB,
            elf::SHT_STRTAB,
            elf::SHT_REL,
            elf::SHT_RELA,
            elf::SHT_NOTE,
            elf::SHT_GROUP,
            elf::SHT_SYMTAB_SHNDX,
        ];
        by_kind.contains(&self.kind)
            || name.ends_with(".attributes")
            || FOR_TOOLS.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// Refuses a file with something behind its end. Padding is nothing.
fn refuse_payload(file: &dyn ReadAt, end: u64) -> Result<(), StripRefusal> {
    let size = file.size().saturating_sub(end);
    if size == 0 {
        return Ok(());
    }
    let mut tail = vec![0; MAX_PADDING];
    let tail = &mut tail[..usize::try_from(size)
        .unwrap_or(MAX_PADDING)
        .min(MAX_PADDING)];
    file.read_exact_at(end, tail).map_err(ElfError::Io)?;
    if size > MAX_PADDING as u64 || tail.iter().any(|&byte| byte != 0) {
        return Err(StripRefusal::Payload { offset: end, size });
    }
    Ok(())
}

/// Refuses a file that may read one of the sections that would go, as PyInstaller's programs do.
fn refuse_unknown(source: &mut Source<'_>, sections: &Sections) -> Result<(), StripRefusal> {
    for section in &sections.cut {
        let at = sections.names.saturating_add(section.name.into());
        let name = source.string(at, "name of a section")?;
        if !section.is_for_tools(&name) {
            return Err(StripRefusal::UnknownSection {
                name,
                size: section.size,
            });
        }
    }
    Ok(())
}
