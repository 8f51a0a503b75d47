//! The same facts as another reader of ELF files finds, by way of the section headers.

use std::fs;
use std::path::Path;

use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::{Endianness, elf};
use smidge_trim::{Class, Elf, VersionNeed};

use crate::host::programs;

fn check<H: FileHeader<Endian = Endianness>>(path: &Path, bytes: &[u8], ours: &Elf) {
    let header = H::parse(bytes).unwrap();
    let endian = header.endian().unwrap();
    assert_eq!(header.e_machine(endian).0, ours.machine);
    for segment in header.program_headers(endian, bytes).unwrap() {
        if let Some(name) = segment.interpreter(endian, bytes).unwrap() {
            assert_eq!(
                ours.interpreter.as_deref().unwrap().as_bytes(),
                name,
                "{path:?}"
            );
        }
        if let Some(dynamic) = segment.dynamic(endian, bytes).unwrap() {
            let tags = dynamic
                .iter()
                .take_while(|entry| entry.tag(endian) != elf::DT_NULL);
            let needed = tags
                .filter(|entry| entry.tag(endian) == elf::DT_NEEDED)
                .count();
            assert_eq!(ours.needed.len(), needed, "{path:?}");
        }
    }
    let flat = |need: &VersionNeed| {
        let version = |name: &String| (need.file.clone(), name.clone());
        need.versions.iter().map(version).collect::<Vec<_>>()
    };
    let found: Vec<_> = ours.version_needs.iter().flat_map(flat).collect();
    assert_eq!(found, versions(header, bytes), "{path:?}");
}

fn versions<H: FileHeader<Endian = Endianness>>(header: &H, bytes: &[u8]) -> Vec<(String, String)> {
    let endian = header.endian().unwrap();
    let sections = header.sections(endian, bytes).unwrap();
    let Some((mut needs, strings)) = sections.gnu_verneed(endian, bytes).unwrap() else {
        return Vec::new();
    };
    let strings = sections.strings(endian, bytes, strings).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut versions = Vec::new();
    while let Some((need, mut entries)) = needs.next().unwrap() {
        let file = text(need.file(endian, strings).unwrap());
        while let Some(entry) = entries.next().unwrap() {
            versions.push((file.clone(), text(entry.name(endian, strings).unwrap())));
        }
    }
    versions
}

#[test]
fn facts_are_those_of_another_reader() {
    let files = programs(&[
        "/usr/bin",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/aarch64-linux-gnu/lib",
    ]);
    for path in files
        .iter()
        .filter(|path| fs::metadata(path).unwrap().len() < 4 << 20)
    {
        let bytes = fs::read(path).unwrap();
        let elf = Elf::parse(&bytes).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        match elf.class {
            Class::Elf64 => check::<elf::FileHeader64<_>>(path, &bytes, &elf),
            Class::Elf32 => check::<elf::FileHeader32<_>>(path, &bytes, &elf),
        }
    }
    println!("{} files compared", files.len());
}
