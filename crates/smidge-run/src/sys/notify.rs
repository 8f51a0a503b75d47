//! System calls of one process that another answers (`seccomp_unotify(2)`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::sandbox::{Instruction, check, with_program};

/// `SECCOMP_FD_SYNC_WAKE_UP` of `linux/seccomp.h`: caller and server take turns on one processor.
const TAKE_TURNS: u64 = 1;

/// `SECCOMP_ADDFD_FLAG_SEND`: the new descriptor's number is the answer.
const AND_ANSWER: u32 = 2;

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification {
    /// What tells it from others.
    pub(crate) id: u64,
    /// The thread that makes it, as this process's PID namespace numbers it.
    pub(crate) thread: u32,
    /// The system call's number.
    pub(crate) number: i32,
    /// Its arguments, whatever they mean.
    pub(crate) arguments: [u64; 6],
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// The kernel carries it out.
    Continue,
    /// It gives this number, without having been carried out.
    Give(i64),
    /// It fails with this error number.
    Fail(i32),
}

/// Installs a filter in the calling thread, and gives the descriptor that its notifications are
/// received from. A caller that is interrupted by a signal makes its call twice on kernels before
/// 5.19, which do not know how to put the signal off.
pub(crate) fn install_listener(program: &[Instruction]) -> io::Result<OwnedFd> {
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let patient = flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let made = match with_program(program, patient) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => with_program(program, flags),
        made => made,
    }?;
    let number = i32::try_from(made).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just made the descriptor for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes the two sides of a listener take turns, which halves what a call costs. Kernels before 6.6
/// cannot.
pub(crate) fn take_turns(listener: BorrowedFd<'_>) {
    // SAFETY: takes its argument as a number.
    unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
            TAKE_TURNS,
        )
    };
}

/// Waits for the next call. It fails with `ENOENT` if the caller is gone already.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    /// With room for fields that later kernels may add.
    #[repr(C)]
    struct Buffer {
        notification: libc::seccomp_notif,
        more: [u64; 16],
    }
    // SAFETY: all-zero is a valid value of this plain struct, and the one that the kernel wants; the
    // call only writes to it.
    let notification = unsafe {
        let mut buffer: Buffer = std::mem::zeroed();
        let request = libc::SECCOMP_IOCTL_NOTIF_RECV;
        check(libc::ioctl(listener.as_raw_fd(), request, &raw mut buffer).into())?;
        buffer.notification
    };
    Ok(Notification {
        id: notification.id,
        thread: notification.pid,
        number: notification.data.nr,
        arguments: notification.data.args,
    })
}

/// Whether the caller still waits: then what its number led to in `/proc` was really its.
pub(crate) fn still_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    let request = libc::SECCOMP_IOCTL_NOTIF_ID_VALID;
    // SAFETY: the kernel reads the number, which outlives the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw const id) == 0 }
}

/// Answers a call. A caller that is gone needs no answer.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, verdict: Verdict) {
    let (val, error, flags) = match verdict {
        Verdict::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Verdict::Give(value) => (value, 0, 0),
        Verdict::Fail(number) => (0, -number, 0),
    };
    let response = libc::seccomp_notif_resp {
        id,
        val,
        error,
        flags,
    };
    let request = libc::SECCOMP_IOCTL_NOTIF_SEND;
    // SAFETY: the kernel reads the response, which outlives the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw const response) };
}

/// Gives the caller a copy of `file`, and its number there as the answer.
pub(crate) fn answer_file(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    close_on_exec: bool,
) -> io::Result<()> {
    let addition = libc::seccomp_notif_addfd {
        id,
        flags: AND_ANSWER,
        srcfd: file.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: if close_on_exec {
            libc::O_CLOEXEC.cast_unsigned()
        } else {
            0
        },
    };
    let request = libc::SECCOMP_IOCTL_NOTIF_ADDFD;
    // SAFETY: the kernel reads the struct, which outlives the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw const addition) }.into())
        .map(drop)
}

/// Puts a copy of `file` in the place of an open file of the caller's, who still waits.
pub(crate) fn place_file(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    number: i32,
    close_on_exec: bool,
) -> io::Result<()> {
    /// `SECCOMP_ADDFD_FLAG_SETFD`: under this number.
    const IN_PLACE: u32 = 1;
    let addition = libc::seccomp_notif_addfd {
        id,
        flags: IN_PLACE,
        srcfd: file.as_raw_fd().cast_unsigned(),
        newfd: number.cast_unsigned(),
        newfd_flags: match close_on_exec {
            true => libc::O_CLOEXEC.cast_unsigned(),
            false => 0,
        },
    };
    let request = libc::SECCOMP_IOCTL_NOTIF_ADDFD;
    // SAFETY: the kernel reads the struct, which outlives the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), request, &raw const addition) }.into())
        .map(drop)
}

