//! Programs for other machines than this one: whether the kernel starts them, and what emulates them.

use std::fs;
use std::path::{Path, PathBuf};

use smidge_image::Platform;
use smidge_run::Emulator;
use smidge_store::FileAt;
use smidge_trim::Elf;

use crate::{Host, Note};

/// A machine as programs name it in their first bytes, and as `qemu-user` does (elf(5)).
struct Machine {
    /// In OCI's words.
    architecture: &'static str,
    /// In QEMU's.
    qemu: &'static str,
    /// `EI_CLASS`: 1 for 32 bits, 2 for 64.
    class: u8,
    /// `EI_DATA`: 1 for the little end first, 2 for the big one.
    data: u8,
    /// `e_machine`.
    number: u16,
}

const fn machine(
    architecture: &'static str,
    qemu: &'static str,
    (class, data): (u8, u8),
    number: u16,
) -> Machine {
    Machine {
        architecture,
        qemu,
        class,
        data,
        number,
    }
}

const MACHINES: [Machine; 14] = [
    machine("amd64", "x86_64", (2, 1), 62),
    machine("386", "i386", (1, 1), 3),
    machine("arm64", "aarch64", (2, 1), 183),
    machine("arm", "arm", (1, 1), 40),
    machine("riscv64", "riscv64", (2, 1), 243),
    machine("ppc64le", "ppc64le", (2, 1), 21),
    machine("ppc64", "ppc64", (2, 2), 21),
    machine("s390x", "s390x", (2, 2), 22),
    machine("loong64", "loongarch64", (2, 1), 258),
    machine("mips", "mips", (1, 2), 8),
    machine("mipsle", "mipsel", (1, 1), 8),
    machine("mips64", "mips64", (2, 2), 8),
    machine("mips64le", "mips64el", (2, 1), 8),
    machine("sparc64", "sparc64", (2, 2), 43),
];

