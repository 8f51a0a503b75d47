//! What has become of a container: `state.json` in its directory, and the processes it names.
//!
//! ```text
//! DIR/               locked (flock) by the supervisor for as long as the container runs
//! ├── state.json     replaced as a whole when the program starts and when it has ended
//! └── attach.sock    where the supervisor listens while the program runs
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::SplitAsciiWhitespace;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Group};
use crate::clock;
use crate::error::RunError;
use crate::health::{HealthState, HealthStatus};
use crate::lifetime::Restart;
use crate::message::Request;
use crate::reason::Reason;
use crate::session;
use crate::spec::Port;
use crate::sys;

/// How long another process may take to write down what has become of a container.
const MOMENT: Duration = Duration::from_secs(1);

/// How long a process that has failed may take to end, on a machine that has much else to do.
const BUSY: Duration = Duration::from_secs(10);

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its program runs.
    Running,
    /// Its program has ended, and will be started again.
    Restarting,
    /// Its program has ended.
    Exited,
}

impl Status {
    /// Whether somebody watches over it: its program runs, or will again.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Restarting)
    }
}

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its process id on the host.
    pub pid: u32,
    /// When it started, in clock ticks since the host did (proc_pid_stat(5), field 22).
    pub start_time: u64,
}

impl Process {
    /// The process that now has the number `pid`.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let start_time = stat(pid).map_or(0, |(_, start_time)| start_time);
        Self { pid, start_time }
    }

    /// Whether it still runs. One that waits to be reaped does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        stat(self.pid)
            .is_some_and(|(state, start)| start == self.start_time && !matches!(state, b'Z' | b'X'))
    }

    /// A handle that stays this process's.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The number may have passed to another process before, but not after, the handle was made.
        self.is_alive().then_some(pidfd)
    }
}

/// The state letter and start time of a process.
fn stat(pid: u32) -> Option<(u8, u64)> {
    let mut buffer = [0; 1024];
    let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
    // The kernel gives it in one piece.
    let length = file.read(&mut buffer).ok()?;
    parse_stat(&buffer[..length])
}

/// What `/proc/PID/stat` says, from the third field on (proc_pid_stat(5)): the name before it, in parentheses,
/// may hold anything.
pub(crate) fn stat_fields(stat: &[u8]) -> Option<SplitAsciiWhitespace<'_>> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    Some(text.split_ascii_whitespace())
}

/// The state letter and start time in `/proc/PID/stat`.
fn parse_stat(stat: &[u8]) -> Option<(u8, u64)> {
    let mut fields = stat_fields(stat)?;
    let state = *fields.next()?.as_bytes().first()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

/// What has become of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it is in its life.
    pub status: Status,
    /// The program's process id on the host; 0 unless it runs.
    pub pid: u32,
    /// How the program ended: its exit status, or 128 + the signal that killed it.
    pub exit_code: Option<i32>,
    /// When the program was last started, RFC 3339 with nanoseconds; empty if never.
    pub started_at: String,
    /// When the program last ended; empty if never.
    pub finished_at: String,
    /// How often the program was started again by itself since somebody started it.
    pub restart_count: u32,
    /// The signal that ended the program in the kernel's stead, because it had made no arrangements for
    /// it; 0 if none did.
    pub ended_by: i32,
    /// Whether the program is well, if that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthState>,
    /// Why it could not be watched to its end, if so.
    pub error: String,
    /// Why it did not start or has ended, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Whether it stands still ([`pause`](crate::pause)); only known of one that runs.
    #[serde(skip)]
    pub paused: bool,
    /// Whether one of its processes was killed because its memory was used up.
    pub oom_killed: bool,
    /// The published ports, with the host ports that were drawn.
    pub ports: Vec<Port>,
    /// Whether something leads out of its network namespace, if that was not known at its start.
    #[serde(skip_serializing_if = "Outlook::is_open")]
    pub outlook: Outlook,
    /// The program's process.
    pub program: Process,
    /// The process that watches over it.
    pub supervisor: Process,
}

