//! Values of any size over a stream socket: JSON behind its length.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, Result};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest value that is believed: far above what any spec weighs.
const LIMIT: usize = 1 << 30;

/// Writes a value. Whoever reads it may be gone, which is an error and no signal.
pub(crate) fn write<T: Serialize>(socket: &OwnedFd, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|_| Errno::INVAL)?;
    let length = u32::try_from(text.len()).map_err(|_| Errno::MSGSIZE)?;
    write_all(socket, &[&length.to_le_bytes(), text.as_slice()].concat())
}

/// Reads a value, waiting for it; `None` if the other side is gone or talks nonsense.
pub(crate) fn read<T: DeserializeOwned>(socket: &OwnedFd) -> Option<T> {
    let mut length = [0; 4];
    read_all(socket, &mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    let mut text = vec![0; Some(length).filter(|length| *length <= LIMIT)?];
    read_all(socket, &mut text)?;
    serde_json::from_slice(&text).ok()
}

fn write_all(socket: &OwnedFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_all(socket: &OwnedFd, mut bytes: &mut [u8]) -> Option<()> {
    while !bytes.is_empty() {
        match recv(socket, &mut *bytes, RecvFlags::empty()) {
            Ok((read, _)) if read > 0 => bytes = &mut bytes[read..],
            // A reset says, once and first, that the other side has left something unread (unix(7)).
            Err(Errno::INTR | Errno::CONNRESET) => {}
            _ => return None,
        }
    }
    Some(())
}
