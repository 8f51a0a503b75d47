//! `smidge kill`.

use super::session::{Outcome, Session, each};

/// Send a signal to containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge kill web
  smidge kill -s HUP web                  let it read its configuration again")]
pub(super) struct Args {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// The signal's name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let signal = Some(args.signal.as_str()).filter(|signal| !signal.is_empty());
    each(&args.containers, |name| {
        engine.kill(name, signal)?;
        session.print(name)
    })
}
