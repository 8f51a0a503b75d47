//! What the two sides of a launch say to each other: the launcher that the ids are mapped, the
//! process inside what became of it. The program's start closes the inner end without a word.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::error::RunError;

/// The most that an error may weigh in JSON; a longer one is only known to have happened.
const LIMIT: usize = 64 << 10;

/// One end of a packet socket between a launcher and the process that it launches.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What the process inside says.
#[derive(Debug)]
pub(crate) enum Report {
    /// The master side of the program's terminal.
    Terminal(OwnedFd),
    /// What tells the calls of a program that others answer.
    Pretence(OwnedFd),
    /// Something that can be mounted.
    Mount(OwnedFd),
    /// The process that is to become the program, of a process that enters a container.
    Sibling(Pid),
    /// The kernel refuses to execute the program.
    Refused(io::Error),
    /// Everything is set up; if nothing follows, the program runs.
    Ready,
    /// The program cannot be run.
    Failed(Box<RunError>),
    /// The other end is closed.
    End,
}

impl Channel {
    /// Two connected ends, for two processes.
    pub(crate) fn pair() -> rustix::io::Result<(Self, Self)> {
        let (outer, inner) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(outer), Self(inner)))
    }

    /// Tells the process inside that it can go on.
    pub(crate) fn release(&self) -> rustix::io::Result<()> {
        rustix::net::send(&self.0, b"G", SendFlags::NOSIGNAL).map(drop)
    }

    /// Waits for [`release`](Self::release).
    pub(crate) fn wait(&self) -> rustix::io::Result<()> {
        let mut byte = [0];
        match rustix::net::recv(&self.0, &mut byte, RecvFlags::empty())? {
            (1, _) => Ok(()),
            _ => Err(Errno::PIPE),
        }
    }

    /// Whether the launcher is still there.
    pub(crate) fn is_connected(&self) -> bool {
        let mut byte = [0];
        let received = rustix::net::recv(&self.0, &mut byte, RecvFlags::DONTWAIT);
        received == Err(Errno::AGAIN)
    }

    /// Reports that everything is set up.
    pub(crate) fn report_ready(&self) {
        // A launcher that is gone takes the process with it.
        let _ = rustix::net::send(&self.0, b"R", SendFlags::NOSIGNAL);
    }

    /// Reports an error.
    pub(crate) fn report_failure(&self, error: &RunError) {
        let mut packet = vec![b'F'];
        // Writing to memory fails for no error type of ours.
        let _ = serde_json::to_writer(&mut packet, error);
        let _ = rustix::net::send(&self.0, &packet, SendFlags::NOSIGNAL);
    }

    /// Hands the master side of a terminal over.
    pub(crate) fn send_terminal(&self, master: BorrowedFd<'_>) -> rustix::io::Result<()> {
        self.send_file(b"T", master)
    }

    /// Hands the listener of a [`Pretence`](crate::Pretence) over.
    pub(crate) fn send_pretence(&self, listener: BorrowedFd<'_>) -> rustix::io::Result<()> {
        self.send_file(b"P", listener)
    }

    /// Hands something over that can be mounted.
    pub(crate) fn send_mount(&self, mount: &OwnedFd) -> rustix::io::Result<()> {
        self.send_file(b"M", mount.as_fd())
    }

    /// Hands several files over, and lets the process inside go on.
    pub(crate) fn send_files(&self, files: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(files));
        let text = [IoSlice::new(b"G")];
        rustix::net::sendmsg(&self.0, &text, &mut ancillary, SendFlags::NOSIGNAL).map(drop)
    }

    /// Waits for [`send_files`](Self::send_files), and gives what one call of it has sent.
    pub(crate) fn receive_files(&self) -> rustix::io::Result<Vec<OwnedFd>> {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut parts = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(&self.0, &mut parts, &mut ancillary, flags)?;
        let mut files = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                files.extend(more);
            }
        }
        match files.is_empty() {
            true => Err(Errno::PIPE),
            false => Ok(files),
        }
    }

    /// Tells which process is to become the program.
    pub(crate) fn send_sibling(&self, pid: Pid) -> rustix::io::Result<()> {
        let number = pid.as_raw_nonzero().get().to_le_bytes();
        let packet = [b"C".as_slice(), &number].concat();
        rustix::net::send(&self.0, &packet, SendFlags::NOSIGNAL).map(drop)
    }

    fn send_file(&self, text: &[u8], file: BorrowedFd<'_>) -> rustix::io::Result<()> {
        send_file(&self.0, text, file)
    }

    /// Waits until the other end is closed, without waking up for what it says before.
    pub(crate) fn wait_for_end(&self) {
        let mut end = [PollFd::new(&self.0, PollFlags::empty())];
        while poll(&mut end, None) == Err(Errno::INTR) {}
    }

    /// How long the next packet is, at most [`LIMIT`]; waits for it.
    fn next_length(&self) -> usize {
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        loop {
            match rustix::net::recv(&self.0, &mut [0; 0], flags) {
                // A reset says that the process inside has left something unread, once, and before what it had
                // said itself (unix(7)).
                Err(Errno::INTR | Errno::CONNRESET) => (),
                received => return received.map_or(0, |(_, length)| length.min(LIMIT)),
            }
        }
    }

    /// Waits for the next report.
    pub(crate) fn receive(&self) -> Report {
        // Nearly all are a single byte: what is not touched costs nothing.
        let mut packet = vec![0; self.next_length()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut packet)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(&self.0, &mut parts, &mut ancillary, flags) {
                // What the other side said before it left comes after a reset.
                Err(Errno::INTR | Errno::CONNRESET) => (),
                received => break received,
            }
        };
        let file = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        let length = received.map_or(0, |RecvMsg { bytes, .. }| bytes);
        match (packet.get(..length).and_then(<[u8]>::split_first), file) {
            (Some((b'T', [])), Some(master)) => Report::Terminal(master),
            (Some((b'P', [])), Some(listener)) => Report::Pretence(listener),
            (Some((b'M', [])), Some(mount)) => Report::Mount(mount),
            (Some((b'R', [])), _) => Report::Ready,
            (Some((b'C', number)), _) => number
                .first_chunk()
                .and_then(|number| Pid::from_raw(i32::from_le_bytes(*number)))
                .filter(|pid| is_child(*pid))
                .map_or(Report::End, Report::Sibling),
            // From the trampoline.
            (Some((b'E', [low, high, _])), _) => {
                let number = i32::from(u16::from_le_bytes([*low, *high]));
                Report::Refused(io::Error::from_raw_os_error(number))
            }
            (Some((b'F', text)), _) => serde_json::from_slice(text)
                .map_or(Report::End, |error| Report::Failed(Box::new(error))),
            _ => Report::End,
        }
    }
}

/// Whether a process is this one's to wait for: whatever is said of another, nothing is done to it.
fn is_child(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), look).is_ok()
}

/// Sends a text and an open file over a socket of the machine's (`unix(7)`).
pub(crate) fn send_file(
    socket: &OwnedFd,
    text: &[u8],
    file: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [file];
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    let text = [IoSlice::new(text)];
    rustix::net::sendmsg(socket, &text, &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers come from processes that others may have got hold of.
    #[test]
    fn only_a_child_is_taken_for_a_sibling() {
        let (ours, theirs) = Channel::pair().unwrap();
        for stranger in [rustix::process::getpid(), Pid::INIT] {
            theirs.send_sibling(stranger).unwrap();
            assert!(matches!(ours.receive(), Report::End));
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        theirs.send_sibling(pid).unwrap();
        assert!(matches!(ours.receive(), Report::Sibling(named) if named == pid));
        // Nobody has waited for it yet.
        child.wait().unwrap();
        theirs.send_sibling(pid).unwrap();
        assert!(matches!(ours.receive(), Report::End));
    }
}
