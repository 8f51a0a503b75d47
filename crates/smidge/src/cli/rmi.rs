//! `smidge rmi`.

use smidge_engine::Kind;

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
    /// Accepted for Docker's sake
    #[arg(long, hide = true)]
    no_prune: bool,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let _ = args.no_prune;
    let engine = session.engine()?;
    each(&args.images, |name| {
        let removed = match engine.remove_image(name, args.force) {
            Err(fault) if args.force && fault.kind() == Kind::NotFound => return Ok(()),
            other => other?,
        };
        for name in &removed.untagged {
            session.print(&format!("Untagged: {}", name.familiar()))?;
        }
        for id in &removed.deleted {
            session.print(&format!("Deleted: {id}"))?;
        }
        Ok(())
    })
}
