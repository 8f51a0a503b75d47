//! `smidge start`.

use smidge_engine::container::Streams;
use smidge_engine::{Error, Kind};

use super::run::{DetachKeys, exit_code};
use super::session::{Outcome, Session, each};

/// Start containers that have ended
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge start web
  smidge start -ai box                    with its terminal")]
pub(super) struct Args {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Stay with it: pass output and signals on
    #[arg(short, long)]
    attach: bool,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Keys that detach from the terminal
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    args.containers
        .iter()
        .try_for_each(|name| engine.seal_for(name))?;
    if !args.attach && !args.interactive {
        return each(&args.containers, |name| {
            engine.start(name, None)?;
            session.print(name)
        });
    }
    let [name] = &args.containers[..] else {
        return Err(Error::new(
            Kind::Input,
            "you cannot start and attach multiple containers at once",
        ));
    };
    let streams = Streams {
        stdin: args.interactive,
        stdout: true,
        stderr: true,
        detach_keys: args.detach_keys.clone().map(|keys| keys.0),
        keep_signals: false,
    };
    match engine.start(name, Some(streams))? {
        Some(running) => {
            let (end, reason) = running.wait()?;
            session.why(reason.as_ref());
            Ok(exit_code(end))
        }
        None => Ok(0),
    }
}
