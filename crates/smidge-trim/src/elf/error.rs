use std::io;

use thiserror::Error;

/// What is wrong with a file that should be an ELF file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file does not begin with the four bytes `7f 45 4c 46`.
    #[error("not an ELF file")]
    NotElf,
    /// The class byte is neither ELFCLASS32 nor ELFCLASS64.
    #[error("unknown ELF class `{0}`")]
    UnknownClass(u8),
    /// The data byte is neither ELFDATA2LSB nor ELFDATA2MSB.
    #[error("unknown ELF byte order `{0}`")]
    UnknownByteOrder(u8),
    /// Something lies, in part at least, behind the end of the file.
    #[error("truncated ELF file: the {what} should end at byte {end}, but the file has {size}")]
    Truncated {
        /// The part that is cut off.
        what: &'static str,
        /// Where that part should end, in bytes from the start of the file.
        end: u64,
        /// Size of the file in bytes.
        size: u64,
    },
    /// A table entry has a size that its class does not have.
    #[error("the {what} has entries of {found} bytes instead of {expected}")]
    EntrySize {
        /// The table.
        what: &'static str,
        /// The size that the file gives, in bytes.
        found: u16,
        /// The size that the file's class has, in bytes.
        expected: u16,
    },
    /// A count or size is beyond anything that a loader accepts.
    #[error("the {what} is too large: {found}, at most {limit}")]
    TooLarge {
        /// The part in question.
        what: &'static str,
        /// The count or size that the file gives.
        found: u64,
        /// The largest one accepted.
        limit: u64,
    },
    /// An address in the dynamic section is in no loaded segment.
    #[error("the {what} is at address {address:#x}, which no segment loads from the file")]
    Unmapped {
        /// The part that the address should lead to.
        what: &'static str,
        /// The virtual address.
        address: u64,
    },
    /// A string has no end, or holds nothing where something must be.
    #[error("the {what} is not a valid string")]
    BadString {
        /// Which string.
        what: &'static str,
    },
    /// The dynamic section speaks of strings, but names no string table.
    #[error("the dynamic section has no string table")]
    NoStringTable,
    /// The file could not be read.
    #[error("cannot read the file")]
    Io(#[from] io::Error),
}