impl Machine {
    fn of(platform: &Platform) -> Option<&'static Self> {
        let named = |machine: &&Self| machine.architecture == platform.architecture;
        MACHINES.iter().find(named)
    }

    /// The first bytes of its programs, and which bits of them count: not the operating system's, which
    /// old programs leave out, and of the kinds of file that which sets programs apart from programs
    /// that can lie anywhere.
    fn head(&self) -> (Vec<u8>, Vec<u8>) {
        let two = |number: u16| match self.data {
            1 => number.to_le_bytes(),
            _ => number.to_be_bytes(),
        };
        const EXECUTABLE: u16 = 2;
        let mut magic = b"\x7fELF".to_vec();
        magic.extend([self.class, self.data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        magic.extend(two(EXECUTABLE));
        magic.extend(two(self.number));
        let mut mask = vec![0xff; 16];
        mask[7] = 0;
        mask.extend(two(0xfffe));
        mask.extend([0xff, 0xff]);
        (magic, mask)
    }
}

/// Whether the kernel of a machine starts an architecture's programs by itself.
fn is_native(architecture: &str, here: &str) -> bool {
    architecture == here || matches!((architecture, here), ("386", "amd64") | ("arm", "arm64"))
}

/// What has to run the programs of an image; `None` if the kernel does, as far as can be told: it may
/// have been told what to do (`binfmt_misc`).
///
/// Root does not leave it to such a handler where an emulator of its own can be had: the program that
/// the host's administrator registered is writable for the root of a container without a user namespace,
/// who can reach it as `/proc/PID/exe` (CVE-2019-5736).
pub(crate) fn emulator(platform: &Platform, host: &Host) -> Option<Emulator> {
    if is_native(&platform.architecture, host.architecture()) {
        return None;
    }
    let machine = Machine::of(platform)?;
    let (magic, mask) = machine.head();
    if host.uid != 0 && is_registered(Path::new("/proc/sys/fs/binfmt_misc"), &magic) {
        return None;
    }
    let path = [
        format!("qemu-{}-static", machine.qemu),
        format!("qemu-{}", machine.qemu),
    ]
    .iter()
    .filter_map(|name| static_program(&host.find_program(name)?))
    .next()?;
    Some(Emulator { path, magic, mask })
}

/// A program that needs no file but its own, without links on the way to it.
fn static_program(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let elf = Elf::parse(&FileAt::open(&path).ok()?).ok()?;
    (!elf.needs_loader()).then_some(path)
}

/// Whether the kernel was told to start something for programs that begin like this, and holds that open,
/// so that it is found from inside a container (flag `F`).
fn is_registered(formats: &Path, magic: &[u8]) -> bool {
    let entries = fs::read_dir(formats).into_iter().flatten().flatten();
    let mut texts = entries
        .filter(|entry| entry.file_name() != "register" && entry.file_name() != "status")
        .filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.any(|text| is_handler(&text, magic))
}

/// Whether what `binfmt_misc` says of a handler fits.
fn is_handler(text: &str, magic: &[u8]) -> bool {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let bytes = |name: &str| unhex(field(name)?.trim());
    let enabled = text.lines().next() == Some("enabled");
    let held = field("flags:").is_some_and(|flags| flags.contains('F'));
    let offset = field("offset ").is_some_and(|offset| offset.trim() == "0");
    let Some(wanted) = bytes("magic ").filter(|wanted| wanted.len() <= magic.len()) else {
        return false;
    };
    let mask = bytes("mask ").unwrap_or_else(|| vec![0xff; wanted.len()]);
    let mut pairs = wanted.iter().zip(&mask).zip(magic);
    enabled && held && offset && pairs.all(|((wanted, mask), byte)| wanted & mask == byte & mask)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// That nobody asked for another machine's image, which nevertheless is what there is.
pub(super) fn unasked(image: &Platform, wanted: Option<&Platform>, host: &Host) -> Option<Note> {
    let here = host.architecture();
    let foreign = !is_native(&image.architecture, here) || image.os != "linux";
    (foreign && wanted.is_none()).then(|| {
        Note::new(format!(
            "the image is for `{image}`, this machine is `linux/{here}`, and no platform was asked for"
        ))
    })
}

/// How to get what emulates an architecture, if there is anything.
pub(super) fn advice(architecture: &str) -> Option<String> {
    let machine = Machine::of(&Platform::linux(architecture))?;
    Some(format!(
        "install what emulates it, `qemu-{}-static`: `apt install qemu-user-static`",
        machine.qemu
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::host::test_host;

    /// What the kernel shows of Debian's handler for arm64.
    const DEBIAN: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POF\n\
        offset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn machines_are_told_as_debian_tells_them() {
        let head = |architecture: &str| {
            let (magic, mask) = Machine::of(&Platform::linux(architecture)).unwrap().head();
            let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let (magic, mask): (String, String) = (hex(magic), hex(mask));
            format!("{magic} {mask}")
        };
        // From /usr/lib/binfmt.d of the package qemu-user-binfmt.
        assert_eq!(
            head("arm64"),
            "7f454c460201010000000000000000000200b700 ffffffffffffff00fffffffffffffffffeffffff"
        );
        assert_eq!(
            head("s390x"),
            "7f454c4602020100000000000000000000020016 ffffffffffffff00fffffffffffffffffffeffff"
        );
    }

    #[test]
    fn handlers_count_if_they_are_enabled_held_and_fit() {
        let (magic, _) = Machine::of(&Platform::linux("arm64")).unwrap().head();
        assert!(is_handler(DEBIAN, &magic));
        for (from, to) in [
            ("enabled", "disabled"),
            ("POF", "PO"),
            ("b700", "f300"),
            ("offset 0", "offset 4"),
            ("magic", "extension"),
        ] {
            assert!(!is_handler(&DEBIAN.replacen(from, to, 1), &magic), "{to}");
        }
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_registered(directory.path(), &magic));
        fs::write(directory.path().join("status"), DEBIAN).unwrap();
        assert!(!is_registered(directory.path(), &magic));
        fs::write(directory.path().join("qemu-aarch64"), DEBIAN).unwrap();
        assert!(is_registered(directory.path(), &magic));
    }

    #[test]
    fn static_emulators_are_found_on_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let mut host = test_host(directory.path());
        (host.path, host.uid) = ("bin".into(), 0);
        let found = |platform: &Platform, host: &Host| emulator(platform, host).map(|e| e.path);
        // A machine that no kernel runs the programs of by itself.
        let platform = match host.architecture() {
            "s390x" => Platform::linux("arm64"),
            _ => Platform::linux("s390x"),
        };
        let qemu = Machine::of(&platform).unwrap().qemu;
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).unwrap();
        assert_eq!(found(&platform, &host), None);
        let program = |name: &str, bytes: &[u8]| {
            let path = bin.join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        program(&format!("qemu-{qemu}-static"), b"#!/bin/sh\n");
        assert_eq!(found(&platform, &host), None);
        // This very test is linked statically, as everything of this project.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let real = program("emulate", &own);
        symlink("emulate", bin.join(format!("qemu-{qemu}"))).unwrap();
        assert_eq!(found(&platform, &host), Some(real.canonicalize().unwrap()));
        let here = Platform::linux(host.architecture());
        assert_eq!(found(&here, &host), None);
        assert_eq!(found(&Platform::linux("vax"), &host), None);
    }

    #[test]
    fn only_what_nobody_asked_for_is_worth_a_note() {
        let host = test_host("/".as_ref());
        let here = Platform::linux(host.architecture());
        let other = Platform::linux("s390x");
        assert_eq!(unasked(&here, None, &host), None);
        assert_eq!(unasked(&other, Some(&other), &host), None);
        let note = unasked(&other, None, &host).unwrap().message;
        assert!(note.contains("is for `linux/s390x`"), "{note}");
    }
}
