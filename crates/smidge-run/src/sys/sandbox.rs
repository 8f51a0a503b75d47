//! What shuts a process in: cloning, mount attributes, the filter, the program itself.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Turns the kernel's `-1` into the error it stands for.
pub(super) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Forks into new namespaces (`CLONE_NEW*` in `namespaces`), `None` in the child; with `CLONE_PARENT` among
/// them it becomes the caller's sibling. The same rules as
/// for [`fork`](super::fork) hold; glibc's record of the thread's id is wrong in the child.
///
/// `group` is a directory of a cgroup v2 hierarchy that the child starts in.
pub(crate) fn clone_into(
    namespaces: i32,
    group: Option<BorrowedFd<'_>>,
) -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut pidfd: i32 = -1;
    // SAFETY: all-zero is the valid empty value of this plain struct.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned());
    arguments.pidfd = (&raw mut pidfd) as u64;
    // A sibling takes over the caller's.
    if namespaces & libc::CLONE_PARENT == 0 {
        arguments.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(group) = group {
        /// What `libc` has does not fit its type.
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(group.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the struct and the descriptor's place outlive the call; without CLONE_VM the child
    // is a copy of a process that has no other threads.
    let cloned = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    });
    let pid = match cloned {
        // Filters of container runtimes cannot look into its struct, so they deny that it exists.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            return match group {
                Some(group) => clone_then_move(namespaces, group),
                None => clone_as_ever(namespaces),
            };
        }
        cloned => cloned,
    }?;
    Ok(cloned_process(pid, pidfd))
}

/// What a call gives that clones: its number and its handle, or nothing in the child.
fn cloned_process(pid: libc::c_long, pidfd: i32) -> Option<(Pid, OwnedFd)> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    // SAFETY: the kernel has just made the descriptor for the call that gave the number.
    Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// The same with clone(2), which knows no control groups.
fn clone_as_ever(namespaces: i32) -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut pidfd: i32 = -1;
    let flags = namespaces | libc::CLONE_PIDFD | libc::SIGCHLD;
    let flags = libc::c_ulong::from(flags.cast_unsigned());
    // SAFETY: as in `clone_into`. No stack means a copy of the caller's; the descriptor's place is where
    // clone(2) would put the child's id.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone, flags, 0_u64, &raw mut pidfd, 0_u64, 0_u64)
    })?;
    Ok(cloned_process(pid, pidfd))
}

/// The same for a child that goes on when it was moved into its group.
fn clone_then_move(namespaces: i32, group: BorrowedFd<'_>) -> io::Result<Option<(Pid, OwnedFd)>> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let members = rustix::fs::openat(group, "cgroup.procs", flags, Mode::empty())?;
    let (waits, goes_on) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let Some((pid, pidfd)) = clone_as_ever(namespaces)? else {
        drop(goes_on);
        match rustix::io::read(&waits, &mut [0]) {
            Ok(1) => return Ok(None),
            _ => super::exit(127),
        }
    };
    let number = pid.as_raw_nonzero().to_string();
    let moved = rustix::io::write(&members, number.as_bytes())
        .and_then(|_| rustix::io::write(&goes_on, b"G"));
    drop(goes_on);
    if let Err(errno) = moved {
        // It ends without having done anything.
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        return Err(errno.into());
    }
    Ok(Some((pid, pidfd)))
}

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    attributes: &MountAttributes,
    recursive: bool,
) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path and the struct outlive the call, and the size is the struct's.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const *attributes,
            size_of::<MountAttributes>(),
        )
    })
    .map(drop)
}

/// Adds attributes to a mount, clears others, and sets its propagation, with `recursive` also those below
/// it (`mount_setattr(2)`).
pub(crate) fn change_mount(
    mount: BorrowedFd<'_>,
    added: MountAttrFlags,
    cleared: MountAttrFlags,
    propagation: MountPropagationFlags,
    recursive: bool,
) -> io::Result<()> {
    let attributes = MountAttributes {
        set: added.bits().into(),
        clear: cleared.bits().into(),
        propagation: propagation.bits().into(),
        user_namespace: 0,
    };
    set_mount_attributes(mount, &attributes, recursive)
}

/// Lets the owners of a mount's files appear as a user namespace maps them: of one that is mounted nowhere
/// yet.
pub(crate) fn map_mount(
    mount: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    recursive: bool,
) -> io::Result<()> {
    /// `MOUNT_ATTR_IDMAP`.
    const MAPPED: u64 = 0x10_0000;
    let attributes = MountAttributes {
        set: MAPPED,
        clear: 0,
        propagation: 0,
        user_namespace: u64::from(namespace.as_raw_fd().unsigned_abs()),
    };
    set_mount_attributes(mount, &attributes, recursive)
}

/// Brings the loopback device of the current network namespace up; any socket will do.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = about_device("lo");
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the request outlives the call, which only reads it.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())
        .map(drop)
}

/// Whether a device of a socket's network namespace is up.
pub(crate) fn is_device_up(socket: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    let mut request = about_device(name);
    // SAFETY: the request outlives the call, which fills it.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) }.into())?;
    // SAFETY: that call fills this part.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(i32::from(flags) & libc::IFF_UP != 0)
}

/// A request about a network device, by the first 15 bytes of its name: none has more.
fn about_device(name: &str) -> libc::ifreq {
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte is the zero behind the name.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.as_bytes()) {
        *to = from.cast_signed() as c_char;
    }
    request
}

