use object::elf;
use smidge_image::ReadAt;

use super::{Header, Source};

/// The longest list of properties that is read.
const LONGEST: u64 = 4096;

/// The level of the x86-64 instruction set that a program or library says it cannot do without: 1 to 4.
/// `None` where it says nothing, as most do.
///
/// Linux Extensions to gABI, `.note.gnu.property`: `GNU_PROPERTY_X86_ISA_1_NEEDED`.
pub fn needed_level(file: &dyn ReadAt) -> Option<u8> {
    const NEEDED: u32 = 0xc000_8002;
    /// The note's header: three words and `GNU\0`.
    const HEAD: usize = 16;
    let mut source = Source::new(file);
    let header = Header::read(&mut source).ok()?;
    if header.machine != elf::EM_X86_64.0 || header.layout.big_endian {
        return None;
    }
    let segments = header.segments(&mut source).ok()?;
    let note = segments
        .iter()
        .find(|segment| segment.kind == elf::PT_GNU_PROPERTY)?;
    let length = usize::try_from(note.file_size.min(LONGEST)).ok()?;
    let bytes = source
        .bytes(note.offset, length, "list of properties")
        .ok()?;
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let mut at = HEAD;
    while let (Some(kind), Some(size)) = (word(at), word(at + 4)) {
        if kind == NEEDED {
            let bits = word(at + 8)? & 0xf;
            return u8::try_from(u32::BITS - bits.leading_zeros())
                .ok()
                .filter(|level| *level > 0);
        }
        at += 8 + usize::try_from(size).ok()?.next_multiple_of(8);
    }
    None
}
