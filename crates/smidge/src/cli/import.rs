//! `smidge import`.

use std::fs::File;
use std::path::Path;

use smidge_engine::image::ImportRequest;
use smidge_engine::{Error, is_http};
use smidge_image::Platform;

use super::session::{Outcome, Session};

/// Make an image from a tar archive of a root file system
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge import rootfs.tar.gz base
  tar c -C rootfs . | smidge import -c 'CMD [\"/bin/sh\"]' - base")]
pub(super) struct Args {
    /// The archive, compressed or not: a file, a URL, or `-` for standard input
    #[arg(value_name = "FILE|URL|-")]
    file: String,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Apply a Dockerfile instruction (CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER,
    /// VOLUME or WORKDIR); repeatable
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// What to say in the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// The machine that the files are for
    #[arg(long)]
    platform: Option<Platform>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let request = ImportRequest {
        name: args.name.clone(),
        changes: args.change.clone(),
        message: args.message.clone(),
        platform: args.platform.clone(),
        source: args.file.clone(),
    };
    let image = if args.file == "-" {
        engine.import(&request, &mut std::io::stdin().lock())?
    } else if is_http(&args.file) {
        engine.import_from(&request)?
    } else {
        let mut file = File::open(session.host.absolute(Path::new(&args.file)))
            .map_err(|source| Error::io(format!("cannot read `{}`", args.file), source))?;
        engine.import(&request, &mut file)?
    };
    session.print(&image.id.to_string())?;
    Ok(0)
}
