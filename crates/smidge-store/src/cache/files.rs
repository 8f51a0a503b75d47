//! Digests of files that were read once, by what tells that they have not changed since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smidge_image::{Digest, Identity};

use super::step::seconds;
use crate::{Error, Store, regular};

/// Where they are.
pub(super) const FILES: &str = "cache/files";

/// A record is a line: half a digest of the identity, a digest of the content, seconds since 1970 of
/// the last use, all in hexadecimal. Lines are sorted, so that nothing need be taken apart to look for
/// one. Changing this is a format break.
const KEY: usize = 32;
const CONTENT: usize = 64;
const USED: usize = 8;
const RECORD: usize = KEY + CONTENT + USED + 1;

/// As many are kept; those that were not used for the longest time go.
const MOST: usize = 200_000;

/// A file that has changed so lately may change again without any trace: the clocks of some file
/// systems tick that seldom.
const RACY: Duration = Duration::from_secs(2);

/// A use is noted if the last one was noted so many seconds ago: looking alone changes nothing.
const NOTED: u32 = 24 * 60 * 60;

/// What is known of files' contents. Any number of threads may ask.
#[derive(Debug)]
pub struct FileDigests<'s> {
    store: &'s Store,
    path: PathBuf,
    now: u32,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// The file's content.
    stored: Vec<u8>,
    /// What came since: digests and times of use, by keys.
    fresh: BTreeMap<String, (Digest, u32)>,
}

impl Store {
    /// Digests of files' contents, as builds have left them.
    pub fn file_digests(&self) -> FileDigests<'_> {
        let path = self.path(FILES);
        FileDigests {
            store: self,
            now: u32::try_from(seconds(SystemTime::now())).unwrap_or(u32::MAX),
            known: Mutex::new(Known {
                stored: load(&path),
                fresh: BTreeMap::new(),
            }),
            path,
        }
    }
}

impl FileDigests<'_> {
    /// The digest of the content of a file, if that is known and the file has not changed since.
    pub fn get(&self, identity: &Identity) -> Option<Digest> {
        let key = key(identity);
        let mut known = self.known();
        if let Some((digest, _)) = known.fresh.get(&key) {
            return Some(*digest);
        }
        let (digest, used) = find(&known.stored, &key)?;
        if self.now.saturating_sub(used) > NOTED {
            known.fresh.insert(key, (digest, self.now));
        }
        Some(digest)
    }

    /// Keeps the digest of the content of a file. Told before the content was read, the identity must
    /// still be the same. A file that has changed within the last two seconds is not taken in: it could
    /// change again, and nothing would tell.
    pub fn put(&self, identity: &Identity, digest: Digest) {
        let Some(changed) = identity.changed else {
            return;
        };
        let age = SystemTime::now().duration_since(UNIX_EPOCH + changed);
        if age.is_ok_and(|age| age > RACY) {
            let mut known = self.known();
            known.fresh.insert(key(identity), (digest, self.now));
        }
    }

    /// Writes down what has come, if anything has.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn save(&self) -> Result<(), Error> {
        let mut known = self.known();
        if known.fresh.is_empty() {
            return Ok(());
        }
        // Others may have done the same meanwhile.
        let stored = load(&self.path);
        let old = records(&stored).filter_map(|record| {
            let (key, digest, used) = parse(record)?;
            Some((key.to_owned(), (digest, used)))
        });
        let mut all: BTreeMap<_, _> = old.collect();
        all.extend(std::mem::take(&mut known.fresh));
        forget_oldest(&mut all);
        let mut text = Vec::with_capacity(all.len() * RECORD);
        for (key, (digest, used)) in &all {
            text.extend_from_slice(format!("{key}{}{used:08x}\n", digest.hex()).as_bytes());
        }
        self.store.write_atomically(&self.path, &text)?;
        known.stored = text;
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(identity: &Identity) -> String {
    let mut key = Digest::of(&identity.text).hex();
    key.truncate(KEY);
    key
}

/// The file's content; nothing, if it is not one that can be understood.
fn load(path: &Path) -> Vec<u8> {
    let stored = regular::read(path).unwrap_or_default();
    match stored.len().is_multiple_of(RECORD) {
        true => stored,
        false => Vec::new(),
    }
}

fn records(stored: &[u8]) -> impl Iterator<Item = &[u8]> {
    stored.chunks_exact(RECORD)
}

fn parse(record: &[u8]) -> Option<(&str, Digest, u32)> {
    let text = str::from_utf8(record).ok()?.strip_suffix('\n')?;
    let (key, rest) = text.split_at_checked(KEY)?;
    let (content, used) = rest.split_at_checked(CONTENT)?;
    let used = u32::from_str_radix(used, 16).ok()?;
    Some((key, Digest::from_hex(content).ok()?, used))
}

fn find(stored: &[u8], key: &str) -> Option<(Digest, u32)> {
    let (mut low, mut high) = (0, stored.len() / RECORD);
    while low < high {
        let middle = low.midpoint(high);
        let record = &stored[middle * RECORD..(middle + 1) * RECORD];
        match record[..KEY].cmp(key.as_bytes()) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => {
                let (_, digest, used) = parse(record)?;
                return Some((digest, used));
            }
        }
    }
    None
}

fn forget_oldest(all: &mut BTreeMap<String, (Digest, u32)>) {
    if all.len() <= MOST {
        return;
    }
    let mut uses: Vec<u32> = all.values().map(|(_, used)| *used).collect();
    let surplus = all.len() - MOST;
    let (_, limit, _) = uses.select_nth_unstable(surplus);
    let limit = *limit;
    let mut older = surplus;
    // Of those that are as old as the youngest that must go, only as many as needed.
    let below = all.values().filter(|(_, used)| *used < limit).count();
    older -= below;
    all.retain(|_, (_, used)| {
        let same = *used == limit && older > 0;
        older -= usize::from(same);
        *used >= limit && !same
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let digest = Digest::of(b"");
        for (old, same) in [(3, 0), (0, 5), (2, 4)] {
            let mut all = BTreeMap::new();
            for number in 0..MOST + old + same {
                let used = match number {
                    n if n < old => 1,
                    n if n < old + same + 10 => 2,
                    _ => 3,
                };
                all.insert(format!("{number:032x}"), (digest, used));
            }
            forget_oldest(&mut all);
            assert_eq!(all.len(), MOST);
            let of = |age| all.values().filter(|(_, used)| *used == age).count();
            assert_eq!((of(1), of(2)), (0, 10), "{old} {same}");
        }
    }
}
