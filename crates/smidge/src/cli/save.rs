//! `smidge save`.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use smidge_engine::image::ArchiveFormat;
use smidge_engine::{Error, Kind};
use smidge_image::Platform;

use super::session::{Outcome, Session};
use crate::render::listing::unwritable;

/// Write images to an archive that any engine can load
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge save -o hello.tar hello
  smidge save hello | ssh host docker load
  smidge save --format oci-archive -o hello.tar hello
  smidge save --platform linux/arm64 -o hello.tar hello")]
pub(super) struct Args {
    /// Name or id; repeatable
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The form: Docker's archive, OCI's, or an OCI image layout in a directory
    #[arg(long, value_enum, default_value_t, hide_default_value = true)]
    format: Format,
    /// Of an image for several machines, the one for OS/ARCH[/VARIANT] alone
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
}

/// `--format`.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    DockerArchive,
    OciArchive,
    // A directory.
    Oci,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let platform = args.platform.as_ref();
    let format = match args.format {
        Format::DockerArchive => ArchiveFormat::Docker,
        Format::OciArchive => ArchiveFormat::Oci,
        Format::Oci => {
            let Some(directory) = &args.output else {
                return Err(Error::new(Kind::Input, "`--format oci` needs a directory")
                    .with_hint("name one: `smidge save --format oci -o DIR IMAGE`"));
            };
            engine.save_layout(&args.images, platform, &session.host.absolute(directory))?;
            return Ok(0);
        }
    };
    let Some(path) = &args.output else {
        if std::io::stdout().is_terminal() {
            return Err(
                Error::new(Kind::Input, "refusing to write an archive to the terminal")
                    .with_hint("name a file: `smidge save -o FILE IMAGE`"),
            );
        }
        let mut out = BufWriter::new(session.out());
        engine.save(&args.images, format, platform, &mut out)?;
        out.flush().map_err(unwritable)?;
        return Ok(0);
    };
    to_file(&session.host.absolute(path), |file| {
        engine.save(&args.images, format, platform, file)
    })?;
    Ok(0)
}

/// That a file cannot be written, and what to do about it.
pub(super) fn unwritten(message: String, path: &Path, source: std::io::Error) -> Error {
    let error = Error::io(message, source);
    let missing = path.parent().filter(|parent| !parent.exists());
    match missing {
        Some(parent) => error.with_hint(format!("make it: `mkdir -p {}`", parent.display())),
        None if path.is_dir() => error.with_hint("it is a directory: name a file in it"),
        None => error,
    }
}

/// Writes a file whole or not at all: what was there stays until the new one is complete.
pub(super) fn to_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |source| unwritten(format!("cannot write `{}`", path.display()), path, source);
    let special = path.metadata().is_ok_and(|meta| !meta.is_file());
    if special {
        // A pipe or a device is written to as it is.
        let mut file = BufWriter::new(File::options().write(true).open(path).map_err(failed)?);
        write(&mut file)?;
        return file.flush().map_err(failed);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let mut file = BufWriter::new(File::create(&part).map_err(failed)?);
    let written = write(&mut file).and_then(|()| file.flush().map_err(failed));
    let placed = written.and_then(|()| std::fs::rename(&part, path).map_err(failed));
    if placed.is_err() {
        // The fault itself is worth more than its leavings.
        let _ = std::fs::remove_file(&part);
    }
    placed
}
