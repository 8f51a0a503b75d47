//! `linux.resources` of `config.json`, and what `update` is told, in the sandbox's words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::OciError;
use crate::cgroup::{ControllerFile, DeviceRate, DeviceRule, Resources};

/// What a container may use (`config-linux.md`, "Control groups").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OciResources {
    pub(super) devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Memory,
    /// Processor time.
    pub cpu: Cpu,
    /// Processes.
    pub pids: Pids,
    /// Block devices.
    #[serde(rename = "blockIO")]
    pub block_io: BlockIo,
    pub(super) hugepage_limits: Vec<HugePages>,
    pub(super) network: BTreeMap<String, Value>,
    pub(super) rdma: BTreeMap<String, Rdma>,
    /// Files of version 2, and what is written to them.
    pub(super) unified: BTreeMap<String, String>,
}

/// Memory, in bytes; -1 means no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// Of all kinds.
    pub limit: Option<i64>,
    /// What it is brought back to when memory is short.
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// How readily it is swapped out.
    pub swappiness: Option<u64>,
    /// Whether it waits for memory, where one of its processes would be killed.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: bool,
    pub(super) kernel: Option<i64>,
    #[serde(rename = "kernelTCP")]
    pub(super) kernel_tcp: Option<i64>,
    pub(super) use_hierarchy: Option<bool>,
    /// Whether a limit below what is in use is refused.
    pub(super) check_before_update: bool,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Weight against others.
    pub shares: Option<u64>,
    /// Microseconds in every period.
    pub quota: Option<i64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Real-time microseconds in every real-time period.
    pub realtime_runtime: Option<i64>,
    /// Microseconds.
    pub realtime_period: Option<u64>,
    /// Processors: `0-3,5`.
    pub cpus: String,
    /// Memory nodes.
    pub mems: String,
    /// Microseconds of a quota that may be saved up.
    pub burst: Option<u64>,
    /// 1 for whoever gets what nobody else wants.
    pub idle: Option<i64>,
}

/// Memory in pages of one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HugePages {
    /// As the kernel has it: `2MB`.
    page_size: String,
    /// Bytes.
    limit: u64,
}