/// A copy of `file` with this number, whatever had it before.
pub(crate) fn at_number(file: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers. Whoever had the number lives in the process that this one was forked off,
    // by contract: here nobody uses it any more.
    unsafe {
        check(libc::dup2(file.as_raw_fd(), number).into())?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Gives a socket's option to another socket, where it has a different one. What the kernel refuses stays as
/// it is.
pub(crate) fn copy_option(from: BorrowedFd<'_>, to: BorrowedFd<'_>, level: i32, name: i32) {
    /// More than the largest of them, a name of 16 bytes.
    type Value = [u8; 64];
    let read = |socket: BorrowedFd<'_>| {
        let mut value: Value = [0; 64];
        let mut length = 64;
        let to = value.as_mut_ptr().cast();
        // SAFETY: the buffer and its length outlive the call, which writes no more than that.
        let read =
            unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, to, &raw mut length) };
        (read == 0).then_some((value, length))
    };
    let (Some((mut value, length)), Some((old, _))) = (read(from), read(to)) else {
        return;
    };
    if value == old {
        return;
    }
    // The kernel tells twice what it was told (socket(7)).
    if level == libc::SOL_SOCKET
        && [libc::SO_SNDBUF, libc::SO_RCVBUF].contains(&name)
        && let Some(number) = value.first_chunk_mut::<4>()
    {
        *number = (i32::from_ne_bytes(*number) / 2).to_ne_bytes();
    }
    // SAFETY: the kernel reads `length` bytes of the buffer, which outlives the call.
    unsafe { libc::setsockopt(to.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
}

/// Reads another process's memory, as far as it is mapped without a gap.
pub(crate) fn read_memory(thread: u32, address: u64, to: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: to.len(),
    };
    let remote = elsewhere(address, to.len());
    // SAFETY: the local piece is the buffer, which outlives the call; the remote address is not one
    // of this process.
    let read = unsafe {
        libc::process_vm_readv(
            thread.cast_signed(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Writes to another process's memory; fails unless everything could be written.
pub(crate) fn write_memory(thread: u32, address: u64, from: &[u8]) -> io::Result<()> {
    let local = libc::iovec {
        iov_base: from.as_ptr().cast_mut().cast(),
        iov_len: from.len(),
    };
    let remote = elsewhere(address, from.len());
    // SAFETY: the local piece is the buffer, which is only read and outlives the call; the remote
    // address is not one of this process.
    let written = unsafe {
        libc::process_vm_writev(
            thread.cast_signed(),
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    if usize::try_from(written) == Ok(from.len()) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EFAULT))
    }
}

/// A piece of another process's memory.
fn elsewhere(address: u64, length: usize) -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::without_provenance_mut(usize::try_from(address).unwrap_or(0)),
        iov_len: length,
    }
}

/// What `fstat(2)` says of a file, which may have been opened with `O_PATH`, in the kernel's own form.
pub(crate) fn status(file: BorrowedFd<'_>) -> io::Result<libc::stat> {
    // SAFETY: all-zero is a valid value of this plain struct, which the call only writes to.
    unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        check(libc::fstat(file.as_raw_fd(), &raw mut status).into())?;
        Ok(status)
    }
}

/// What `statx(2)` says of a file, in the kernel's own form.
pub(crate) fn extended_status(
    file: BorrowedFd<'_>,
    flags: i32,
    mask: u32,
) -> io::Result<libc::statx> {
    // SAFETY: all-zero is a valid value of this plain struct, which the call only writes to; the path
    // outlives the call.
    unsafe {
        let mut status: libc::statx = std::mem::zeroed();
        let flags = flags | libc::AT_EMPTY_PATH;
        let result = libc::syscall(
            libc::SYS_statx,
            file.as_raw_fd(),
            c"".as_ptr(),
            flags,
            mask,
            &raw mut status,
        );
        check(result)?;
        Ok(status)
    }
}

/// What the kernel copies to a caller.
pub(crate) trait Plain {
    /// Its bytes in memory.
    fn bytes(&self) -> &[u8];
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Plain for $type {
            fn bytes(&self) -> &[u8] {
                // SAFETY: a C struct of numbers, its padding named, and all of it was zeroed.
                unsafe {
                    std::slice::from_raw_parts((&raw const *self).cast(), size_of::<Self>())
                }
            }
        }
    )*};
}

plain!(libc::stat, libc::statx);
