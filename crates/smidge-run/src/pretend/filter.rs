//! Which system calls are answered, and the filter that picks them out.

use std::ffi::c_long;

use crate::seccomp::{self, Action};
use crate::sys::Instruction;

/// A system call that is answered, whatever its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "newer machines lack the older forms")
)]
pub(super) enum Call {
    Chown,
    Lchown,
    Fchown,
    Fchownat,
    Chmod,
    Fchmod,
    Fchmodat,
    Fchmodat2,
    Stat,
    Lstat,
    Fstat,
    Fstatat,
    Statx,
    Setuid,
    Setgid,
    Setreuid,
    Setregid,
    Setresuid,
    Setresgid,
    Setfsuid,
    Setfsgid,
    Setgroups,
    Getuid,
    Geteuid,
    Getgid,
    Getegid,
    Getresuid,
    Getresgid,
    Getgroups,
    Open,
    Creat,
    Openat,
    Openat2,
    Mkdir,
    Mkdirat,
    Symlink,
    Symlinkat,
    Mknod,
    Mknodat,
    Chroot,
    Prctl,
    Capset,
    Execve,
    Execveat,
    Listxattr,
    Llistxattr,
    Flistxattr,
}

/// Flags of `open(2)` with which a file may be made: `O_CREAT` and the part of `O_TMPFILE` that is not
/// `O_DIRECTORY`.
const MAKES: u32 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)).cast_unsigned();

/// The bit that tells `PR_SET_KEEPCAPS` and `PR_SET_SECUREBITS` from most of what `prctl(2)` does.
const KEEPS: u32 = 8;

/// Only where the flags in an argument concern the emulation; other calls always.
const fn watched(call: Call) -> Action {
    match call {
        Call::Prctl => Action::NotifyOnBits(0, KEEPS),
        Call::Open => Action::NotifyOnBits(1, MAKES),
        Call::Openat => Action::NotifyOnBits(2, MAKES),
        _ => Action::Notify,
    }
}

/// The calls that every 64-bit machine has.
const COMMON: [(c_long, Call); 37] = [
    (libc::SYS_fchown, Call::Fchown),
    (libc::SYS_fchownat, Call::Fchownat),
    (libc::SYS_fchmod, Call::Fchmod),
    (libc::SYS_fchmodat, Call::Fchmodat),
    // The same on all machines, as every call that is newer than 5.0.
    (452, Call::Fchmodat2),
    (libc::SYS_fstat, Call::Fstat),
    (libc::SYS_newfstatat, Call::Fstatat),
    (libc::SYS_statx, Call::Statx),
    (libc::SYS_setuid, Call::Setuid),
    (libc::SYS_setgid, Call::Setgid),
    (libc::SYS_setreuid, Call::Setreuid),
    (libc::SYS_setregid, Call::Setregid),
    (libc::SYS_setresuid, Call::Setresuid),
    (libc::SYS_setresgid, Call::Setresgid),
    (libc::SYS_setfsuid, Call::Setfsuid),
    (libc::SYS_setfsgid, Call::Setfsgid),
    (libc::SYS_setgroups, Call::Setgroups),
    (libc::SYS_getuid, Call::Getuid),
    (libc::SYS_geteuid, Call::Geteuid),
    (libc::SYS_getgid, Call::Getgid),
    (libc::SYS_getegid, Call::Getegid),
    (libc::SYS_getresuid, Call::Getresuid),
    (libc::SYS_getresgid, Call::Getresgid),
    (libc::SYS_getgroups, Call::Getgroups),
    (libc::SYS_openat, Call::Openat),
    (libc::SYS_openat2, Call::Openat2),
    (libc::SYS_mkdirat, Call::Mkdirat),
    (libc::SYS_symlinkat, Call::Symlinkat),
    (libc::SYS_mknodat, Call::Mknodat),
    (libc::SYS_chroot, Call::Chroot),
    (libc::SYS_prctl, Call::Prctl),
    (libc::SYS_capset, Call::Capset),
    (libc::SYS_execve, Call::Execve),
    (libc::SYS_execveat, Call::Execveat),
    (libc::SYS_listxattr, Call::Listxattr),
    (libc::SYS_llistxattr, Call::Llistxattr),
    (libc::SYS_flistxattr, Call::Flistxattr),
];

/// The older forms, which only older machines have.
#[cfg(target_arch = "x86_64")]
const OLD: &[(c_long, Call)] = &[
    (libc::SYS_chown, Call::Chown),
    (libc::SYS_lchown, Call::Lchown),
    (libc::SYS_chmod, Call::Chmod),
    (libc::SYS_stat, Call::Stat),
    (libc::SYS_lstat, Call::Lstat),
    (libc::SYS_open, Call::Open),
    (libc::SYS_creat, Call::Creat),
    (libc::SYS_mkdir, Call::Mkdir),
    (libc::SYS_symlink, Call::Symlink),
    (libc::SYS_mknod, Call::Mknod),
];
#[cfg(target_arch = "aarch64")]
const OLD: &[(c_long, Call)] = &[];

impl Call {
    /// Which call has this number.
    pub(super) fn of(number: i32) -> Option<Self> {
        let calls = COMMON.iter().chain(OLD);
        calls
            .filter(|(known, _)| *known == c_long::from(number))
            .map(|(_, call)| *call)
            .next()
    }
}

/// The filter, in addition to the one that forbids calls: where both have an opinion, "forbidden" wins.
pub(super) fn program() -> Vec<Instruction> {
    let mut calls: Vec<(u32, Action)> = COMMON
        .iter()
        .chain(OLD)
        .filter_map(|(number, call)| Some((u32::try_from(*number).ok()?, watched(*call))))
        .collect();
    calls.sort_unstable_by_key(|(number, _)| *number);
    let mut ranges = vec![(0, Action::Allow)];
    for (number, action) in calls {
        match ranges.last_mut() {
            // The range that was closed behind the call before.
            Some((start, open)) if *start == number => *open = action,
            _ => ranges.push((number, action)),
        }
        ranges.push((number + 1, Action::Allow));
    }
    ranges.dedup_by(|next, first| next.1 == first.1);
    seccomp::native(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_call_of_its_own() {
        let mut numbers: Vec<c_long> = COMMON
            .iter()
            .chain(OLD)
            .map(|(number, _)| *number)
            .collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
        assert_eq!(Call::of(libc::SYS_statx as i32), Some(Call::Statx));
        assert_eq!(Call::of(libc::SYS_read as i32), None);
        // A tree, not a list: each call passes about eight instructions of it.
        assert!(program().len() < 120, "{}", program().len());
    }
}
