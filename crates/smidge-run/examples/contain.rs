//! The life of one container by hand, for tests that need its real supervisor.
//!
//! ```text
//! contain start [-a] [-i] SPEC.json   starts it; with -a attached, until it ends; with -i with input
//! contain attach DIR                  joins a running one, with input
//! contain signal DIR NUMBER           sends a signal
//! contain wait DIR                    waits until it has ended
//! contain state DIR                   prints its state
//! contain logs [-f] DIR               prints its log
//! contain remove PATH IDMAP           removes a tree that such a container has written
//! ```
//!
//! The exit status is the program's, 125 for an error, 77 if the user has detached.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use smidge_run::log::{self, LogQuery};
use smidge_run::{Attach, Ended, IdMap, Spec, State, attach, remove_tree, signal, start, wait};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let cause = error
                .source()
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "contain: {error}{cause}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<u8, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, words): (Vec<&str>, Vec<&str>) = arguments
        .iter()
        .map(String::as_str)
        .partition(|argument| argument.starts_with('-'));
    let has = |option| options.contains(&option);
    let streams = |stdin| Attach {
        stdin,
        stdout: true,
        stderr: true,
        detach_keys: Attach::DETACH_KEYS.to_vec(),
        signals: true,
    };
    match words.as_slice() {
        ["start", spec] => {
            let spec: Spec = serde_json::from_slice(&std::fs::read(spec)?)?;
            let started = start(&spec, has("-a").then(|| streams(has("-i"))))?;
            if has("-a") {
                return Ok(code(started.wait()?));
            }
            let state = State::read(&spec.dir)?;
            print(serde_json::to_string(&state.ports)?)?;
        }
        ["attach", dir] => return Ok(code(attach(Path::new(dir), &streams(true))?.wait()?)),
        ["signal", dir, number] => signal(Path::new(dir), number.parse()?)?,
        ["wait", dir] => return Ok(wait(Path::new(dir), None)?.map_or(76, low_byte)),
        ["state", dir] => print(serde_json::to_string(&State::read(Path::new(dir))?)?)?,
        ["remove", path, map] => {
            let map: IdMap = serde_json::from_str(map)?;
            remove_tree(&map, Path::new(path))?;
        }
        ["logs", dir] => {
            let query = LogQuery {
                follow: has("-f"),
                ..LogQuery::default()
            };
            log::read(Path::new(dir), &query, &mut |entry| {
                std::io::stdout().write_all(entry.text.as_bytes())
            })?;
        }
        _ => return Err("see the head of contain.rs for its usage".into()),
    }
    Ok(0)
}

fn code(ended: Ended) -> u8 {
    match ended {
        Ended::Exited(code) => low_byte(code),
        Ended::Detached => 77,
    }
}

fn low_byte(code: i32) -> u8 {
    code.to_le_bytes()[0]
}

fn print(line: String) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}
