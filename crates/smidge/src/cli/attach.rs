//! `smidge attach`.

use smidge_engine::container::Streams;

use super::run::{DetachKeys, Signals, exit_code};
use super::session::{Outcome, Session};

/// Join your terminal with a container that runs
///
/// The exit status is the program's.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge attach box                       Ctrl-P Ctrl-Q detaches, if it has a terminal
  smidge attach --no-stdin --sig-proxy=false web
                                          look on; Ctrl-C ends the looking on alone")]
pub(super) struct Args {
    /// Name or id
    container: String,
    /// Keys that detach from the terminal
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// Pass no input on
    #[arg(long)]
    no_stdin: bool,
    #[command(flatten)]
    signals: Signals,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let streams = Streams {
        stdin: !args.no_stdin,
        stdout: true,
        stderr: true,
        detach_keys: args.detach_keys.clone().map(|keys| keys.0),
        keep_signals: !args.signals.sig_proxy,
    };
    let (end, reason) = engine.attach(&args.container, streams)?.wait()?;
    session.why(reason.as_ref());
    Ok(exit_code(end))
}
