//! Images on their way from and to Debian's docker-registry on this machine, beside other tools.
//!
//! The large image has one layer of 500 MB, half of it noise and half of it text, generated and always
//! the same; the deep one has 30 layers of 1 MB of the same. Everybody pulls what smidge pushed. The
//! registry forgets everything before each push.

use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};

use super::timing::{Goal, medians, milliseconds, row, timed, verdict};
use super::{Bench, Row, docker};
use crate::tool::{self, Outcome};

/// Bytes in the large image's file.
const LARGE: usize = 500_000_000;
/// Layers of the deep image, and bytes in each.
const LAYERS: usize = 30;
const SMALL: usize = 1_000_000;

/// What smidge may take of memory, in kilobytes.
const MEMORY: u64 = 64 << 10;

/// Pulls and pushes, and the memory that they take.
pub fn run(bench: &Bench) -> Outcome<Vec<Row>> {
    if !tool::found("docker-registry") {
        eprintln!("not measured: docker-registry is missing");
        return Ok(Vec::new());
    }
    let registry = Registry::start(&bench.path("registry"))?;
    let scene = Scene { bench, registry };
    scene.make()?;
    let mut rows = Vec::new();
    for (image, what, goal) in [
        ("large", "pull 500 MB until runnable", 0.3),
        ("deep", "pull 30 layers of 1 MB until runnable", 0.15),
    ] {
        rows.extend(scene.pull(image, what, goal)?);
    }
    rows.extend(scene.push("large", "push 500 MB, compressing", false)?);
    rows.extend(scene.push("large", "push 500 MB, ready to send", true)?);
    rows.extend(scene.push("deep", "push 30 layers of 1 MB", false)?);
    rows.push(scene.push_again()?);
    Ok(rows)
}

/// A registry of the benchmark's own.
struct Registry {
    process: Child,
    address: String,
    dir: std::path::PathBuf,
}

impl Registry {
    fn start(dir: &Path) -> Outcome<Self> {
        let failed = |error: std::io::Error| format!("cannot start docker-registry: {error}");
        std::fs::create_dir_all(dir).map_err(failed)?;
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}/data\nhttp:\n  \
             addr: 127.0.0.1:0\n  secret: none\n",
            dir.display()
        );
        super::write(&dir.join("config.yml"), config.as_bytes())?;
        let requests = std::fs::File::create(dir.join("requests")).map_err(failed)?;
        let mut process = tool::command("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(requests)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stderr = process
            .stderr
            .take()
            .ok_or("docker-registry says nothing")?;
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split(['"', ' ']).next()?.to_owned())
        });
        // Somebody has to read the rest, or it stops at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let registry = Self {
            process,
            address: address.unwrap_or_default(),
            dir: dir.to_owned(),
        };
        match registry.address.is_empty() {
            true => Err("docker-registry does not say where it listens".to_owned()),
            false => Ok(registry),
        }
    }

    /// How many requests it has answered.
    fn requests(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.join("requests"));
        log.unwrap_or_default().matches("HTTP/1.").count()
    }

    /// A command that lets it forget everything.
    fn forget(&self) -> String {
        format!("rm -rf {}/data", self.dir.display())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Scene<'b> {
    bench: &'b Bench,
    registry: Registry,
}

/// A tool's command, and what comes before each round of it.
struct Round {
    name: &'static str,
    prepare: String,
    command: String,
}

