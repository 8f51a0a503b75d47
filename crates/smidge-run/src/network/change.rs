//! Putting a running container on networks, and taking it off: done by its supervisor, which holds what
//! has to last as long as the container is on them.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};

use super::link::Links;
use super::{Attachment, Membership, Networks, attach, lock, settle};
use crate::error::RunError;
use crate::message::Request;
use crate::network::server::NameServer;
use crate::port::enter;
use crate::{session, sys};

/// Puts the running container in `dir` on a network. One that is on it already is known there by the names
/// that are given now.
///
/// # Errors
/// When it does not run, or the kernel refuses.
pub fn connect(dir: &Path, attachment: &Attachment) -> Result<(), RunError> {
    session::ask(dir, &Request::Connect(Box::new(attachment.clone())))
}

/// Takes the running container in `dir` off a network, which is known by its bridge.
///
/// # Errors
/// When it does not run, or the kernel refuses.
pub fn disconnect(dir: &Path, bridge: &str) -> Result<(), RunError> {
    session::ask(dir, &Request::Disconnect(bridge.to_owned()))
}

impl Networks {
    /// Puts a running program on the last of its networks, beside those that it is on.
    pub(crate) fn connect(
        &mut self,
        all: &[Attachment],
        program: BorrowedFd<'_>,
        pid: u32,
    ) -> Result<(), RunError> {
        let Some(last) = all.last() else {
            return Ok(());
        };
        let path = format!("/proc/{pid}/ns/net");
        let namespace =
            File::open(path).map_err(RunError::supervise("open the network namespace"))?;
        self.memberships.push(attach(last, namespace.as_fd())?);
        self.change(all, program).inspect_err(|_| {
            let membership = self.memberships.pop();
            // It is as if it had never been laid.
            let _ = membership.map(|membership| membership.end(last));
        })
    }

    /// Calls a container on a network by other names.
    pub(crate) fn rename(&self, attachment: &Attachment) -> Result<(), RunError> {
        let own = self
            .memberships
            .iter()
            .find(|m| m.bridge == attachment.bridge);
        own.map_or(Ok(()), |own| {
            own.record.rename(&attachment.dir, &attachment.names)
        })
        .map_err(attachment.fault("say what the container is called"))
    }

    /// Takes a running program off a network. `rest` are those that it stays on.
    pub(crate) fn disconnect(
        &mut self,
        gone: &Attachment,
        rest: &[Attachment],
        program: BorrowedFd<'_>,
    ) -> Result<(), RunError> {
        let at = self
            .memberships
            .iter()
            .position(|m| m.bridge == gone.bridge);
        if let Some(at) = at {
            self.memberships.remove(at).end(gone)?;
        }
        self.change(rest, program)
    }

    /// Sets up what is inside for the networks that a program is on now.
    fn change(&mut self, all: &[Attachment], program: BorrowedFd<'_>) -> Result<(), RunError> {
        settle_inside(all, self.uplink.is_some(), program)?;
        // The old one answers until the new one can be asked, unless it is in its way.
        let server = NameServer::fork(all, program).or_else(|_| {
            self.server = None;
            NameServer::fork(all, program)
        });
        self.server = server?;
        Ok(())
    }
}

impl Membership {
    /// Removes the cable.
    fn end(self, attachment: &Attachment) -> Result<(), RunError> {
        let _lock = lock(&attachment.dir).map_err(attachment.fault("lock its directory"))?;
        let cable = attachment.cable();
        let removed = match &self.anchor {
            Some(anchor) => anchor.links().remove(&cable),
            None => Links::open().and_then(|links| links.remove(&cable)),
        };
        removed.map_err(attachment.fault("remove the container's cable"))
    }
}

/// Gives a running container's devices their addresses and routes, those that have them already too.
fn settle_inside(
    all: &[Attachment],
    has_uplink: bool,
    program: BorrowedFd<'_>,
) -> Result<(), RunError> {
    let step = RunError::supervise("set up the container's network");
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(step)?;
    let forked = sys::fork().map_err(RunError::supervise("set up the container's network"))?;
    let Some(child) = forked else {
        let entered = enter(program).map_err(RunError::supervise("enter the container's network"));
        if let Err(fault) = entered.and_then(|()| settle(all, has_uplink)) {
            // Whoever reads it is told nothing else.
            let _ = serde_json::to_writer(&mut File::from(write), &fault);
        }
        sys::exit(0);
    };
    drop(write);
    let mut said = Vec::new();
    let heard = File::from(read).read_to_end(&mut said);
    while let Err(rustix::io::Errno::INTR) = waitpid(Some(child), WaitOptions::empty()) {}
    heard.map_err(RunError::supervise("set up the container's network"))?;
    match serde_json::from_slice(&said) {
        Ok(fault) => Err(fault),
        Err(_) => Ok(()),
    }
}
