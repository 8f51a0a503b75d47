//! Runs a program in a root file system: `minirun [--map] [--links] SPEC.json`, where the file
//! holds a [`smidge_run::Spec`]; with `--map`, its id map becomes what this host allows; with `--links`,
//! it tells the emulated owners of links on standard error.
//!
//! For measuring and testing the sandbox without its supervisor. It is also what shows how little a
//! caller has to do.

use std::error::Error;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::process::{WaitId, WaitIdOptions};
use smidge_run::{IdMap, Launched, Pretence, RunError, Spec, Stdio};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            let _ = writeln!(io::stderr(), "minirun: {text}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<u8, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments
        .last()
        .ok_or("usage: minirun [--map] [--links] SPEC.json")?;
    let mut spec: Spec = serde_json::from_slice(&std::fs::read(path)?)?;
    if arguments.iter().any(|argument| argument == "--map") {
        spec.id_map = IdMap::for_host(&spec.user)?;
    }
    let stdio = if spec.tty {
        Stdio::Terminal {
            rows: 24,
            columns: 80,
        }
    } else {
        Stdio::Files {
            stdin: io::stdin().as_fd().try_clone_to_owned()?,
            stdout: io::stdout().as_fd().try_clone_to_owned()?,
            stderr: io::stderr().as_fd().try_clone_to_owned()?,
        }
    };
    let mut launched = smidge_run::launch(&spec, stdio)?;
    let pretence = Pretence::take(&spec, &mut launched);
    let Launched {
        pidfd, terminal, ..
    } = launched;
    if let Some(mut pretence) = pretence {
        pretence.serve(pidfd.as_fd())?;
        if arguments.iter().any(|argument| argument == "--links") {
            for (key, owner) in pretence.link_owners() {
                writeln!(io::stderr(), "{key:?} {owner:?}")?;
            }
        }
    }
    if let Some(terminal) = terminal {
        relay(terminal)?;
    }
    let code = wait(&pidfd)?;
    for path in &spec.cleanup {
        smidge_run::remove_tree(&spec.id_map, path)?;
    }
    Ok(code)
}

/// Shows what the program writes to its terminal, until nobody has it open any more. Input goes the
/// other way before that, all at once, unless it is somebody's terminal.
fn relay(terminal: OwnedFd) -> io::Result<()> {
    let mut terminal = std::fs::File::from(terminal);
    if !io::stdin().is_terminal() {
        io::copy(&mut io::stdin(), &mut terminal)?;
    }
    let mut buffer = [0; 4096];
    // The end is an error by the kernel's tradition: EIO.
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        io::stdout().write_all(&buffer[..length])?;
    }
    io::stdout().flush()
}

fn wait(pidfd: &OwnedFd) -> Result<u8, RunError> {
    let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    let Ok(Some(status)) = status else {
        return Ok(255);
    };
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    Ok(status
        .exit_status()
        .or(signal)
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(255))
}