impl Scene<'_> {
    fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.registry.address)
    }

    /// Builds both images, pushes them, and lets the other tools have them.
    fn make(&self) -> Outcome {
        let bench = self.bench;
        bench.compile("exit0", "int main(void) { return 0; }\n")?;
        bench.sh("rm -rf images && mkdir -p images/large images/deep && cp exit0 images/large && cp exit0 images/deep")?;
        generate(&bench.path("images/large/data"), 0, LARGE)?;
        let large = "FROM scratch\nCOPY exit0 data /\nENTRYPOINT [\"/exit0\"]\n";
        super::write(&bench.path("images/large/Dockerfile"), large.as_bytes())?;
        let mut deep = "FROM scratch\nCOPY exit0 /\nENTRYPOINT [\"/exit0\"]\n".to_owned();
        for layer in 1..LAYERS {
            generate(
                &bench.path(&format!("images/deep/{layer}")),
                layer as u64,
                SMALL,
            )?;
            deep += &format!("COPY {layer} /\n");
        }
        super::write(&bench.path("images/deep/Dockerfile"), deep.as_bytes())?;
        for image in ["large", "deep"] {
            let (name, context) = (self.name(image), bench.path("images").join(image));
            let context = context.display().to_string();
            bench.smidge(&["build", "-q", "--no-strip", "-t", &name, &context])?;
            bench.smidge(&["push", "-q", &name])?;
            for (form, options) in [("ready", ""), ("plain", "--dest-decompress")] {
                bench.sh(&format!(
                    "rm -rf {image}-{form} && skopeo --insecure-policy copy -q {options} \
                     --src-tls-verify=false docker://{name} dir:{image}-{form}"
                ))?;
            }
            bench.sh(&format!(
                "{} pull -q --tls-verify=false {name}",
                podman(bench)
            ))?;
            if docker::answers() {
                bench.sh(&format!("docker pull -q {name}"))?;
            }
        }
        Ok(())
    }

    /// Times rounds of several tools: seconds each, where they can be timed.
    fn times(&self, rounds: &[Round]) -> Outcome<Vec<(&'static str, f64)>> {
        let mut times = Vec::new();
        for round in rounds {
            let script = self.bench.path("prepare.sh");
            super::write(&script, format!("{}\n", round.prepare).as_bytes())?;
            let prepare = format!("sh {}", script.display());
            let commands = [timed(round.name, round.command.clone())];
            // The first round fills the caches of files; these are long enough not to need more.
            let options = ["--warmup=1", "--runs=3", "--prepare", &prepare];
            if let [Some(time)] = medians(self.bench, &commands, &options)?[..] {
                // This takes minutes: what is broken off has said something by then.
                eprintln!("  {}: {}", round.command, milliseconds(time));
                times.push((round.name, time));
            }
        }
        match times.first() {
            Some(("smidge", _)) => Ok(times),
            _ => Err("smidge could not be timed".to_owned()),
        }
    }

    fn pull(&self, image: &str, what: &str, goal: f64) -> Outcome<Vec<Row>> {
        let name = self.name(image);
        let store = self.bench.path("pulled").display().to_string();
        let smidge = format!("{} --root {store}", self.bench.smidge.display());
        let podman = podman(self.bench);
        let forget = format!("rm -rf {store}");
        let round = |name, prepare: &str, command| Round {
            name,
            prepare: prepare.to_owned(),
            command,
        };
        let mut rounds = vec![
            round(
                "smidge",
                &forget,
                format!("sh -c '{smidge} pull -q {name} && {smidge} run --rm {name}'"),
            ),
            round(
                "podman",
                &format!("{podman} rmi -f {name}"),
                format!("{podman} pull -q --tls-verify=false {name}"),
            ),
            round(
                "skopeo (not runnable)",
                "rm -rf fetched",
                format!(
                    "skopeo --insecure-policy copy -q --src-tls-verify=false docker://{name} oci:fetched"
                ),
            ),
        ];
        if docker::answers() {
            let prepare = format!("docker rmi -f {name}");
            rounds.push(round("docker", &prepare, format!("docker pull -q {name}")));
        }
        if tool::found("crane") {
            let fetch = format!("crane pull --insecure {name} fetched.tar");
            rounds.push(round("crane (not runnable)", "rm -f fetched.tar", fetch));
        }
        let mut rows = compared(what, &self.times(&rounds)?, |peer| match peer {
            "podman" | "docker" => Goal::AtMost(goal),
            _ => Goal::Shown,
        });
        rows.push(self.memory(what, &forget, &format!("{smidge} pull -q {name}"))?);
        self.bench
            .sh(&format!("{forget}; rm -rf fetched fetched.tar"))?;
        Ok(rows)
    }

    /// Pushes to an empty registry: compressing, or what was compressed before.
    fn push(&self, image: &str, what: &str, ready: bool) -> Outcome<Vec<Row>> {
        let name = self.name(image);
        let forget = self.registry.forget();
        let uncached = format!(
            "{forget}; rm -rf {}/cache/transfer",
            self.bench.store().display()
        );
        let round = |name, prepare: &str, command| Round {
            name,
            prepare: prepare.to_owned(),
            command,
        };
        let push = format!("{} push -q {name}", self.bench.shell());
        let own = if ready { &forget } else { &uncached };
        let form = if ready { "ready" } else { "plain" };
        let mut rounds = vec![
            round("smidge", own, push.clone()),
            round(
                "skopeo",
                &forget,
                format!(
                    "skopeo --insecure-policy copy -q --dest-tls-verify=false dir:{image}-{form} docker://{name}"
                ),
            ),
        ];
        if !ready {
            let podman = podman(self.bench);
            let command = format!("{podman} push -q --tls-verify=false {name}");
            rounds.push(round("podman", &forget, command));
            if docker::answers() {
                rounds.push(round("docker", &forget, format!("docker push -q {name}")));
            }
            if tool::found("crane") {
                self.bench.smidge(&[
                    "save",
                    "-o",
                    &self.bench.path("saved.tar").display().to_string(),
                    &name,
                ])?;
                let crane = format!("crane push --insecure saved.tar {name}");
                rounds.push(round("crane", &forget, crane));
            }
        }
        let mut rows = compared(what, &self.times(&rounds)?, |peer| {
            match (peer, image, ready) {
                ("crane", "large", _) => Goal::AtMost(0.6),
                ("crane", ..) | ("skopeo", _, true) => Goal::AtMost(1.0),
                _ => Goal::Shown,
            }
        });
        rows.push(self.memory(what, own, &push)?);
        Ok(rows)
    }

    /// A push where nothing changed: how long it takes, and what it asks.
    fn push_again(&self) -> Outcome<Row> {
        let name = self.name("deep");
        self.bench.smidge(&["push", "-q", &name])?;
        let before = self.registry.requests();
        self.bench.smidge(&["push", "-q", &name])?;
        let requests = self.registry.requests() - before;
        let push = format!("{} push -q {name}", self.bench.shell());
        let time = medians(self.bench, &[timed("smidge", push)], &["--runs=20"])?;
        let [Some(time)] = time[..] else {
            return Err("smidge could not be timed".to_owned());
        };
        Ok(Row {
            what: "push where nothing changed".to_owned(),
            smidge: format!("{}, {requests} requests", milliseconds(time)),
            peer: String::new(),
            goal: verdict(time <= 0.02 && requests <= 3, "≤ 20 ms, ≤ 3 requests"),
        })
    }

    fn memory(&self, what: &str, prepare: &str, command: &str) -> Outcome<Row> {
        let peak = self.bench.sh(&format!(
            "{prepare}; /usr/bin/time -f %M {command} 2>&1 >/dev/null"
        ))?;
        let last = peak.lines().last().unwrap_or_default();
        let kilobytes: u64 = last.parse().map_err(|_| format!("`{last}` is no size"))?;
        Ok(Row {
            what: format!("{what}: memory at its peak"),
            smidge: format!("{:.1} MB", kilobytes as f64 / 1024.0),
            peer: String::new(),
            goal: verdict(kilobytes <= MEMORY, "≤ 64 MB"),
        })
    }
}

