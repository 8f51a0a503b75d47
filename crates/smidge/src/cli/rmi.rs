//! `smidge rmi`.

use smidge_engine::image::Removed;
use smidge_engine::{Error, Kind, Note};
use smidge_image::Platform;

use super::session::{Outcome, Session, each};

/// Remove images
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge rmi hello
  smidge rmi -f 3f2a91c04b7d              with all its names
  smidge rmi $(smidge images -q -f dangling=true)")]
pub(super) struct Args {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Remove it even if it has several names or a stopped container needs it
    #[arg(short, long)]
    force: bool,
    /// Of an image for several machines, the one for OS/ARCH[/VARIANT] alone; repeatable
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Accepted for Docker's sake
    #[arg(long, hide = true)]
    no_prune: bool,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let _ = args.no_prune;
    let engine = session.engine()?;
    if !args.platform.is_empty() {
        return each(&args.images, |name| {
            let mut platforms = args.platform.iter();
            platforms.try_for_each(|platform| {
                show(
                    session,
                    args,
                    engine.remove_platform(name, platform, args.force),
                )
            })
        });
    }
    let mut outcomes = engine.remove_images(&args.images, args.force)?.into_iter();
    each(&args.images, |_| {
        let outcome = outcomes.next();
        outcome.map_or(Ok(()), |outcome| show(session, args, outcome))
    })
}

fn show(session: &Session, args: &Args, outcome: Result<Removed, Error>) -> Result<(), Error> {
    let removed = match outcome {
        // It is gone, as was wanted; but a name may be mistyped.
        Err(fault) if args.force && fault.kind() == Kind::NotFound => {
            session.note(&Note::new(fault.message()));
            return Ok(());
        }
        other => other?,
    };
    for name in &removed.untagged {
        session.print(&format!("Untagged: {}", name.familiar()))?;
    }
    for id in &removed.deleted {
        session.print(&format!("Deleted: {id}"))?;
    }
    Ok(())
}
