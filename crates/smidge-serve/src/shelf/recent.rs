//! What was pushed or mounted not long ago, and where.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use smidge_image::Digest;

/// How long a repository's pushed blobs are kept without a manifest, after its last request.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// Blobs by the repositories that they were pushed to.
#[derive(Debug, Default)]
pub(crate) struct Recent(HashMap<String, Lately>);

#[derive(Debug)]
struct Lately {
    touched: Instant,
    blobs: HashSet<Digest>,
}

impl Recent {
    /// A blob came into a repository.
    pub(crate) fn add(&mut self, key: &str, digest: Digest, now: Instant) {
        let lately = self.0.entry(key.to_owned()).or_insert_with(|| Lately {
            touched: now,
            blobs: HashSet::new(),
        });
        lately.touched = now;
        lately.blobs.insert(digest);
    }

    /// Whether a blob came into a repository. Who asks means to use it.
    pub(crate) fn touch(&mut self, key: &str, digest: &Digest, now: Instant) -> bool {
        let Some(lately) = self.0.get_mut(key) else {
            return false;
        };
        lately.touched = now;
        lately.blobs.contains(digest)
    }

    /// Whether anything came into a repository.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Whether a blob came into any repository.
    pub(crate) fn has_anywhere(&self, digest: &Digest) -> bool {
        let mut all = self.0.values();
        all.any(|lately| lately.blobs.contains(digest))
    }

    /// Takes a blob out of a repository, and tells whether it was there.
    pub(crate) fn remove(&mut self, key: &str, digest: &Digest) -> bool {
        let lately = self.0.get_mut(key);
        lately.is_some_and(|lately| lately.blobs.remove(digest))
    }

    /// Forgets repositories that nobody has asked anything of for long, and tells which blobs are in
    /// none now.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Digest> {
        let mut gone = HashSet::new();
        self.0.retain(|_, lately| {
            let kept = now.saturating_duration_since(lately.touched) < KEPT;
            if !kept {
                gone.extend(lately.blobs.drain());
            }
            kept
        });
        gone.retain(|digest| !self.has_anywhere(digest));
        gone.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_stay_while_their_repository_is_in_use() {
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        let start = Instant::now();
        let after = |minutes: u64| start + Duration::from_secs(minutes * 60);
        let mut recent = Recent::default();
        recent.add("a", first, start);
        recent.add("a", second, start);
        recent.add("b", first, start);
        assert!(recent.touch("a", &first, after(59)));
        assert!(!recent.touch("b", &second, start));
        assert!(!recent.touch("c", &first, start));
        assert!(recent.expire(after(61)).is_empty(), "`first` is in `a`");
        assert!(!recent.knows("b"));
        assert!(recent.remove("a", &first));
        assert!(!recent.remove("a", &first));
        assert_eq!(recent.expire(after(120)), [second]);
        assert!(!recent.knows("a"));
    }
}
