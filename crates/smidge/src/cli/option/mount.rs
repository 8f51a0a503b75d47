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
        // As in Docker, what is said twice counts once; of options for one place in memory, the last ones.
        for volume in &self.volume {
            if !request.volumes.contains(volume) {
                request.volumes.push(volume.clone());
            }
        }
        request.mounts.clone_from(&self.mount);
        let place = |text: &str| text.split(':').next().map(str::to_owned);
        for tmpfs in &self.tmpfs {
            request.tmpfs.retain(|other| place(other) != place(tmpfs));
            request.tmpfs.push(tmpfs.clone());
        }
        request.volumes_from.clone_from(&self.volumes_from);
    }
}