/// Whether something leads out of a running container's network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outlook {
    /// What was asked for.
    #[default]
    Open,
    /// The program has not asked for it yet.
    Pending,
    /// Nothing does: why, in words.
    Shut(String),
}

impl Outlook {
    fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

impl State {
    /// Reads the state of the container in `dir`. If its supervisor was killed, which kills the
    /// program too, the state is corrected: exited with 137. One that is being started, or
    /// released, is running, with `pid` 0.
    ///
    /// # Errors
    /// When the state cannot be read, or is damaged. A missing one is `Created`.
    pub fn read(dir: &Path) -> Result<Self, RunError> {
        let mut state = Self::load(dir)?;
        if !state.status.is_active() && session::is_supervised(dir) {
            // Its program does not run yet or no more, or it has been started by now.
            state = Self::load(dir)?;
            if !state.status.is_active() {
                return Ok(Self {
                    status: Status::Running,
                    ..Self::default()
                });
            }
        }
        if !state.status.is_active() || state.supervisor.is_alive() {
            state.paused = state.status == Status::Running && cgroup::is_paused(dir);
            return Ok(state);
        }
        // Under the lock nobody can be starting it anew meanwhile. Who has it may be about to say the same.
        let told = || {
            Self::load(dir)
                .is_ok_and(|state| !state.status.is_active() || state.supervisor.is_alive())
        };
        let Some(_lock) = lock_in_time(dir, MOMENT, told)? else {
            return Self::load(dir);
        };
        let mut state = Self::load(dir)?;
        if state.status.is_active() {
            "its supervisor was killed".clone_into(&mut state.error);
            state.reason = Some(Reason {
                cause: "supervisor-killed".to_owned(),
                brief: "its supervisor was killed".to_owned(),
                message: "it ended with the process that watched over it, which was killed"
                    .to_owned(),
                certain: true,
                ..Reason::default()
            });
            state.leave_group(dir);
            state.finish(128 + libc::SIGKILL);
            // Who cannot write it down finds it out again the next time.
            let _ = state.write(dir);
        }
        Ok(state)
    }

    /// The state of a program that has just been executed.
    pub(crate) fn running(pid: u32, ports: Vec<Port>) -> Self {
        Self {
            status: Status::Running,
            pid,
            started_at: clock::now(),
            ports,
            program: Process::of(pid),
            supervisor: Process::of(std::process::id()),
            ..Self::default()
        }
    }

    /// Notes whether memory was short. The group stays, with limits that were changed.
    pub(crate) fn note_shortage(&mut self, dir: &Path) {
        self.oom_killed = Group::load(dir).is_some_and(|group| group.was_short_of_memory());
    }

    /// Removes the container's control group, and notes what it tells.
    pub(crate) fn leave_group(&mut self, dir: &Path) {
        if let Some(group) = Group::load(dir) {
            self.oom_killed = group.was_short_of_memory();
            group.remove(dir);
        }
    }

    /// Notes that the program has ended.
    pub(crate) fn finish(&mut self, exit_code: i32) {
        if self.status != Status::Restarting {
            self.finished_at = clock::now();
        }
        self.status = Status::Exited;
        // As Docker has it: what does not run is not well.
        if let Some(health) = &mut self.health {
            health.status = HealthStatus::Unhealthy;
        }
        self.pid = 0;
        if self.outlook == Outlook::Pending {
            self.outlook = Outlook::Open;
        }
        self.exit_code = Some(exit_code);
        self.program = Process::default();
        self.supervisor = Process::default();
    }

    /// Notes that the program has ended and will be started again.
    pub(crate) fn rest(&mut self, exit_code: i32) {
        let supervisor = self.supervisor;
        self.finish(exit_code);
        self.status = Status::Restarting;
        self.supervisor = supervisor;
    }

