//! `smidge registry`.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use smidge_engine::{Error, Kind};
use smidge_serve::RegistryOptions;

use super::session::{Outcome, Session};

/// Serve the store as a registry
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
enum Verb {
    Serve(Serve),
}

/// Serve the store's images to others, and take in what they push, until interrupted
///
/// Others pull `hello` of this store as ADDR/hello, and what they push as ADDR/hello is `hello` here.
/// There is no encryption and nobody is asked for a password: give an address that strangers can reach
/// only with --read-only, or behind a proxy that knows who is who.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge registry serve                        at 127.0.0.1:5000
  smidge registry serve --read-only :5000      to everybody who can reach this machine
  smidge --root /srv/images registry serve     another store than one's own")]
struct Serve {
    /// Where to listen: HOST:PORT, :PORT for all of this machine's addresses, or PORT; 0 takes any
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:5000")]
    address: Address,
    /// Refuse everything that would change the store
    #[arg(long)]
    read_only: bool,
    /// Tell every request on standard error
    #[arg(short, long)]
    verbose: bool,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address(SocketAddr);

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        if let Ok(port) = text.parse() {
            return Ok(Self(SocketAddr::new(LOCAL, port)));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ if text.is_empty() => return Err("expected HOST:PORT, :PORT or PORT"),
            _ => (text, "5000"),
        };
        let port = port
            .parse()
            .map_err(|_| "the port is no number up to 65535")?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match host {
            "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => LOCAL,
            _ => bare
                .unwrap_or(host)
                .parse()
                .map_err(|_| "expected HOST:PORT, :PORT or PORT, where HOST is an IP address")?,
        };
        Ok(Self(SocketAddr::new(host, port)))
    }
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let Verb::Serve(args) = &args.verb;
    let store = session.engine()?.store;
    let root = store.root().display().to_string();
    let options = RegistryOptions {
        address: args.address.0,
        read_only: args.read_only,
        log: args.verbose.then_some(log),
    };
    let mut told = Ok(());
    let served = smidge_serve::registry(store, &options, &mut |address| {
        told = session
            .print(&format!("Serving {root} at http://{address}"))
            .and_then(|()| {
                let flushed = session.out().flush();
                flushed.map_err(|error| Error::io("cannot write to standard output", error))
            });
    });
    served.map_err(|error| explained(error, session.called))?;
    told.map(|()| 0)
}

/// A request that was answered.
fn log(line: &str) {
    // Who closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn explained(error: smidge_serve::Error, called: &str) -> Error {
    use std::io::ErrorKind;
    match error {
        smidge_serve::Error::Listen { address, source } => {
            let port = address.port();
            let (kind, why, hint) = match source.kind() {
                ErrorKind::AddrInUse => (
                    Kind::Conflict,
                    "it is already in use",
                    format!(
                        "take another port: `{called} registry serve {}`",
                        next(port)
                    ),
                ),
                ErrorKind::AddrNotAvailable => (
                    Kind::Input,
                    "this machine has no such address",
                    format!("listen at all it has: `{called} registry serve :{port}`"),
                ),
                ErrorKind::PermissionDenied => (
                    Kind::Denied,
                    "only root may take a port below 1024",
                    format!("take a higher one: `{called} registry serve 5000`"),
                ),
                _ => {
                    let message = format!("cannot serve at `{address}`");
                    return Error::new(Kind::Host, message).caused_by(source);
                }
            };
            Error::new(kind, format!("cannot serve at `{address}`: {why}")).with_hint(hint)
        }
        other => Error::of(Kind::Host, other),
    }
}

/// A port that may be free where one is not.
fn next(port: u16) -> u16 {
    port.checked_add(1).unwrap_or(5000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_in_many_ways() {
        for (text, expected) in [
            ("5000", Some("127.0.0.1:5000")),
            ("0", Some("127.0.0.1:0")),
            (":80", Some("0.0.0.0:80")),
            ("*:80", Some("0.0.0.0:80")),
            ("0.0.0.0:81", Some("0.0.0.0:81")),
            ("localhost:82", Some("127.0.0.1:82")),
            ("localhost", Some("127.0.0.1:5000")),
            ("10.0.0.1", Some("10.0.0.1:5000")),
            ("[::1]:83", Some("[::1]:83")),
            ("[::]", Some("[::]:5000")),
            ("", None),
            ("example.com:80", None),
            (":99999", None),
            ("127.0.0.1:http", None),
            ("[::1]:", None),
            ("http://127.0.0.1:80", None),
        ] {
            let found = text
                .parse::<Address>()
                .ok()
                .map(|found| found.0.to_string());
            assert_eq!(found, expected.map(str::to_owned), "{text:?}");
        }
    }
}
