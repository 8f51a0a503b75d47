//! From [`Resources`] to what is written to which file, in the words of either version.
//!
//! Sources: the kernel's `Documentation/admin-guide/cgroup-v1/` and `cgroup-v2.rst`; the conversions
//! from one version to the other are those of runc.

use super::controller::Controller;
use super::lack::Lack;
use super::resources::{DeviceRate, Resources};
use crate::error::RunError;

/// One file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The option that asks for it.
    pub(super) option: &'static str,
    /// The file; of several names for the same, the first that is there.
    pub(super) files: &'static [&'static str],
    /// What is written.
    pub(super) value: String,
    /// The file, and what is written to it, where none of those is there.
    pub(super) instead: Option<(&'static str, String)>,
    /// Whether a kernel without such a file is an error: nobody asked for what only follows.
    pub(super) required: bool,
}

impl Setting {
    fn new(option: &'static str, files: &'static [&'static str], value: impl ToString) -> Self {
        Self {
            option,
            files,
            value: value.to_string(),
            instead: None,
            required: true,
        }
    }

    /// The files that may be there, each with what is written to it.
    pub(super) fn choices(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let files = self.files.iter().map(|file| (*file, self.value.as_str()));
        let instead = self.instead.iter();
        files.chain(instead.map(|(file, value)| (*file, value.as_str())))
    }
}

/// The period of the processor's scheduler if none is given, in microseconds.
const PERIOD: u64 = 100_000;

/// The controllers that `resources` take, each with an option that asks for it.
pub(super) fn controllers(resources: &Resources) -> Vec<(Controller, &'static str)> {
    use Controller as C;
    let mut wanted: Vec<(Controller, &'static str)> = Vec::new();
    for controller in [C::Memory, C::Cpu, C::Cpuset, C::Pids, C::Io] {
        if let Some(setting) = v1(resources, controller).first() {
            wanted.push((controller, setting.option));
        }
    }
    wanted
}

/// What version 1 is told for a controller.
pub(super) fn v1(resources: &Resources, controller: Controller) -> Vec<Setting> {
    let mut settings = Vec::new();
    match controller {
        Controller::Memory => v1_memory(resources, &mut settings),
        Controller::Cpu => v1_cpu(resources, &mut settings),
        Controller::Cpuset => cpuset(resources, &mut settings),
        Controller::Pids => pids(resources, &mut settings),
        Controller::Io => v1_io(resources, &mut settings),
        Controller::Freezer | Controller::Devices => {}
    }
    settings
}

/// What version 2 is told for a controller.
///
/// # Errors
/// When something is asked for that only version 1 has.
pub(super) fn v2(resources: &Resources, controller: Controller) -> Result<Vec<Setting>, RunError> {
    let mut settings = Vec::new();
    match controller {
        Controller::Memory => v2_memory(resources, &mut settings)?,
        Controller::Cpu => v2_cpu(resources, &mut settings)?,
        Controller::Cpuset => cpuset(resources, &mut settings),
        Controller::Pids => pids(resources, &mut settings),
        Controller::Io => v2_io(resources, &mut settings),
        Controller::Freezer | Controller::Devices => {}
    }
    Ok(settings)
}

fn v1_memory(resources: &Resources, to: &mut Vec<Setting>) {
    if let Some(bytes) = resources.memory {
        to.push(Setting::new("--memory", &["memory.limit_in_bytes"], bytes));
    }
    if let Some(bytes) = resources.effective_memory_swap() {
        let files = &["memory.memsw.limit_in_bytes"];
        to.push(Setting {
            // Kernels may be built or started without it.
            required: resources.memory_swap.is_some(),
            ..Setting::new("--memory-swap", files, bytes)
        });
    }
    if let Some(bytes) = resources.memory_reservation {
        let files = &["memory.soft_limit_in_bytes"];
        to.push(Setting::new("--memory-reservation", files, bytes));
    }
    if let Some(share) = resources.memory_swappiness {
        let files = &["memory.swappiness"];
        to.push(Setting::new("--memory-swappiness", files, share));
    }
    if resources.oom_kill_disable {
        let files = &["memory.oom_control"];
        to.push(Setting::new("--oom-kill-disable", files, 1));
    }
}

fn v2_memory(resources: &Resources, to: &mut Vec<Setting>) -> Result<(), RunError> {
    if resources.memory_swappiness.is_some() {
        return Err(only_v1("--memory-swappiness", Controller::Memory));
    }
    if resources.oom_kill_disable {
        return Err(only_v1("--oom-kill-disable", Controller::Memory));
    }
    if let Some(bytes) = resources.memory {
        to.push(Setting::new("--memory", &["memory.max"], bytes));
    }
    if let Some(both) = resources.effective_memory_swap() {
        // Version 2 counts the two apart.
        let swap = match (u64::try_from(both), resources.memory) {
            (Ok(both), Some(memory)) => both.saturating_sub(memory).to_string(),
            _ => "max".to_owned(),
        };
        to.push(Setting {
            required: resources.memory_swap.is_some(),
            ..Setting::new("--memory-swap", &["memory.swap.max"], swap)
        });
    }
    if let Some(bytes) = resources.memory_reservation {
        to.push(Setting::new("--memory-reservation", &["memory.low"], bytes));
    }
    Ok(())
}

/// Processor time in a period: the option, both in microseconds, -1 for no limit.
fn quota(resources: &Resources) -> Option<(&'static str, i64, u64)> {
    if let Some(nano_cpus) = resources.nano_cpus {
        // A billionth of a processor is a ten-thousandth of a microsecond of each period.
        let quota = i64::try_from(nano_cpus / 10_000).unwrap_or(i64::MAX);
        return Some(("--cpus", quota, PERIOD));
    }
    match (resources.cpu_quota, resources.cpu_period) {
        (None, None) => None,
        (Some(quota), period) => Some(("--cpu-quota", quota, period.unwrap_or(PERIOD))),
        (None, Some(period)) => Some(("--cpu-period", -1, period)),
    }
}

fn v1_cpu(resources: &Resources, to: &mut Vec<Setting>) {
    if let Some(shares) = resources.cpu_shares {
        to.push(Setting::new("--cpu-shares", &["cpu.shares"], shares));
    }
    if let Some((option, quota, period)) = quota(resources) {
        to.push(Setting::new(option, &["cpu.cfs_period_us"], period));
        to.push(Setting::new(option, &["cpu.cfs_quota_us"], quota));
    }
    if let Some(period) = resources.cpu_realtime_period {
        let files = &["cpu.rt_period_us"];
        to.push(Setting::new("--cpu-rt-period", files, period));
    }
    if let Some(runtime) = resources.cpu_realtime_runtime {
        let files = &["cpu.rt_runtime_us"];
        to.push(Setting::new("--cpu-rt-runtime", files, runtime));
    }
}

fn v2_cpu(resources: &Resources, to: &mut Vec<Setting>) -> Result<(), RunError> {
    if resources.cpu_realtime_period.is_some() {
        return Err(only_v1("--cpu-rt-period", Controller::Cpu));
    }
    if resources.cpu_realtime_runtime.is_some() {
        return Err(only_v1("--cpu-rt-runtime", Controller::Cpu));
    }
    if let Some(shares) = resources.cpu_shares {
        let weight = cpu_weight(shares);
        to.push(Setting::new("--cpu-shares", &["cpu.weight"], weight));
    }
    if let Some((option, quota, period)) = quota(resources) {
        let quota = match quota {
            ..0 => "max".to_owned(),
            quota => quota.to_string(),
        };
        to.push(Setting::new(
            option,
            &["cpu.max"],
            format!("{quota} {period}"),
        ));
    }
    Ok(())
}

/// From 2..=262144, where 1024 is usual, to 1..=10000, where 100 is: a curve through the ends and the
/// middle, as runc has it.
fn cpu_weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    let logarithm = (shares as f64).log2();
    let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
    // Of 1 to 10000: in range.
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

fn cpuset(resources: &Resources, to: &mut Vec<Setting>) {
    let both = [
        ("--cpuset-cpus", &["cpuset.cpus"], &resources.cpuset_cpus),
        ("--cpuset-mems", &["cpuset.mems"], &resources.cpuset_mems),
    ];
    for (option, files, list) in both {
        if !list.is_empty() {
            to.push(Setting::new(option, files, list));
        }
    }
}

fn pids(resources: &Resources, to: &mut Vec<Setting>) {
    if let Some(limit) = resources.pids_limit {
        let limit = match limit {
            ..=0 => "max".to_owned(),
            limit => limit.to_string(),
        };
        to.push(Setting::new("--pids-limit", &["pids.max"], limit));
    }
}

/// Files that limit a device, and their key in version 2.
type Throttle = (&'static str, &'static [&'static str], &'static str);

const THROTTLES: [Throttle; 4] = [
    (
        "--device-read-bps",
        &["blkio.throttle.read_bps_device"],
        "rbps",
    ),
    (
        "--device-write-bps",
        &["blkio.throttle.write_bps_device"],
        "wbps",
    ),
    (
        "--device-read-iops",
        &["blkio.throttle.read_iops_device"],
        "riops",
    ),
    (
        "--device-write-iops",
        &["blkio.throttle.write_iops_device"],
        "wiops",
    ),
];

fn throttled(resources: &Resources) -> [(Throttle, &[DeviceRate]); 4] {
    let [read, write, reads, writes] = THROTTLES;
    [
        (read, &resources.device_read_bps),
        (write, &resources.device_write_bps),
        (reads, &resources.device_read_iops),
        (writes, &resources.device_write_iops),
    ]
}

fn v1_io(resources: &Resources, to: &mut Vec<Setting>) {
    if let Some(weight) = resources.blkio_weight {
        let files = &["blkio.weight", "blkio.bfq.weight"];
        to.push(Setting::new("--blkio-weight", files, weight));
    }
    for device in &resources.blkio_weight_device {
        let files = &["blkio.weight_device", "blkio.bfq.weight_device"];
        let value = format!("{}:{} {}", device.major, device.minor, device.rate);
        to.push(Setting::new("--blkio-weight-device", files, value));
    }
    for ((option, files, _), devices) in throttled(resources) {
        for device in devices {
            let value = format!("{}:{} {}", device.major, device.minor, device.rate);
            to.push(Setting::new(option, files, value));
        }
    }
}

fn v2_io(resources: &Resources, to: &mut Vec<Setting>) {
    // Which of the two is there, the scheduler of the disks decides.
    let weight = |option, device: &str, weight: u64| Setting {
        instead: Some(("io.weight", format!("{device}{}", io_weight(weight)))),
        ..Setting::new(option, &["io.bfq.weight"], format!("{device}{weight}"))
    };
    if let Some(all) = resources.blkio_weight {
        to.push(weight("--blkio-weight", "", all.into()));
    }
    for device in &resources.blkio_weight_device {
        let number = format!("{}:{} ", device.major, device.minor);
        to.push(weight("--blkio-weight-device", &number, device.rate));
    }
    for ((option, _, key), devices) in throttled(resources) {
        for device in devices {
            let value = format!("{}:{} {key}={}", device.major, device.minor, device.rate);
            to.push(Setting::new(option, &["io.max"], value));
        }
    }
}

/// From 10..=1000, as version 1 and `io.bfq.weight` have it, to the 1..=10000 of `io.weight`, as runc
/// has it.
fn io_weight(weight: u64) -> u64 {
    1 + (weight.clamp(10, 1000) - 10) * 9999 / 990
}

fn only_v1(option: &str, controller: Controller) -> RunError {
    RunError::NoController {
        option: option.to_owned(),
        controller: controller.to_string(),
        why: Lack::Unknown,
    }
}

/// What is to be written when `changed` is new in `all`: what belongs together is written together.
pub(crate) fn completed(changed: &Resources, all: &Resources) -> Resources {
    let mut written = changed.clone();
    if changed.memory.is_some() || changed.memory_swap.is_some() {
        (written.memory, written.memory_swap) = (all.memory, all.memory_swap);
    }
    if quota(changed).is_some() {
        written.nano_cpus = all.nano_cpus;
        (written.cpu_period, written.cpu_quota) = (all.cpu_period, all.cpu_quota);
    }
    written
}
