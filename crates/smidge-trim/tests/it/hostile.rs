//! Files that lie: every answer is an error or a harmless one, soon and without much memory.

use std::io;

use smidge_image::{MemoryTree, ReadAt};
use smidge_trim::{Class, Elf, ElfError, Program, prove, strip};

use crate::handmade::Handmade;
use crate::proved::insert;

fn samples() -> Vec<Handmade> {
    let mut samples = Vec::new();
    for (class, machine) in [(Class::Elf32, 3), (Class::Elf64, 62)] {
        for big_endian in [false, true] {
            samples.push(Handmade {
                class,
                machine,
                big_endian,
                soname: Some("self.so"),
                runpath: Some("$ORIGIN/lib:/opt"),
                needs: Some(("libc.so.6", vec!["GLIBC_2.2.5", "GLIBC_2.34"])),
                defines: vec!["self.so", "V1"],
                ..Handmade::program(Some("/lib/ld.so"), &["libc.so.6", "libm.so.6"])
            });
        }
    }
    samples
}

#[test]
fn all_classes_and_byte_orders_are_read() {
    for made in samples() {
        let elf = Elf::parse(&made.bytes()).unwrap();
        assert_eq!(
            (elf.class, elf.big_endian, elf.machine),
            (made.class, made.big_endian, made.machine)
        );
        assert_eq!(elf.interpreter.as_deref(), Some("/lib/ld.so"));
        assert_eq!(elf.soname.as_deref(), Some("self.so"));
        assert_eq!(elf.needed, ["libc.so.6", "libm.so.6"]);
        assert_eq!(elf.runpath, ["$ORIGIN/lib", "/opt"]);
        assert_eq!(elf.version_needs[0].file, "libc.so.6");
        assert_eq!(elf.version_needs[0].versions, ["GLIBC_2.2.5", "GLIBC_2.34"]);
        assert_eq!(elf.version_defs, ["self.so", "V1"]);
        assert!(elf.pie && elf.dynamic && elf.needs_loader());
    }
    for (machine, class, big_endian, name, architecture) in [
        (62, Class::Elf64, false, "ELF x86-64", Some("amd64")),
        (3, Class::Elf32, false, "ELF i386", Some("386")),
        (183, Class::Elf64, false, "ELF aarch64", Some("arm64")),
        (21, Class::Elf64, true, "ELF ppc64", Some("ppc64")),
        (22, Class::Elf64, true, "ELF s390x", Some("s390x")),
        (8, Class::Elf32, true, "ELF mips", Some("mips")),
        (9999, Class::Elf64, false, "ELF machine 9999", None),
    ] {
        let made = Handmade {
            machine,
            class,
            big_endian,
            ..Handmade::program(None, &[])
        };
        let elf = Elf::parse(&made.bytes()).unwrap();
        assert_eq!(
            (elf.machine_name().as_str(), elf.architecture()),
            (name, architecture)
        );
    }
}

/// Does all that is done with a file that somebody gave.
fn use_up(bytes: &[u8]) {
    let _ = Elf::parse(&bytes.to_vec());
    if let Ok(plan) = strip(&bytes.to_vec()) {
        assert!(plan.size <= bytes.len() as u64);
        let last = plan.patches.last();
        assert!(last.is_none_or(|(at, patch)| at + patch.len() as u64 <= plan.size));
    }
    let mut tree = MemoryTree::new();
    insert(&mut tree, "/app", 0o755, bytes);
    insert(&mut tree, "/lib/ld.so", 0o755, bytes);
    insert(&mut tree, "/lib/libc.so.6", 0o755, bytes);
    let _ = prove(&tree, &Program::new(["/app"], ""));
}

#[test]
fn no_byte_of_a_file_is_trusted() {
    for made in samples() {
        let sound = made.bytes();
        for at in 0..sound.len() {
            for value in [0, 0xff, sound[at] ^ 0x10] {
                let mut bytes = sound.clone();
                bytes[at] = value;
                use_up(&bytes);
            }
        }
    }
}

#[test]
fn no_field_of_a_file_is_trusted() {
    for made in samples() {
        let sound = made.bytes();
        for at in (0..sound.len() - 8).step_by(2) {
            for value in [1, 0x7fff_ffff, u64::MAX] {
                for width in [4, 8] {
                    let mut bytes = sound.clone();
                    let value = if made.big_endian {
                        value.to_be_bytes()
                    } else {
                        value.to_le_bytes()
                    };
                    let from = if made.big_endian { 8 - width } else { 0 };
                    bytes[at..at + width].copy_from_slice(&value[from..from + width]);
                    use_up(&bytes);
                }
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_off_is_an_error() {
    for made in samples() {
        let sound = made.bytes();
        for cut in 0..sound.len() {
            let error = Elf::parse(&sound[..cut].to_vec()).unwrap_err();
            match error {
                ElfError::NotElf => assert!(cut < 4),
                error => assert!(
                    matches!(error, ElfError::Truncated { .. }),
                    "{cut}: {error}"
                ),
            }
            use_up(&sound[..cut]);
        }
    }
}

/// A file of a size that no memory holds; all of it is the same few bytes.
struct Endless(Vec<u8>);

impl ReadAt for Endless {
    fn size(&self) -> u64 {
        u64::MAX
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = buffer.iter_mut().zip(offset..);
        bytes.for_each(|(byte, at)| *byte = self.0.get(at as usize).copied().unwrap_or(b'x'));
        Ok(buffer.len())
    }
}

#[test]
fn size_is_no_reason_to_read() {
    for made in samples() {
        let mut bytes = made.bytes();
        assert!(Elf::parse(&Endless(bytes.clone())).is_ok());
        let _ = strip(&Endless(bytes.clone()));
        // Section headers without end.
        let table = if made.class == Class::Elf64 { 40 } else { 32 };
        bytes[table..table + 4].fill(0x40);
        let _ = strip(&Endless(bytes));
    }
}

#[test]
fn reading_may_fail() {
    struct Broken;
    impl ReadAt for Broken {
        fn size(&self) -> u64 {
            4096
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
    assert!(matches!(Elf::parse(&Broken), Err(ElfError::Io(_))));
    assert!(!Elf::is_elf(&Broken));
    assert!(strip(&Broken).is_err());
}
