//! The thread whose call is being answered: its memory, and where its paths lead.

use std::os::fd::BorrowedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::sys::{self, Notification};

/// `PATH_MAX`, with the NUL.
const LONGEST_PATH: usize = 4096;

/// The smallest page of any machine: what lies within one is mapped as a whole or not at all.
const PAGE: u64 = 4096;

/// A call's maker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    listener: BorrowedFd<'a>,
    call: Notification,
}

/// Where a file is, for this process, whose root is the container's and whose directory is the host's
/// `/proc`.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The path.
    pub(super) path: Vec<u8>,
    /// Whether a symbolic link at its end is followed.
    pub(super) follow: bool,
}

impl<'a> Caller<'a> {
    pub(super) fn new(listener: BorrowedFd<'a>, call: Notification) -> Self {
        Self { listener, call }
    }

    /// The thread's id.
    pub(super) fn thread(&self) -> u32 {
        self.call.thread
    }

    /// An argument as it is.
    pub(super) fn argument(&self, place: usize) -> u64 {
        self.call.arguments.get(place).copied().unwrap_or(0)
    }

    /// An argument of 32 bits, of which the kernel ignores the rest.
    #[expect(clippy::cast_possible_truncation, reason = "as the kernel does")]
    pub(super) fn number(&self, place: usize) -> u32 {
        self.argument(place) as u32
    }

    /// An id, where all bits set means "as it is".
    pub(super) fn id(&self, place: usize) -> Option<u32> {
        Some(self.number(place)).filter(|id| *id != u32::MAX)
    }

    /// Whether the caller still waits: if not, what was read may have been somebody else's.
    pub(super) fn still_waits(&self) -> bool {
        sys::still_waits(self.listener, self.call.id)
    }

    /// Reads memory that must be there in full.
    pub(super) fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno> {
        match sys::read_memory(self.thread(), address, to) {
            Ok(length) if length == to.len() => Ok(()),
            _ => Err(Errno::FAULT),
        }
    }

