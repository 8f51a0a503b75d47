//! The network namespace of an ordinary user's network: no process lives in it. Whoever has a container
//! on the network holds it open, and the next one finds it with the others; when the last container has
//! ended, it is gone.
//!
//! Its owner, who is nobody inside, may configure it from outside through a socket that was opened
//! inside (user_namespaces(7): who owns a user namespace has all capabilities in it).

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::link::Links;
use super::member::Member;
use super::netlink::Netlink;
use crate::sys;

/// A network's namespace, held open.
#[derive(Debug)]
pub(super) struct Anchor {
    /// The user namespace that owns the network's, and that one.
    namespaces: [OwnedFd; 2],
    links: Links,
}

impl Anchor {
    /// Takes hold of the namespace that the members of a network hold, or makes it if there is none.
    pub(super) fn cast(members: &[Member]) -> io::Result<Self> {
        let (user, network, socket) = match members.iter().find_map(open) {
            Some((user, network)) => {
                let socket = join(&user, &network)?;
                (user, network, socket)
            }
            None => make()?,
        };
        Ok(Self {
            namespaces: [user, network],
            links: Links::at(Netlink::from_socket(socket)),
        })
    }

    /// The namespace's devices.
    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// The numbers under which this process has the user namespace and the network namespace open.
    pub(super) fn files(&self) -> [u32; 2] {
        self.namespaces
            .each_ref()
            .map(|file| file.as_raw_fd().unsigned_abs())
    }
}

/// The namespaces that a member holds, if it is still there.
fn open(member: &Member) -> Option<(OwnedFd, OwnedFd)> {
    let pid = member.process.pid;
    let file = |number| File::open(format!("/proc/{pid}/fd/{number}")).ok();
    let [user, network] = member.namespaces?.map(file);
    let opened = (user?.into(), network?.into());
    // What was opened is its own only if it has not ended before.
    member.process.is_alive().then_some(opened)
}

/// A socket of a namespace that is there: opened by a process that enters it.
fn join(user: &OwnedFd, network: &OwnedFd) -> io::Result<OwnedFd> {
    let (ours, theirs) = pair()?;
    let Some(child) = sys::fork()? else {
        let sent = enter(user, network).and_then(|socket| send(&theirs, &[socket.as_fd()]));
        sys::exit(i32::from(sent.is_err()));
    };
    drop(theirs);
    let received = receive::<1>(&ours);
    reap(child);
    received.map(|[socket]| socket)
}

fn enter(user: &OwnedFd, network: &OwnedFd) -> io::Result<OwnedFd> {
    move_into_thread_name_spaces(user.as_fd(), ThreadNameSpaceType::USER)?;
    move_into_thread_name_spaces(network.as_fd(), ThreadNameSpaceType::NETWORK)?;
    Netlink::route().map(OwnedFd::from)
}

/// A new namespace and a socket in it, from a process that ends when it has handed them out.
fn make() -> io::Result<(OwnedFd, OwnedFd, OwnedFd)> {
    let (ours, theirs) = pair()?;
    let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNET;
    let Some((child, _pidfd)) = sys::clone_into(namespaces, None)? else {
        let sent = hand_out(&theirs);
        sys::exit(i32::from(sent.is_err()));
    };
    drop(theirs);
    let received = receive::<3>(&ours);
    reap(child);
    received.map(|[user, network, socket]| (user, network, socket))
}

fn hand_out(to: &OwnedFd) -> io::Result<()> {
    let user = File::open("/proc/self/ns/user")?;
    let network = File::open("/proc/self/ns/net")?;
    let socket = Netlink::route()?;
    send(to, &[user.as_fd(), network.as_fd(), socket.as_fd()])
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    Ok(socketpair(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

fn send(to: &OwnedFd, files: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(files));
    sendmsg(
        to,
        &[IoSlice::new(b"N")],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive<const N: usize>(from: &OwnedFd) -> io::Result<[OwnedFd; N]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    recvmsg(from, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let files = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files: Vec<OwnedFd> = files.flatten().collect();
    files
        .try_into()
        .map_err(|_| io::Error::other("the kernel allows no namespace here"))
}

fn reap(child: Pid) {
    while let Err(rustix::io::Errno::INTR) = waitpid(Some(child), WaitOptions::empty()) {}
}
