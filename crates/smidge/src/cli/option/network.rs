//! Options that say which networks a container is on.

use smidge_engine::Error;
use smidge_engine::container::CreateRequest;
use smidge_engine::network::{Endpoint, NetworkMode};

/// Which networks the container is on.
#[derive(clap::Args)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkArgs {
    /// Its network: bridge (one of its own), host or none
    #[arg(long, value_name = "NETWORK", alias = "net")]
    network: Vec<Endpoint>,
}

impl NetworkArgs {
    /// Tells the engine.
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.network = NetworkMode::new(self.network.clone())?;
        Ok(())
    }
}
