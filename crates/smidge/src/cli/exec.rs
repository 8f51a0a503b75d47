//! `smidge exec`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use smidge_engine::container::{ExecRequest, Streams};
use smidge_engine::{Error, Kind};

use super::run::{DetachKeys, exit_code};
use super::session::{Outcome, Session};

/// Run another program in a container that runs
///
/// Options end at CONTAINER. The program is shut in as the container's own is. The exit status is the
/// program's; 126 and 127 say that it could not be started. Signals
/// that smidge gets are not passed on to it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge exec web ls -l /srv
  smidge exec -ti web /bin/sh             a shell in it; Ctrl-P Ctrl-Q detaches
  smidge exec -u 1000 -w /tmp -e A=b web env")]
pub(super) struct Args {
    /// Name or id
    container: String,
    /// The program
    command: String,
    /// Its arguments
    #[arg(value_name = "ARG")]
    args: Vec<String>,
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that detach from the terminal
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// Set an environment variable, or pass yours on; repeatable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file; repeatable
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the program every capability
    #[arg(long)]
    privileged: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    tty: bool,
    /// User, and group, to run as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    if args.tty && args.interactive && !args.detach && !std::io::stdin().is_terminal() {
        return Err(Error::new(Kind::Input, "the input device is not a TTY")
            .with_hint("leave out `-t` where there is no terminal: `smidge exec -i CONTAINER`"));
    }
    let engine = session.engine()?;
    engine.seal_against(&args.container)?;
    let request = ExecRequest {
        args: std::iter::once(&args.command)
            .chain(&args.args)
            .cloned()
            .collect(),
        env: args.env.clone(),
        env_files: args.env_file.clone(),
        workdir: args.workdir.clone().filter(|dir| !dir.is_empty()),
        user: args.user.clone(),
        tty: args.tty,
        stdin: args.interactive,
        privileged: args.privileged,
    };
    let streams = (!args.detach).then(|| Streams {
        stdin: args.interactive,
        stdout: true,
        stderr: true,
        detach_keys: args.detach_keys.clone().map(|keys| keys.0),
        // As Docker's client: whoever interrupts it interrupts it alone.
        keep_signals: true,
    });
    let execution = engine.exec(&args.container, &request, streams)?;
    if args.detach {
        return Ok(0);
    }
    Ok(exit_code(execution.wait()?))
}
