//! `smidge rm`.

use smidge_engine::{Error, Kind, Note};

use super::session::{Outcome, Session, each};

/// Remove containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge rm web
  smidge rm -f web                        even if it runs
  smidge rm $(smidge ps -aq -f status=exited)")]
pub(super) struct Args {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Kill it first if it runs; do not mind if it does not exist
    #[arg(short, long)]
    force: bool,
    /// Remove its anonymous volumes, too
    #[arg(short, long)]
    volumes: bool,
    #[arg(short, long, hide = true)]
    link: bool,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    if args.link {
        let why = "`--link` cannot be met: there are no links; containers on one network find each other by name";
        return Err(Error::new(Kind::Input, why));
    }
    let engine = session.engine()?;
    each(&args.containers, |name| {
        match engine.remove_container(name, args.force, args.volumes) {
            // What is gone already is what was wanted; but a name may be mistyped.
            Err(fault) if args.force && fault.kind() == Kind::NotFound => {
                session.note(&Note::new(fault.message()));
                Ok(())
            }
            Err(fault) => Err(fault),
            Ok(note) => {
                if let Some(note) = note {
                    session.note(&note);
                }
                session.print(name)
            }
        }
    })
}
