//! `smidge commit`.

use smidge_engine::container::CommitRequest;

use super::session::{Outcome, Session};

/// Make an image of what a container has changed
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge commit web web:patched
  smidge commit -m 'With a shell' -c 'CMD [\"/bin/sh\"]' web web:shell")]
pub(super) struct Args {
    /// Name or id of the container
    container: String,
    /// The image's name
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Who made it
    #[arg(short, long, value_name = "AUTHOR")]
    author: Option<String>,
    /// Apply a Dockerfile instruction to the image's config; repeatable
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// What to say of it in the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Stop the program while its files are read [default: true]
    #[arg(
        short,
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pause: bool,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let image = session.engine()?.commit(&CommitRequest {
        container: args.container.clone(),
        name: args.name.clone(),
        author: args.author.clone(),
        changes: args.change.clone(),
        message: args.message.clone(),
        pause: args.pause,
    })?;
    session.print(&image.id.to_string())?;
    Ok(0)
}