    /// Writes memory.
    pub(super) fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        if !self.still_waits() {
            return Err(Errno::SRCH);
        }
        sys::write_memory(self.thread(), address, from).map_err(|_| Errno::FAULT)
    }

    /// Reads the text that an argument points to, without its NUL.
    pub(super) fn text(&self, place: usize) -> Result<Vec<u8>, Errno> {
        let start = self.argument(place);
        let mut text = Vec::with_capacity(256);
        let mut chunk = [0; PAGE as usize];
        while text.len() < LONGEST_PATH {
            let at = start.checked_add(text.len() as u64).ok_or(Errno::FAULT)?;
            // Up to the page's end, then up to the next one's: the text may end where the memory does.
            let length = usize::try_from(PAGE - at % PAGE).unwrap_or(chunk.len());
            let chunk = chunk.get_mut(..length).ok_or(Errno::FAULT)?;
            self.read(at, chunk)?;
            if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&chunk[..end]);
                break;
            }
            text.extend_from_slice(chunk);
        }
        if text.len() >= LONGEST_PATH {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(text)
    }

    /// Where a path leads, from an open directory of the caller's if it is relative. An empty one means
    /// the directory itself if `flags` (`AT_*`) allow it.
    pub(super) fn place(&self, from: i32, path: &[u8], flags: u32) -> Result<Place, Errno> {
        let has = |flag: i32| flags & flag.cast_unsigned() != 0;
        if path.is_empty() {
            if !has(libc::AT_EMPTY_PATH) {
                return Err(Errno::NOENT);
            }
            // A descriptor may stand for a link itself; its name in `/proc` leads there all the same.
            return Ok(Place {
                path: self.start(from)?,
                follow: true,
            });
        }
        let path = match path.strip_prefix(b"/") {
            Some(_) => self.absolute(path)?,
            None => [&self.start(from)?, b"/".as_slice(), path].concat(),
        };
        Ok(Place {
            path,
            follow: !has(libc::AT_SYMLINK_NOFOLLOW),
        })
    }

    /// Where an open file of the caller's is.
    pub(super) fn descriptor(&self, place: usize) -> Result<Place, Errno> {
        let number = self.number(place).cast_signed();
        if number < 0 {
            return Err(Errno::BADF);
        }
        Ok(Place {
            path: self.start(number)?,
            follow: true,
        })
    }

    /// Whether a descriptor stands for a file that is not open (`O_PATH`).
    pub(super) fn is_handle(&self, place: usize) -> bool {
        let name = format!("fdinfo/{}", self.number(place));
        let text = self.file(&name).unwrap_or_default();
        let flags = String::from_utf8_lossy(&text)
            .lines()
            .find_map(|line| line.strip_prefix("flags:\t"))
            .and_then(|digits| u32::from_str_radix(digits, 8).ok());
        flags.is_some_and(|flags| flags & libc::O_PATH.cast_unsigned() != 0)
    }

    fn start(&self, from: i32) -> Result<Vec<u8>, Errno> {
        let thread = self.thread();
        match from {
            libc::AT_FDCWD => Ok(format!("{thread}/cwd").into_bytes()),
            0.. => Ok(format!("{thread}/fd/{from}").into_bytes()),
            _ => Err(Errno::BADF),
        }
    }

    /// What is called "self" means the caller, who is another one for this process. It is looked for where
    /// the caller would find it, below the container's root, which no `..` leads out of.
    fn absolute(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        const OWN: [(&[u8], &str); 6] = [
            (b"/proc/self/", "/"),
            (b"/proc/thread-self/", "/"),
            (b"/dev/fd/", "/fd/"),
            (b"/dev/stdin", "/fd/0"),
            (b"/dev/stdout", "/fd/1"),
            (b"/dev/stderr", "/fd/2"),
        ];
        for (prefix, own) in OWN {
            match path.strip_prefix(prefix) {
                Some(rest) if prefix.ends_with(b"/") || rest.is_empty() => {
                    let start = format!("/proc/{}{own}", self.thread_inside()?);
                    return Ok([start.as_bytes(), rest].concat());
                }
                _ => (),
            }
        }
        Ok(path.to_vec())
    }

    /// The thread's id as itself knows it.
    fn thread_inside(&self) -> Result<String, Errno> {
        let all = self.status("NSpid")?;
        let own = all.split_whitespace().next_back();
        own.map(str::to_owned).ok_or(Errno::IO)
    }

    /// The permission bits that new files of the caller's do not get.
    pub(super) fn umask(&self) -> Result<u32, Errno> {
        u32::from_str_radix(&self.status("Umask")?, 8).map_err(|_| Errno::IO)
    }

    /// What `/proc/PID/status` says about something (`proc_pid_status(5)`).
    pub(super) fn status(&self, about: &str) -> Result<String, Errno> {
        let text = self.file("status")?;
        let text = String::from_utf8_lossy(&text);
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(about)?.strip_prefix(':'));
        Ok(value.ok_or(Errno::IO)?.trim().to_owned())
    }

    /// The start of a file about the caller in `/proc`.
    pub(super) fn file(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let path = format!("{}/{name}", self.thread());
        let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut buffer = [0; 4096];
        let length = rustix::io::read(&file, &mut buffer)?;
        Ok(buffer[..length].to_vec())
    }

    /// Writes to such a file.
    pub(super) fn write_file(&self, name: &str, text: &str) -> Result<(), Errno> {
        let path = format!("{}/{name}", self.thread());
        let file = rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&file, text.as_bytes()).map(drop)
    }
}

impl Place {
    /// The directory that it is in.
    pub(super) fn parent(&self) -> Self {
        let path = self.without_slashes();
        let end = path.iter().rposition(|byte| *byte == b'/');
        Self {
            path: end.map_or(b".".to_vec(), |end| path[..=end].to_vec()),
            follow: true,
        }
    }

    /// Its path without slashes at the end, which would make the kernel follow a link.
    pub(super) fn without_slashes(&self) -> &[u8] {
        let mut path = self.path.as_slice();
        while let [rest @ .., b'/'] = path
            && !rest.is_empty()
        {
            path = rest;
        }
        path
    }
}
