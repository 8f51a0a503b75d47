//! `smidge info`.

use serde_json::json;
use smidge_engine::image::Info;

use super::session::{Outcome, Session};
use crate::render::listing;
use crate::render::words;

/// Show what smidge has and what it stands on
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge info
  smidge info -f '{{.DockerRootDir}}'     where images and containers are kept")]
pub(super) struct Args {
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let info = session.engine()?.info()?;
    listing::print_value(
        &mut session.out(),
        args.format.as_deref(),
        json!(info),
        |_| shown(&info),
    )?;
    Ok(0)
}

fn shown(info: &Info) -> String {
    let Info { disk, .. } = info;
    format!(
        "smidge {}
 Store:            {}
 Images:           {}
 Containers:       {} ({} running)
 On disk:          images {}, unpacked {}, containers {}, volumes {}, cache {}
 Rootless:         {} (container ids: {})
 Security:         {}
 Kernel:           {}
 System:           {} ({})
 Processors:       {}
 Memory:           {}
",
        info.server_version,
        info.docker_root_dir,
        info.images,
        info.containers,
        info.containers_running,
        words::size(disk.blobs),
        words::size(disk.layers),
        words::size(disk.containers),
        words::size(disk.volumes),
        words::size(disk.cache),
        if info.rootless { "yes" } else { "no" },
        info.id_map,
        info.security_options.join(" "),
        info.kernel_version,
        info.operating_system,
        info.architecture,
        info.cpus,
        words::size(info.mem_total),
    )
}
