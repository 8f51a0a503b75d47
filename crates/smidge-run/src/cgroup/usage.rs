//! What a container uses: from its group where it has one, else from its processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::group::Group;
use super::process;
use crate::error::RunError;
use crate::state::stat_fields;

/// What a container uses, and has used since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time.
    pub cpu: Duration,
    /// Memory, in bytes, without files that can be dropped from it.
    pub memory: u64,
    /// The most memory that it may use, in bytes: the machine's, where there is no lower limit.
    pub memory_limit: u64,
    /// Bytes received from networks.
    pub received: u64,
    /// Bytes sent to networks.
    pub sent: u64,
    /// Bytes read from block devices.
    pub read: u64,
    /// Bytes written to block devices.
    pub written: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// What the running container in `dir` uses.
///
/// # Errors
/// When it does not run.
pub fn usage(dir: &Path) -> Result<Usage, RunError> {
    let program = process::program(dir)?;
    let group = Group::load(dir).unwrap_or_default();
    Ok(usage_of(&group, program.pid))
}

/// What a container uses that is in `group`, or in none, and whose first process is `program`.
pub(crate) fn usage_of(group: &Group, program: u32) -> Usage {
    let total = machine_memory();
    let mut usage = Usage {
        memory_limit: total,
        ..Usage::default()
    };
    let mut seen = Seen::default();
    if let Some(counted) = group
        .v1("cpuacct")
        .and_then(|path| number(&path.join("cpuacct.usage")))
    {
        (usage.cpu, seen.cpu) = (Duration::from_nanos(counted), true);
    }
    if let Some(path) = group.v1("memory") {
        v1_memory(path, &mut usage);
        seen.memory = true;
    }
    if let Some(path) = group.v1("pids") {
        usage.pids = number(&path.join("pids.current")).unwrap_or(0);
        seen.pids = true;
    }
    if let Some(path) = group.v1("blkio") {
        let name = "blkio.throttle.io_service_bytes_recursive";
        (usage.read, usage.written) = v1_transfers(&text(&path.join(name)));
        seen.transfers = true;
    }
    if let Some(path) = group.v2() {
        v2(path, &mut usage, &mut seen);
    }
    if !seen.all() {
        by_process(&process::of_container(program), &mut usage, &seen);
    }
    (usage.received, usage.sent) = network(&text(Path::new(&format!("/proc/{}/net/dev", program))));
    usage
}

/// What a group has told already.
#[derive(Default)]
struct Seen {
    cpu: bool,
    memory: bool,
    pids: bool,
    transfers: bool,
}

impl Seen {
    fn all(&self) -> bool {
        self.cpu && self.memory && self.pids && self.transfers
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &Path) -> Option<u64> {
    text(path).trim().parse().ok()
}

/// The number behind a name, in a text of a name and a number a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once([' ', ':']))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.split_whitespace().next()?.parse().ok())
}

/// The machine's memory, in bytes.
fn machine_memory() -> u64 {
    let kilobytes = field(&text(Path::new("/proc/meminfo")), "MemTotal");
    kilobytes.unwrap_or(0) * 1024
}

fn v1_memory(path: &Path, usage: &mut Usage) {
    let used = number(&path.join("memory.usage_in_bytes")).unwrap_or(0);
    let idle = field(&text(&path.join("memory.stat")), "total_inactive_file").unwrap_or(0);
    usage.memory = used.saturating_sub(idle);
    let limit = number(&path.join("memory.limit_in_bytes")).unwrap_or(u64::MAX);
    usage.memory_limit = usage.memory_limit.min(limit);
}

/// Bytes read and written: lines of a device, `Read` or `Write`, and a number.
fn v1_transfers(text: &str) -> (u64, u64) {
    let sum = |operation: &str| {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            (words.next()? == operation).then(|| words.next()?.parse::<u64>().ok())?
        });
        lines.sum()
    };
    (sum("Read"), sum("Write"))
}

fn v2(path: &Path, usage: &mut Usage, seen: &mut Seen) {
    if let Some(microseconds) = field(&text(&path.join("cpu.stat")), "usage_usec") {
        // Counts from when the container was moved in: its start, unless it got a group later.
        let counted = Duration::from_micros(microseconds);
        if path.join("cpu.max").exists() {
            (usage.cpu, seen.cpu) = (counted, true);
        }
    }
    if let Some(used) = number(&path.join("memory.current")) {
        let idle = field(&text(&path.join("memory.stat")), "inactive_file").unwrap_or(0);
        usage.memory = used.saturating_sub(idle);
        let limit = number(&path.join("memory.max")).unwrap_or(u64::MAX);
        usage.memory_limit = usage.memory_limit.min(limit);
        seen.memory = true;
    }
    if let Some(pids) = number(&path.join("pids.current")) {
        (usage.pids, seen.pids) = (pids, true);
    }
    if path.join("io.stat").exists() {
        (usage.read, usage.written) = v2_transfers(&text(&path.join("io.stat")));
        seen.transfers = true;
    }
}

