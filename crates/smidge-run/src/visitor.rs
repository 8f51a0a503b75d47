//! The process that watches over a program which was started beside a container's own: its streams, its
//! exit status. Forked off as a supervisor is, so that the program outlives whoever asked for it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use crate::client::Client;
use crate::error::RunError;
use crate::hub::{Hub, Source};
use crate::join::{join, join_beside};
use crate::journal::label;
use crate::launch::{Launched, Stdio};
use crate::log::Writer;
use crate::message::{Reply, Running, Streams};
use crate::program::Program;
use crate::session::{Attach, Started};
use crate::spec::Spec;
use crate::supervisor::leave_session;
use crate::sys;
use crate::terminal::Size;

/// Starts the program of `spec` in the container that runs with a spec like it ([`join`]), and returns
/// when it has been executed. It goes on if its caller goes; it ends with the container.
///
/// The caller must have one thread only.
///
/// # Errors
/// Everything that keeps the program from starting.
pub fn visit(spec: &Spec, attach: Option<Attach>) -> Result<Started, RunError> {
    send(spec, attach, join)
}

/// The same for a program that has a root of its own, made of the directories `tools`, the top one first;
/// the container's is at [`TARGET`](crate::TARGET) in it. What mounts are made the container does not see.
///
/// The caller must have one thread only.
///
/// # Errors
/// Everything that keeps the program from starting.
pub fn visit_beside(
    spec: &Spec,
    tools: &[PathBuf],
    attach: Option<Attach>,
) -> Result<Started, RunError> {
    send(spec, attach, |spec, stdio| join_beside(spec, tools, stdio))
}

fn send(
    spec: &Spec,
    attach: Option<Attach>,
    launch: impl FnOnce(&Spec, Stdio) -> Result<Launched, RunError>,
) -> Result<Started, RunError> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(RunError::supervise(
        "talk to the process that watches over it",
    ))?;
    let fork = sys::fork().map_err(RunError::supervise("start a process"))?;
    if fork.is_none() {
        let streams = attach.as_ref().map(Attach::streams).unwrap_or_default();
        watch(spec, theirs, streams, launch);
        sys::exit(0);
    }
    drop(theirs);
    Started::hear(ours, &spec.dir, attach).map(Started::of_visitor)
}

fn watch(
    spec: &Spec,
    socket: OwnedFd,
    streams: Streams,
    launch: impl FnOnce(&Spec, Stdio) -> Result<Launched, RunError>,
) {
    let size = Size::of_caller();
    sys::close_all_but(&[socket.as_fd()]);
    leave_session(c"smidge-exec");
    let mut starter = Client::new(socket);
    starter.join(streams);
    match Program::start(spec, size, launch) {
        Ok(program) => {
            let running = Running {
                pid: program.pid,
                tty: spec.tty,
            };
            let mut hub = Hub::new(program, running, Writer::disabled());
            hub.begin(starter, streams);
            while !turn(&mut hub) {}
            let code = hub.program.reap();
            hub.drain();
            if let Some(journal) = &spec.journal {
                let code = code.to_string();
                journal.note(&label(&spec.dir), "exec_die", &[("exitCode", code)]);
            }
            hub.say_farewell(code, None, true);
            hub.see_off();
        }
        Err(error) => starter.tell(&Reply::Failed(error)),
    }
}

/// Waits for something to do and does it; true when the program has ended.
fn turn(hub: &mut Hub) -> bool {
    let mut interests = Vec::with_capacity(6);
    hub.add_interests(&mut interests);
    interests.push((Source::Exit, PollFlags::IN));
    let due: Vec<Source> = {
        let (sources, mut fds): (Vec<Source>, Vec<PollFd<'_>>) = interests
            .iter()
            .filter_map(|(source, flags)| {
                let fd = hub.descriptor(*source)?;
                Some((*source, PollFd::from_borrowed_fd(fd, *flags)))
            })
            .unzip();
        let patience = hub.program.patience();
        if hub.settling.poll(&mut fds, patience).is_err() {
            return false;
        }
        let is_due =
            |(source, fd): (Source, &PollFd<'_>)| (!fd.revents().is_empty()).then_some(source);
        sources.into_iter().zip(&fds).filter_map(is_due).collect()
    };
    due.iter().for_each(|source| hub.serve(*source));
    hub.dismiss();
    hub.program.look_again();
    due.contains(&Source::Exit)
}