/// A row for each peer beside smidge, which comes first.
fn compared(what: &str, times: &[(&'static str, f64)], goal: impl Fn(&str) -> Goal) -> Vec<Row> {
    let Some(((_, smidge), peers)) = times.split_first() else {
        return Vec::new();
    };
    let peers = peers.iter();
    peers
        .map(|(name, time)| row(what, *smidge, (name, *time), &goal(name)))
        .collect()
}

/// Writes bytes of which every other 4 KiB are noise, and the rest a text that repeats itself.
fn generate(path: &Path, seed: u64, size: usize) -> Outcome {
    const BLOCK: usize = 4096;
    let failed = |error: std::io::Error| format!("cannot write `{}`: {error}", path.display());
    let mut file = BufWriter::new(std::fs::File::create(path).map_err(failed)?);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut left = size;
    for number in 0.. {
        let mut block = match number % 2 {
            0 => noise(&mut state, BLOCK),
            _ => format!("line {number} of a text that goes on and on\n")
                .repeat(BLOCK / 32)
                .into_bytes(),
        };
        block.truncate(BLOCK.min(left));
        file.write_all(&block).map_err(failed)?;
        left -= block.len();
        if left == 0 {
            break;
        }
    }
    file.flush().map_err(failed)
}

/// Bytes without a pattern, the same ones from the same state.
fn noise(state: &mut u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

/// podman with a store of the benchmark's own: layers that another image has would not be fetched.
fn podman(bench: &Bench) -> String {
    let (root, state) = (bench.path("podman/root"), bench.path("podman/run"));
    format!(
        "podman --root {} --runroot {}",
        root.display(),
        state.display()
    )
}