/// Bytes read and written: lines of a device and `rbytes=1 wbytes=2 …`.
fn v2_transfers(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_whitespace();
        let values = words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.sum()
    };
    (sum("rbytes="), sum("wbytes="))
}

/// What the processes tell of themselves. Those that have ended are counted in their parents.
fn by_process(pids: &[u32], usage: &mut Usage, seen: &Seen) {
    let mut threads = 0;
    let (mut read, mut written, mut memory) = (0, 0, 0);
    for pid in pids {
        let path = |name: &str| format!("/proc/{pid}/{name}");
        let Some((ticks, own)) = times(&fs::read(path("stat")).unwrap_or_default()) else {
            continue;
        };
        threads += own;
        if !seen.cpu {
            usage.cpu += Duration::from_nanos(
                ticks.saturating_mul(1_000_000_000) / rustix::param::clock_ticks_per_second(),
            );
        }
        if !seen.memory {
            memory += resident(&text(Path::new(&path("smaps_rollup"))))
                .or_else(|| resident(&text(Path::new(&path("status")))))
                .unwrap_or(0);
        }
        if !seen.transfers {
            let io = text(Path::new(&path("io")));
            read += field(&io, "read_bytes").unwrap_or(0);
            written += field(&io, "write_bytes").unwrap_or(0);
        }
    }
    if !seen.memory {
        usage.memory = memory;
    }
    if !seen.pids {
        usage.pids = threads;
    }
    if !seen.transfers {
        (usage.read, usage.written) = (read, written);
    }
}

/// Processor time in clock ticks, that of children who have ended included, and the number of threads
/// (proc_pid_stat(5), fields 14 to 17 and 20).
fn times(stat: &[u8]) -> Option<(u64, u64)> {
    let fields: Vec<&str> = stat_fields(stat)?.collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)? + field(16)? + field(17)?;
    Some((ticks, field(20)?))
}

/// A process's share of the memory that it uses, in bytes, or all that it uses.
fn resident(text: &str) -> Option<u64> {
    let kilobytes = field(text, "Pss").or_else(|| field(text, "VmRSS"))?;
    Some(kilobytes * 1024)
}

/// Bytes received and sent over every device but the loopback (`/proc/PID/net/dev`).
fn network(text: &str) -> (u64, u64) {
    let mut devices = BTreeSet::new();
    let (mut received, mut sent) = (0, 0);
    for (name, counts) in text.lines().filter_map(|line| line.split_once(':')) {
        let name = name.trim();
        if name == "lo" || !devices.insert(name) {
            continue;
        }
        let counts: Vec<u64> = counts
            .split_whitespace()
            .filter_map(|count| count.parse().ok())
            .collect();
        received += counts.first().unwrap_or(&0);
        sent += counts.get(8).unwrap_or(&0);
    }
    (received, sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood() {
        let stat = b"7 (a) b) S 1 7 7 0 -1 4194560 28 0 0 0 10 20 3 4 20 0 6 0 341290 2183168 47";
        assert_eq!(times(stat), Some((37, 6)));
        assert_eq!(times(b"7 (a) S 1"), None);
        let devices = "Inter-|   Receive  |  Transmit\n face |bytes    packets|bytes\n    \
                       lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0: 70 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n";
        assert_eq!(network(devices), (70, 9));
        let v1 = "254:0 Read 100\n254:0 Write 7\n7:0 Read 1\nTotal 108\n";
        assert_eq!(v1_transfers(v1), (101, 7));
        let v2 = "254:0 rbytes=100 wbytes=7 rios=1\n7:0 rbytes=1 wbytes=0\n";
        assert_eq!(v2_transfers(v2), (101, 7));
        assert_eq!(field("MemTotal:  24 kB\nx 3\n", "MemTotal"), Some(24));
        assert_eq!(resident("Rss: 9 kB\nPss:  2 kB\n"), Some(2048));
        assert_eq!(resident("VmRSS:\t 3 kB\n"), Some(3072));
    }
}
