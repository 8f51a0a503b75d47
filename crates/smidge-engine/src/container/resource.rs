//! What a container may use: read from options, checked, changed while it runs.

use std::collections::BTreeSet;
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::FileTypeExt as _;

use serde_json::{Map, Value, json};
use smidge_run::{DeviceRate, Resources};

use crate::{Error, Kind, Result};

/// The least memory that a program can start in, in bytes; Docker's number.
const LEAST_MEMORY: u64 = 6 << 20;

/// Billionths in a whole.
const BILLION: u64 = 1_000_000_000;

/// Reads a size in bytes as Docker does: `512m`, `1.5GiB`; units are powers of 1024.
///
/// # Errors
/// What is wrong with the text, as a fragment to follow a colon.
pub fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write `512m`, or `1.5g`");
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|letter: char| letter.is_ascii_alphabetic());
    let (number, unit) = lower.split_at(split.unwrap_or(lower.len()));
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(wrong()),
    };
    let number = number.trim_end();
    let plain = number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value: f64 = number.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    let bytes = value * (1_u64 << shift) as f64;
    // Beyond this a float is no whole number any more, and no machine has so much.
    if bytes >= i64::MAX as f64 {
        return Err(wrong());
    }
    Ok(bytes as u64)
}

/// The same, or `-1` for no limit.
///
/// # Errors
/// As [`parse_bytes`].
pub fn parse_bytes_or_unlimited(text: &str) -> std::result::Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        text => parse_bytes(text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
    }
}

/// Reads a number of processors, `1.5`, in billionths.
///
/// # Errors
/// What is wrong with the text, as a fragment to follow a colon.
pub fn parse_cpus(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("`{text}` is no number of processors: write `1.5`");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let significant = fraction.trim_end_matches('0');
    if significant.len() > 9 {
        return Err(format!("`{text}` is too precise: billionths are the least"));
    }
    let number = |text: &str| match text {
        "" => Some(0),
        text => text.parse::<u64>().ok(),
    };
    let whole = number(whole).and_then(|whole| whole.checked_mul(BILLION));
    let fraction = number(&format!("{significant:0<9}"));
    whole
        .zip(fraction)
        .and_then(|(whole, fraction)| whole.checked_add(fraction))
        .ok_or_else(wrong)
}

/// Reads `DEVICE:RATE`, where the rate is a size if `in_bytes`.
///
/// # Errors
/// What is wrong with the text, or that there is no such block device, as a fragment to follow a colon.
pub fn parse_device_rate(text: &str, in_bytes: bool) -> std::result::Result<DeviceRate, String> {
    let (path, rate) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("`{text}` has no `:`: write `/dev/sda:1mb`"))?;
    let rate = match in_bytes {
        true => parse_bytes(rate)?,
        false => rate.parse().map_err(|_| format!("`{rate}` is no number"))?,
    };
    let metadata = std::fs::metadata(path).map_err(|error| format!("`{path}`: {error}"))?;
    if !metadata.file_type().is_block_device() {
        return Err(format!("`{path}` is no block device"));
    }
    Ok(DeviceRate {
        path: path.to_owned(),
        major: rustix::fs::major(metadata.st_rdev()),
        minor: rustix::fs::minor(metadata.st_rdev()),
        rate,
    })
}

/// Refuses what makes no sense, by itself or on this machine: Docker's rules.
///
/// # Errors
/// [`Kind::Input`], with what would make sense.
pub(crate) fn check(resources: &Resources) -> Result<()> {
    check_memory(resources)?;
    check_processors(resources)?;
    let weights = resources
        .blkio_weight_device
        .iter()
        .map(|device| device.rate);
    let mut weights = resources
        .blkio_weight
        .map(u64::from)
        .into_iter()
        .chain(weights);
    if let Some(bad) = weights.find(|weight| !(10..=1000).contains(weight)) {
        return refused(format!(
            "Range of blkio weight is from 10 to 1000: {bad} is not in it"
        ));
    }
    if let Some(bad) = resources.oom_score_adj.filter(|value| value.abs() > 1000) {
        return refused(format!(
            "Invalid value {bad}, range for oom score adj is [-1000, 1000]"
        ));
    }
    Ok(())
}

fn refused(message: String) -> Result<()> {
    Err(Error::new(Kind::Input, message))
}

