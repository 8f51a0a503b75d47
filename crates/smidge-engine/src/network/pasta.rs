//! `--network pasta`: an ordinary user's way out.

use std::io::ErrorKind;
use std::path::PathBuf;

use smidge_run::RunError;
use smidge_run::network::FORWARDER;

use super::NetworkMode;
use crate::{Engine, Error, Kind, Result};

impl Engine {
    /// What leads out of a container on this network.
    pub(crate) fn uplink(&self, network: &NetworkMode) -> Option<PathBuf> {
        match network {
            NetworkMode::Pasta => self.host.find_program("pasta"),
            _ => None,
        }
    }

    /// What leads out of an ordinary user's containers on networks, if something does.
    ///
    /// # Errors
    /// Why nothing does, in words.
    pub fn way_out(&self) -> std::result::Result<PathBuf, &'static str> {
        let program = self.host.find_program("pasta");
        let program = program.ok_or("`pasta` is not installed (package `passt`)")?;
        let tun = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun");
        tun.map(|_| program).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => "this user may not open `/dev/net/tun`",
            _ => "there is no `/dev/net/tun`",
        })
    }

    /// The program that leads out of containers.
    ///
    /// # Errors
    /// When it is not installed, and for root, who does not need it.
    pub(crate) fn pasta(&self) -> Result<PathBuf> {
        if self.host.uid == 0 {
            let fault = "`--network pasta` is for ordinary users";
            return Err(Error::new(Kind::Input, fault)
                .with_hint("root's containers get out through a bridge: `--network bridge`"));
        }
        self.host.find_program("pasta").ok_or_else(|| {
            without(
                Error::new(Kind::Host, "`--network pasta`: `pasta` is not installed")
                    .with_hint("install the package `passt`: `sudo apt install passt`"),
            )
        })
    }
}

/// Says what can be done about a way out that is closed.
pub(crate) fn explain(fault: RunError) -> Error {
    let hint = match &fault {
        RunError::Uplink { step, source } if step.contains("/dev/net/tun") => {
            Some(match source.kind() {
                ErrorKind::PermissionDenied => "let users open it: `sudo chmod 0666 /dev/net/tun`",
                _ => "let the kernel have it: `sudo modprobe tun`",
            })
        }
        _ => None,
    };
    let error = Error::from(fault);
    without(match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    })
}

fn without(error: Error) -> Error {
    error.with_hint(
        "without it there are loopback, published ports and networks of one's own: `smidge network create NET`",
    )
}

/// A resolver's file for a container that `pasta` leads out of: it passes questions on to the host's own
/// server, which may be on a loopback address. Others can be reached from inside, but for such.
pub(crate) fn forwarded(text: &str) -> String {
    let is_near = |line: &str| {
        let server = line.trim().strip_prefix("nameserver");
        let ip = server.and_then(|ip| ip.trim().parse::<std::net::IpAddr>().ok());
        ip.is_some_and(|ip| ip.is_loopback())
    };
    let rest = text.lines().filter(|line| !is_near(line));
    let lines = std::iter::once(format!("nameserver {FORWARDER}")).chain(rest.map(str::to_owned));
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_go_through_pasta_first() {
        let text = "nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch lan\n";
        let expected = "nameserver 169.254.1.1\nnameserver 10.0.0.1\nsearch lan\n";
        assert_eq!(forwarded(text), expected);
    }
}
