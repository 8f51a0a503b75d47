//! Programs of another machine: run by an emulator of the host's, which the container can neither
//! replace nor write to.
//!
//! The best way is to make it known to the container's user namespace (`binfmt_misc`, which every user
//! namespace has of its own since Linux 6.7): then the kernel starts it for every program that needs
//! it, also for what the first one starts. Where there is no user namespace, that would change the whole
//! host, so the emulator is started in the first program's place instead.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::error::RunError;
use crate::executable::INTERPRETERS;
use crate::idmap::IdMap;
use crate::mount::{self, Depth};
use crate::spec::{Emulator, Spec};
use crate::{sys, within};

/// How much of a program's start the kernel looks at (`execve(2)`, `BINPRM_BUF_SIZE`).
const HEAD: usize = 256;

/// Where `binfmt_misc` is by convention.
const FORMATS: &str = "proc/sys/fs/binfmt_misc";

/// An emulator that has to be started in the program's place.
#[derive(Debug)]
pub(crate) struct Emulation {
    file: OwnedFd,
    emulator: Emulator,
}

impl Emulation {
    /// Gets an emulator ready while the host's files are in reach; `None` if the kernel knows it now, and
    /// starts it by itself. What the container sees of it, as `/proc/PID/exe`, is on a read-only mount.
    pub(crate) fn prepare(
        emulator: &Emulator,
        spec: &Spec,
        root: BorrowedFd<'_>,
    ) -> Result<Option<Self>, RunError> {
        let fault = |errno: Errno| RunError::MountSource {
            path: emulator.path.clone(),
            source: errno.into(),
        };
        let file = mount::clone(CWD, &emulator.path, Depth::Flat).map_err(fault)?;
        mount::make_read_only(&file, Depth::Flat).map_err(fault)?;
        // Without a user namespace it would be the host's. Older kernels refuse; see above.
        if spec.id_map != IdMap::None && register(emulator, &file, root).is_ok() {
            return Ok(None);
        }
        Ok(Some(Self {
            file,
            emulator: emulator.clone(),
        }))
    }

    /// Executes a program as the kernel would; returns only if that is not possible. Scripts are
    /// followed to what interprets them: that may be for either machine.
    pub(crate) fn execute(
        &self,
        program: &CStr,
        arguments: &[CString],
        environment: &[CString],
    ) -> io::Error {
        let mut program = program.to_owned();
        let mut arguments = arguments.to_vec();
        for _ in 0..=INTERPRETERS {
            let head = match head(&program) {
                Ok(head) => head,
                Err(error) => return error,
            };
            if is_meant(&self.emulator, &head) {
                let words = self.words(&program, &arguments);
                return sys::execute_file(self.file.as_fd(), &words, environment);
            }
            match interpreted(&program, &arguments, &head) {
                Some((interpreter, words)) => (program, arguments) = (interpreter, words),
                None => return sys::execute(&program, &arguments, environment),
            }
        }
        io::Error::from_raw_os_error(libc::ELOOP)
    }

    /// What the emulator is told: the program's own name for itself, its path, its arguments.
    fn words(&self, program: &CStr, arguments: &[CString]) -> Vec<CString> {
        let name = self.emulator.path.file_name().unwrap_or_default();
        let name = CString::new(name.as_bytes()).unwrap_or_default();
        let own = arguments.first().cloned().unwrap_or_default();
        let mut words = vec![name, c"-0".to_owned(), own, not_option(program)];
        words.extend(arguments.iter().skip(1).cloned());
        words
    }
}

/// A path that is not taken for an option.
fn not_option(program: &CStr) -> CString {
    let bytes = program.to_bytes();
    if !bytes.starts_with(b"-") {
        return program.to_owned();
    }
    CString::new([b"./", bytes].concat()).unwrap_or_default()
}

/// Makes an emulator known to the user namespace, for as long as the container lasts: what is mounted at
/// the usual place holds it. It is opened now, as the host has it, so nothing of it need be inside.
fn register(emulator: &Emulator, file: &OwnedFd, root: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let formats = mount::new("binfmt_misc", &[], attributes)?;
    let entry = entry(emulator).ok_or(Errno::INVAL)?;
    // The kernel takes a path, and finds the read-only mount at it.
    mount::attach(file, CWD, emulator.path.to_str().ok_or(Errno::INVAL)?)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let door = rustix::fs::openat(&formats, "register", flags, Mode::empty())?;
    rustix::io::write(&door, &entry)?;
    // What is open for writing keeps a mount from becoming read-only.
    drop(door);
    mount::make_read_only(&formats, Depth::Flat)?;
    let place = within::open(root, FORMATS, OFlags::PATH)?;
    mount::attach(&formats, &place, "")
}

