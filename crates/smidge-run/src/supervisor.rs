//! The process that watches over one container: its streams, its log, its ports, its end.
//!
//! [`start`] forks it off a process with one thread; it has one thread too, and one loop that
//! never blocks on anything but `poll(2)`. It outlives the client that started it. If it is killed
//! itself, the kernel kills the program, and [`State::read`] says so.

mod again;
mod beginning;
mod wish;

use std::borrow::Cow;
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use rustix::process;

use crate::cgroup::remove_group;
use crate::client::Client;
use crate::error::RunError;
use crate::health::{HealthState, Probe};
use crate::hub::{Hub, Source};
use crate::journal::label;
use crate::lifetime::{Backoff, Settling};
use crate::message::{Reply, Running, Streams};
use crate::network::Networks;
use crate::outlet::{self, Outlet};
use crate::port::{Listeners, Proxy};
use crate::probe::{Check, Prober};
use crate::reason::{Death, Failure, Inquest};
use crate::removal::{forget_name, move_aside, remove_tree};
use crate::session::{self, Attach, Started};
use crate::spec::{Network, Spec};
use crate::state::{self, State};
use crate::sys;
use crate::terminal::Size;
use beginning::Opened;

/// Signals that the supervisor passes on to the program instead of dying of them.
const PASSED_ON: [i32; 6] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// How long another process may hold a container's lock without supervising it: it takes microseconds, and
/// more on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the container of `spec`, new or stopped before, and returns when its program has been
/// executed. Published ports are bound first, so that one that is taken costs nothing.
///
/// The caller must have one thread only.
///
/// # Errors
/// Everything that keeps the program from starting.
pub fn start(spec: &Spec, attach: Option<Attach>) -> Result<Started, RunError> {
    let watch = Watch {
        inquest: &|_| None,
        outlet: &|_| Err("nothing leads out of the container's network".to_owned()),
    };
    start_watched(spec, attach, watch)
}

/// Who is asked what the supervisor does not know: in the supervisor, which keeps nothing open of the caller's.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Finds out why the program has failed.
    pub inquest: Inquest<'a>,
    /// Chooses a way out of its network namespace.
    pub outlet: Outlet<'a>,
}

/// The same, with somebody to ask.
///
/// # Errors
/// As [`start`].
pub fn start_watched(
    spec: &Spec,
    attach: Option<Attach>,
    watch: Watch<'_>,
) -> Result<Started, RunError> {
    let listeners = match spec.network {
        Network::Private => Listeners::bind(&spec.ports, spec.publish)?,
        Network::Host | Network::None | Network::Joined => Listeners::default(),
    };
    let lock = take(spec)?;
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(RunError::supervise("talk to the supervisor"))?;
    let fork = sys::fork().map_err(RunError::supervise("start the supervisor"))?;
    if fork.is_none() {
        let size = Size::of_caller();
        let streams = attach.as_ref().map(Attach::streams).unwrap_or_default();
        supervise(
            Duty {
                spec,
                listeners,
                lock,
                size,
                watch,
            },
            theirs,
            streams,
        );
        sys::exit(0);
    }
    drop((theirs, lock, listeners));
    Started::hear(ours, &spec.dir, attach)
}

/// Takes the container's lock. Held by a process that is not supervising it, it is about to be free,
/// or about to belong to a supervisor.
fn take(spec: &Spec) -> Result<File, RunError> {
    let id = spec.id.clone();
    let runs = || State::read(&spec.dir).is_ok_and(|state| state.status.is_active());
    match state::lock_in_time(&spec.dir, PATIENCE, runs)? {
        Some(lock) => Ok(lock),
        None if State::read(&spec.dir)?.status.is_active() => Err(RunError::AlreadyRunning { id }),
        None => Err(RunError::Visited { id }),
    }
}

/// What a new supervisor takes over.
struct Duty<'a> {
    spec: &'a Spec,
    listeners: Listeners,
    /// The container's directory, locked.
    lock: File,
    /// The size of the caller's terminal.
    size: Size,
    watch: Watch<'a>,
}