fn check_memory(resources: &Resources) -> Result<()> {
    let least = |value: Option<u64>| value.is_some_and(|bytes| bytes < LEAST_MEMORY);
    if least(resources.memory) {
        return refused("Minimum memory limit allowed is 6MB".to_owned());
    }
    if least(resources.memory_reservation) {
        return refused("Minimum memory reservation allowed is 6MB".to_owned());
    }
    let memory = resources.memory;
    if memory
        .zip(resources.memory_reservation)
        .is_some_and(|(memory, kept)| kept > memory)
    {
        return refused(
            "Minimum memory limit can not be less than memory reservation limit".to_owned(),
        );
    }
    if let Some(both) = resources
        .memory_swap
        .and_then(|both| u64::try_from(both).ok())
    {
        match memory {
            None => {
                let message = "You should always set the Memory limit when using Memoryswap limit";
                return refused(message.to_owned());
            }
            Some(memory) if both < memory => {
                let message = "Minimum memoryswap limit should be larger than memory limit";
                return refused(message.to_owned());
            }
            Some(_) => {}
        }
    }
    match resources.memory_swappiness {
        Some(101..) => refused("`--memory-swappiness` goes from 0 to 100".to_owned()),
        _ => Ok(()),
    }
}

fn check_processors(resources: &Resources) -> Result<()> {
    let others = [
        ("CPU Period", resources.cpu_period.is_some()),
        ("CPU Quota", resources.cpu_quota.is_some()),
    ];
    if resources.nano_cpus.is_some()
        && let Some((other, _)) = others.iter().find(|(_, given)| *given)
    {
        return refused(format!(
            "Conflicting options: Nano CPUs and {other} cannot both be set"
        ));
    }
    let (cpus, _) = online("cpu");
    let count = cpus.len() as u64;
    if count > 0
        && resources
            .nano_cpus
            .is_some_and(|nano| nano < BILLION / 100 || nano > count * BILLION)
    {
        return refused(format!(
            "Range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        ));
    }
    if resources
        .cpu_period
        .is_some_and(|period| !(1000..=1_000_000).contains(&period))
    {
        return refused(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
                .to_owned(),
        );
    }
    if resources
        .cpu_quota
        .is_some_and(|quota| (0..1000).contains(&quota))
    {
        return refused("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned());
    }
    let real_time = resources
        .cpu_realtime_runtime
        .zip(resources.cpu_realtime_period);
    if real_time.is_some_and(|(runtime, period)| runtime > period) {
        return refused("`--cpu-rt-runtime` is above `--cpu-rt-period`".to_owned());
    }
    check_list("--cpuset-cpus", &resources.cpuset_cpus, "cpu")?;
    check_list("--cpuset-mems", &resources.cpuset_mems, "node")
}

/// Checks a list such as `0-3,5` against what there is.
fn check_list(option: &str, list: &str, what: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let kind = match what {
        "cpu" => "CPUs",
        _ => "memory nodes",
    };
    let Some(wanted) = parse_list(list) else {
        return refused(format!("Invalid value {list} for {kind}: write `0-3,5`"));
    };
    let (there, shown) = online(what);
    if there.is_empty() || wanted.is_subset(&there) {
        return Ok(());
    }
    refused(format!(
        "`{option} {list}`: requested {kind} are not available - requested {list}, available: {shown}"
    ))
}

/// Processors or memory nodes that there are, and the kernel's list of them.
fn online(what: &str) -> (BTreeSet<u32>, String) {
    let path = format!("/sys/devices/system/{what}/online");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let text = text.trim();
    (parse_list(text).unwrap_or_default(), text.to_owned())
}

fn parse_list(list: &str) -> Option<BTreeSet<u32>> {
    /// More than any kernel has.
    const MOST: u32 = 8192;
    let mut all = BTreeSet::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// What was asked for, in Docker's `HostConfig`.
pub(crate) fn host_config(resources: &Resources) -> Map<String, Value> {
    let mut all = Map::new();
    let limits = json!({
        "Memory": resources.memory.unwrap_or(0),
        "MemorySwap": resources.effective_memory_swap().unwrap_or(0),
        "MemoryReservation": resources.memory_reservation.unwrap_or(0),
        "MemorySwappiness": resources.memory_swappiness,
        "OomKillDisable": resources.oom_kill_disable,
        "OomScoreAdj": resources.oom_score_adj.unwrap_or(0),
        "NanoCpus": resources.nano_cpus.unwrap_or(0),
        "CpuShares": resources.cpu_shares.unwrap_or(0),
        "CpuPeriod": resources.cpu_period.unwrap_or(0),
        "CpuQuota": resources.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": resources.cpu_realtime_period.unwrap_or(0),
        "CpuRealtimeRuntime": resources.cpu_realtime_runtime.unwrap_or(0),
        "CpusetCpus": resources.cpuset_cpus,
        "CpusetMems": resources.cpuset_mems,
        "PidsLimit": resources.pids_limit,
        "CgroupParent": resources.cgroup_parent,
        "CgroupnsMode": if resources.host_cgroup_namespace { "host" } else { "private" },
    });
    for object in [limits, devices(resources)] {
        if let Value::Object(fields) = object {
            all.extend(fields);
        }
    }
    all
}

fn devices(resources: &Resources) -> Value {
    let rates = |devices: &[DeviceRate], key: &str| -> Value {
        let entry = |device: &DeviceRate| json!({"Path": device.path, key: device.rate});
        devices.iter().map(entry).collect()
    };
    json!({
        "BlkioWeight": resources.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": rates(&resources.blkio_weight_device, "Weight"),
        "BlkioDeviceReadBps": rates(&resources.device_read_bps, "Rate"),
        "BlkioDeviceWriteBps": rates(&resources.device_write_bps, "Rate"),
        "BlkioDeviceReadIOps": rates(&resources.device_read_iops, "Rate"),
        "BlkioDeviceWriteIOps": rates(&resources.device_write_iops, "Rate"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("32", Some(32)),
            ("32b", Some(32)),
            ("32k", Some(32 << 10)),
            ("32KiB", Some(32 << 10)),
            ("512m", Some(512 << 20)),
            ("512 MB", Some(512 << 20)),
            ("1.5g", Some(3 << 29)),
            ("1T", Some(1 << 40)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1e3", None),
            ("1 2", None),
            ("inf", None),
            ("9999999p", None),
            ("20000000000t", None),
            ("3b", Some(3)),
            ("2kib", Some(2048)),
            ("1mm", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), bytes, "{text}");
        }
        assert_eq!(parse_bytes_or_unlimited("-1"), Ok(-1));
        assert_eq!(parse_bytes_or_unlimited("1k"), Ok(1024));
    }

    #[test]
    fn processors_are_counted_in_billionths() {
        for (text, expected) in [
            ("1", Some(BILLION)),
            ("1.5", Some(1_500_000_000)),
            (".5", Some(500_000_000)),
            ("0.000000001", Some(1)),
            ("2.50000000000", Some(2_500_000_000)),
            ("0.0000000001", None),
            ("", None),
            (".", None),
            ("-1", None),
            ("1.5.1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_cpus(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn lists_name_what_is_there() {
        let list = |text: &str| parse_list(text).map(|all| all.into_iter().collect::<Vec<_>>());
        assert_eq!(list("0-2,5"), Some(vec![0, 1, 2, 5]));
        for bad in ["", "a", "2-1", "1-", "0,,1", "0-99999999"] {
            assert_eq!(list(bad), None, "{bad}");
        }
        assert!(check_list("--cpuset-cpus", "0", "cpu").is_ok());
        assert!(check_list("--cpuset-cpus", "8000", "cpu").is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let none = Resources::default();
        assert!(check(&none).is_ok());
        let memory = Some(64 << 20);
        for bad in [
            Resources {
                memory: Some(1 << 20),
                ..none.clone()
            },
            Resources {
                memory_swap: Some(64 << 20),
                ..none.clone()
            },
            Resources {
                memory,
                memory_swap: Some(32 << 20),
                ..none.clone()
            },
            Resources {
                memory,
                memory_reservation: Some(65 << 20),
                ..none.clone()
            },
            Resources {
                nano_cpus: Some(BILLION),
                cpu_quota: Some(5000),
                ..none.clone()
            },
            Resources {
                nano_cpus: Some(1),
                ..none.clone()
            },
            Resources {
                cpu_period: Some(1),
                ..none.clone()
            },
            Resources {
                blkio_weight: Some(9),
                ..none.clone()
            },
            Resources {
                oom_score_adj: Some(1001),
                ..none.clone()
            },
        ] {
            let fault = check(&bad).unwrap_err();
            assert_eq!(fault.kind(), Kind::Input, "{bad:?}");
        }
        let unlimited = Resources {
            memory_swap: Some(-1),
            memory,
            ..none
        };
        assert!(check(&unlimited).is_ok());
    }
}
