//! `smidge run`.

use clap::ValueEnum;
use smidge_engine::container::{End, Streams};
use smidge_engine::{Error, Kind};

use super::option::container::ContainerArgs;
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
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Pass on stdin, stdout or stderr, and no others; repeatable [default: stdout and stderr]
    #[arg(
        short,
        long,
        value_name = "STREAM",
        ignore_case = true,
        hide_possible_values = true
    )]
    attach: Vec<Stream>,
    /// Keys that detach from the terminal
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    #[command(flatten)]
    signals: Signals,
    #[command(flatten)]
    container: ContainerArgs,
}

/// Whose signals are whose, for those who stay with a program.
#[derive(clap::Args)]
pub(super) struct Signals {
    /// Pass signals on [default: true]
    #[arg(
        long,
        value_name = "BOOL",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(super) sig_proxy: bool,
}

/// `--attach`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

/// The exit code when the container could not be made.
const NOT_MADE: u8 = 125;

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

/// What is refused before anything is made; the exit code is 1, as in Docker.
pub(super) fn check(args: &Args) -> Result<(), Error> {
    if args.detach && !args.attach.is_empty() {
        return Err(Error::new(
            Kind::Input,
            "conflicting options: cannot specify both --attach and --detach",
        ));
    }
    match args.detach {
        true => Ok(()),
        false => args.container.check_terminal(),
    }
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    if let Some(other) = args.container.shared_processes() {
        engine.seal_against(other)?;
    }
    if args.container.may_trace() {
        engine.seal()?;
    }
    let Some(known) = args.container.make(session, &engine, !args.detach)? else {
        return Ok(NOT_MADE);
    };
    let all = args.attach.is_empty();
    let streams = (!args.detach).then(|| Streams {
        stdin: args.container.interactive && (all || args.attach.contains(&Stream::Stdin)),
        stdout: all || args.attach.contains(&Stream::Stdout),
        stderr: all || args.attach.contains(&Stream::Stderr),
        detach_keys: args.detach_keys.clone().map(|keys| keys.0),
        keep_signals: !args.signals.sig_proxy,
    });
    let id = known.container.id.clone();
    let stays = !args.container.rm;
    let running = engine.launch(known, streams);
    // As in Docker, it is told which one it is that could not be started.
    if args.detach && (running.is_ok() || stays) {
        session.print(&id)?;
    }
    let running = running?;
    if args.detach {
        return Ok(0);
    }
    let (end, reason) = running.wait()?;
    session.why(reason.as_ref());
    Ok(exit_code(end))
}

/// The exit code for how a container let go.
pub(super) fn exit_code(end: End) -> u8 {
    match end {
        End::Exited(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        End::Detached => 0,
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
