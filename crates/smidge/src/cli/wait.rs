//! `smidge wait`.

use super::session::{Outcome, Session, each};

/// Wait until containers have ended, and print their exit status
///
/// Why one has failed is told on standard error, if that is known.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge wait web
  test $(smidge wait job) = 0 && echo done")]
pub(super) struct Args {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    each(&args.containers, |name| {
        let (code, reason) = engine.wait(name)?;
        session.why(reason.as_ref());
        session.print(&code.to_string())
    })
}
