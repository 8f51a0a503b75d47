//! Exiting when asked to.
//!
//! A container's first process is PID 1 of its namespace, for which the kernel ignores every
//! signal that has no handler (pid_namespaces(7)): without one, neither Ctrl-C nor `smidge stop`
//! would end this program.

use std::ffi::c_int;

const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;

// The standard library links libc, but has no interface to these two.
unsafe extern "C" {
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn _exit(status: c_int) -> !;
}

extern "C" fn exit(_number: c_int) {
    // SAFETY: `_exit` is async-signal-safe (signal-safety(7)).
    unsafe { _exit(0) }
}

/// Makes SIGINT and SIGTERM end the process, with status 0.
pub fn exit_when_asked() {
    for number in [SIGINT, SIGTERM] {
        // SAFETY: the handler calls nothing but an async-signal-safe function.
        unsafe { signal(number, exit) };
    }
}