    /// Replaces the state in `dir` as a whole; the caller holds its lock. Not flushed to the disk:
    /// after a power cut no container runs, whatever the file says.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), RunError> {
        let path = dir.join("state.json");
        let temporary = dir.join("state.json.new");
        let write = || {
            let text = serde_json::to_vec(self)?;
            let written = fs::write(&temporary, &text).and_then(|()| replace(&temporary, &path));
            written.or_else(|error| {
                let _ = fs::remove_file(&temporary);
                overwrite(&path, text).map_err(|_| error)
            })
        };
        write().map_err(RunError::record(&path))
    }

    fn lost() -> Self {
        let mut state = Self {
            error: "its state was lost".to_owned(),
            ..Self::default()
        };
        state.finish(128 + libc::SIGKILL);
        state
    }

    fn load(dir: &Path) -> Result<Self, RunError> {
        let path = dir.join("state.json");
        match read(&path) {
            // What a power cut may leave of a file that was never flushed.
            Ok(bytes) if bytes.is_empty() => Ok(Self::lost()),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(RunError::record(&path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(RunError::record(&path)(error)),
        }
    }
}

/// Reads a state, however hostile what is in its place: never waits, never reads for ever.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    const LONGEST: u64 = 1 << 20;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    // Room for all of it at once, as a rule: a file that does not fill it has come to its end.
    let mut bytes = vec![0; 2048];
    let length = (&file).read(&mut bytes)?;
    bytes.truncate(length);
    if length == bytes.capacity() {
        file.take(LONGEST).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Writes down that the program of the container in `dir` could not be started. What cannot be written is
/// told all the same. False if somebody else has started the container: then nothing is written.
pub fn note_failure(dir: &Path, code: i32, error: &str, reason: Option<Reason>) -> bool {
    // Whoever supervised the attempt is about to end, however long a busy machine takes for that.
    let runs = || {
        State::load(dir).is_ok_and(|state| state.status.is_active() && state.supervisor.is_alive())
    };
    let Ok(Some(_lock)) = lock_in_time(dir, BUSY, runs) else {
        return false;
    };
    let _ = State::load(dir).and_then(|mut state| {
        state.exit_code = Some(code);
        error.clone_into(&mut state.error);
        state.reason = reason;
        state.write(dir)
    });
    true
}

/// Puts `new` in the place of `old`, which may be missing. By exchanging them if it can: a rename
/// that replaces a file makes ext4 write it to the disk first (`auto_da_alloc`, ext4(5)), which takes
/// longer than starting the container.
fn replace(new: &Path, old: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Ok(()) => fs::remove_file(new),
        Err(_) => fs::rename(new, old),
    }
}

/// Writes over a state where there is no room for another one: what it takes up already is enough, as a rule.
/// In one piece and never shorter, so that nobody reads a part of it.
fn overwrite(path: &Path, mut text: Vec<u8>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    text.resize(text.len().max(length), b' ');
    file.write_all(&text)
}

/// Locks the container's directory: held by its supervisor for as long as it has one. `None` if
/// another process holds it.
pub(crate) fn lock(dir: &Path) -> Result<Option<File>, RunError> {
    let file = File::open(dir).map_err(RunError::record(dir))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(RunError::record(dir)(error)),
    }
}

/// The same, tried again for some time while another process holds it, unless that is there to stay.
///
/// # Errors
/// As [`lock`] has.
pub(crate) fn lock_in_time(
    dir: &Path,
    time: Duration,
    mut stays: impl FnMut() -> bool,
) -> Result<Option<File>, RunError> {
    let end = Instant::now() + time;
    loop {
        match lock(dir)? {
            None if Instant::now() < end && !stays() => {
                std::thread::sleep(Duration::from_millis(1));
            }
            locked => return Ok(locked),
        }
    }
}

/// Whether somebody watches over the container in `dir`, or is about to.
#[must_use]
pub fn is_held(dir: &Path) -> bool {
    // Shared: who asks at the same time is nobody who watches.
    let shared =
        File::open(dir).map(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared));
    matches!(shared, Ok(Err(rustix::io::Errno::AGAIN)))
}

