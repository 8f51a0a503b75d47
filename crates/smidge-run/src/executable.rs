//! Finds what is to be executed, makes sure that it is not smidge itself, and executes it.

use std::ffi::{CString, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use crate::emulator::Emulation;
use crate::error::RunError;
use crate::spec::Spec;
use crate::sys;

/// How many interpreters of interpreters the kernel follows (`execve(2)`).
pub(crate) const INTERPRETERS: u32 = 5;

/// How much of a file's start is looked at: more than the kernel takes of a `#!` line.
const HEAD: usize = 512;

/// This process's binary, which no container may get hold of: what executes it as its program could
/// write to it (CVE-2019-5736).
#[derive(Debug)]
pub(crate) struct OwnBinary {
    device: u64,
    inode: u64,
}

impl OwnBinary {
    /// Looks it up; to be called while `/proc` is the host's.
    pub(crate) fn find() -> io::Result<Self> {
        let file = std::fs::metadata("/proc/self/exe")?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
        })
    }

    /// Whether executing `path` means executing this binary: it is it, or its interpreter is.
    fn is_reached_by(&self, path: &Path, depth: u32) -> bool {
        let Ok(file) = path.metadata() else {
            return false;
        };
        if file.dev() == self.device && file.ino() == self.inode {
            return true;
        }
        depth < INTERPRETERS
            && file.is_file()
            && interpreter(path).is_ok_and(|interpreter| {
                interpreter.is_some_and(|path| self.is_reached_by(&path, depth + 1))
            })
    }
}

/// What was found, ready to be executed.
#[derive(Debug)]
pub(crate) struct Executable {
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    emulation: Option<Emulation>,
}

impl Executable {
    /// Finds the program of `spec`; to be called inside, in the working directory.
    pub(crate) fn find(
        spec: &Spec,
        own: &OwnBinary,
        emulation: Option<Emulation>,
    ) -> Result<Self, RunError> {
        Self::look_up(&spec.args, &spec.env, own, emulation)
    }

    /// The same for a program that no spec describes.
    pub(crate) fn look_up(
        args: &[String],
        env: &[String],
        own: &OwnBinary,
        emulation: Option<Emulation>,
    ) -> Result<Self, RunError> {
        let name = args.first().map_or("", String::as_str);
        let candidates = if name.contains('/') {
            vec![PathBuf::from(name)]
        } else {
            search(name, path_variable(env))?
        };
        if let Some(path) = candidates.iter().find(|path| own.is_reached_by(path, 0)) {
            return Err(RunError::OwnBinary {
                program: path.display().to_string(),
            });
        }
        Ok(Self {
            candidates: candidates
                .into_iter()
                .map(|path| text("program", path.into_os_string().into_vec()))
                .collect::<Result<_, _>>()?,
            arguments: texts("argument", args)?,
            environment: texts("variable", env)?,
            emulation,
        })
    }

    /// What a program that executes its first argument with the others is to be told, and the
    /// environment: the first candidate that this process's user may execute.
    pub(crate) fn words(&self) -> (Vec<CString>, Vec<CString>) {
        let may = |path: &&CString| {
            let path = path.as_c_str();
            rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
        };
        let program = self.candidates.iter().find(may);
        let program = program.or(self.candidates.first()).into_iter();
        let words = program.chain(&self.arguments).cloned().collect();
        (words, self.environment.clone())
    }

    /// The first candidate that is there and may be executed by this process's user.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        let mut refusal = Errno::NOENT;
        for path in &self.candidates {
            match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
                Ok(()) => return Ok(()),
                Err(errno) => refusal = errno,
            }
        }
        let program = self.candidates.first().map(|path| path.to_string_lossy());
        Err(RunError::Exec {
            program: program.unwrap_or_default().into_owned(),
            source: refusal.into(),
        })
    }

    /// Executes the first candidate that the program's user may execute; returns only if there is none.
    pub(crate) fn execute(&self) -> RunError {
        let mut program = String::new();
        let mut source = io::Error::from_raw_os_error(libc::ENOENT);
        for candidate in &self.candidates {
            program = candidate.to_string_lossy().into_owned();
            let (arguments, environment) = (&self.arguments, &self.environment);
            source = match &self.emulation {
                Some(emulation) => emulation.execute(candidate, arguments, environment),
                None => sys::execute(candidate, arguments, environment),
            };
            if source.kind() != io::ErrorKind::PermissionDenied {
                break;
            }
        }
        RunError::Exec { program, source }
    }
}

