//! Options that show files in a container.

use smidge_engine::container::CreateRequest;

/// What is mounted in the container.
#[derive(clap::Args)]
#[command(next_help_heading = "Files")]
pub(super) struct MountArgs {
    /// Show a directory or a volume inside; repeatable
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    volume: Vec<String>,
    /// Mount something: type=bind|volume|tmpfs|image,src=…,dst=…[,readonly,…]; repeatable
    #[arg(long, value_name = "KEY=VALUE,…")]
    mount: Vec<String>,
    /// Put an empty file system in memory inside; repeatable
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Show what another container has mounted; repeatable
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
}

impl MountArgs {
    /// Tells the engine.
    pub(super) fn apply(&self, request: &mut CreateRequest) {
        request.volumes.clone_from(&self.volume);
        request.mounts.clone_from(&self.mount);
        request.tmpfs.clone_from(&self.tmpfs);
        request.volumes_from.clone_from(&self.volumes_from);
    }
}
