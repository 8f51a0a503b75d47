//! `smidge run`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::ValueEnum;
use smidge_engine::container::{CreateRequest, End, Network, PullPolicy, Streams};
use smidge_engine::{Error, Kind};
use smidge_image::Platform;

use super::connection::ConnectionArgs;
use super::provision::Needed;
use super::session::{Outcome, Session};

/// Run a program in a new container
///
/// Options end at IMAGE: everything after it belongs to the container. The exit status is the
/// program's; 125 says that smidge could not make the container, 126 and 127 that the program could
/// not be started.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
#[command(after_help = "Examples:
  smidge run --rm hello                   run, pass the output on, leave nothing
  smidge run -d -p 8080:80 --name web app
                                          run in the background; port 8080 here leads to 80 inside
  smidge run -ti --rm box /bin/sh         with a terminal; Ctrl-P Ctrl-Q detaches
  smidge run --rm -v ./data:/data:ro app  show it a directory of yours, read-only
  smidge run --rm app --port 8080         what follows the image is the program's")]
pub(super) struct Args {
    /// Name or id of the image
    image: String,
    /// Arguments in place of the image's own
    #[arg(value_name = "ARG")]
    args: Vec<String>,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    tty: bool,
    /// Name the container
    #[arg(long)]
    name: Option<String>,
    /// Remove the container when it has ended
    #[arg(long)]
    rm: bool,
    /// Lead a port of this machine into the container; repeatable
    #[arg(short, long, value_name = "[IP:]HOST:CONTAINER[/udp]")]
    publish: Vec<String>,
    /// Publish all exposed ports at random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port; repeatable
    #[arg(long, value_name = "PORT[/udp]")]
    expose: Vec<String>,
    /// Show a directory or a volume inside; repeatable
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    volume: Vec<String>,
    /// Put an empty file system in memory inside; repeatable
    #[arg(long, value_name = "DIR")]
    tmpfs: Vec<String>,
    /// Set an environment variable, or pass yours on; repeatable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file; repeatable
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Label the container; repeatable
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User, and group, to run as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Program in place of the image's own
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// The container's host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Its network: bridge (a network of its own), host or none
    #[arg(
        long,
        value_name = "NETWORK",
        alias = "net",
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    network: Net,
    /// Let the container write to volumes alone
    #[arg(long)]
    read_only: bool,
    /// Run a small init as the container's first process
    #[arg(long)]
    init: bool,
    /// Signal that asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds that `stop` waits before it kills
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
    /// Keys that detach from the terminal
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// Fetch the image: missing, never or always
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pull: Pull,
    /// The machine to run as, such as linux/arm64 [default: this one]
    #[arg(long)]
    platform: Option<Platform>,
    /// Say nothing about the image being fetched
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// `--pull`.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Pull {
    #[default]
    Missing,
    Never,
    Always,
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Missing => Self::Missing,
            Pull::Never => Self::Never,
            Pull::Always => Self::Always,
        }
    }
}

/// The exit code when the container could not be made.
const NOT_MADE: u8 = 125;

/// `--network`.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Net {
    #[default]
    #[value(aliases = ["default", "private"])]
    Bridge,
    Host,
    None,
}

/// `--detach-keys ctrl-p,ctrl-q`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DetachKeys(pub(super) Vec<u8>);

impl std::str::FromStr for DetachKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key = |name: &str| match name.as_bytes() {
            [key] => Ok(*key),
            [b'c', b't', b'r', b'l', b'-', key] => match key.to_ascii_uppercase() {
                key @ b'@'..=b'_' => Ok(key - b'@'),
                _ => Err(format!("`{name}` is no key")),
            },
            _ => Err(format!(
                "`{name}` is no key: write a letter, or `ctrl-` and a letter"
            )),
        };
        let names = text.split(',').filter(|_| !text.is_empty());
        names.map(key).collect::<Result<_, _>>().map(Self)
    }
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    if args.tty && args.interactive && !args.detach && !std::io::stdin().is_terminal() {
        return Err(Error::new(Kind::Input, "the input device is not a TTY")
            .with_hint("leave out `-t` where there is no terminal: `smidge run -i IMAGE`"));
    }
    if let Some(file) = args
        .cidfile
        .as_ref()
        .filter(|f| session.host.absolute(f).exists())
    {
        let fault = format!("the container id file `{}` exists already", file.display());
        return Err(
            Error::new(Kind::Conflict, fault).with_hint("remove it, if no container needs it")
        );
    }
    let needed = Needed {
        image: &args.image,
        policy: args.pull.into(),
        platform: args.platform.as_ref(),
        quiet: args.quiet,
        connection: &args.connection,
    };
    if !needed.provide(session, &engine)? {
        return Ok(NOT_MADE);
    }
    let streams = (!args.detach).then(|| Streams {
        stdin: args.interactive,
        stdout: true,
        stderr: true,
        detach_keys: args.detach_keys.clone().map(|keys| keys.0),
    });
    let known = engine.create(&request(args))?;
    known.notes.iter().for_each(|note| session.note(note));
    let running = engine.launch(known, streams)?;
    if let Some(file) = &args.cidfile {
        std::fs::write(session.host.absolute(file), &running.container.id).map_err(|source| {
            Error::io(
                format!("cannot write the container's id to `{}`", file.display()),
                source,
            )
        })?;
    }
    if args.detach {
        session.print(&running.container.id)?;
        return Ok(0);
    }
    Ok(exit_code(running.wait()?))
}

/// The exit code for how a container let go.
pub(super) fn exit_code(end: End) -> u8 {
    match end {
        End::Exited(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        End::Detached => 0,
    }
}

fn request(args: &Args) -> CreateRequest {
    CreateRequest {
        image: args.image.clone(),
        args: args.args.clone(),
        name: args.name.clone(),
        platform: args.platform.clone(),
        pull: args.pull.into(),
        tty: args.tty,
        stdin: args.interactive,
        attached: !args.detach,
        remove: args.rm,
        publish: args.publish.clone(),
        publish_all: args.publish_all,
        expose: args.expose.clone(),
        volumes: args.volume.clone(),
        tmpfs: args.tmpfs.clone(),
        env: args.env.clone(),
        env_files: args.env_file.clone(),
        labels: args.label.clone(),
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        entrypoint: args.entrypoint.clone(),
        hostname: args.hostname.clone(),
        network: match args.network {
            Net::Bridge => Network::Private,
            Net::Host => Network::Host,
            Net::None => Network::None,
        },
        read_only: args.read_only,
        init: args.init,
        stop_signal: args.stop_signal.clone(),
        stop_timeout: args.stop_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_dockers() {
        let keys = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.0);
        assert_eq!(keys("ctrl-p,ctrl-q"), Ok(vec![0x10, 0x11]));
        assert_eq!(keys("ctrl-@,a,ctrl-["), Ok(vec![0, b'a', 0x1b]));
        assert_eq!(keys(""), Ok(Vec::new()));
        for bad in ["ctrl-", "ctrl-1", "ab", "a,,b", "é"] {
            assert!(keys(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exit_codes_fit_a_byte() {
        assert_eq!(exit_code(End::Exited(0)), 0);
        assert_eq!(exit_code(End::Exited(143)), 143);
        assert_eq!(exit_code(End::Exited(-1)), 255);
        assert_eq!(exit_code(End::Detached), 0);
    }
}
