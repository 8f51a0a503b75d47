use object::elf;
use smidge_image::ReadAt;

use super::dynamic::Dynamic;
use super::{ElfError, Header, Layout, Machine, Source};

/// How wide the addresses of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 32 bits.
    Elf32,
    /// 64 bits.
    Elf64,
}

/// What a file is for: the header's `e_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElfKind {
    /// A compiler's output that is not linked yet (`.o`), or a kernel module.
    Relocatable,
    /// A program with a fixed address.
    Executable,
    /// A library, or a program that runs at any address.
    Shared,
    /// What a crash left.
    Core,
    /// Anything else, with its number.
    Other(u16),
}

/// How a file is linked, in the three cases that `ldd` distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linkage {
    /// It needs libraries.
    Dynamic,
    /// It has a dynamic section that needs nothing: `ldd` says `statically linked`.
    Static,
    /// It has no dynamic section, or is no program: `ldd` says `not a dynamic executable`.
    NotDynamic,
}

/// Versions of a library's symbols that a file cannot do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionNeed {
    /// Name of the library that defines them: `libc.so.6`.
    pub file: String,
    /// Names of the versions, without those that are needed weakly: `GLIBC_2.38`.
    pub versions: Vec<String>,
}

/// The facts of one ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elf {
    /// How wide its addresses are.
    pub class: Class,
    /// Whether its numbers begin with the most significant byte.
    pub big_endian: bool,
    /// Number of its machine: the header's `e_machine`.
    pub machine: u16,
    /// What it is for.
    pub kind: ElfKind,
    /// Path of the loader that the kernel starts in its place (`PT_INTERP`).
    pub interpreter: Option<String>,
    /// The name under which it wants to be known (`DT_SONAME`).
    pub soname: Option<String>,
    /// Names of the libraries that it needs, in order (`DT_NEEDED`).
    pub needed: Vec<String>,
    /// Directories to search for them and for what they need; empty if there is a `runpath`.
    pub rpath: Vec<String>,
    /// Directories to search for them alone (`DT_RUNPATH`).
    pub runpath: Vec<String>,
    /// Whether the default directories are not to be searched (`DF_1_NODEFLIB`).
    pub no_default_lib: bool,
    /// Whether it has a dynamic section (`PT_DYNAMIC`).
    pub dynamic: bool,
    /// Versions that it needs (`DT_VERNEED`).
    pub version_needs: Vec<VersionNeed>,
    /// Versions that it defines (`DT_VERDEF`).
    pub version_defs: Vec<String>,
    /// Whether it is a program that runs at any address.
    pub pie: bool,
}

impl Elf {
    /// Reads the facts of a file: a few kilobytes, whatever its size.
    ///
    /// # Errors
    /// When it is not an ELF file, is cut off, or contradicts itself where a loader would trip.
    pub fn parse(file: &dyn ReadAt) -> Result<Self, ElfError> {
        let mut source = Source::new(file);
        let header = Header::read(&mut source)?;
        let segments = header.segments(&mut source)?;
        let interpreter = match segments
            .iter()
            .find(|segment| segment.kind == elf::PT_INTERP)
        {
            Some(segment) => Some(source.string(segment.offset, "name of the loader")?),
            None => None,
        };
        let dynamic = Dynamic::read(&mut source, header.layout, &segments)?;
        let Layout { class, big_endian } = header.layout;
        let kind = ElfKind::of(header.kind);
        let found = dynamic.is_some();
        let facts = dynamic.unwrap_or_default();
        Ok(Self {
            class,
            big_endian,
            machine: header.machine,
            kind,
            pie: kind == ElfKind::Shared && (interpreter.is_some() || facts.pie),
            interpreter,
            soname: facts.soname,
            needed: facts.needed,
            rpath: if facts.runpath.is_empty() {
                facts.rpath
            } else {
                Vec::new()
            },
            runpath: facts.runpath,
            no_default_lib: facts.no_default_lib,
            dynamic: found,
            version_needs: facts.version_needs,
            version_defs: facts.version_defs,
        })
    }

    /// Whether a file begins as ELF files do.
    pub fn is_elf(file: &dyn ReadAt) -> bool {
        let mut magic = [0; 4];
        file.read_exact_at(0, &mut magic).is_ok() && magic == elf::ELFMAG
    }

    /// The architecture as OCI images name it (`amd64`, `arm64`), if they have a name for it.
    pub fn architecture(&self) -> Option<&'static str> {
        Machine::of(self).and_then(|machine| machine.architecture)
    }

    /// The machine as people name it: `ELF x86-64`.
    pub fn machine_name(&self) -> String {
        match Machine::of(self) {
            Some(machine) => format!("ELF {}", machine.name),
            None => format!("ELF machine {}", self.machine),
        }
    }

    /// Whether the kernel starts a loader in its place.
    pub fn needs_loader(&self) -> bool {
        self.interpreter.is_some()
    }

    /// How it is linked.
    pub fn linkage(&self) -> Linkage {
        let program = matches!(self.kind, ElfKind::Executable | ElfKind::Shared);
        match (program && self.dynamic, self.needed.is_empty()) {
            (false, _) => Linkage::NotDynamic,
            (true, true) => Linkage::Static,
            (true, false) => Linkage::Dynamic,
        }
    }
}

impl ElfKind {
    pub(crate) fn of(number: u16) -> Self {
        match elf::FileType(number) {
            elf::ET_REL => Self::Relocatable,
            elf::ET_EXEC => Self::Executable,
            elf::ET_DYN => Self::Shared,
            elf::ET_CORE => Self::Core,
            other => Self::Other(other.0),
        }
    }
}