fn supervise(duty: Duty<'_>, socket: OwnedFd, streams: Streams) {
    let mut keep = vec![duty.lock.as_fd(), socket.as_fd()];
    keep.extend(duty.listeners.sockets().map(AsFd::as_fd));
    sys::close_all_but(&keep);
    leave_session(c"smidge-super");
    let mut starter = Client::new(socket);
    starter.join(streams);
    match Supervisor::new(duty) {
        Ok(mut supervisor) => {
            supervisor.hub.begin(starter, streams);
            supervisor.run();
        }
        Err(error) => starter.tell(&Reply::Failed(error)),
    }
}

/// Leaves the caller's session, terminal, directory and standard streams, and gets a name.
pub(crate) fn leave_session(name: &CStr) {
    let _ = process::setsid();
    let _ = process::chdir("/");
    let _ = rustix::thread::set_name(name);
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// What the loop waits for beside the hub's sources.
const SIGNAL: Source = Source::Own(0);
const DOOR: Source = Source::Own(1);
const ANSWER: Source = Source::Own(2);
const CALLS: Source = Source::Own(3);
/// Nobody is left who could make calls. Older kernels would wait for one.
const SILENCE: Source = Source::Own(4);

/// Writes down that a container has started.
fn note_start(spec: &Spec) {
    if let Some(journal) = &spec.journal {
        let label = label(&spec.dir);
        journal.note_places(&label, &spec.attachments, true);
        journal.note(&label, "start", &[]);
    }
}

/// What is known of a program's health at its start, if that is asked.
fn unknown(spec: &Spec) -> Option<HealthState> {
    let health = spec.lifetime.health.as_ref();
    health.map(|_| HealthState::default())
}

struct Supervisor<'a> {
    /// What changes of it while it runs is for the next start by itself.
    spec: Cow<'a, Spec>,
    hub: Hub,
    proxy: Option<Proxy>,
    /// Kept for the next start by itself, if there may be one.
    listeners: Listeners,
    /// The size of the starter's terminal.
    size: Size,
    watch: Watch<'a>,
    started: Instant,
    check: Check,
    state: State,
    /// Where later clients come in.
    door: OwnedFd,
    signals: OwnedFd,
    /// As in [`Opened`].
    mounts: Option<File>,
    /// Held until everything is released.
    lock: File,
}

impl<'a> Supervisor<'a> {
    /// Starts the program and everything around it.
    fn new(duty: Duty<'a>) -> Result<Self, RunError> {
        let Duty {
            spec,
            listeners,
            lock,
            size,
            watch,
        } = duty;
        let (mut program, opened) = beginning::start(spec, size, &lock)?;
        let Opened { log, door, mounts } = opened;
        let mut spec = Cow::Borrowed(spec);
        let state = State {
            health: unknown(&spec),
            outlook: outlet::prepare(&mut spec, &mut program, watch.outlet),
            ..State::running(program.pid, listeners.ports().to_vec())
        };
        let surround = || {
            let kept = listeners.try_clone()?;
            let proxy = program.publish(&spec, listeners)?;
            let signals = sys::signal_fd(&PASSED_ON);
            let signals = signals.map_err(RunError::supervise("watch for signals"))?;
            state.write(&spec.dir)?;
            Ok((proxy, kept, signals))
        };
        let (proxy, listeners, signals) = surround().inspect_err(|_| {
            program.kill();
            remove_group(&spec.dir);
        })?;
        note_start(&spec);
        let running = Running {
            pid: program.pid,
            tty: spec.tty,
        };
        Ok(Self {
            spec,
            hub: Hub::new(program, running, log),
            proxy,
            listeners,
            size,
            watch,
            started: Instant::now(),
            check: Check::default(),
            state,
            door,
            signals,
            mounts,
            lock,
        })
    }

