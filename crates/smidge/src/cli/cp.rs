//! `smidge cp`.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use smidge_engine::container::CopyOptions;
use smidge_engine::{Engine, Error, Kind};

use super::session::{Outcome, Session};

/// Copy files between a container and this machine
///
/// One of the two is CONTAINER:PATH; the other is a path of this machine, or `-` for a tar archive on
/// standard input or output. A directory that ends with `/.` means what is in it. Copies belong to who
/// makes them: to you here, to root in the container.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge cp web:/etc/passwd .             from the container
  smidge cp ./site/. web:/srv             what is in a directory, to the container
  smidge cp web:/var/log - | tar -t       as a tar archive")]
pub(super) struct Args {
    /// What to copy
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to
    #[arg(value_name = "DESTINATION")]
    destination: String,
    /// Keep owners; on this machine only root can
    #[arg(short, long)]
    archive: bool,
    /// Copy what SOURCE leads to, if it is a symbolic link
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
}

/// One end of a copy.
enum End<'a> {
    Container(&'a str, &'a str),
    Host(&'a str),
    Stream,
}

impl<'a> End<'a> {
    /// As Docker reads it: what starts with `/` or `.` is a path of this machine, whatever colons it has.
    fn new(text: &'a str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            _ if text.starts_with(['/', '.']) => Self::Host(text),
            Some((container, path)) if !container.is_empty() => Self::Container(container, path),
            _ => Self::Host(text),
        }
    }
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let options = CopyOptions {
        archive: args.archive,
        follow: args.follow_link,
    };
    for (text, end) in [(&args.source, "source"), (&args.destination, "destination")] {
        if text.is_empty() {
            return Err(Error::new(Kind::Input, format!("{end} can not be empty")));
        }
    }
    let (source, destination) = (End::new(&args.source), End::new(&args.destination));
    for end in [&source, &destination] {
        if let End::Container(name, "") = end {
            let fault = format!("the path in container `{name}` can not be empty");
            return Err(Error::new(Kind::Input, fault).with_hint(format!("its root is `{name}:/`")));
        }
    }
    copy(&engine, &source, &destination, options)?;
    let is_stream = matches!(destination, End::Stream);
    if !args.quiet && !is_stream && std::io::stderr().is_terminal() {
        session.tell(&format!("Successfully copied to {}", args.destination));
    }
    Ok(0)
}

fn copy(
    engine: &Engine,
    source: &End<'_>,
    destination: &End<'_>,
    options: CopyOptions,
) -> Result<(), Error> {
    match (source, destination) {
        (End::Container(from, path), End::Host(to)) => {
            engine.copy_out(from, path, Path::new(to), options)
        }
        (End::Container(from, path), End::Stream) => {
            engine.copy_out_archive(from, path, options, &output()?)
        }
        (End::Host(from), End::Container(to, path)) => {
            engine.copy_in(Path::new(from), to, path, options)
        }
        (End::Stream, End::Container(to, path)) => {
            engine.copy_in_archive(&mut std::io::stdin().lock(), to, path)
        }
        (End::Container(..), End::Container(..)) => {
            let fault = "copying between containers is not supported";
            Err(Error::new(Kind::Input, fault).with_hint(
                "by way of an archive: `smidge cp ONE:/PATH - | smidge cp - OTHER:/DIRECTORY`",
            ))
        }
        _ => Err(
            Error::new(Kind::Input, "must specify at least one container source")
                .with_hint("name it before a colon: `smidge cp web:/etc/passwd .`"),
        ),
    }
}

/// Standard output as a file, for an archive; not a terminal, which would show its bytes.
pub(super) fn output() -> Result<File, Error> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err(
            Error::new(Kind::Input, "an archive is not shown on a terminal")
                .with_hint("write it to a file: `… > FILE`"),
        );
    }
    let file = stdout.as_fd().try_clone_to_owned();
    file.map(File::from)
        .map_err(crate::render::listing::unwritable)
}
