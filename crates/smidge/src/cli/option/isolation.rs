//! Options that say how far a container is shut in.

use smidge_engine::Error;
use smidge_engine::container::CreateRequest;

/// How far the container is shut in.
#[derive(clap::Args)]
#[command(next_help_heading = "Isolation")]
pub(super) struct IsolationArgs {
    /// Let the container write to volumes alone
    #[arg(long)]
    read_only: bool,
}

impl IsolationArgs {
    /// Tells the engine.
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.isolation.read_only = self.read_only;
        Ok(())
    }
}
