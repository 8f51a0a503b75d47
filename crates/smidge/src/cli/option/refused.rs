//! Options of Docker's that cannot be met here: each is refused, and says why.

use smidge_engine::{Error, Kind};

/// What cannot be met.
#[derive(clap::Args)]
pub(super) struct RefusedArgs {
    #[arg(long, hide = true)]
    gpus: Option<String>,
    #[arg(long, hide = true)]
    runtime: Option<String>,
    #[arg(long = "isolation", hide = true)]
    technology: Option<String>,
    #[arg(long, hide = true)]
    storage_opt: Vec<String>,
    #[arg(long, hide = true)]
    volume_driver: Option<String>,
    #[arg(long, hide = true)]
    use_api_socket: bool,
    #[arg(long, hide = true)]
    link: Vec<String>,
    #[arg(long, hide = true)]
    link_local_ip: Vec<String>,
    #[arg(long, hide = true)]
    device_cgroup_rule: Vec<String>,
    #[arg(long, hide = true)]
    cpu_count: Option<String>,
    #[arg(long, hide = true)]
    cpu_percent: Option<String>,
    #[arg(long, hide = true)]
    io_maxbandwidth: Option<String>,
    #[arg(long, hide = true)]
    io_maxiops: Option<String>,
    /// Images are told by their digests; there is no trust to disable.
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

const WINDOWS: &str = "it is for containers of Windows";

impl RefusedArgs {
    /// Says what cannot be met, if something was asked for.
    pub(super) fn check(&self) -> Result<(), Error> {
        let technology = self.technology.as_deref();
        let driver = self.volume_driver.as_deref();
        let refusals = [
            (
                "gpus",
                self.gpus.is_some(),
                "smidge does not set up GPUs; the devices alone: `--device /dev/dri`",
            ),
            ("runtime", self.runtime.is_some(), "smidge is the runtime"),
            (
                "isolation",
                technology.is_some_and(|t| t != "default"),
                WINDOWS,
            ),
            (
                "storage-opt",
                !self.storage_opt.is_empty(),
                "overlayfs has no quota a container",
            ),
            (
                "volume-driver",
                driver.is_some_and(|driver| driver != "local"),
                "there is no volume driver but `local`",
            ),
            (
                "use-api-socket",
                self.use_api_socket,
                "there is no daemon, and so no socket of one",
            ),
            (
                "link",
                !self.link.is_empty(),
                "links are Docker's past: containers on one network find each other by name",
            ),
            (
                "link-local-ip",
                !self.link_local_ip.is_empty(),
                "containers get no link-local addresses",
            ),
            (
                "device-cgroup-rule",
                !self.device_cgroup_rule.is_empty(),
                "containers open no device that they make themselves, whatever a control group allows; \
                 give them the device: `--device /dev/ttyUSB0`",
            ),
            ("cpu-count", self.cpu_count.is_some(), WINDOWS),
            ("cpu-percent", self.cpu_percent.is_some(), WINDOWS),
            ("io-maxbandwidth", self.io_maxbandwidth.is_some(), WINDOWS),
            ("io-maxiops", self.io_maxiops.is_some(), WINDOWS),
        ];
        match refusals.into_iter().find(|(_, asked, _)| *asked) {
            Some((name, _, why)) => Err(Error::new(
                Kind::Input,
                format!("`--{name}` cannot be met: {why}"),
            )),
            None => Ok(()),
        }
    }
}
