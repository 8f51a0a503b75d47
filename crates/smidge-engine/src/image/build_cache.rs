//! What builds have left for builds to come: looked at, and removed.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smidge_store::{CacheKind, CacheRecord};

use crate::{Engine, Error, Kind, Result};

/// What of the build cache goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePruneRequest {
    /// Also what is part of an image: to remove it gives no bytes back.
    pub all: bool,
    /// Only what has not been used for so long.
    pub unused_for: Option<Duration>,
    /// Only these kinds; none means all.
    pub kinds: Vec<CacheKind>,
    /// Only what has one of these ids, or begins with one; none means all.
    pub ids: Vec<String>,
    /// Keep so many bytes of what was used last.
    pub keep: Option<u64>,
}

impl CachePruneRequest {
    /// Adds a condition as `--filter` has it: `until=24h`, `type=step|mount`, `id=ID`.
    ///
    /// # Errors
    /// When there is no such condition, or its value cannot be understood.
    pub fn add_filter(&mut self, filter: &str) -> Result<()> {
        let fault = |what: String| Error::new(Kind::Input, what);
        let (name, value) = filter
            .split_once('=')
            .ok_or_else(|| fault(format!("invalid filter `{filter}`: expected NAME=VALUE")))?;
        match name {
            "until" | "unused-for" => {
                let message = || {
                    fault(format!("invalid time `{value}` in `{filter}`"))
                        .with_hint("a time is a number with a unit: `90m`, `24h`, `7d`")
                };
                self.unused_for = Some(time(value).ok_or_else(message)?);
            }
            "id" => self.ids.push(value.to_owned()),
            "type" => self.kinds.push(match value {
                "step" | "regular" => CacheKind::Step,
                "mount" | "exec.cachemount" => CacheKind::Mount,
                _ => {
                    return Err(fault(format!("unknown type `{value}` in `{filter}`"))
                        .with_hint("there are `step` and `mount`"));
                }
            }),
            _ => {
                return Err(fault(format!("unknown filter `{name}`"))
                    .with_hint("there are `until`, `type` and `id`"));
            }
        }
        Ok(())
    }

    /// Whether a record is one of those that are meant, whether it may go or not.
    pub fn matches(&self, record: &CacheRecord, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.means(record, now.as_secs())
    }

    fn means(&self, record: &CacheRecord, now: u64) -> bool {
        let idle = now.saturating_sub(record.last_used);
        self.unused_for.is_none_or(|time| idle >= time.as_secs())
            && (self.kinds.is_empty() || self.kinds.contains(&record.kind))
            && (self.ids.is_empty() || self.ids.iter().any(|id| record.id.starts_with(id)))
    }

    /// Whether a record may go, `keep` aside.
    fn covers(&self, record: &CacheRecord, now: u64) -> bool {
        !record.in_use && (self.all || !record.shared) && self.means(record, now)
    }

    /// The records that go.
    fn picked<'r>(&self, records: &'r [CacheRecord], now: u64) -> Vec<&'r CacheRecord> {
        let mut covered: Vec<&CacheRecord> = records
            .iter()
            .filter(|record| self.covers(record, now))
            .collect();
        let Some(keep) = self.keep else {
            return covered;
        };
        let mut surplus = records.iter().map(|record| record.size).sum::<u64>();
        surplus = surplus.saturating_sub(keep);
        covered.sort_by_key(|record| record.last_used);
        covered
            .into_iter()
            .take_while(|record| {
                let goes = surplus > 0;
                surplus = surplus.saturating_sub(record.size);
                goes
            })
            .collect()
    }
}

/// A time as Go writes it, in one unit; days beside.
fn time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit = match &text[digits.len()..] {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(unit)?))
}

impl Engine {
    /// What builds have left for builds to come, what was used last first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn build_cache(&self) -> Result<Vec<CacheRecord>> {
        let mut records = self.store.build_cache()?;
        records.sort_by(|one, other| (other.last_used, &one.id).cmp(&(one.last_used, &other.id)));
        Ok(records)
    }

    /// Removes some of it; gives what went, and the bytes that are free for it.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn prune_build_cache(
        &self,
        request: &CachePruneRequest,
    ) -> Result<(Vec<CacheRecord>, u64)> {
        let records = self.store.build_cache()?;
        let now = self.host.now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let picked = request.picked(&records, now.as_secs());
        let names: HashSet<(CacheKind, &str)> = picked
            .iter()
            .map(|record| (record.kind, record.id.as_str()))
            .collect();
        let goes = |record: &CacheRecord| names.contains(&(record.kind, record.id.as_str()));
        let pruned = self.store.prune_build_cache(&goes)?;
        self.note_prune("builder", pruned.bytes);
        Ok((picked.into_iter().cloned().collect(), pruned.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: CacheKind, id: &str, size: u64, last_used: u64) -> CacheRecord {
        CacheRecord {
            kind,
            id: id.to_owned(),
            description: String::new(),
            size,
            created: 0,
            last_used,
            uses: 0,
            in_use: id == "busy",
            shared: id == "shared",
        }
    }

    fn picked(filters: &[&str], all: bool, keep: Option<u64>) -> Vec<String> {
        let records = [
            record(CacheKind::Step, "a1", 10, 1000),
            record(CacheKind::Step, "a2", 20, 5000),
            record(CacheKind::Mount, "pip", 40, 3000),
            record(CacheKind::Mount, "busy", 80, 0),
            record(CacheKind::Step, "shared", 160, 0),
        ];
        let mut request = CachePruneRequest {
            all,
            keep,
            ..CachePruneRequest::default()
        };
        for filter in filters {
            request.add_filter(filter).unwrap();
        }
        let picked = request.picked(&records, 5000);
        picked.into_iter().map(|record| record.id.clone()).collect()
    }

    #[test]
    fn what_goes_is_what_was_asked_for() {
        assert_eq!(picked(&[], false, None), ["a1", "a2", "pip"]);
        assert_eq!(picked(&[], true, None), ["a1", "a2", "pip", "shared"]);
        assert_eq!(picked(&["until=30m"], false, None), ["a1", "pip"]);
        assert_eq!(picked(&["type=mount"], false, None), ["pip"]);
        assert_eq!(picked(&["id=a", "type=step"], false, None), ["a1", "a2"]);
        // 310 bytes in all: what was used least recently goes first.
        assert_eq!(picked(&[], false, Some(305)), ["a1"]);
        assert_eq!(picked(&[], false, Some(290)), ["a1", "pip"]);
        assert!(picked(&[], false, Some(400)).is_empty());
    }

    #[test]
    fn filters_that_are_none_are_refused() {
        let mut request = CachePruneRequest::default();
        for filter in ["", "until", "until=x", "until=1y", "type=x", "label=a"] {
            assert!(request.add_filter(filter).is_err(), "{filter}");
        }
        assert_eq!(request, CachePruneRequest::default());
    }
}