/// The line that `binfmt_misc` wants (the kernel's `Documentation/admin-guide/binfmt-misc.rst`), flags:
/// P keeps the program's name for itself, O opens programs that may be executed but not read, F opens
/// the emulator now.
fn entry(emulator: &Emulator) -> Option<Vec<u8>> {
    let path = emulator.path.as_os_str().as_bytes();
    let separator = *b":|,;+".iter().find(|byte| !path.contains(byte))?;
    let hex = |bytes: &[u8]| -> Vec<u8> {
        let byte = |byte: &u8| format!("\\x{byte:02x}").into_bytes();
        bytes.iter().flat_map(byte).collect()
    };
    let (magic, mask) = (hex(&emulator.magic), hex(&emulator.mask));
    let fields = [
        &b""[..],
        b"emulator",
        b"M",
        b"",
        &magic,
        &mask,
        path,
        b"POF",
    ];
    Some(fields.join(&separator))
}

/// The beginning of a program that the process may execute. The kernel would ask the same; an emulator
/// would not.
fn head(program: &CStr) -> io::Result<Vec<u8>> {
    rustix::fs::accessat(CWD, program, Access::EXEC_OK, AtFlags::EACCESS)?;
    let path = Path::new(OsStr::from_bytes(program.to_bytes()));
    // To open something else may block, or do things.
    if !path.metadata()?.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    let mut head = vec![0; HEAD];
    let length = File::open(path)?.read_at(&mut head, 0)?;
    head.truncate(length);
    Ok(head)
}

/// Whether a program is for the emulator.
fn is_meant(emulator: &Emulator, head: &[u8]) -> bool {
    let Emulator { magic, mask, .. } = emulator;
    let same = |((byte, magic), mask): ((&u8, &u8), &u8)| byte & mask == magic & mask;
    head.len() >= magic.len() && head.iter().zip(magic).zip(mask).all(same)
}

/// What the kernel makes of a script: its interpreter, with the one argument that may follow it, the
/// script's path, and the arguments but the first (`execve(2)`, "Interpreter scripts").
fn interpreted(
    script: &CStr,
    arguments: &[CString],
    head: &[u8],
) -> Option<(CString, Vec<CString>)> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let blank = |byte: &u8| b" \t".contains(byte);
    let end = line.iter().position(blank).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(end);
    let text = |bytes: &[u8]| CString::new(bytes).ok().filter(|text| !text.is_empty());
    let interpreter = text(interpreter)?;
    let words = [Some(interpreter.clone()), text(argument.trim_ascii())];
    let words = words.into_iter().flatten().chain([script.to_owned()]);
    let rest = arguments.iter().skip(1).cloned();
    Some((interpreter, words.chain(rest).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emulator(path: &str) -> Emulator {
        Emulator {
            path: path.into(),
            magic: vec![0x7f, b'E', 2],
            mask: vec![0xff, 0xff, 0xfe],
        }
    }

    #[test]
    fn the_kernel_is_told_in_its_own_words() {
        let told = |path: &str| entry(&emulator(path)).map(|line| String::from_utf8(line).unwrap());
        assert_eq!(
            told("/usr/bin/qemu").unwrap(),
            r":emulator:M::\x7f\x45\x02:\xff\xff\xfe:/usr/bin/qemu:POF"
        );
        assert!(told("/a:b/qemu").unwrap().ends_with("|/a:b/qemu|POF"));
        assert_eq!(told("/:|,;+"), None);
    }

    #[test]
    fn programs_are_known_by_the_bits_that_count() {
        let emulator = emulator("/q");
        for (head, expected) in [
            (&b"\x7fE\x02..."[..], true),
            (b"\x7fE\x03", true),
            (b"\x7fE\x04", false),
            (b"\x7fE", false),
            (b"#!/bin/sh", false),
        ] {
            assert_eq!(is_meant(&emulator, head), expected, "{head:?}");
        }
    }

    #[test]
    fn scripts_lead_to_their_interpreters_as_in_the_kernel() {
        let words = |texts: &[&str]| -> Vec<CString> {
            texts
                .iter()
                .map(|text| CString::new(*text).unwrap())
                .collect()
        };
        let followed = |head: &str| {
            let arguments = words(&["name", "a", "b"]);
            let (program, words) = interpreted(c"/s", &arguments, head.as_bytes())?;
            let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
            Some(format!(
                "{}: {}",
                program.to_str().unwrap(),
                words.join("|")
            ))
        };
        for (head, expected) in [
            ("#!/bin/sh\nexit", Some("/bin/sh: /bin/sh|/s|a|b")),
            (
                "#! /bin/sh -e  -x \n",
                Some("/bin/sh: /bin/sh|-e  -x|/s|a|b"),
            ),
            ("#!\t/i\targ", Some("/i: /i|arg|/s|a|b")),
            ("#!\nexit", None),
            ("echo", None),
        ] {
            assert_eq!(followed(head).as_deref(), expected, "{head:?}");
        }
    }

    #[test]
    fn the_emulator_is_told_the_programs_own_name() {
        let emulation = Emulation {
            file: File::open("/dev/null").unwrap().into(),
            emulator: emulator("/usr/bin/qemu-x"),
        };
        let arguments = [c"-sh".to_owned(), c"-c".to_owned()];
        let shown = |program: &CStr| {
            let words = emulation.words(program, &arguments);
            let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
            words.join(" ")
        };
        assert_eq!(shown(c"/bin/sh"), "qemu-x -0 -sh /bin/sh -c");
        assert_eq!(shown(c"-x/sh"), "qemu-x -0 -sh ./-x/sh -c");
    }
}
