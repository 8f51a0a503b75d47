//! What the OCI runtime specification asks of the kernel beyond what other containers need.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::sandbox::check;

/// One instruction of an eBPF program, as `struct bpf_insn` has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BpfInstruction {
    pub(crate) code: u8,
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) value: i32,
}

/// Lets a program decide which devices the processes of a group of version 2 may use (`bpf(2)`).
pub(crate) fn attach_device_program(
    group: BorrowedFd<'_>,
    program: &[BpfInstruction],
) -> io::Result<()> {
    const PROG_LOAD: libc::c_long = 5;
    const PROG_ATTACH: libc::c_long = 8;
    const CGROUP_DEVICE: u32 = 15;
    const ATTACH_DEVICE: u32 = 6;
    /// `BPF_F_ALLOW_MULTI`: those of the groups above count, too.
    const WITH_OTHERS: u32 = 2;
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        rest: [u64; 12],
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let load = Load {
        kind: CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        rest: [0; 12],
    };
    // SAFETY: the struct, the instructions and the licence's text outlive the call, which only reads
    // them; the size is the struct's.
    let loaded = check(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>())
    })?;
    let number = i32::try_from(loaded).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just made the descriptor for this call.
    let loaded = unsafe { OwnedFd::from_raw_fd(number) };
    let attach = Attach {
        target: group.as_raw_fd().cast_unsigned(),
        program: loaded.as_raw_fd().cast_unsigned(),
        kind: ATTACH_DEVICE,
        flags: WITH_OTHERS,
    };
    // SAFETY: as above.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            &raw const attach,
            size_of::<Attach>(),
        )
    })
    .map(drop)
}

/// Gives the process a session keyring of its own, empty but for what links to the user's (`keyctl(2)`).
/// Where the kernel has no keyrings, or a filter around this one forbids them, there is nothing to part.
pub(crate) fn join_new_keyring(name: &CStr) -> io::Result<()> {
    // SAFETY: the name outlives the call.
    let joined = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        )
    });
    match joined {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOSYS | libc::EPERM | libc::EDQUOT)
            ) =>
        {
            Ok(())
        }
        joined => joined.map(drop),
    }
}

/// Sets the process's execution domain (`personality(2)`).
pub(crate) fn set_personality(persona: libc::c_ulong) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::personality(persona) }.into()).map(drop)
}

/// Sets the process's I/O scheduling class, from 1 to 3, and its priority in it (`ioprio_set(2)`).
pub(crate) fn set_io_priority(class: i32, priority: i32) -> io::Result<()> {
    const PROCESS: i32 = 1;
    // SAFETY: takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, class << 13 | priority) })
        .map(drop)
}

/// How a process is scheduled, as `struct sched_attr` has it (`sched_setattr(2)`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SchedulerAttributes {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// Sets how the process is scheduled (`sched_setattr(2)`).
pub(crate) fn schedule(attributes: &SchedulerAttributes) -> io::Result<()> {
    // SAFETY: the struct outlives the call, which only reads it.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *attributes, 0) }).map(drop)
}

/// The kind of namespace that a file stands for, as the flag that makes one (`ioctl_nsfs(2)`).
pub(crate) fn namespace_kind(file: BorrowedFd<'_>) -> Option<i32> {
    /// `NS_GET_NSTYPE`.
    const KIND: libc::c_ulong = 0xb703;
    // SAFETY: takes no pointers.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), KIND) };
    Some(kind).filter(|kind| *kind > 0)
}

/// Lets a descriptor survive an `execve(2)`.
pub(crate) fn keep_on_exec(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointers, and changes a flag of a descriptor that the caller holds.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) }.into()).map(drop)
}

/// The descriptors from 3 on that the caller has inherited and hands on: `count` of them.
pub(crate) fn inherited(count: u32) -> Vec<BorrowedFd<'static>> {
    let numbers = 3..3_i32.saturating_add_unsigned(count.min(1024));
    let is_open = |number: &i32| {
        // SAFETY: takes no pointers; asks about a number, whether it is a descriptor or not.
        unsafe { libc::fcntl(*number, libc::F_GETFD) != -1 }
    };
    // SAFETY: they are open, and nobody in this process closes what it has inherited.
    let borrow = |number| unsafe { BorrowedFd::borrow_raw(number) };
    numbers.filter(is_open).map(borrow).collect()
}
