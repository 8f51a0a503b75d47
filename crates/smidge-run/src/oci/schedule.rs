//! When and where a program runs: `scheduler` and `execCPUAffinity` of `process` (`config.md`).

use rustix::thread::{CpuSet, sched_setaffinity};

use super::config::{Affinity, Scheduler};
use crate::error::RunError;
use crate::sys;

/// The kernel's policies (`sched(7)`), by number. There is none that has number 4.
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Flags of `sched_setattr(2)`; the names begin with `SCHED_FLAG_`.
const FLAGS: [(&str, u64); 7] = [
    ("RESET_ON_FORK", 0x01),
    ("RECLAIM", 0x02),
    ("DL_OVERRUN", 0x04),
    ("KEEP_POLICY", 0x08),
    ("KEEP_PARAMS", 0x10),
    ("UTIL_CLAMP_MIN", 0x20),
    ("UTIL_CLAMP_MAX", 0x40),
];

/// In the kernel's numbers.
///
/// # Errors
/// What is wrong with it, as a fragment.
pub(super) fn attributes(asked: &Scheduler) -> Result<sys::SchedulerAttributes, String> {
    let name = &asked.policy;
    let policy = POLICIES.iter().find(|(known, _)| known == name);
    let (_, policy) =
        policy.ok_or_else(|| format!("`process.scheduler.policy`: there is no `{name}`"))?;
    let mut flags = 0;
    for name in &asked.flags {
        let short = name.strip_prefix("SCHED_FLAG_").unwrap_or_default();
        let flag = FLAGS.iter().find(|(known, _)| *known == short);
        let (_, flag) =
            flag.ok_or_else(|| format!("`process.scheduler.flags`: there is no `{name}`"))?;
        flags |= flag;
    }
    if !(-20..=19).contains(&asked.nice) {
        return Err(format!(
            "`process.scheduler.nice` is {}: it goes from -20 to 19",
            asked.nice
        ));
    }
    Ok(sys::SchedulerAttributes {
        size: size_of::<sys::SchedulerAttributes>() as u32,
        policy: *policy,
        flags,
        nice: asked.nice,
        priority: asked.priority,
        runtime: asked.runtime,
        deadline: asked.deadline,
        period: asked.period,
    })
}

/// Schedules this process, and those that it starts, as it is asked for.
///
/// # Errors
/// When the kernel does not take it.
pub(super) fn set(asked: Option<&Scheduler>) -> Result<(), RunError> {
    match asked.map(attributes) {
        Some(Ok(attributes)) => {
            sys::schedule(&attributes).map_err(RunError::setup("set the scheduler"))
        }
        _ => Ok(()),
    }
}

/// Whether lists of processors are some.
///
/// # Errors
/// What is wrong with them, as a fragment.
pub(super) fn check(affinity: &Affinity) -> Result<(), String> {
    for list in [&affinity.initial, &affinity.last] {
        if !list.is_empty() && processors(list).is_none() {
            return Err(format!(
                "`process.execCPUAffinity`: `{list}` is no list of processors"
            ));
        }
    }
    Ok(())
}

/// The processors of a list like `0-3,5`; none if it is no list.
fn processors(list: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        (first..=last).for_each(|number| set.set(number));
    }
    Some(set)
}

/// Lets this process run on the processors of a list.
///
/// # Errors
/// When there are none of these here.
pub(super) fn stay_on(list: &str) -> Result<(), RunError> {
    match processors(list) {
        Some(set) => sched_setaffinity(None, &set).map_err(|errno| RunError::Setup {
            step: format!("run on the processors {list}"),
            source: errno.into(),
        }),
        None => Ok(()),
    }
}

/// Lets this process run wherever its control group may, whatever the caller is bound to.
pub(super) fn roam() {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|number| all.set(number));
    let _ = sched_setaffinity(None, &all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        let numbers = |list: &str| {
            let set = processors(list)?;
            Some(
                (0..CpuSet::MAX_CPU)
                    .filter(|n| set.is_set(*n))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(numbers("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(numbers("1023"), Some(vec![1023]));
        for wrong in ["", "a", "2-1", "1024", "1,", "-1", "1-"] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
    }
}