fn path_variable(environment: &[String]) -> &str {
    environment
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or("")
}

/// Every executable file called `name` in the directories of `path`, in order.
fn search(name: &str, path: &str) -> Result<Vec<PathBuf>, RunError> {
    let executable = |file: Metadata| file.is_file() && file.permissions().mode() & 0o111 != 0;
    let found: Vec<PathBuf> = path
        .split(':')
        .filter(|directory| directory.starts_with('/') && !name.is_empty())
        .map(|directory| Path::new(directory).join(name))
        .filter(|candidate| candidate.metadata().is_ok_and(executable))
        .collect();
    if found.is_empty() {
        return Err(RunError::NotInPath {
            program: name.to_owned(),
            path: path.to_owned(),
        });
    }
    Ok(found)
}

/// The program that the kernel would start instead of or beside `path`, if any.
fn interpreter(path: &Path) -> io::Result<Option<PathBuf>> {
    let file = File::open(path)?;
    let mut head = [0; HEAD];
    let length = file.read_at(&mut head, 0)?;
    let head = &head[..length];
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let name = line
            .split(|byte| b" \t\0".contains(byte))
            .find(|name| !name.is_empty());
        return Ok(name.map(to_path));
    }
    if head.starts_with(b"\x7fELF") {
        return loader(&file, head);
    }
    Ok(None)
}

/// The `PT_INTERP` of an ELF file of this machine's byte order (`elf(5)`).
fn loader(file: &File, header: &[u8]) -> io::Result<Option<PathBuf>> {
    const INTERP: u64 = 3;
    // Place and width of the header's fields, then of a program header's.
    let wide = header.get(4) == Some(&2);
    let (table, size, count) = if wide {
        ((32, 8), 54, 56)
    } else {
        ((28, 4), 42, 44)
    };
    let (offset, length) = if wide {
        ((8, 8), (32, 8))
    } else {
        ((4, 4), (16, 4))
    };
    let start = number(header, table);
    let (size, count) = (number(header, (size, 2)), number(header, (count, 2)));
    for index in 0..count {
        let mut entry = [0; 56];
        if file.read_at(&mut entry, start.saturating_add(index * size))? < 32 {
            break;
        }
        if number(&entry, (0, 4)) == INTERP {
            // Longer names are refused by the kernel.
            let length = number(&entry, length).min(libc::PATH_MAX as u64);
            let mut name = vec![0; usize::try_from(length).unwrap_or(0)];
            let read = file.read_at(&mut name, number(&entry, offset))?;
            name.truncate(read);
            return Ok(name.split(|byte| *byte == 0).next().map(to_path));
        }
    }
    Ok(None)
}

/// An unsigned number of `width` bytes in this machine's byte order; 0 outside the bytes.
fn number(bytes: &[u8], (at, width): (usize, usize)) -> u64 {
    let field = bytes.get(at..at + width).unwrap_or_default();
    let mut padded = [0; 8];
    if cfg!(target_endian = "little") {
        padded[..field.len()].copy_from_slice(field);
    } else {
        padded[8 - field.len()..].copy_from_slice(field);
    }
    u64::from_ne_bytes(padded)
}

fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn texts(field: &str, values: &[String]) -> Result<Vec<CString>, RunError> {
    values
        .iter()
        .map(|value| text(field, value.clone().into_bytes()))
        .collect()
}

fn text(field: &str, value: Vec<u8>) -> Result<CString, RunError> {
    CString::new(value).map_err(|error| RunError::Nul {
        field: field.to_owned(),
        value: String::from_utf8_lossy(&error.into_vec()).replace('\0', "\\0"),
    })
}
