//! `kill -9` of any process of smidge's at any moment of a container's life: nothing is lost, and nothing is
//! left.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};
use smidge_tests::{InTime as _, until};

use crate::context::Context;
use crate::fixture::with_busybox;
use crate::leftover::{Groups, Process, names, nothing_is_left, processes, stopped};
use crate::process::marker;

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
const OLD: [&str; 23] = [
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
    "start old",
    "system prune -f --volumes",
    "container prune -f",
    "network connect mesh old",
    "network disconnect mesh old",
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
    groups: Groups,
    /// How long each command takes when it is let be.
    lives: BTreeMap<&'static str, Duration>,
}

#[test]
fn whatever_is_killed_nothing_is_lost_and_nothing_is_left() {
    with_busybox(|context| {
        let rounds = ROUNDS[usize::from(context.identity().ids.is_some())];
        let mut trial = Trial {
            context,
            dice: Dice::new(),
            marker: marker(),
            groups: Groups::new(context, "crash"),
            lives: BTreeMap::new(),
        };
        context.write(
            "context/Dockerfile",
            "FROM busybox\nARG ROUND\nRUN echo $ROUND > /made; sleep 0.01\n",
        );
        for round in 0..rounds {
            trial.round(round);
            if round % 25 == 24 || round + 1 == rounds {
                trial.check_store();
            }
        }
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
        let mesh = self.context.line("network create mesh").ok();
        if number >= new {
            let run = self.filled("run -d LIMITS --name old busybox sleep MARKER", round);
            self.context.line(&run).ok();
        }
        // What some of them take.
        match line {
            "unpause old" => self.context.line("pause old").code(),
            "start old" | "container prune -f" | "system prune -f --volumes" => {
                self.context.line("kill old").code()
            }
            _ => 0,
        };
        let delay = self.delay(line);
        let victim = self.kill_during(line, round, delay);
        let stopped = || stopped(&self.marker) && line != "pause old" && line != "unpause old";
        until("what was stopped goes on", || !stopped());
        let told = format!("round {round}: {victim} of `smidge {line}` after {delay:?}");
        self.clean(&told);
        // It was removed with all other networks that nobody was on.
        let bridge = format!("/sys/class/net/smi-{}", &mesh[..11]);
        assert!(!Path::new(&bridge).exists(), "{told}: {bridge}");
    }

    fn filled(&self, line: &str, round: usize) -> String {
        let limits = self.groups.options();
        // Some are on a network of their own making.
        let network = ["", "--network mesh"][round % 2];
        let limits = format!("{limits} {network} -v kept:/kept -v /passing -p 127.0.0.1::80");
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
        let ended = client.status_in_time().unwrap();
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
                shown.code() == 0 || shown.stderr().contains("such"),
                "{told}"
            );
        }
        if !ids.is_empty() {
            let remove = ["rm", "-f", "-v"].into_iter().chain(ids.iter().copied());
            context.smidge(remove).ok();
        }
        context.line("system prune -f --volumes").ok();
        nothing_is_left(context, &self.marker, &self.groups);
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