/// Signals that ask a program to end, whoever it is.
pub(crate) const ASKS_TO_END: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Sends `signal` to the program of the container in `dir`.
///
/// A signal that asks a program to end (`HUP`, `INT`, `QUIT`, `TERM`) ends one that has made no
/// arrangements for it, as it would outside of a container, where the kernel does not shield the
/// first process of a PID namespace (pid_namespaces(7)).
///
/// # Errors
/// `NotRunning`, or the kernel's refusal.
pub fn signal(dir: &Path, signal: i32) -> Result<(), RunError> {
    let state = State::read(dir)?;
    let not_running = || RunError::NotRunning { id: id(dir) };
    if !state.status.is_active() {
        return Err(not_running());
    }
    let program = state.program.open();
    let by_supervisor = program.is_none() || ASKS_TO_END.contains(&signal);
    if by_supervisor && session::signal(dir, signal).is_ok() {
        return Ok(());
    }
    let program = program.ok_or_else(not_running)?;
    sys::send_signal(program.as_fd(), signal).map_err(|fault| match fault.raw_os_error() {
        // It has ended since, and its supervisor is about to say so.
        Some(libc::ESRCH) => not_running(),
        _ => RunError::supervise("send the signal")(fault),
    })
}

/// Keeps the program of the container in `dir` from being started again when it has ended. If it does not
/// run there is nothing to do.
pub fn retire(dir: &Path) {
    session::tell(dir, &Request::Retire);
}

/// Keeps the container in `dir` from being removed when its program ends this time, though that was asked
/// for. If it does not run there is nothing to do.
pub fn keep(dir: &Path) {
    session::tell(dir, &Request::Keep);
}

/// Lets something else happen when the program of the container in `dir` ends than what it was started
/// with. If it does not run there is nothing to do.
pub fn change_restart(dir: &Path, restart: Restart) {
    session::tell(dir, &Request::Restart(restart));
}

/// Waits until the container in `dir` has exited and everything it held is released; tells its exit
/// status, or `None` if `timeout` passes first. One that does not run is not waited for.
///
/// # Errors
/// When the state cannot be read. [`RunError::NotRunning`] if there is none any more.
pub fn wait(dir: &Path, timeout: Option<Duration>) -> Result<Option<i32>, RunError> {
    match session::watch(dir, timeout) {
        Some(outcome) => Ok(outcome),
        // It was thrown away before it could be asked: nobody knows any more.
        None if !dir.exists() => Err(RunError::NotRunning { id: id(dir) }),
        None => {
            let state = State::read(dir)?;
            Ok(Some(state.exit_code.unwrap_or(0)))
        }
    }
}

