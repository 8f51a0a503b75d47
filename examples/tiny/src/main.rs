//! The greeting over HTTP in a few hundred bytes: no standard library, no libc, only system calls.
//!
//! One process for each connection. A client may send its request in as many pieces as it likes,
//! but has ten seconds for it.

#![no_std]
#![no_main]

mod syscall;

use syscall::{Signal, Socket, accept, alarm, close, exit, fork, on_signal, read, shutdown, write};

const STARTED: &[u8] = b"Started, serving at 8080\n";
const BODY: &[u8] = b"Hello World from Rust!\n";
/// In HTTP/1.0 a connection ends with its answer, without a word about it (RFC 1945, 1.3).
const RESPONSE: &[u8] = b"HTTP/1.0 200 OK\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 23\r\n\r\n\
    Hello World from Rust!\n";

/// The end of a request's head, as a number.
const END: u32 = u32::from_be_bytes(*b"\r\n\r\n");

const _: () = assert!(BODY.len() == 23, "the length that RESPONSE promises");

/// Called by `_start` on an aligned stack.
pub extern "C" fn main() -> ! {
    // PID 1 of a container ignores every signal that it has no handler for.
    on_signal(Signal::Interrupt, Some(leave));
    on_signal(Signal::Terminate, Some(leave));
    // Children that are ignored leave no zombies (wait(2), "NOTES").
    on_signal(Signal::Child, None);

    let Some(listener) = Socket::listen(8080) else {
        exit(1)
    };
    write_all(1, STARTED);
    loop {
        let Some(client) = accept(&listener) else {
            continue;
        };
        if fork() == 0 {
            serve(client);
        }
        close(client);
    }
}

extern "C" fn leave() -> ! {
    exit(0)
}

/// Answers one request, then waits for the client to hang up: closing a socket with unread input
/// would reset the connection and could cut the answer off.
fn serve(client: i32) -> ! {
    alarm(10);
    let mut buffer = [0; 256];
    // The first byte tells a HEAD request, the last four tell the end of its head.
    let mut first = 0;
    let mut last = 0_u32;
    while last != END {
        let input = read(client, &mut buffer);
        if input.is_empty() {
            exit(0);
        }
        for &byte in input {
            if first == 0 {
                first = byte;
            }
            if last != END {
                last = last << 8 | u32::from(byte);
            }
        }
    }
    let body = if first == b'H' { BODY.len() } else { 0 };
    write_all(client, &RESPONSE[..RESPONSE.len() - body]);
    shutdown(client);
    while !read(client, &mut buffer).is_empty() {}
    exit(0)
}

/// Writes everything, in as many pieces as it takes; gives up when the client is gone.
fn write_all(file: i32, mut bytes: &[u8]) {
    loop {
        let rest = write(file, bytes);
        if rest.is_empty() || rest.len() == bytes.len() {
            return;
        }
        bytes = rest;
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(2)
}
