//! Requests to the kernel's network configuration, and its answers
//! ([netlink(7)](https://man7.org/linux/man-pages/man7/netlink.7.html)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto,
    socket_with,
};

/// Bytes of an answer: acknowledgements, and errors with the request that they are about.
const ANSWER: usize = 16 << 10;

/// Bytes of a list at a time: the kernel makes no more in one packet.
const LISTING: usize = 64 << 10;

/// How often a list is asked for that changes while it is told.
const TRIES: usize = 100;

/// Bytes of a message's header (`struct nlmsghdr`).
const HEADER: usize = 16;

/// Bytes of an attribute's header (`struct nlattr`).
const ATTRIBUTE: usize = 4;

/// A message that is being written: a header, the fixed part of its kind, attributes.
#[derive(Clone, Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of a kind with its fixed part. `flags` are those beside `NLM_F_REQUEST`.
    pub(super) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap_or_default();
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes }.padded()
    }

    /// Adds an attribute.
    #[must_use]
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.padded()
    }

    /// Adds a text, which ends with a zero.
    #[must_use]
    pub(super) fn with_text(self, kind: u16, text: &str) -> Self {
        self.with(kind, &[text.as_bytes(), b"\0"].concat())
    }

    /// Adds a number in the machine's order of bytes.
    #[must_use]
    pub(super) fn with_number(self, kind: u16, number: u32) -> Self {
        self.with(kind, &number.to_ne_bytes())
    }

    /// Adds an attribute that holds a fixed part and attributes itself.
    #[must_use]
    pub(super) fn with_nested(
        mut self,
        kind: u16,
        fixed: &[u8],
        inner: impl FnOnce(Self) -> Self,
    ) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ATTRIBUTE]);
        self.bytes.extend_from_slice(fixed);
        let mut whole = inner(self.padded());
        let length = u16::try_from(whole.bytes.len() - start).unwrap_or(u16::MAX);
        let header = &mut whole.bytes[start..start + ATTRIBUTE];
        header[..2].copy_from_slice(&length.to_ne_bytes());
        header[2..].copy_from_slice(&kind.to_ne_bytes());
        whole
    }

    /// The same request, whose end is told.
    fn acknowledged(self) -> Self {
        self.flagged(libc::NLM_F_ACK)
    }

    fn flagged(mut self, more: i32) -> Self {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        let flags = flags | u16::try_from(more).unwrap_or_default();
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    /// Everything begins at a multiple of four bytes.
    fn padded(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// The bytes, with length and number filled in.
    fn finish(mut self, number: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&number.to_ne_bytes());
        self.bytes
    }
}

