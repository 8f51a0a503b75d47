//! Options that say what a container may use.

use clap::ValueEnum;
use smidge_engine::Error;
use smidge_engine::container::{
    CreateRequest, DeviceRate, Resources, parse_bytes, parse_bytes_or_unlimited, parse_cpus,
    parse_device_rate,
};

/// Limits that can be changed while a container runs.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
pub(in crate::cli) struct LimitArgs {
    /// Memory that it may use at most
    #[arg(short, long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Memory and swap together; -1 for no limit of swap [default: twice the memory]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes_or_unlimited, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Memory that it is brought back to when memory is short
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory_reservation: Option<u64>,
    /// Number of processors: 1.5
    #[arg(long, value_name = "NUMBER", value_parser = parse_cpus)]
    cpus: Option<u64>,
    /// Weight against others that want processor time [default: 1024]
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Span that --cpu-quota is for, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Span that --cpu-rt-runtime is for, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_rt_period: Option<i64>,
    /// Time for real-time processes in each period, in microseconds
    #[arg(long, value_name = "TIME")]
    cpu_rt_runtime: Option<i64>,
    /// Processors that it may run on: 0-3,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that it may use: 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Number of processes and threads; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Weight against others that use block devices, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Docker gave this up, too
    #[arg(long, value_name = "BYTES", hide = true, value_parser = no_kernel_memory)]
    kernel_memory: Option<u64>,
}

/// What the container may use.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct ResourceArgs {
    #[command(flatten)]
    limits: LimitArgs,
    /// How readily it is swapped out, from 0 to 100
    #[arg(long, value_name = "SHARE", value_parser = clap::value_parser!(i16).range(-1..=100), allow_negative_numbers = true)]
    memory_swappiness: Option<i16>,
    /// Let it wait for memory, where one of its processes would be killed
    #[arg(long)]
    oom_kill_disable: bool,
    /// How much rather it is killed when the machine is short of memory, from -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
    /// Weight for one block device; repeatable
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = rate)]
    blkio_weight_device: Vec<DeviceRate>,
    /// Bytes a second read from a device; repeatable
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = byte_rate)]
    device_read_bps: Vec<DeviceRate>,
    /// Bytes a second written to a device; repeatable
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = byte_rate)]
    device_write_bps: Vec<DeviceRate>,
    /// Reads a second from a device; repeatable
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = rate)]
    device_read_iops: Vec<DeviceRate>,
    /// Writes a second to a device; repeatable
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = rate)]
    device_write_iops: Vec<DeviceRate>,
    /// Control group that the container's is made in
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,
    /// What it sees of control groups: its own (private) or all (host)
    #[arg(long, value_name = "MODE", value_enum, hide_possible_values = true)]
    cgroupns: Option<CgroupNamespace>,
}

/// `--cgroupns`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CgroupNamespace {
    Private,
    Host,
}

fn byte_rate(text: &str) -> Result<DeviceRate, String> {
    parse_device_rate(text, true)
}

fn rate(text: &str) -> Result<DeviceRate, String> {
    parse_device_rate(text, false)
}

fn no_kernel_memory(_: &str) -> Result<u64, String> {
    Err("kernels have given up limits for their own memory: use `--memory`".to_owned())
}

impl LimitArgs {
    /// What was asked for. In Docker's words 0 means that nothing is.
    pub(in crate::cli) fn resources(&self) -> Resources {
        Resources {
            memory: self.memory.filter(|bytes| *bytes > 0),
            memory_swap: self.memory_swap.filter(|bytes| *bytes != 0),
            memory_reservation: self.memory_reservation.filter(|bytes| *bytes > 0),
            nano_cpus: self.cpus.filter(|cpus| *cpus > 0),
            cpu_shares: self.cpu_shares.filter(|shares| *shares > 0),
            cpu_period: self.cpu_period.filter(|period| *period > 0),
            cpu_quota: self.cpu_quota.filter(|quota| *quota != 0),
            cpu_realtime_period: self.cpu_rt_period.filter(|period| *period > 0),
            cpu_realtime_runtime: self.cpu_rt_runtime.filter(|runtime| *runtime != 0),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            pids_limit: self.pids_limit.filter(|limit| *limit != 0),
            blkio_weight: self.blkio_weight.filter(|weight| *weight > 0),
            ..Resources::default()
        }
    }
}

impl ResourceArgs {
    /// Tells the engine.
    pub(super) fn apply(&self, request: &mut CreateRequest) -> Result<(), Error> {
        let limits = self.limits.resources();
        let swappiness = self.memory_swappiness;
        request.resources = Resources {
            // A new container has no limit that could be taken away.
            pids_limit: limits.pids_limit.filter(|limit| *limit > 0),
            memory_swappiness: swappiness.and_then(|share| u8::try_from(share).ok()),
            oom_kill_disable: self.oom_kill_disable,
            oom_score_adj: self.oom_score_adj.filter(|value| *value != 0),
            blkio_weight_device: self.blkio_weight_device.clone(),
            device_read_bps: self.device_read_bps.clone(),
            device_write_bps: self.device_write_bps.clone(),
            device_read_iops: self.device_read_iops.clone(),
            device_write_iops: self.device_write_iops.clone(),
            cgroup_parent: self.cgroup_parent.clone().unwrap_or_default(),
            host_cgroup_namespace: self.cgroupns == Some(CgroupNamespace::Host),
            ..limits
        };
        Ok(())
    }
}
