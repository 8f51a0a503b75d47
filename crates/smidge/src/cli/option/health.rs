//! Options that say how to find out whether a program is well.

use smidge_engine::container::HealthRequest;

/// How to find out whether the program is well.
#[derive(clap::Args)]
#[command(next_help_heading = "Health")]
pub(super) struct HealthArgs {
    /// It is well if this shell line succeeds inside
    #[arg(long, value_name = "LINE")]
    health_cmd: Option<String>,
    /// It is well if it answers this request; needs nothing in the image
    #[arg(long, value_name = "[METHOD ]:PORT/PATH[=CODE]")]
    health_http: Option<String>,
    /// It is well if it accepts connections at this port; needs nothing in the image
    #[arg(long, value_name = "PORT")]
    health_tcp: Option<u16>,
    /// It is well if this line of the host's shell succeeds on the container's network
    #[arg(long, value_name = "LINE")]
    health_exec: Option<String>,
    /// Time between probes [default: 30s]
    #[arg(long, value_name = "TIME")]
    health_interval: Option<String>,
    /// The most that a probe may take [default: 30s]
    #[arg(long, value_name = "TIME")]
    health_timeout: Option<String>,
    /// Failures in a row that make it unhealthy [default: 3]
    #[arg(long, value_name = "COUNT")]
    health_retries: Option<u32>,
    /// How long after the start failures do not count [default: 0s]
    #[arg(long, value_name = "TIME")]
    health_start_period: Option<String>,
    /// Time between probes until then [default: 5s]
    #[arg(long, value_name = "TIME")]
    health_start_interval: Option<String>,
    /// Do not ask, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthArgs {
    /// For the engine.
    pub(super) fn request(&self) -> HealthRequest {
        HealthRequest {
            command: self.health_cmd.clone(),
            http: self.health_http.clone(),
            tcp: self.health_tcp,
            host: self.health_exec.clone(),
            interval: self.health_interval.clone(),
            timeout: self.health_timeout.clone(),
            start_period: self.health_start_period.clone(),
            start_interval: self.health_start_interval.clone(),
            retries: self.health_retries,
            disabled: self.no_healthcheck,
        }
    }
}
