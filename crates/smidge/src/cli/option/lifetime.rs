//! Options that say how a container lives and ends.

use smidge_engine::Error;
use smidge_engine::container::CreateRequest;

use super::health::HealthArgs;

/// How the container lives and ends.
#[derive(clap::Args)]
#[command(next_help_heading = "Life")]
pub(super) struct LifetimeArgs {
    /// Run a small init as the container's first process; --init=false leaves the program alone with the
    /// kernel, which drops signals that it does not handle
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    init: Option<bool>,
    /// Start it again when it ends: no, on-failure[:COUNT], always or unless-stopped. Its supervisor does
    /// so, after 100 ms at first and a minute at last; after a reboot nobody does
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[command(flatten)]
    health: HealthArgs,
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
        request.lifetime.health = self.health.request();
        request.lifetime.restart.clone_from(&self.restart);
        request.lifetime.stop_signal.clone_from(&self.stop_signal);
        request.lifetime.stop_timeout = self.stop_timeout;
        Ok(())
    }
}
