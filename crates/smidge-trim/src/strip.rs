use smidge_image::ReadAt;
use thiserror::Error;

use crate::ElfError;

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
pub fn strip(_file: &dyn ReadAt) -> Result<StripPlan, StripRefusal> {
    unimplemented!()
}