    fn run(mut self) {
        let mut backoff = Backoff::new();
        self.begin_to_check();
        let code = loop {
            while !self.turn() {}
            let code = self.hub.program.reap();
            // A program that is started again is on them anew.
            self.hub.program.networks = Networks::default();
            self.check = Check::default();
            self.state.ended_by = self.hub.program.ended_by();
            self.hub.drain();
            self.inquire(code);
            if !self.starts_again(code, &mut backoff) {
                break code;
            }
        };
        let grave = self.release(code);
        // From now on nobody comes in, so that nobody comes in and hears nothing.
        let _ = net::shutdown(&self.door, net::Shutdown::Read);
        self.hub.admit(&self.door);
        let Self {
            mut hub,
            state,
            mounts,
            lock,
            door,
            spec,
            ..
        } = self;
        // What nobody can find any more is nobody's business: its lock tells `prune` that somebody is at it.
        let (lock, mounts) = match grave {
            Some(_) => (Some(lock), mounts),
            None => (None, None),
        };
        drop(door);
        hub.say_farewell(code, state.reason.as_ref(), true);
        drop(mounts);
        if let Some(grave) = grave {
            let _ = remove_tree(spec.disk_map(), &grave);
        }
        drop(lock);
        hub.see_off();
    }

    /// Finds out why the program has failed, unless somebody wanted its end.
    fn inquire(&mut self, code: i32) {
        if code == 0 || self.state.ended_by != 0 {
            return;
        }
        self.hub.admit(&self.door);
        self.hub.hear_all();
        if self.hub.retired {
            return;
        }
        self.state.note_shortage(&self.spec.dir);
        self.state.reason = (self.watch.inquest)(&Failure::Ended(Death {
            code,
            signal: self.hub.program.killed_by(),
            pid: self.hub.program.pid,
            out_of_memory: self.state.oom_killed,
            since: self.state.started_at.clone(),
            outlook: self.state.outlook.clone(),
        }));
    }

    /// Writes down what happens to the container.
    fn note(&self, action: &str, more: &[(&str, String)]) {
        if let Some(journal) = &self.spec.journal {
            journal.note(&label(&self.spec.dir), action, more);
        }
    }

    /// Notes when to ask first how the program is.
    fn begin_to_check(&mut self) {
        if let Some(health) = &self.spec.lifetime.health {
            let pause = HealthState::default().pause(health, Duration::ZERO);
            self.check.due = Some(Instant::now() + pause);
        }
    }

    /// Asks how the program is, if it is time.
    fn ask(&mut self) {
        let Some(health) = &self.spec.lifetime.health else {
            return;
        };
        if self
            .check
            .due
            .take_if(|due| *due <= Instant::now())
            .is_none()
        {
            return;
        }
        self.check.asked = self.started.elapsed();
        if matches!(health.probe, Probe::Command(_)) {
            self.lead_out();
        }
        let Some(health) = &self.spec.lifetime.health else {
            return;
        };
        match Prober::fork(&self.spec, health) {
            Ok(prober) => self.check.prober = Some(prober),
            // Short of something: tried again.
            Err(_) => self.check.due = Some(Instant::now() + health.interval),
        }
    }

    /// Takes the answer in, as far as it has come.
    fn hear(&mut self) {
        let Some(health) = &self.spec.lifetime.health else {
            return;
        };
        let answer = self.check.prober.as_mut().and_then(Prober::hear);
        let (Some(answer), Some(state)) = (answer, &mut self.state.health) else {
            return;
        };
        self.check.prober = None;
        let before = state.status;
        state.take(health, self.check.asked, answer);
        let pause = state.pause(health, self.started.elapsed());
        let now = state.status;
        self.check.due = Some(Instant::now() + pause);
        if now != before {
            self.note(&format!("health_status: {}", now.word()), &[]);
        }
        let _ = self.state.write(&self.spec.dir);
        self.hub.settling = Settling::begin();
    }

    /// Waits for something to do and does it; true when the program has ended.
    fn turn(&mut self) -> bool {
        let mut interests = Vec::with_capacity(8);
        self.hub.add_interests(&mut interests);
        interests.push((SIGNAL, PollFlags::IN));
        interests.push((DOOR, PollFlags::IN));
        if self.check.prober.is_some() {
            interests.push((ANSWER, PollFlags::IN));
        }
        if self.hub.program.calls.is_some() && !self.spec.is_direct() {
            interests.push((CALLS, PollFlags::IN));
        }
        interests.push((Source::Exit, PollFlags::IN));
        let patience = [self.hub.program.patience(), self.check.patience()];
        let due = self.wait(&interests, patience.into_iter().flatten().min());
        due.iter().for_each(|source| self.serve(*source));
        self.hub.dismiss();
        self.hub.program.look_again();
        self.ask();
        due.contains(&Source::Exit)
    }

