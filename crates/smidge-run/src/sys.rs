//! The kernel's interfaces that no safe wrapper exists for: the only module of the crate with `unsafe`.
#![allow(
    unsafe_code,
    reason = "the one place where the kernel is called without a safe wrapper"
)]

mod notify;
#[cfg(all(panic = "abort", target_arch = "x86_64", target_env = "gnu"))]
mod replaced;
mod runtime;
mod sandbox;
mod trampoline;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;

pub(crate) use notify::*;
pub(crate) use runtime::*;
pub(crate) use sandbox::*;
pub(crate) use trampoline::*;

/// Forks the calling process, which must have one thread only. `None` in the child, which has to
/// end with [`exit`], so that it neither runs its parent's destructors nor writes its buffers.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the child is a copy of a process without other threads, so no lock is held by one
    // that does not exist there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Ends the process at once.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Lets a write beyond the file size limit (`RLIMIT_FSIZE`, setrlimit(2)) fail with an error that can
/// be told, where its signal would kill the process. Programs in containers start with the default.
pub fn fail_at_file_size_limit() {
    // SAFETY: takes no pointers, and ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Lets a command that is about to be started be asked to end (`SIGTERM`) when the thread that starts it
/// ends, however suddenly: whoever wanted its outcome is gone (`PR_SET_PDEATHSIG`).
pub fn end_with_caller(command: &mut std::process::Command) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt as _;
    let parent = rustix::process::getpid();
    let tie = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
        // It may have gone before that.
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            false => Err(io::ErrorKind::Interrupted.into()),
        }
    };
    // SAFETY: between fork and exec it makes two system calls, and neither allocates nor locks.
    unsafe { command.pre_exec(tie) }
}

/// Closes every descriptor but the standard ones and `keep`. For a forked process that takes over
/// only some of its parent's: the owners of the others must never be dropped in it.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut kept: Vec<u32> = keep
        .iter()
        .map(|fd| fd.as_raw_fd().unsigned_abs())
        .collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if fd > first {
            let last = if fd == u32::MAX { fd } else { fd - 1 };
            // SAFETY: takes no pointers; by contract nobody uses the closed descriptors.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        first = first.max(fd.saturating_add(1));
    }
}

/// Sends a signal, real-time ones included, to the process that `pidfd` stands for.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the null pointer asks the kernel to fill in the sender itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            info,
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Blocks `signals` for the calling thread, and makes a descriptor that reports them instead.
pub(crate) fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: a zeroed set is initialised by `sigemptyset` before use; all pointers are to it; the
    // descriptor is new and owned by nobody else.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Unblocks `signals` for the calling thread.
pub(crate) fn unblock_signals(signals: &[i32]) {
    // SAFETY: as in `signal_fd`.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}

/// The number of the next signal that `signal_fd` reports, if one is due.
pub(crate) fn read_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut record = [0; size_of::<libc::signalfd_siginfo>()];
    let length = rustix::io::read(fd, &mut record).ok()?;
    let number = record.get(..length)?.first_chunk::<4>()?;
    i32::try_from(u32::from_ne_bytes(*number)).ok()
}

/// Gives memory back that a process which is about to idle for long does not need: what the
/// allocator holds and nobody uses, what the stack has grown to, and the pages of the program's code that were
/// used so far. Those that are used again come back from the page cache.
///
/// Best called right before the process sleeps: what it runs through after this comes back.
pub(crate) fn release_memory() {
    release_stack();
    // Defined by the linker (end(3)), at both ends of what is never written to: headers, constants, code.
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    // SAFETY: the allocator is in a consistent state between two of its calls. The range is mapped
    // from the program's file and nobody has changed it, so dropping its pages loses nothing; they
    // are only addresses here, never read.
    unsafe {
        #[cfg(target_env = "gnu")]
        libc::malloc_trim(0);
        let page = rustix::param::page_size();
        let start = (&raw const __executable_start).cast_mut();
        let length = (&raw const etext).addr().saturating_sub(start.addr()) / page * page;
        libc::madvise(start.cast(), length, libc::MADV_DONTNEED);
    }
}

/// Gives back what lies below the stack's end.
fn release_stack() {
    /// What this function and those that it calls may have in use themselves, in bytes.
    const IN_USE: usize = 16 << 10;
    let mark = 0_u8;
    let page = rustix::param::page_size();
    let end = (&raw const mark).addr().saturating_sub(IN_USE) / page * page;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let stack = maps.lines().find(|line| line.ends_with("[stack]"));
    let start = stack.and_then(|line| usize::from_str_radix(line.split('-').next()?, 16).ok());
    // On another thread's stack `end` is below that of the first one.
    if let Some(length) = start.and_then(|start| end.checked_sub(start)) {
        let start = std::ptr::without_provenance_mut(end - length);
        // SAFETY: the range is this stack's, from its lowest page to well below the frames of all functions
        // that run; nobody reads there before having written.
        unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
}
