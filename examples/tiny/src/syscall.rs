//! The system calls of Linux on x86-64 that the server makes, each with a safe face.
//!
//! Numbers: arch/x86/entry/syscalls/syscall_64.tbl. Calling convention: syscall(2).

use core::arch::{asm, naked_asm};

/// Where the kernel starts the program: with the stack aligned to 16 bytes, as a `call` wants it.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("call {main}", main = sym crate::main)
}

/// Makes a system call of up to three arguments.
///
/// # Safety
/// Pointers among the arguments must be good for what the call does with them.
#[inline(always)]
unsafe fn call(number: usize, [a, b, c]: [usize; 3]) -> isize {
    let result;
    // SAFETY: the kernel changes no register but these three, and no memory but what the caller
    // vouches for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a system call of five arguments.
///
/// # Safety
/// As [`call`].
#[inline(always)]
unsafe fn call5(number: usize, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result;
    // SAFETY: as in `call`.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// The signals that matter here.
#[derive(Clone, Copy)]
pub enum Signal {
    Interrupt = 2,
    Terminate = 15,
    Child = 17,
}

/// Calls `handler` at a signal, or ignores it if there is none. The handler must not return: there
/// is nothing here that it could return through.
#[inline(always)]
pub fn on_signal(signal: Signal, handler: Option<extern "C" fn() -> !>) {
    const SIG_IGN: usize = 1;
    const SA_RESTORER: usize = 0x0400_0000;
    let handler = match handler {
        Some(handler) => handler as usize,
        None => SIG_IGN,
    };
    // struct kernel_sigaction: handler, flags, restorer, mask.
    let action = [handler, SA_RESTORER, 0, 0];
    // SAFETY: `action` is read only, and a handler that never returns needs no restorer.
    unsafe { call5(13, [signal as usize, action.as_ptr() as usize, 0, 8, 0]) };
}

/// A TCP socket that listens.
pub struct Socket(usize);

impl Socket {
    /// Listens on all IPv4 addresses.
    pub fn listen(port: u16) -> Option<Self> {
        const AF_INET: u16 = 2;
        // struct sockaddr_in: family, port in network order, address 0.0.0.0, padding.
        let address = [AF_INET, port.to_be(), 0, 0, 0, 0, 0, 0];
        let one = 1_i32;
        // SAFETY: the kernel reads 4 bytes of `one` and 16 of `address`.
        unsafe {
            let socket = call(41, [AF_INET as usize, 1, 0]) as usize;
            // SOL_SOCKET, SO_REUSEADDR.
            call5(54, [socket, 1, 2, &raw const one as usize, 4]);
            let bound = call(49, [socket, address.as_ptr() as usize, 16]);
            let listening = call(50, [socket, 128, 0]);
            if bound == 0 && listening == 0 {
                Some(Self(socket))
            } else {
                None
            }
        }
    }
}

/// Waits for a client.
pub fn accept(listener: &Socket) -> Option<i32> {
    // SAFETY: no pointers.
    let client = unsafe { call(43, [listener.0, 0, 0]) };
    if client >= 0 {
        Some(client as i32)
    } else {
        None
    }
}

/// Doubles the process: 0 in the new one.
pub fn fork() -> isize {
    // SAFETY: there are no threads, and no state that must not be doubled.
    unsafe { call(57, [0; 3]) }
}

/// Reads what has come; nothing at the end and when reading fails.
#[inline(always)]
pub fn read(file: i32, buffer: &mut [u8]) -> &[u8] {
    let (start, length) = (buffer.as_mut_ptr() as usize, buffer.len());
    // SAFETY: the kernel writes into `buffer` alone.
    let count = unsafe { call(0, [file as usize, start, length]) };
    match buffer.get(..count as usize) {
        Some(input) => input,
        None => &[],
    }
}

/// Writes what can be written at once. Returns the rest: all of it when writing fails.
#[inline(always)]
pub fn write(file: i32, bytes: &[u8]) -> &[u8] {
    let (start, length) = (bytes.as_ptr() as usize, bytes.len());
    // SAFETY: the kernel only reads `bytes`.
    let count = unsafe { call(1, [file as usize, start, length]) };
    match bytes.get(count as usize..) {
        Some(rest) => rest,
        None => bytes,
    }
}

/// Tells the client that nothing more will come.
pub fn shutdown(socket: i32) {
    const SHUT_WR: usize = 1;
    // SAFETY: no pointers.
    unsafe { call(48, [socket as usize, SHUT_WR, 0]) };
}

/// Closes a file.
pub fn close(file: i32) {
    // SAFETY: no pointers.
    unsafe { call(3, [file as usize, 0, 0]) };
}

/// Ends the process after so many seconds.
pub fn alarm(seconds: usize) {
    // SAFETY: no pointers.
    unsafe { call(37, [seconds, 0, 0]) };
}

/// Ends the process.
pub fn exit(status: usize) -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe { call(60, [status, 0, 0]) };
    }
}
