//! `--progress`, of every command that takes its time.

use smidge_engine::Progress;

use super::session::Session;
use crate::render::progress::{self, Style};

/// How progress is shown.
#[derive(clap::Args)]
pub(super) struct ProgressArgs {
    /// How progress is shown
    #[arg(
        long = "progress",
        value_name = "STYLE",
        value_enum,
        default_value_t,
        hide_default_value = true
    )]
    style: Style,
}

impl ProgressArgs {
    /// What receives it; nothing is shown to those who want it `quiet`. Drop it before anything else
    /// is shown.
    pub(super) fn sink(&self, session: &Session, quiet: bool) -> Box<dyn Progress> {
        let style = if quiet { Style::None } else { self.style };
        progress::sink(style, &session.host)
    }
}
