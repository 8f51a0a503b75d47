//! What the store's index names, by repositories: read again only when it has changed.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use smidge_store::{Entry, Store};

use super::locked;
use super::repository::key;
use crate::http::Fault;

/// How old a file must be for its stamp to tell it from the next one: clocks of file systems tick
/// slowly, and an index that is replaced twice may get its old inode back.
const SETTLED: Duration = Duration::from_secs(1);

/// Entries by the repositories that they are in.
pub(crate) type Repositories = HashMap<String, Arc<[Entry]>>;

/// The index as it was read last.
#[derive(Default)]
pub(crate) struct Catalog(Mutex<Option<(Stamp, Arc<Repositories>)>>);

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    changed: SystemTime,
}

impl Stamp {
    /// The stamp of the store's index, unless that has only just been written.
    fn of(store: &Store) -> Option<Self> {
        let metadata = std::fs::metadata(store.root().join("index.json")).ok()?;
        let changed = metadata.modified().ok()?;
        let is_settled = changed.elapsed().is_ok_and(|age| age > SETTLED);
        is_settled.then_some(Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            changed,
        })
    }
}

impl Catalog {
    /// All entries with names.
    pub(crate) fn repositories(&self, store: &Store) -> Result<Arc<Repositories>, Fault> {
        // Of the time before it is read: what comes in between is read again.
        let stamp = Stamp::of(store);
        if let Some((known, repositories)) = &*locked(&self.0)
            && stamp.as_ref() == Some(known)
        {
            return Ok(Arc::clone(repositories));
        }
        let mut gathered: HashMap<String, Vec<Entry>> = HashMap::new();
        for entry in store.entries()? {
            if let Some(name) = &entry.name {
                gathered.entry(key(name)).or_default().push(entry);
            }
        }
        let repositories = gathered.into_iter();
        let repositories = repositories.map(|(key, entries)| (key, entries.into()));
        let repositories = Arc::new(repositories.collect::<Repositories>());
        *locked(&self.0) = stamp.map(|stamp| (stamp, Arc::clone(&repositories)));
        Ok(repositories)
    }
}
