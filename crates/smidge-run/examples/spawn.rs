//! Runs several programs at once: `spawn SPEC.json...`, each file a [`smidge_run::Spec`].
//!
//! For testing the spawner. Every program has this process's output; a line on standard output says
//! what became of it. Words on standard input, one a line: `kill` kills all programs, `drop` lets go of
//! the spawner; the end of the input means nothing.

use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;

use smidge_run::{Running, Spawner, Spec, Streams};

fn main() -> ExitCode {
    let spawner = match Spawner::start() {
        Ok(spawner) => spawner,
        Err(error) => {
            say(&format!("no spawner: {}", text(&error)));
            return ExitCode::FAILURE;
        }
    };
    let spawner = Mutex::new(Some(spawner));
    let running: Mutex<Programs> = Mutex::default();
    let paths: Vec<String> = std::env::args().skip(1).collect();
    // Threads that wait for input do not end by themselves, so the scope is left by `exit` below.
    thread::scope(|scope| {
        let programs: Vec<_> = paths
            .iter()
            .map(|path| scope.spawn(|| say(&run(path, &spawner, &running))))
            .collect();
        scope.spawn(|| obey(&spawner, &running));
        for program in programs {
            let _ = program.join();
        }
        finish()
    })
}

/// The programs that have been started.
#[derive(Default)]
struct Programs {
    all: Vec<Arc<Running>>,
    /// Whether they are to be killed, those included that are only about to be known.
    condemned: bool,
}

impl Programs {
    fn add(&mut self, program: &Arc<Running>) {
        self.all.push(Arc::clone(program));
        if self.condemned {
            program.kill();
        }
    }

    fn kill(&mut self) {
        self.condemned = true;
        self.all.iter().for_each(|program| program.kill());
    }
}

fn finish() -> ! {
    #[expect(clippy::exit, reason = "a thread waits for input that never comes")]
    std::process::exit(0)
}

fn obey(spawner: &Mutex<Option<Spawner>>, running: &Mutex<Programs>) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "kill" => lock(running).kill(),
            "drop" => *lock(spawner) = None,
            _ => say(&format!("what is `{line}`?")),
        }
    }
}

/// Runs one program to its end and describes that.
fn run(path: &str, spawner: &Mutex<Option<Spawner>>, running: &Mutex<Programs>) -> String {
    let id = path.rsplit('/').next().unwrap_or(path).replace(".json", "");
    let outcome = || -> Result<String, Box<dyn std::error::Error>> {
        let spec: Spec = serde_json::from_slice(&std::fs::read(path)?)?;
        let streams = Streams {
            stdin: std::fs::File::open("/dev/null")?.into(),
            stdout: io::stdout().as_fd().try_clone_to_owned()?,
            stderr: io::stderr().as_fd().try_clone_to_owned()?,
        };
        let program = match &*lock(spawner) {
            Some(spawner) => Arc::new(spawner.spawn(&spec, streams)?),
            None => return Ok("no spawner".to_owned()),
        };
        lock(running).add(&program);
        say(&format!("{id}: runs"));
        let finished = program.wait()?;
        let mut outcome = format!("status {}", finished.status);
        if let Some(signal) = finished.signal {
            outcome.push_str(&format!(", signal {signal}"));
        }
        for (_, (user, group)) in finished.link_owners {
            outcome.push_str(&format!(", a link of {user}:{group}"));
        }
        Ok(outcome)
    };
    match outcome() {
        Ok(outcome) => format!("{id}: {outcome}"),
        Err(error) => format!("{id}: {}", text(&*error)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn say(line: &str) {
    let _ = io::stdout().write_all(format!("{line}\n").as_bytes());
}

fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
