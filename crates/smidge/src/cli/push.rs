//! `smidge push`.

use smidge_engine::Note;
use smidge_engine::registry::{PushRequest, Pushed};
use smidge_image::{Platform, Reference};

use super::compression::CompressionArgs;
use super::connection::ConnectionArgs;
use super::progress::ProgressArgs;
use super::session::{Outcome, Session};

/// Send an image to a registry
///
/// What the registry has already is not sent. Layers are compressed by an encoder whose output never
/// changes, so that the same layer is the same blob for ever, and compressed once.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge tag hello ghcr.io/acme/hello:1.0
  smidge push ghcr.io/acme/hello:1.0
  smidge push -a localhost:5000/app       every tag
  smidge push --compress zstd-smallest ghcr.io/acme/hello:1.0
                                          as small as it gets, for engines that read zstd")]
pub(super) struct Args {
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
    /// Send every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Send the image for one platform alone
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    compression: CompressionArgs,
    /// Print the name alone
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Accepted for Docker's sake
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let _ = args.disable_content_trust;
    let engine = session.engine()?;
    let request = PushRequest {
        name: args.image.clone(),
        all_tags: args.all_tags,
        platform: args.platform.clone(),
        stored_as: None,
        compression: args.compression.compression(),
        connection: args.connection.connection(session),
    };
    // A name that is none is told by the engine.
    let name = args.image.parse::<Reference>().ok();
    if let Some(name) = name.filter(|_| !args.quiet) {
        let repository = format!("{}/{}", name.domain(), name.path());
        session.print(&format!("The push refers to repository [{repository}]"))?;
    }
    let sink = args.progress.sink(session, args.quiet);
    let pushed = engine.push(&request, &*sink)?;
    drop(sink);
    for image in &pushed {
        for note in &image.notes {
            session.note(&Note::new(note.clone()));
        }
        session.print(&line(image, args.quiet))?;
    }
    Ok(0)
}

fn line(image: &Pushed, quiet: bool) -> String {
    if quiet {
        return image.name.to_string();
    }
    let tag = image.name.tag().unwrap_or("latest");
    format!("{tag}: digest: {} size: {}", image.digest, image.size)
}
