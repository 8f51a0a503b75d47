//! `smidge load`.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use smidge_engine::{Error, Kind};
use smidge_image::Platform;

use super::session::{Outcome, Session};

/// Read images from an archive that any engine wrote
///
/// Docker's archives and OCI's are understood, compressed or not, and OCI layouts in a directory.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge load -i hello.tar
  docker save app | smidge load
  smidge load -i all.tar --platform linux/arm64")]
pub(super) struct Args {
    /// The archive to read [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load the images for OS/ARCH[/VARIANT] alone
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let platform = args.platform.as_ref();
    let loaded = match &args.input {
        Some(path) if session.host.absolute(path).is_dir() => {
            engine.load_layout(&session.host.absolute(path), platform)?
        }
        Some(path) => {
            let mut file = File::open(session.host.absolute(path)).map_err(|source| {
                Error::io(
                    format!("cannot read the archive `{}`", path.display()),
                    source,
                )
            })?;
            engine.load(&mut file, platform)?
        }
        None if std::io::stdin().is_terminal() => {
            return Err(Error::new(Kind::Input, "there is no archive to load")
                .with_hint("name a file: `smidge load -i FILE`"));
        }
        None => engine.load(&mut std::io::stdin().lock(), platform)?,
    };
    // Docker's `-q` keeps the progress quiet and tells the names all the same.
    let _ = args.quiet;
    for line in loaded.iter().flat_map(smidge_engine::image::Loaded::lines) {
        session.print(&line)?;
    }
    Ok(0)
}