/// One instruction of a classic BPF program, as `struct sock_filter` has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) if_true: u8,
    pub(crate) if_false: u8,
    pub(crate) operand: u32,
}

/// Installs a system call filter in the calling thread, which must hold `CAP_SYS_ADMIN` or have
/// given up new privileges (`seccomp(2)`).
pub(crate) fn install_filter(program: &[Instruction]) -> io::Result<()> {
    install_filter_with(program, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW)
}

/// The same with other flags; none that makes the kernel give anything but success.
pub(crate) fn install_filter_with(program: &[Instruction], flags: libc::c_ulong) -> io::Result<()> {
    with_program(program, flags).map(drop)
}

/// The same with any flags of `seccomp(2)`; gives what the kernel gives.
pub(super) fn with_program(
    program: &[Instruction],
    flags: libc::c_ulong,
) -> io::Result<libc::c_long> {
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const Instruction,
    }
    let length =
        u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = Program {
        length,
        instructions: program.as_ptr(),
    };
    // SAFETY: the program points to `length` instructions, which outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })
}

/// Gives every signal its default action and unblocks all: what a program may expect at its start,
/// whatever its ancestors ignored.
pub(crate) fn reset_signals() {
    /// Bytes in the kernel's signal set.
    const SET: usize = 8;
    // At least as large as any architecture's `struct kernel_sigaction`; all-zero is the default.
    let action = [0_u64; 8];
    // SAFETY: the kernel only reads the action; a default one has no handler. Numbers that cannot be
    // changed are refused without harm. The C library would refuse two more, which it keeps for
    // itself, but which may be ignored as well. The set is initialised before use.
    unsafe {
        for number in 1..=8 * SET {
            let old = std::ptr::null::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, number, action.as_ptr(), old, SET);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Blocks every signal, for [`wait_for_signal`].
pub(crate) fn block_signals() {
    // SAFETY: the set is initialised before use.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Waits for any blocked signal and takes it.
pub(crate) fn wait_for_signal() -> i32 {
    // SAFETY: the set is initialised before use; no information about the signal is asked for.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigwaitinfo(&raw const all, std::ptr::null_mut())
    }
}

/// Sends any signal, real-time ones included, to a child.
pub(crate) fn kill(pid: Pid, signal: i32) {
    // SAFETY: takes no pointers. A child that has just gone needs no signal.
    unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
}

/// Pointers to texts, with the null pointer that ends them.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts
        .iter()
        .map(|text| text.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Replaces the process by the program that a descriptor stands for; returns only if the kernel
/// refuses.
pub(crate) fn execute_file(
    file: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> io::Error {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: the path and both arrays end with a null, and they and their texts outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Replaces the process by a program; returns only if the kernel refuses.
pub(crate) fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer, and they and their texts outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Moves the process, which must have one thread only, into a user namespace of its own.
pub(crate) fn enter_new_user_namespace() -> io::Result<()> {
    // SAFETY: takes no pointers, and only changes what a process with one thread is allowed to do.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into()).map(drop)
}

/// Moves the process, which must have one thread only, into new namespaces (`CLONE_NEW*`).
pub(crate) fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: takes no pointers, and only changes what a process with one thread sees.
    check(unsafe { libc::unshare(namespaces) }.into()).map(drop)
}

/// Makes the process's control groups the top of all that it sees of them.
pub(crate) fn enter_new_cgroup_namespace() -> io::Result<()> {
    // SAFETY: takes no pointers, and only changes what the process sees.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Lets `clone3(2)` appear not to exist, for this thread.
    fn lose_clone3() {
        let step = |code, if_false, operand| Instruction {
            code,
            if_true: 0,
            if_false,
            operand,
        };
        let number = u32::try_from(libc::SYS_clone3).unwrap();
        let refused = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
        // Load the call's number; is it this one?
        let program = [
            step(0x20, 0, 0),
            step(0x15, 1, number),
            step(0x06, 0, refused),
            step(0x06, 0, libc::SECCOMP_RET_ALLOW),
        ];
        install_filter(&program).unwrap();
    }

    /// Where version 2 of control groups is mounted.
    fn unified() -> Option<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut points = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let point = words.next()?;
            (words.next() == Some("cgroup2")).then(|| point.to_owned())
        });
        points.next()
    }

    #[test]
    fn without_clone3_a_process_starts_in_its_group_too() {
        let unified = unified().filter(|_| rustix::process::geteuid().is_root());
        let path = unified.map(|top| format!("{top}/smidge-test-{}", std::process::id()));
        let Some(path) = path.filter(|path| fs::create_dir(path).is_ok()) else {
            println!("skipped: no groups of version 2 can be made");
            return;
        };
        let members = format!("{path}/cgroup.procs");
        let (waits, goes_on) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let clone = {
            let path = path.clone();
            move || {
                lose_clone3();
                let group = fs::File::open(path).unwrap();
                let cloned = clone_into(0, Some(group.as_fd())).unwrap();
                if cloned.is_none() {
                    let _ = rustix::io::read(&waits, &mut [0]);
                    super::super::exit(0);
                }
                cloned
            }
        };
        let (pid, pidfd) = std::thread::spawn(clone).join().unwrap().unwrap();
        let there = fs::read_to_string(members).unwrap();
        rustix::io::write(&goes_on, b"G").unwrap();
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        fs::remove_dir(path).unwrap();
        assert_eq!(there.trim(), pid.as_raw_nonzero().to_string());
    }
}
