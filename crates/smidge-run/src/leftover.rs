//! What a program leaves running. In a PID namespace of its own nothing stays: the kernel ends it all with
//! the first process. A program that shares its processes with others leaves those that it has started,
//! told from the others by the mount namespace that it alone has.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use crate::state::Process;
use crate::sys;

/// How long to go on with processes that the kernel does not end at once, or that make new ones.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mount namespace that is not this process's own. While this is held, no other one gets its number.
#[derive(Debug)]
pub(crate) struct Mounts {
    number: u64,
    _file: File,
}

impl Mounts {
    /// That of a process, if it may be known.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let file = File::open(format!("/proc/{pid}/ns/mnt")).ok()?;
        let number = file.metadata().ok()?.ino();
        let own = number_of("self");
        (own.is_some() && own != Some(number)).then_some(Self {
            number,
            _file: file,
        })
    }

    /// Ends every process in it.
    pub(crate) fn end(self) {
        let end = Instant::now() + PATIENCE;
        while self.end_once() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends those that there are now; false if there are none.
    fn end_once(&self) -> bool {
        let mut some = false;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if !self.has(pid) {
                continue;
            }
            some = true;
            // Looked at again, for the number could have passed to another process.
            if let Some(process) = Process::of(pid).open()
                && self.has(pid)
            {
                let _ = sys::send_signal(process.as_fd(), libc::SIGKILL);
            }
        }
        some
    }

    fn has(&self, pid: u32) -> bool {
        number_of(&pid.to_string()) == Some(self.number)
    }
}

/// The number of a process's mount namespace.
fn number_of(process: &str) -> Option<u64> {
    let namespace = fs::metadata(format!("/proc/{process}/ns/mnt")).ok()?;
    Some(namespace.ino())
}
