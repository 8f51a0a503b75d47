//! `kill -9` of any process of smidge's at any moment of a container's life: nothing is lost, and nothing is
//! left.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sha2::{Digest as _, Sha256};

use crate::context::Context;
use crate::fixture::with_busybox;
use crate::process::{marker, running, until};

/// To repeat what a failed test did, as far as the machine's timing allows: the number that it printed.
const SEED: Option<u64> = None;

/// How often something is killed, as this user and as the others.
const ROUNDS: [usize; 2] = [400, 50];

/// What is done to no container, or to a new one. `LIMITS` stands for what makes it as complex as it gets.
const NEW: [&str; 7] = [
    "run LIMITS --name new busybox sleep MARKER",
    "run --rm LIMITS --name new busybox sleep MARKER",
    "run --rm LIMITS busybox true",
    "run -d LIMITS --name new busybox sleep MARKER",
    "run -d --rm LIMITS --restart on-failure:3 busybox false",
    "create LIMITS --name new busybox sleep MARKER",
    "build -q -t built context",
];

/// What is done to a container that runs.
const OLD: [&str; 18] = [
    "stop -t 0 old",
    "stop old",
    "kill old",
    "rm -f old",
    "rm -f -v old",
    "restart -t 0 old",
    "pause old",
    "unpause old",
    "commit old made",
    "commit -p=false old made",
    "exec old true",
    "exec -d old sleep MARKER",
    "exec old sleep MARKER",
    "cp context old:/tmp",
    "cp old:/bin out",
    "update -m 80m --memory-swap 80m old",
    "rename old renamed",
    "export -o out.tar old",
];

/// Numbers that are the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = u64::from(now.unwrap().subsec_nanos()) << 20 | u64::from(std::process::id());
        let seed = SEED.unwrap_or(now | 1);
        println!("seed: {seed}");
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (end as u64)).unwrap()
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A store that commands are killed in.
struct Trial<'a> {
    context: &'a Context,
    dice: Dice,
    /// What processes in its containers are known by.
    marker: String,
    /// The group that its containers' groups are in, if they have any.
    group: Option<String>,
    /// How long each command takes when it is let be.
    lives: BTreeMap<&'static str, Duration>,
}

#[test]
fn whatever_is_killed_nothing_is_lost_and_nothing_is_left() {
    with_busybox(|context| {
        let has_groups = context.identity().ids.is_none() && rustix::process::geteuid().is_root();
        let rounds = ROUNDS[usize::from(context.identity().ids.is_some())];
        let mut trial = Trial {
            context,
            dice: Dice::new(),
            marker: marker(),
            group: has_groups.then(|| format!("smidge-crash-{}", std::process::id())),
            lives: BTreeMap::new(),
        };
        context.write(
            "context/Dockerfile",
            "FROM busybox\nARG ROUND\nRUN echo $ROUND > /made; sleep 0.01\n",
        );
        let before = mounts(Path::new("/proc/self/mountinfo"), "");
        for round in 0..rounds {
            trial.round(round);
            if round % 25 == 24 || round + 1 == rounds {
                trial.check_store();
            }
        }
        assert_eq!(mounts(Path::new("/proc/self/mountinfo"), ""), before);
    });
}

