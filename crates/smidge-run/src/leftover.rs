//! What a program leaves running. In a PID namespace of its own nothing stays: the kernel ends it all with
//! the first process. A program that shares its processes with others leaves those that it has started,
//! told from the others by the mount namespace that it alone has.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use crate::state::Process;
use crate::sys;

/// How long to go on with processes that the kernel does not end at once, or that make new ones.
const PATIENCE: Duration = Duration::from_secs(5);

/// The mount namespace of a process, if it may be known and is not this process's own.
pub(crate) fn mounts_of(pid: u32) -> Option<u64> {
    let of = |process: &str| Some(fs::metadata(format!("/proc/{process}/ns/mnt")).ok()?.ino());
    let theirs = of(&pid.to_string())?;
    (Some(theirs) != of("self")).then_some(theirs)
}

/// Every process in a mount namespace.
pub(crate) fn with_mounts(mounts: u64) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(move |pid| mounts_of(*pid) == Some(mounts))
}

/// Ends every process in a mount namespace that is not this process's own.
pub(crate) fn end(mounts: u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut some = false;
        for pid in with_mounts(mounts) {
            some = true;
            // Looked at again, for the number could have passed to another process.
            if let Some(process) = Process::of(pid).open()
                && mounts_of(pid) == Some(mounts)
            {
                let _ = sys::send_signal(process.as_fd(), libc::SIGKILL);
            }
        }
        if !some || Instant::now() > end {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
