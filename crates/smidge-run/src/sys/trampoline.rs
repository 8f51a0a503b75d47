//! A program of a few instructions that executes another: what a process that enters a running container
//! turns into before it looks at anything that the container could exchange under its hands.
//!
//! Its arguments are the program's path and the program's arguments. Standard files apart it has one
//! descriptor, whose number is its last word, to which it writes `E` and the kernel's refusal in three bytes if there is one; the
//! program itself does not see it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::sandbox::{check, execute_file};

/// Where the trampoline reports, if nothing else has that number.
pub(crate) const REPORT: i32 = 3;

/// Where the file lies in memory (`elf(5)`).
const ADDRESS: u64 = 0x40_0000;

/// Bytes of the file's header with one program header.
const HEADER: usize = 64 + 56;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

// fcntl(3, F_SETFD, FD_CLOEXEC); execve(argv[0], argv + 1, envp); write(3, …, 4); exit_group(127).
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.smidge_trampoline, \"a\"",
    ".globl smidge_trampoline_start",
    ".hidden smidge_trampoline_start",
    ".globl smidge_trampoline_end",
    ".hidden smidge_trampoline_end",
    "smidge_trampoline_start:",
    "mov edi, [rip + 2f]",
    "mov esi, 2",
    "mov edx, 1",
    "mov eax, 72",
    "syscall",
    "mov rcx, [rsp]",
    "mov rdi, [rsp + 8]",
    "lea rsi, [rsp + 16]",
    "lea rdx, [rsp + rcx * 8 + 16]",
    "mov eax, 59",
    "syscall",
    "neg eax",
    "shl eax, 8",
    "add eax, 69",
    "push rax",
    "mov edi, [rip + 2f]",
    "mov rsi, rsp",
    "mov edx, 4",
    "mov eax, 1",
    "syscall",
    "mov edi, 127",
    "mov eax, 231",
    "syscall",
    "2:",
    ".long 3",
    "smidge_trampoline_end:",
    ".popsection",
);
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .rodata.smidge_trampoline, \"a\"",
    ".globl smidge_trampoline_start",
    ".hidden smidge_trampoline_start",
    ".globl smidge_trampoline_end",
    ".hidden smidge_trampoline_end",
    "smidge_trampoline_start:",
    "ldr w0, 2f",
    "mov x1, #2",
    "mov x2, #1",
    "mov x8, #25",
    "svc #0",
    "ldr x9, [sp]",
    "ldr x0, [sp, #8]",
    "add x1, sp, #16",
    "mov x2, sp",
    "add x2, x2, x9, lsl #3",
    "add x2, x2, #16",
    "mov x8, #221",
    "svc #0",
    "neg x9, x0",
    "lsl x9, x9, #8",
    "add x9, x9, #69",
    "str x9, [sp, #-16]!",
    "ldr w0, 2f",
    "mov x1, sp",
    "mov x2, #4",
    "mov x8, #64",
    "svc #0",
    "mov x0, #127",
    "mov x8, #94",
    "svc #0",
    "2:",
    ".long 3",
    "smidge_trampoline_end:",
    ".popsection",
);

/// The trampoline's instructions.
fn code() -> &'static [u8] {
    unsafe extern "C" {
        static smidge_trampoline_start: u8;
        static smidge_trampoline_end: u8;
    }
    let (start, end) = (
        &raw const smidge_trampoline_start,
        &raw const smidge_trampoline_end,
    );
    // SAFETY: both names mark one run of constant bytes, its start and its end.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The trampoline as an ELF file that reports to a descriptor: one segment, which is the whole file.
fn image(report: i32) -> Vec<u8> {
    let mut code = code().to_vec();
    let last = code.len() - size_of::<i32>();
    code.splice(last.., report.to_le_bytes());
    let size = (HEADER + code.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |numbers: &[u16]| {
        numbers
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect::<Vec<_>>()
    };
    file.extend(half(&[2, MACHINE]));
    file.extend(1_u32.to_le_bytes());
    for number in [ADDRESS + HEADER as u64, 64, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    file.extend(half(&[64, 56, 1, 64, 0, 0]));
    // PT_LOAD, readable and executable.
    file.extend([1_u32, 5].iter().flat_map(|number| number.to_le_bytes()));
    for number in [0, ADDRESS, ADDRESS, size, size, 0x1_0000] {
        file.extend(number.to_le_bytes());
    }
    file.extend(code);
    file
}

/// An empty file in memory that can be executed when it is filled.
pub(crate) fn executable_in_memory(name: &CStr, flags: MemfdFlags) -> io::Result<OwnedFd> {
    // Kernels before 6.3 do not know the flag, and need it not.
    match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => Ok(rustix::fs::memfd_create(name, flags)?),
        file => Ok(file?),
    }
}

/// The trampoline as a file that nobody can change any more, for a report to a descriptor of that number.
pub(crate) fn trampoline(report: i32) -> io::Result<OwnedFd> {
    let file = executable_in_memory(c"exec", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::io::write(&file, &image(report))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// Becomes the trampoline, which was made for the number of `report`'s second part, and reports to its
/// first; returns only if the kernel refuses.
pub(crate) fn jump(
    trampoline: BorrowedFd<'_>,
    (report, number): (BorrowedFd<'_>, i32),
    arguments: &[CString],
    environment: &[CString],
) -> io::Error {
    // Out of the way of the number that the report has to have.
    let trampoline = match rustix::io::fcntl_dupfd_cloexec(trampoline, number + 1) {
        Ok(file) => file,
        Err(errno) => return errno.into(),
    };
    let placed = match report.as_raw_fd() {
        // SAFETY: takes no pointers, and changes a flag of a descriptor that the caller holds.
        same if same == number => check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into()),
        // SAFETY: takes no pointers; whatever has that number is not used any more, for the process
        // turns into another program.
        other => check(unsafe { libc::dup2(other, number) }.into()),
    };
    match placed {
        Ok(_) => execute_file(
            std::os::fd::AsFd::as_fd(&trampoline),
            arguments,
            environment,
        ),
        Err(error) => error,
    }
}

/// Forks a sibling: a child of this process's parent, in the PID namespace that this process's
/// children are to be in. `None` in the child; the same rules as for [`fork`](super::fork) hold.
pub(crate) fn clone_sibling() -> io::Result<Option<rustix::process::Pid>> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child is a copy of a process that has no other threads; no
    // pointers are given.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok(i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw))
}
