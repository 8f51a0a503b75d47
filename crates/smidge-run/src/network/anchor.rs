//! The network namespace of an ordinary user's network: no process lives in it. Whoever has a container
//! on the network holds it open, and the next one finds it with the others; when the last container has
//! ended, it is gone.
//!
//! Its owner, who is nobody inside, may configure it from outside through a socket that was opened
//! inside (user_namespaces(7): who owns a user namespace has all capabilities in it).

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::link::Links;
use super::netlink::Netlink;
use crate::state::Process;
use crate::sys;

/// Where the processes are named that hold the namespace.
const MEMBERS: &str = "members";

/// A network's namespace, held open.
#[derive(Debug)]
pub(crate) struct Anchor {
    /// The user namespace that owns the network's, and that one: for others to find.
    _namespaces: [OwnedFd; 2],
    links: Links,
    /// Where others find it.
    record: PathBuf,
}

impl Anchor {
    /// Takes hold of the namespace of the network in `dir`, made if nobody holds it.
    pub(crate) fn cast(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir.join(MEMBERS))?;
        let lock = File::create(dir.join("lock"))?;
        lock.lock()?;
        let (user, network, socket) = match members(dir).into_iter().find_map(Member::open) {
            Some((user, network)) => {
                let socket = join(&user, &network)?;
                (user, network, socket)
            }
            None => make()?,
        };
        let record = dir.join(MEMBERS).join(std::process::id().to_string());
        let own = Process::of(std::process::id());
        let (user_number, network_number) = (user.as_raw_fd(), network.as_raw_fd());
        let text = format!("{} {user_number} {network_number}\n", own.start_time);
        fs::write(&record, text)?;
        Ok(Self {
            _namespaces: [user, network],
            links: Links::at(Netlink::from_socket(socket)),
            record,
        })
    }

    /// The namespace's devices.
    pub(super) fn links(&self) -> &Links {
        &self.links
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.record);
    }
}

/// A process that holds the namespace, and the numbers of its two files.
struct Member {
    process: Process,
    files: [u32; 2],
}

impl Member {
    fn parse(path: &Path) -> Option<Self> {
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        let text = fs::read_to_string(path).ok()?;
        let mut words = text.split_whitespace();
        let start_time = words.next()?.parse().ok()?;
        Some(Self {
            process: Process { pid, start_time },
            files: [words.next()?.parse().ok()?, words.next()?.parse().ok()?],
        })
    }

    /// Its namespaces, if it is still there.
    fn open(self) -> Option<(OwnedFd, OwnedFd)> {
        let pid = self.process.pid;
        let file = |number| File::open(format!("/proc/{pid}/fd/{number}")).ok();
        let [user, network] = self.files.map(file);
        let opened = (user?.into(), network?.into());
        // What was opened is its own only if it has not ended before.
        self.process.is_alive().then_some(opened)
    }
}

/// Who is said to hold the namespace. Those that ended without a word are forgotten.
fn members(dir: &Path) -> Vec<Member> {
    let files = fs::read_dir(dir.join(MEMBERS)).into_iter().flatten();
    let paths = files.flatten().map(|file| file.path());
    paths
        .filter_map(|path| {
            let member = Member::parse(&path).filter(|member| member.process.is_alive());
            if member.is_none() {
                let _ = fs::remove_file(&path);
            }
            member
        })
        .collect()
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
    let Some((child, _pidfd)) = sys::clone_into(namespaces)? else {
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
