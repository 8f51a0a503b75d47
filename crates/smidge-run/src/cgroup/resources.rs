//! What a container may use, as it was asked for.

use serde::{Deserialize, Serialize};

/// What a container may use; what is `None` or empty is not limited. The words are those of Docker's
/// `HostConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// Memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Memory and swap together, in bytes; -1 means no limit to swap. Twice the memory if only that is
    /// limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<i64>,
    /// Memory, in bytes, that it is brought back to when memory is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<u64>,
    /// How readily it is swapped out, from 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swappiness: Option<u8>,
    /// Whether it waits for memory, where one of its processes would be killed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub oom_kill_disable: bool,
    /// How much rather it is killed than others when the machine is short of memory, from -1000 to
    /// 1000 (proc_pid_oom_score_adj(5)). Needs no group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Processors, in billionths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<u64>,
    /// Weight against others that want processor time; 1024 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// The span that `cpu_quota` is for, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<u64>,
    /// Processor time in every period, in microseconds; -1 means no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
    /// The span that `cpu_realtime_runtime` is for, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_realtime_period: Option<i64>,
    /// Real-time processes' time in every period, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_realtime_runtime: Option<i64>,
    /// Processors that it runs on: `0-3,5`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cpuset_cpus: String,
    /// Memory nodes that it takes memory from: `0`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cpuset_mems: String,
    /// Processes and threads; 0 and less mean no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
    /// Weight against others that use block devices, from 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_weight: Option<u16>,
    /// The same for one device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blkio_weight_device: Vec<DeviceRate>,
    /// Bytes a second read from a device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_read_bps: Vec<DeviceRate>,
    /// Bytes a second written to a device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_write_bps: Vec<DeviceRate>,
    /// Reads a second from a device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_read_iops: Vec<DeviceRate>,
    /// Writes a second to a device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_write_iops: Vec<DeviceRate>,
    /// The group that the container's is made in, from the top of the hierarchy. Names no limit itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup_parent: String,
    /// Whether the container sees the host's groups as the host does. Names no limit itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_cgroup_namespace: bool,
}

/// What one block device gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRate {
    /// The device, as it was named.
    pub path: String,
    /// Its number's first part.
    pub major: u32,
    /// Its number's second part.
    pub minor: u32,
    /// The rate, or the weight.
    pub rate: u64,
}

impl Resources {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Memory and swap together, in bytes: what was asked for, or twice the memory, as in Docker.
    #[must_use]
    pub fn effective_memory_swap(&self) -> Option<i64> {
        let twice = |memory: u64| i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX);
        self.memory_swap.or(self.memory.map(twice))
    }

    /// Takes over from `other` what it names.
    pub fn update(&mut self, other: &Self) {
        fn option<T: Clone>(ours: &mut Option<T>, theirs: &Option<T>) {
            if theirs.is_some() {
                ours.clone_from(theirs);
            }
        }
        fn text(ours: &mut String, theirs: &str) {
            if !theirs.is_empty() {
                theirs.clone_into(ours);
            }
        }
        option(&mut self.memory, &other.memory);
        option(&mut self.memory_swap, &other.memory_swap);
        option(&mut self.memory_reservation, &other.memory_reservation);
        // One way to say how much processor time replaces the other.
        if other.nano_cpus.is_some() {
            (self.cpu_period, self.cpu_quota) = (None, None);
        }
        if other
            .cpu_period
            .or(other.cpu_quota.map(i64::unsigned_abs))
            .is_some()
        {
            self.nano_cpus = None;
        }
        option(&mut self.nano_cpus, &other.nano_cpus);
        option(&mut self.cpu_shares, &other.cpu_shares);
        option(&mut self.cpu_period, &other.cpu_period);
        option(&mut self.cpu_quota, &other.cpu_quota);
        option(&mut self.cpu_realtime_period, &other.cpu_realtime_period);
        option(&mut self.cpu_realtime_runtime, &other.cpu_realtime_runtime);
        text(&mut self.cpuset_cpus, &other.cpuset_cpus);
        text(&mut self.cpuset_mems, &other.cpuset_mems);
        option(&mut self.pids_limit, &other.pids_limit);
        option(&mut self.blkio_weight, &other.blkio_weight);
    }
}
