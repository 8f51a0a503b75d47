//! `smidge update`.

use smidge_engine::{Error, Kind};

use super::option::resource::LimitArgs;
use super::session::{Outcome, Session, each};

/// Change what containers may use and when they start again, also while they run
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge update -m 512m web
  smidge update --cpus 0.5 --pids-limit 100 web db
  smidge update --restart on-failure:3 web")]
pub(super) struct Args {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// What happens when the program ends: no, on-failure[:COUNT], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let changed = args.limits.resources();
    if changed.is_empty() && args.restart.is_none() {
        return Err(Error::new(
            Kind::Input,
            "you must provide one or more flags when using this command",
        )
        .with_hint("name a limit: `smidge update -m 512m CONTAINER`"));
    }
    let engine = session.engine()?;
    each(&args.containers, |name| {
        engine.update(name, &changed, args.restart.as_deref())?;
        session.print(name)
    })
}
