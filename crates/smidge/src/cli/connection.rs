//! How to talk to registries: the options of every command that does.

use std::path::PathBuf;

use smidge_engine::registry::Connection;

use super::session::Session;

/// How to talk to registries.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ConnectionArgs {
    /// Check certificates; `=false` allows plain HTTP, too
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        action = clap::ArgAction::Set
    )]
    tls_verify: Option<bool>,
    /// Keep credentials in this file alone
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

impl ConnectionArgs {
    /// The same, for the engine.
    pub(super) fn connection(&self, session: &Session) -> Connection {
        let absolute = |path: &PathBuf| session.host.absolute(path);
        Connection {
            tls_verify: self.tls_verify,
            auth_file: self.authfile.as_ref().map(absolute),
        }
    }

    /// The same as options, for another call of smidge.
    pub(super) fn options(&self) -> Vec<std::ffi::OsString> {
        let mut options = Vec::new();
        if let Some(verify) = self.tls_verify {
            options.push(format!("--tls-verify={verify}").into());
        }
        if let Some(file) = &self.authfile {
            options.extend(["--authfile".into(), file.clone().into()]);
        }
        options
    }
}
