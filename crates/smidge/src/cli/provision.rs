//! Fetching an image that a container needs.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use smidge_engine::container::PullPolicy;
use smidge_engine::{Error, Kind};
use smidge_image::{Platform, Reference};

use super::connection::ConnectionArgs;
use super::session::Session;

/// An image that has to be there.
pub(super) struct Needed<'a> {
    /// Its name.
    pub(super) image: &'a str,
    /// When it is looked for elsewhere.
    pub(super) policy: PullPolicy,
    /// The platform, if not this machine's.
    pub(super) platform: Option<&'a Platform>,
    /// Whether nothing is said about it.
    pub(super) quiet: bool,
    /// How to talk to registries.
    pub(super) connection: &'a ConnectionArgs,
}

impl Needed<'_> {
    /// Fetches it; tells whether it is there now. If not, what went wrong was said.
    ///
    /// A process of its own fetches it: the supervisor that this one becomes shall have one thread and
    /// little memory. Standard output is the program's, so all that is said goes to standard error.
    pub(super) fn fetch(&self, session: &Session) -> Result<bool, Error> {
        if self.policy == PullPolicy::Missing && !self.quiet {
            let name = self.image.parse::<Reference>();
            let name = name.map_or_else(|_| self.image.to_owned(), |name| name.familiar());
            session.tell(&format!("Unable to find image '{name}' locally"));
        }
        let failed = |source| Error::new(Kind::Host, "cannot call smidge itself").caused_by(source);
        let mut child = self.command(session).spawn().map_err(failed)?;
        if let Some(stdout) = child.stdout.take() {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let mut last = lines.next();
            for line in lines {
                // The last line, the name, is for scripts.
                if let Some(line) = last.replace(line) {
                    session.tell(&line);
                }
            }
        }
        Ok(child.wait().map_err(failed)?.success())
    }

    fn command(&self, session: &Session) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(session.called);
        if let Some(root) = &session.root {
            command.arg("--root").arg(root);
        }
        if let Some(dir) = session.host.env.get("DOCKER_CONFIG") {
            command.env("DOCKER_CONFIG", dir);
        }
        command.arg("pull").args(self.connection.options());
        if self.quiet {
            command.arg("--quiet");
        }
        if let Some(platform) = self.platform {
            command.args(["--platform", &platform.to_string()]);
        }
        command.args(["--", self.image]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}
