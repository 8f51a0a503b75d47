//! Options that say how a container lives and ends.

use smidge_engine::Error;
use smidge_engine::container::CreateRequest;

/// How the container lives and ends.
#[derive(clap::Args)]
#[command(next_help_heading = "Life")]
pub(super) struct LifetimeArgs {
    /// Run a small init as the container's first process
    #[arg(long)]
    init: bool,
    /// Signal that asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds that `stop` waits before it kills
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
}

impl LifetimeArgs {
    /// Tells the engine.
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.lifetime.init = self.init;
        request.lifetime.stop_signal.clone_from(&self.stop_signal);
        request.lifetime.stop_timeout = self.stop_timeout;
        Ok(())
    }
}
