//! `smidge restart`.

use smidge_engine::container::StopRequest;

use super::session::{Outcome, Session, each};

/// Stop containers and start them again
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge restart web
  smidge restart -t 60 db                 give it a minute to end")]
pub(super) struct Args {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Seconds to wait before killing [default: 10]; -1 waits for ever
    #[arg(
        short,
        long,
        alias = "time",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    timeout: Option<i64>,
    /// Signal to ask with [default: the image's, else TERM]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let request = StopRequest {
        signal: args.signal.clone(),
        timeout: args.timeout,
    };
    each(&args.containers, |name| {
        if let Some(note) = engine.restart(name, &request)? {
            session.note(&note);
        }
        session.print(name)
    })
}
