//! The way out of a container's network namespace, made when somebody asks for it first: the program by a
//! socket, or another one who comes into the namespace.
//!
//! A program that never asks pays nothing for it. One that does waits in its call of `socket(2)` until it is
//! there, and so never sees a network that is half made (`seccomp_unotify(2)`).

use std::borrow::Cow;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::error::RunError;
use crate::message::Request;
use crate::network::Attachment;
use crate::program::Program;
use crate::session;
use crate::spec::{Publish, Spec, WayOut};
use crate::state::Outlook;
use crate::sys;

/// What leads out of a container's network namespace.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Its place on a network.
    pub attachment: Option<Attachment>,
    /// As [`Spec::uplink`].
    pub uplink: Option<PathBuf>,
    /// What is removed from the host with a container that is thrown away.
    pub cleanup: Vec<PathBuf>,
}

/// What makes a way that has been chosen.
pub type Lay<'a> = &'a mut dyn FnMut(Way) -> Result<(), RunError>;

/// Chooses a way, has it made, and notes down what has become of it: in a process of the supervisor's. It
/// fails with why there is none, in words.
pub type Outlet<'a> = &'a dyn Fn(Lay<'_>) -> Result<(), String>;

/// Makes the way out of the running container in `dir`, if its program has not asked for it yet. Returns when
/// it is there, or there cannot be one.
///
/// # Errors
/// When the container does not run.
pub fn lead_out(dir: &Path) -> Result<(), RunError> {
    session::ask(dir, &Request::LeadOut)
}

/// Sees to it that a program gets its way out in time, once it runs: at the latest when the kernel has to
/// know its address, for published ports.
pub(crate) fn prepare(
    spec: &mut Cow<'_, Spec>,
    program: &mut Program,
    outlet: Outlet<'_>,
) -> Outlook {
    let by_kernel = !spec.ports.is_empty()
        && spec.publish == Publish::Auto
        && rustix::process::geteuid().is_root();
    if let (WayOut::OnDemand, Some(calls)) = (spec.way_out, &program.calls) {
        sys::take_turns(calls.as_fd());
    }
    match (spec.way_out, &program.calls) {
        (WayOut::OnDemand, Some(_)) if !by_kernel => Outlook::Pending,
        (WayOut::OnDemand, _) => open(spec, program, outlet),
        _ => match program.lack.take() {
            Some(lack) => Outlook::Shut(lack.to_string()),
            None => Outlook::Open,
        },
    }
}

/// Makes the way out of a running program's network namespace. It has it from now on, at its next start
/// from the beginning.
pub(crate) fn open(spec: &mut Cow<'_, Spec>, program: &mut Program, outlet: Outlet<'_>) -> Outlook {
    let mut lay = |way: Way| {
        let mut all = spec.attachments.clone();
        if let Some(attachment) = way.attachment {
            all.push(attachment);
            let (pidfd, pid) = (program.pidfd.as_fd(), program.pid);
            program.networks.connect(&all, pidfd, pid)?;
        }
        if let (Some(pasta), Some(pid)) = (&way.uplink, Pid::from_raw(program.pid.cast_signed())) {
            program.networks.lead_out(pasta, pid)?;
        }
        let spec = spec.to_mut();
        spec.attachments = all;
        spec.uplink = way.uplink;
        spec.cleanup.extend(way.cleanup);
        spec.way_out = WayOut::IfPossible;
        Ok(())
    };
    match outlet(&mut lay) {
        Ok(()) => Outlook::Open,
        Err(why) => Outlook::Shut(why),
    }
}