/// A socket of one of the kernel's protocols, in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Devices, addresses and routes.
    pub(super) fn route() -> io::Result<Self> {
        // Number 0 of the kernel's protocols.
        Self::open(None)
    }

    /// What tells that devices or addresses come and go: something to read, whatever it says.
    pub(super) fn changes() -> io::Result<OwnedFd> {
        const GROUPS: i32 = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS.cast_unsigned()))?;
        Ok(socket)
    }

    /// The packet filter.
    pub(super) fn filter() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::NETFILTER))
    }

    /// What tells of sockets.
    pub(super) fn sockets() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::SOCK_DIAG))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        Ok(Self { socket })
    }

    /// Takes a socket that somebody else has opened, perhaps in another namespace.
    pub(super) fn from_socket(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends one request and waits until it is carried out.
    pub(super) fn request(&self, message: Message) -> io::Result<()> {
        self.send(&message.acknowledged().finish(1))?;
        self.acknowledged(1)
    }

    /// Sends requests that are carried out together or not at all, between two that say so.
    pub(super) fn batch(&self, messages: Vec<Message>) -> io::Result<()> {
        let last = messages.len().saturating_sub(2);
        let mut bytes = Vec::new();
        for (number, message) in (0..).zip(messages) {
            let message = match usize::try_from(number) == Ok(last) {
                true => message.acknowledged(),
                false => message,
            };
            bytes.extend(message.finish(number));
        }
        self.send(&bytes)?;
        self.acknowledged(u32::try_from(last).unwrap_or_default())
    }

    /// Asks for all that there is of something, and shows each to `visit`: what follows its header.
    pub(super) fn list(&self, message: Message, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        let question = message.flagged(libc::NLM_F_DUMP).finish(1);
        let mut tries = TRIES;
        let packets = loop {
            tries -= 1;
            match self.packets(&question)? {
                // It has changed meanwhile: some may have been left out.
                (true, _) if tries > 0 => {}
                (_, packets) => break packets,
            }
        };
        for packet in &packets {
            for (kind, _, body) in answers(packet) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => return outcome(body),
                    _ => visit(body),
                }
            }
        }
        Ok(())
    }

    /// The packets of a list, to its end, and whether the kernel was interrupted when it made them.
    fn packets(&self, question: &[u8]) -> io::Result<(bool, Vec<Vec<u8>>)> {
        self.send(question)?;
        let (mut buffer, mut packets) = (vec![0; LISTING], Vec::new());
        let mut interrupted = false;
        loop {
            let length = self.receive(&mut buffer)?;
            let packet = &buffer[..length];
            interrupted |= headers(packet)
                .any(|(header, _)| i32::from(header[6]) & libc::NLM_F_DUMP_INTR != 0);
            packets.push(packet.to_vec());
            let ends = [libc::NLMSG_DONE, libc::NLMSG_ERROR];
            if answers(packet).any(|(kind, ..)| ends.contains(&i32::from(kind))) {
                return Ok((interrupted, packets));
            }
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The address is said, although there is no other: so the kernel asks what the sender may do, and
    /// not also what the socket's maker may.
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        loop {
            match sendto(&self.socket, bytes, SendFlags::empty(), &kernel) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent.map(drop)?),
            }
        }
    }

    /// Reads answers up to the acknowledgement of a request, or the first error.
    fn acknowledged(&self, number: u32) -> io::Result<()> {
        let mut buffer = vec![0; ANSWER];
        loop {
            let length = self.receive(&mut buffer)?;
            for (kind, of, body) in answers(&buffer[..length]) {
                if i32::from(kind) == libc::NLMSG_ERROR {
                    outcome(body)?;
                    if of == number {
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl From<Netlink> for OwnedFd {
    fn from(netlink: Netlink) -> Self {
        netlink.socket
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the kernel says to a request: an error, or that it is done.
fn outcome(body: &[u8]) -> io::Result<()> {
    match body
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code))
    {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

/// The attributes of a message, after its fixed part: kind and value.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, kind, kind_high] = *bytes.first_chunk::<ATTRIBUTE>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(ATTRIBUTE..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([kind, kind_high]);
        Some((
            kind & !u16::try_from(libc::NLA_F_NESTED).unwrap_or_default(),
            value,
        ))
    })
}

/// The messages of a packet: kind, number of the request, and what follows the header.
fn answers(packet: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    headers(packet).map(|(header, body)| {
        let [_, _, _, _, kind, kind_high, _, _, e, f, g, h, ..] = *header;
        let kind = u16::from_ne_bytes([kind, kind_high]);
        (kind, u32::from_ne_bytes([e, f, g, h]), body)
    })
}

/// The messages of a packet: header, and what follows it.
fn headers(mut packet: &[u8]) -> impl Iterator<Item = (&[u8; HEADER], &[u8])> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER] = packet.first_chunk()?;
        let [a, b, c, d, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
        let body = packet.get(HEADER..length)?;
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_nest_and_are_aligned() {
        let message = Message::new(16, libc::NLM_F_ACK, &[1, 2])
            .with_text(3, "eth0")
            .with_nested(18, &[9], |m| m.with_number(1, 7));
        let bytes = message.finish(5);
        let number = |n: u32| n.to_ne_bytes();
        let short = |n: u16| n.to_ne_bytes();
        let expected = [
            &number(48)[..],
            &short(16),
            &short(5),
            &number(5),
            &number(0),
            &[1, 2, 0, 0],
            &short(9),
            &short(3),
            b"eth0\0\0\0\0",
            &short(16),
            &short(18),
            &[9, 0, 0, 0],
            &short(8),
            &short(1),
            &number(7),
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn answers_are_told_apart_and_nonsense_ends_them() {
        let one = Message::new(2, 0, &number(0)).finish(4);
        let two = Message::new(3, 0, &[]).finish(5);
        let packet = [&one[..], &two, &[1, 2, 3]].concat();
        let all: Vec<_> = answers(&packet).collect();
        assert_eq!(all, [(2, 4, &[0; 4][..]), (3, 5, &[][..])]);
        let mut wrong = one;
        wrong[0] = 200;
        assert_eq!(answers(&wrong).count(), 0);
    }

    fn number(n: u32) -> [u8; 4] {
        n.to_ne_bytes()
    }
}