/// A container's id is the name of its directory.
pub(crate) fn id(dir: &Path) -> String {
    dir.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_process_are_found_behind_any_name() {
        let rest = "S 1 2 3 0 -1 4194560 28 0 0 0 0 1 0 0 20 0 1 0 341290 2183168 47";
        for name in ["sh", "a b", ") R 1 (", ""] {
            let stat = format!("8419 ({name}) {rest}");
            assert_eq!(parse_stat(stat.as_bytes()), Some((b'S', 341_290)), "{name}");
        }
        for stat in ["", "1 (sh", "1 (sh)", "1 (sh) S 1 2"] {
            assert_eq!(parse_stat(stat.as_bytes()), None, "{stat}");
        }
    }

    #[test]
    fn a_process_is_told_from_a_later_one() {
        let own = Process::of(std::process::id());
        assert!(own.is_alive());
        assert!(own.open().is_some());
        let later = Process {
            start_time: own.start_time + 1,
            ..own
        };
        assert!(!later.is_alive());
        assert!(later.open().is_none());
        assert!(Process::default().open().is_none());
    }

    #[test]
    fn a_container_whose_supervisor_was_killed_has_exited() {
        let dir = tempfile::tempdir().unwrap();
        let read = || State::read(dir.path()).unwrap();
        assert_eq!(read(), State::default());
        let mut state = State::running(std::process::id(), Vec::new());
        state.write(dir.path()).unwrap();
        assert_eq!(read(), state);
        state.supervisor.start_time += 1;
        state.write(dir.path()).unwrap();
        let repaired = read();
        assert_eq!(
            (repaired.status, repaired.exit_code),
            (Status::Exited, Some(137))
        );
        assert!(repaired.finished_at >= repaired.started_at);
        assert_eq!(read(), repaired);
        assert!(matches!(
            signal(dir.path(), 15),
            Err(RunError::NotRunning { .. })
        ));
        assert_eq!(wait(dir.path(), None).unwrap(), Some(137));
        let gone = wait(&dir.path().join("gone"), None);
        assert!(matches!(gone, Err(RunError::NotRunning { .. })));
    }

    #[test]
    fn a_container_that_is_being_started_is_running() {
        let dir = tempfile::tempdir().unwrap();
        let door = session::open_door(&File::open(dir.path()).unwrap()).unwrap();
        assert_eq!(State::read(dir.path()).unwrap().status, Status::Running);
        signal(dir.path(), libc::SIGKILL).unwrap();
        drop(door);
        assert_eq!(State::read(dir.path()).unwrap().status, Status::Created);
        assert!(matches!(
            signal(dir.path(), libc::SIGKILL),
            Err(RunError::NotRunning { .. })
        ));
    }

    #[test]
    fn nothing_is_repaired_while_somebody_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::running(std::process::id(), Vec::new());
        state.supervisor.start_time += 1;
        state.write(dir.path()).unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(held.is_some());
        assert_eq!(State::read(dir.path()).unwrap(), state);
    }

    #[test]
    fn what_another_process_is_about_to_say_is_waited_for() {
        for _ in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let mut state = State::running(std::process::id(), Vec::new());
            state.supervisor.start_time += 1;
            state.write(dir.path()).unwrap();
            let held = lock(dir.path()).unwrap();
            std::thread::scope(|scope| {
                let read = scope.spawn(|| State::read(dir.path()).unwrap().status);
                state.finish(9);
                state.write(dir.path()).unwrap();
                drop(held);
                assert_eq!(read.join().unwrap(), Status::Exited);
            });
        }
    }

    #[test]
    fn a_lock_is_waited_for_as_long_as_nobody_stays_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut held = lock(dir.path()).unwrap();
        assert!(held.is_some());
        assert!(lock_in_time(dir.path(), BUSY, || true).unwrap().is_none());
        let mut looks = 0;
        let waited = lock_in_time(dir.path(), BUSY, || {
            looks += 1;
            if looks == 150 {
                held = None;
            }
            false
        });
        assert!(waited.unwrap().is_some());
    }

    #[test]
    fn who_asks_whether_somebody_watches_does_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_held(dir.path()));
        let asks = File::open(dir.path()).unwrap();
        rustix::fs::flock(&asks, FlockOperation::LockShared).unwrap();
        assert!(!is_held(dir.path()));
        drop(asks);
        let _watches = lock(dir.path()).unwrap();
        assert!(is_held(dir.path()));
    }

    #[test]
    fn a_state_that_a_power_cut_has_emptied_is_an_exit() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state.json"), "").unwrap();
        assert_eq!(State::read(dir.path()).unwrap().exit_code, Some(137));
        fs::write(dir.path().join("state.json"), "{").unwrap();
        assert!(matches!(
            State::read(dir.path()),
            Err(RunError::Record { .. })
        ));
        fs::remove_file(dir.path().join("state.json")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("state.json")).unwrap();
        assert!(matches!(
            State::read(dir.path()),
            Err(RunError::Record { .. })
        ));
    }
}
