//! `smidge copy`.

use smidge_engine::Note;
use smidge_engine::registry::{CopyRequest, Location};
use smidge_image::Platform;

use super::compression::CompressionArgs;
use super::connection::ConnectionArgs;
use super::progress::ProgressArgs;
use super::session::{Outcome, Session};

/// Copy an image from one place to another
///
/// A place is a registry's NAME (or docker://NAME), store:NAME, oci:DIR[:NAME], oci-archive:FILE[:NAME],
/// docker-archive:FILE[:NAME], docker-daemon:NAME (or docker:NAME) or containerd:NAME. Manifests keep
/// their digests wherever the destination can hold them as they are. Prints the digest at the
/// destination; of Docker's own places, which know none, the image's id.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge copy alpine ghcr.io/acme/alpine:3
                                          from registry to registry; nothing is stored here
  smidge copy --all alpine oci:layout:alpine
                                          every platform, to an OCI image layout
  smidge copy store:hello docker-daemon:hello
                                          to Docker: only the layers that it lacks
  smidge copy docker-archive:app.tar localhost:5000/app")]
pub(super) struct Args {
    /// From where
    #[arg(value_name = "SOURCE")]
    source: Location,
    /// To where
    #[arg(value_name = "DESTINATION")]
    destination: Location,
    /// Every platform, index and all
    #[arg(short, long, conflicts_with = "platform")]
    all: bool,
    /// The platform, if not this machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    compression: CompressionArgs,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let request = CopyRequest {
        source: args.source.clone(),
        destination: args.destination.clone(),
        platform: args.platform.clone(),
        all: args.all,
        compression: args.compression.compression(),
        connection: args.connection.connection(session),
    };
    let sink = args.progress.sink(session, args.quiet);
    let copied = engine.copy(&request, &*sink)?;
    drop(sink);
    for note in copied.notes {
        session.note(&Note::new(note));
    }
    session.print(&copied.digest.to_string())?;
    Ok(0)
}