/// What of a device for remote memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rdma {
    hca_handles: Option<u32>,
    hca_objects: Option<u32>,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pids {
    /// The most there may be; 0 and less mean no limit.
    pub limit: Option<i64>,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockIo {
    /// Weight against others.
    pub weight: Option<u16>,
    pub(super) leaf_weight: Option<u16>,
    pub(super) weight_device: Vec<Rate>,
    pub(super) throttle_read_bps_device: Vec<Rate>,
    pub(super) throttle_write_bps_device: Vec<Rate>,
    #[serde(rename = "throttleReadIOPSDevice")]
    pub(super) throttle_read_iops_device: Vec<Rate>,
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub(super) throttle_write_iops_device: Vec<Rate>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Rate {
    major: u32,
    minor: u32,
    rate: u64,
    weight: u64,
    #[serde(rename = "leafWeight")]
    leaf_weight: Option<u16>,
}

impl OciResources {
    /// Reads them as `update --resources` takes them.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &[u8]) -> Result<Self, OciError> {
        super::config::parse(text).map_err(|fault| OciError::Config {
            path: "resources".into(),
            detail: fault.to_string(),
        })
    }

    /// What is asked for and cannot be had: what kernels have given up, and what is not done here.
    fn unsupported(&self) -> Option<&'static str> {
        let (memory, io) = (&self.memory, &self.block_io);
        let has_leaf = |rate: &Rate| rate.leaf_weight.is_some_and(|weight| weight > 0);
        let asked = [
            ("network", asks(&self.network)),
            (
                "memory.useHierarchy: false",
                memory.use_hierarchy == Some(false),
            ),
            (
                "blockIO.leafWeight",
                io.leaf_weight.is_some_and(|weight| weight > 0),
            ),
            (
                "blockIO.weightDevice: leafWeight",
                io.weight_device.iter().any(has_leaf),
            ),
        ];
        asked
            .into_iter()
            .find_map(|(what, is_asked)| is_asked.then_some(what))
    }

    /// What of it is not as it was asked for: kernels do not limit their own memory apart any more.
    pub(super) fn warning(&self) -> Option<String> {
        let limit = self.memory.kernel.filter(|limit| *limit > 0)?;
        Some(format!(
            "`linux.resources.memory.kernel` is {limit}, and no kernel heeds it any more"
        ))
    }

    /// Files that no other container of smidge's needs.
    ///
    /// # Errors
    /// `Config`, for a size of pages, or a device, that is no name.
    pub(super) fn files(&self) -> Result<Vec<ControllerFile>, OciError> {
        let mut files = Vec::new();
        let mut add = |what: &str, (controller, v1, v2): (_, &str, &str), value: String| {
            files.push(ControllerFile {
                what: format!("linux.resources.{what}"),
                controller,
                v1: v1.to_owned(),
                v2: v2.to_owned(),
                value,
            });
        };
        if let Some(limit) = self.memory.kernel_tcp.filter(|limit| *limit > 0) {
            let names = (
                "memory",
                "memory.kmem.tcp.limit_in_bytes",
                "memory.kernelTCP",
            );
            add("memory.kernelTCP", names, limit.to_string());
        }
        if let Some(idle) = self.cpu.idle {
            add(
                "cpu.idle",
                ("cpu", "cpu.idle", "cpu.idle"),
                idle.to_string(),
            );
        }
        if let Some(burst) = self.cpu.burst {
            let names = ("cpu", "cpu.cfs_burst_us", "cpu.max.burst");
            add("cpu.burst", names, burst.to_string());
        }
        for HugePages { page_size, limit } in &self.hugepage_limits {
            name(page_size)?;
            let v1 = format!("hugetlb.{page_size}.limit_in_bytes");
            let v2 = format!("hugetlb.{page_size}.max");
            add("hugepageLimits", ("hugetlb", &v1, &v2), limit.to_string());
        }
        for (device, limits) in &self.rdma {
            name(device)?;
            let text = |limit: Option<u32>| limit.map_or("max".to_owned(), |n| n.to_string());
            let (handles, objects) = (text(limits.hca_handles), text(limits.hca_objects));
            let value = format!("{device} hca_handle={handles} hca_object={objects}");
            add("rdma", ("rdma", "rdma.max", "rdma.max"), value);
        }
        Ok(files)
    }

    /// What changes, in the sandbox's words, for a container that may use `all`: without a limit of memory
    /// there is none of swap, either.
    ///
    /// # Errors
    /// As [`OciResources::resources`].
    pub(super) fn change_of(&self, all: &Resources) -> Result<Resources, OciError> {
        let mut changed = self.resources()?;
        if self.memory.limit == Some(-1) && changed.memory_swap.is_none() {
            changed.memory_swap = all.memory_swap.map(|_| -1);
        }
        Ok(changed)
    }

    /// In the sandbox's words.
    ///
    /// # Errors
    /// `Unsupported`, when something is asked for that smidge does not set.
    pub(super) fn resources(&self) -> Result<Resources, OciError> {
        if let Some(what) = self.unsupported() {
            return Err(OciError::unsupported(&format!("linux.resources.{what}")));
        }
        let (memory, cpu, io) = (&self.memory, &self.cpu, &self.block_io);
        let is_some = |limit: &i64| *limit != 0;
        Ok(Resources {
            // 0 means that nothing is asked for.
            memory: memory.limit.filter(is_some).map(bytes),
            memory_swap: memory.swap.filter(is_some),
            memory_reservation: memory.reservation.filter(is_some).map(bytes),
            memory_swappiness: memory
                .swappiness
                .map(|share| u8::try_from(share).unwrap_or(u8::MAX)),
            oom_kill_disable: memory.disable_oom_killer,
            cpu_shares: cpu.shares.filter(|shares| *shares > 0),
            cpu_period: cpu.period.filter(|period| *period > 0),
            cpu_quota: cpu.quota.filter(|quota| *quota != 0),
            cpu_realtime_period: cpu
                .realtime_period
                .filter(|period| *period > 0)
                .map(|period| i64::try_from(period).unwrap_or(i64::MAX)),
            cpu_realtime_runtime: cpu.realtime_runtime.filter(|runtime| *runtime > 0),
            cpuset_cpus: cpu.cpus.clone(),
            cpuset_mems: cpu.mems.clone(),
            pids_limit: self.pids.limit.filter(|limit| *limit != 0),
            blkio_weight: io.weight.filter(|weight| *weight > 0),
            blkio_weight_device: rates(&io.weight_device, |rate| rate.weight),
            device_read_bps: rates(&io.throttle_read_bps_device, |rate| rate.rate),
            device_write_bps: rates(&io.throttle_write_bps_device, |rate| rate.rate),
            device_read_iops: rates(&io.throttle_read_iops_device, |rate| rate.rate),
            device_write_iops: rates(&io.throttle_write_iops_device, |rate| rate.rate),
            ..Resources::default()
        })
    }
}

/// Whether a text is a name: it leads nowhere, and ends no line.
fn name(text: &str) -> Result<(), OciError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => Ok(()),
        false => Err(OciError::Config {
            path: "resources".into(),
            detail: format!("`{text}` is no name"),
        }),
    }
}

/// Whether there is anything in a value: an empty class of network packets is none.
fn asks(values: &BTreeMap<String, Value>) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Number(number) => number.as_u64() == Some(0),
        _ => false,
    };
    !values.values().all(is_empty)
}

/// No limit is a limit that nothing reaches.
fn bytes(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(i64::MAX.unsigned_abs())
}

fn rates(devices: &[Rate], rate: impl Fn(&Rate) -> u64) -> Vec<DeviceRate> {
    let one = |device: &Rate| DeviceRate {
        path: format!("{}:{}", device.major, device.minor),
        major: device.major,
        minor: device.minor,
        rate: rate(device),
    };
    devices.iter().map(one).collect()
}
