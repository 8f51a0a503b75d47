//! Programs and ports that tests make for themselves.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::InTime as _;

/// Writes a program. Another process does: what this one has open for writing, so has whatever another test
/// starts meanwhile, for a moment, and then it cannot be executed (execve(2), ETXTBSY).
///
/// # Errors
/// When there is no shell, or it cannot write there.
pub fn write_program(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]);
    let mut shell = shell.arg(path).stdin(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = shell.stdin.take() {
        stdin.write_all(content.as_ref())?;
    }
    match shell.status_in_time()?.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "cannot write `{}`",
            path.display()
        ))),
    }
}

/// Ports that the kernel gives to nobody who asks for any: it begins above them (`ip_local_port_range`).
const PORTS: std::ops::Range<u16> = 21_000..32_000;

/// The first of `count` ports in a row, at which nobody listens, and that nobody gets who asks for any port
/// or connects to somebody, as one may that was free a moment before.
///
/// # Panics
/// When all are taken.
#[must_use]
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let size = PORTS.end - PORTS.start - count;
    // Others than another process's that tests at the same time.
    let own = u16::try_from(std::process::id() % 97).unwrap_or_default() * 113;
    let is_free = |port: u16| {
        let ip = Ipv4Addr::UNSPECIFIED;
        TcpListener::bind((ip, port)).is_ok() && UdpSocket::bind((ip, port)).is_ok()
    };
    let turns = (0..size).map(|_| NEXT.fetch_add(count, Ordering::Relaxed));
    let mut firsts = turns.map(|turn| PORTS.start + turn.wrapping_add(own) % size);
    firsts
        .find(|first| (*first..*first + count).all(is_free))
        .expect("some ports are free")
}
