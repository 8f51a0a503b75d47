//! `smidge stop`.

use smidge_engine::container::StopRequest;

use super::session::{Outcome, Session, each};

/// Ask containers to end, and kill them if they do not
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge stop web
  smidge stop -t 60 db                    give it a minute
  smidge stop $(smidge ps -q)             all that run")]
pub(super) struct Args {
    #[command(flatten)]
    whom: Whom,
}

/// Which containers end, and how: of `stop` and `restart`.
#[derive(clap::Args)]
pub(super) struct Whom {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "CONTAINER")]
    pub(super) containers: Vec<String>,
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

impl Whom {
    pub(super) fn request(&self) -> StopRequest {
        StopRequest {
            signal: self.signal.clone(),
            timeout: self.timeout,
        }
    }
}

pub(super) fn run(session: &Session, Args { whom }: &Args) -> Outcome {
    let engine = session.engine()?;
    let request = whom.request();
    each(&whom.containers, |name| {
        if let Some(note) = engine.stop(name, &request)? {
            session.note(&note);
        }
        session.print(name)
    })
}