    /// Waits until something is due, in the order of `interests`.
    fn wait(&self, interests: &[(Source, PollFlags)], patience: Option<Duration>) -> Vec<Source> {
        let mut fds: Vec<PollFd<'_>> = interests
            .iter()
            .map(|(source, flags)| PollFd::from_borrowed_fd(self.descriptor(*source), *flags))
            .collect();
        // Only fails if interrupted, or if memory is short: tried again either way.
        if self.hub.settling.poll(&mut fds, patience).is_err() {
            return Vec::new();
        }
        interests
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|((source, _), fd)| match *source {
                CALLS if !fd.revents().contains(PollFlags::IN) => SILENCE,
                source => source,
            })
            .collect()
    }

    fn descriptor(&self, source: Source) -> BorrowedFd<'_> {
        match source {
            SIGNAL => self.signals.as_fd(),
            ANSWER => self
                .check
                .prober
                .as_ref()
                .map_or(self.door.as_fd(), |prober| prober.answer.as_fd()),
            CALLS => {
                let calls = self.hub.program.calls.as_ref();
                calls.unwrap_or(&self.door).as_fd()
            }
            source => self.hub.descriptor(source).unwrap_or(self.door.as_fd()),
        }
    }

    fn serve(&mut self, source: Source) {
        match source {
            SIGNAL => {
                while let Some(signal) = sys::read_signal(self.signals.as_fd()) {
                    self.hub.program.deliver(signal);
                }
            }
            DOOR => self.hub.admit(&self.door),
            ANSWER => self.hear(),
            CALLS => self.answer_call(),
            SILENCE => self.hub.program.calls = None,
            source => {
                self.hub.serve(source);
                self.fulfil();
            }
        }
    }

    /// Lets go of everything that the container held, the door last: who can come in waits for more
    /// than the program's end. Of a container that is thrown away, what is left to be removed.
    fn release(&mut self, code: i32) -> Option<PathBuf> {
        if let Some(proxy) = self.proxy.take() {
            proxy.finish();
        }
        // Whoever hears of the end may take the ports at once.
        self.listeners = Listeners::default();
        self.state.leave_group(&self.spec.dir);
        // Once its directory is gone, nobody knows its name.
        let journal = self.spec.journal.as_ref();
        let journal = journal.map(|journal| (journal, label(&self.spec.dir)));
        self.state.finish(code);
        let is_thrown_away = !self.spec.cleanup.is_empty() && !self.hub.kept;
        // Who waits for a container that is thrown away hears its end from the socket.
        if !is_thrown_away {
            let _ = self.state.write(&self.spec.dir);
        }
        let grave = self.throw_away().unwrap_or_else(|error| {
            self.state.error = error.to_string();
            let _ = self.state.write(&self.spec.dir);
            None
        });
        if let Some((journal, label)) = journal.filter(|_| grave.is_some()) {
            journal.note(&label, "destroy", &[]);
        }
        let _ = fs::remove_file(self.spec.dir.join(session::DOOR));
        grave
    }

    /// Removes what goes with the container, and the container itself: its name at once, and its directory
    /// from where it can be found, so that nobody ever sees a part of it.
    fn throw_away(&self) -> Result<Option<PathBuf>, RunError> {
        let (dir, map) = (&self.spec.dir, self.spec.disk_map());
        if self.hub.kept {
            return Ok(None);
        }
        let with_it = self.spec.cleanup.iter().filter(|path| *path != dir);
        let removed = with_it.map(|path| remove_tree(map, path));
        let removed = removed.fold(Ok(()), Result::and);
        if !self.spec.cleanup.contains(dir) {
            return removed.map(|()| None);
        }
        removed?;
        forget_name(dir);
        match move_aside(dir) {
            Some(grave) => Ok(Some(grave)),
            None => remove_tree(map, dir).map(|()| None),
        }
    }
}