impl Trial<'_> {
    fn round(&mut self, round: usize) {
        let (new, old) = (NEW.len(), OLD.len());
        let number = self.dice.below(new + old);
        let line = match number.checked_sub(new) {
            None => NEW[number],
            Some(number) => OLD[number],
        };
        if number >= new {
            let run = self.filled("run -d LIMITS --name old busybox sleep MARKER", round);
            self.context.line(&run).ok();
        }
        if line == "unpause old" {
            self.context.line("pause old").code();
        }
        let delay = self.delay(line);
        let victim = self.kill_during(line, round, delay);
        let stopped = || stopped(&self.marker) && line != "pause old" && line != "unpause old";
        until("what was stopped goes on", || !stopped());
        let told = format!("round {round}: {victim} of `smidge {line}` after {delay:?}");
        self.clean(&told);
    }

    fn filled(&self, line: &str, round: usize) -> String {
        let groups = match &self.group {
            Some(group) => format!("-m 64m --pids-limit 64 --cgroup-parent {group} "),
            None => String::new(),
        };
        let limits = format!("{groups}-v kept:/kept -v /passing -p 127.0.0.1::80");
        line.replace("LIMITS", &limits)
            .replace("MARKER", &self.marker)
            .replace("build -q", &format!("build -q --build-arg ROUND={round}"))
    }

    /// Some time in a command's life, or a little after it.
    fn delay(&mut self, line: &'static str) -> Duration {
        let life = self.lives.get(line).copied();
        let life = life.unwrap_or(Duration::from_millis(40));
        let part = self.dice.below(1250);
        life * u32::try_from(part).unwrap() / 1000
    }

    /// Kills one process, or all, a while after a command was started. Says which.
    fn kill_during(&mut self, line: &'static str, round: usize, delay: Duration) -> String {
        let mut command = self.context.line_command(&self.filled(line, round));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let mut client = command.spawn().unwrap();
        std::thread::sleep(delay.saturating_sub(begin.elapsed()));
        let all = processes(&self.context.store());
        let told = match self.dice.below(4) {
            0 => {
                client.kill().unwrap();
                "the client".to_owned()
            }
            1 => {
                all.iter().for_each(Process::kill);
                "every process".to_owned()
            }
            _ if all.is_empty() => "nobody".to_owned(),
            _ => {
                let one = self.dice.one_of(&all);
                one.kill();
                one.name.clone()
            }
        };
        self.wait(line, client, begin);
        told
    }

    /// Waits for the client. One that stays with its container has to be killed, too.
    fn wait(&mut self, line: &'static str, mut client: Child, begin: Instant) {
        let stays =
            line.ends_with("sleep MARKER") && !line.contains(" -d") && !line.starts_with("create");
        if stays {
            client.kill().unwrap();
        }
        let ended = client.wait().unwrap();
        if ended.success() {
            let life = self.lives.entry(line).or_default();
            *life = begin.elapsed().max(*life * 9 / 10);
        }
    }

    /// What the next commands find, and leave.
    fn clean(&self, told: &str) {
        println!("{told}");
        let context = self.context;
        let listed = context.line("ps -aq --no-trunc").ok();
        let ids: Vec<&str> = listed.lines().collect();
        for id in &ids {
            let shown = context.line(&format!("inspect {id}"));
            // It may have removed itself meanwhile.
            assert!(
                shown.code() == 0 || shown.stderr().contains("no such"),
                "{told}"
            );
        }
        if !ids.is_empty() {
            let remove = ["rm", "-f", "-v"].into_iter().chain(ids.iter().copied());
            context.smidge(remove).ok();
        }
        context.line("system prune -f --volumes").ok();
        assert_eq!(context.line("ps -aq").ok(), "");
        let store = context.store();
        until("the end of smidge's processes", || {
            processes(&store).is_empty()
        });
        until("the end of containers' processes", || {
            running(&self.marker) == 0
        });
        until("the end of mounts", || mounted(&store).is_empty());
        self.check_groups(told);
        for (directory, kept) in [
            ("containers", &["names"][..]),
            ("containers/names", &[]),
            ("tmp", &[]),
        ] {
            assert_eq!(names(&store.join(directory)), kept, "{told}: {directory}");
        }
        documents(&store)
            .iter()
            .for_each(|path| check_document(path));
    }

    fn check_groups(&self, told: &str) {
        let Some(group) = &self.group else { return };
        for hierarchy in names(Path::new("/sys/fs/cgroup")) {
            let path = Path::new("/sys/fs/cgroup").join(hierarchy).join(group);
            let below = names(&path)
                .into_iter()
                .filter(|name| path.join(name).is_dir());
            assert_eq!(
                below.collect::<Vec<_>>(),
                [""; 0],
                "{told}: {}",
                path.display()
            );
        }
    }

    /// Whether all images are whole, and the volume with a name is still there.
    fn check_store(&self) {
        let blobs = self.context.store().join("blobs/sha256");
        for name in names(&blobs) {
            let bytes = std::fs::read(blobs.join(&name)).unwrap();
            let digest: String = Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(digest, name);
        }
        let images = self
            .context
            .smidge(["images", "--format", "{{.Repository}}"])
            .ok();
        assert!(images.lines().any(|name| name == "busybox"), "{images}");
        for image in images.lines() {
            let said = self
                .context
                .line(&format!("run --rm -v kept:/kept {image} echo well"))
                .ok();
            assert_eq!(said, "well");
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        for hierarchy in names(Path::new("/sys/fs/cgroup")) {
            let Some(group) = &self.group else { return };
            let path = Path::new("/sys/fs/cgroup").join(hierarchy).join(group);
            for name in names(&path) {
                let _ = std::fs::remove_dir(path.join(name));
            }
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// A process of smidge's.
struct Process {
    name: String,
    handle: OwnedFd,
}

impl Process {
    fn kill(&self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

/// The processes that work on a store: their environment names it, whatever they have become.
fn processes(store: &Path) -> Vec<Process> {
    let variable = format!("SMIDGE_ROOT={}", store.display());
    let is_of_store = |pid: Pid| {
        let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
        let environment = std::fs::read(path).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|one| one == variable.as_bytes())
    };
    let found = pids().filter(|pid| is_of_store(*pid)).filter_map(|pid| {
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).ok()?;
        // The number may have passed to another process before, but not after, the handle was made.
        let name = name.trim().to_owned();
        is_of_store(pid).then_some(Process { name, handle })
    });
    found.collect()
}

/// Whether a process with a word on its command line is stopped by a signal (proc_pid_stat(5)).
fn stopped(word: &str) -> bool {
    let read = |pid: Pid, file: &str| {
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let mut marked = pids().filter(|pid| read(*pid, "cmdline").split('\0').any(|one| one == word));
    marked.any(|pid| {
        read(pid, "stat")
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" T"))
    })
}

fn pids() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// The processes that see something mounted that has to do with a store.
fn mounted(store: &Path) -> Vec<Pid> {
    let store = store.display().to_string();
    let sees = |pid: &Pid| {
        let path = format!("/proc/{}/mountinfo", pid.as_raw_nonzero());
        !mounts(Path::new(&path), &store).is_empty()
    };
    pids().filter(sees).collect()
}

/// The mounts that have a text in their lines.
fn mounts(table: &Path, text: &str) -> Vec<String> {
    let table = std::fs::read_to_string(table).unwrap_or_default();
    let lines = table.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Every JSON file of a store that is no blob.
fn documents(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = names(store).iter().map(|name| store.join(name)).collect();
    pending.retain(|path| !path.ends_with("blobs") && !path.ends_with("layers"));
    while let Some(path) = pending.pop() {
        if path.is_dir() && !path.is_symlink() {
            pending.extend(names(&path).iter().map(|name| path.join(name)));
        } else if path
            .extension()
            .is_some_and(|end| end == "json" || end == "jsonl")
        {
            found.push(path);
        }
    }
    found
}

fn check_document(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let is_list = path.extension().is_some_and(|end| end == "jsonl");
    let documents: Vec<&str> = if is_list {
        text.lines().collect()
    } else {
        vec![&text]
    };
    for document in documents {
        let parsed = serde_json::from_str::<serde_json::Value>(document);
        assert!(parsed.is_ok(), "{}: `{document}`", path.display());
    }
}
