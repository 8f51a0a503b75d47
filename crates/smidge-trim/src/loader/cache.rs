use std::collections::{HashMap, HashSet};

/// Where glibc's loaders look for it, whatever their prefix is on common systems.
pub(crate) const CACHE: &str = "/etc/ld.so.cache";
/// Ten times the largest cache that was met.
pub(crate) const MAX_CACHE: u64 = 64 << 20;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;

/// `/etc/ld.so.cache`: which file a library's name stands for.
///
/// ```text
/// old:  "ld.so-1.7.0" 0  count:u32  { flags:i32 name:u32 path:u32 }*  strings
/// new:  "glibc-ld.so.cache1.1"  count:u32  strings_len:u32  flags:u8 0:u8×3  extension:u32  0:u32×3
///       { flags:i32 name:u32 path:u32 os:u32 hwcap:u64 }*  strings
/// ```
///
/// Offsets of strings count from the end of the entries (old) or from the start of the header
/// (new). The new form may follow the old one, aligned to 8 bytes; then it is the one that counts.
/// Source: glibc 2.36, `sysdeps/generic/dl-cache.h`.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    paths: HashMap<String, Vec<String>>,
    for_processors: HashSet<String>,
    /// Bytes of all that.
    text: u64,
}

impl Cache {
    /// Reads a cache; `None` if it is none, which loaders ignore as well.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(NEW_MAGIC) {
            return Self::parse_new(bytes);
        }
        if !bytes.starts_with(OLD_MAGIC) {
            return None;
        }
        let count = count(bytes, 12, OLD_HEADER, OLD_ENTRY)?;
        let strings = OLD_HEADER + count.number * OLD_ENTRY;
        let embedded = bytes.get(strings.next_multiple_of(8)..).unwrap_or_default();
        if embedded.starts_with(NEW_MAGIC) {
            return Self::parse_new(embedded);
        }
        let mut cache = Self::default();
        for entry in bytes[OLD_HEADER..strings].chunks_exact(OLD_ENTRY) {
            cache.insert(bytes.get(strings..)?, entry, count.big_endian);
        }
        Some(cache)
    }

    fn parse_new(bytes: &[u8]) -> Option<Self> {
        let count = count(bytes, 20, NEW_HEADER, NEW_ENTRY)?;
        let entries = bytes.get(NEW_HEADER..NEW_HEADER + count.number * NEW_ENTRY)?;
        let mut cache = Self::default();
        for entry in entries.chunks_exact(NEW_ENTRY) {
            if entry[16..24].iter().all(|&byte| byte == 0) {
                cache.insert(bytes, entry, count.big_endian);
            } else if let Some(name) = string(bytes, word(entry, 4, count.big_endian))
                && cache.holds(name.len())
            {
                cache.for_processors.insert(name);
            }
        }
        Some(cache)
    }

    fn insert(&mut self, strings: &[u8], entry: &[u8], big_endian: bool) {
        let text = |at| string(strings, word(entry, at, big_endian));
        if let (Some(name), Some(path)) = (text(4), text(8))
            && self.holds(name.len() + path.len())
        {
            self.paths.entry(name).or_default().push(path);
        }
    }

    /// Whether there is room for so many bytes more: any number of entries may share their strings.
    fn holds(&mut self, bytes: usize) -> bool {
        self.text = self.text.saturating_add(bytes as u64);
        self.text <= MAX_CACHE
    }

    /// The files that a name stands for, in the loader's order of preference. They may be for
    /// different machines.
    pub(crate) fn paths(&self, name: &str) -> &[String] {
        self.paths.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether there are builds of a library for some processors only, which are not considered.
    pub(crate) fn has_processor_builds(&self, name: &str) -> bool {
        self.for_processors.contains(name)
    }
}

struct Count {
    number: usize,
    big_endian: bool,
}

/// Reads the number of entries in the byte order in which they fit in the file.
fn count(bytes: &[u8], at: usize, header: usize, entry: usize) -> Option<Count> {
    bytes.get(..header)?;
    [false, true].into_iter().find_map(|big_endian| {
        let number = word(bytes, at, big_endian) as usize;
        let end = number.checked_mul(entry)?.checked_add(header)?;
        (end <= bytes.len()).then_some(Count { number, big_endian })
    })
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let mut word = [0; 4];
    if let Some(bytes) = bytes.get(at..at + 4) {
        word.copy_from_slice(bytes);
    }
    if big_endian {
        u32::from_be_bytes(word)
    } else {
        u32::from_le_bytes(word)
    }
}

fn string(bytes: &[u8], at: u32) -> Option<String> {
    /// `PATH_MAX`.
    const MAX: usize = 4096;
    let rest = bytes.get(at as usize..)?;
    let rest = &rest[..rest.len().min(MAX)];
    let end = rest.iter().position(|&byte| byte == 0)?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRINGS: &[u8] = b"liba.so.1\0/lib/liba.so.1\0/opt/liba.so.1\0";

    fn words(words: &[u32], big_endian: bool) -> Vec<u8> {
        let bytes = |word: &u32| {
            if big_endian {
                word.to_be_bytes()
            } else {
                word.to_le_bytes()
            }
        };
        words.iter().flat_map(bytes).collect()
    }

    fn new_cache(big_endian: bool) -> Vec<u8> {
        let base = (NEW_HEADER + 3 * NEW_ENTRY) as u32;
        let mut bytes = NEW_MAGIC.to_vec();
        bytes.extend(words(&[3, STRINGS.len() as u32, 0, 0, 0, 0, 0], big_endian));
        bytes.extend(words(&[0x303, base, base + 25, 0, 1, 1], big_endian));
        bytes.extend(words(&[0x303, base, base + 25, 0, 0, 0], big_endian));
        bytes.extend(words(&[0x303, base, base + 10, 0, 0, 0], big_endian));
        bytes.extend(STRINGS);
        bytes
    }

    fn old_cache(big_endian: bool) -> Vec<u8> {
        let mut bytes = OLD_MAGIC.to_vec();
        bytes.push(0);
        bytes.extend(words(&[1, 3, 0, 10], big_endian));
        bytes
    }

    #[test]
    fn all_forms_are_read_in_both_byte_orders() {
        for big_endian in [false, true] {
            let cache = Cache::parse(&new_cache(big_endian)).unwrap();
            assert_eq!(
                cache.paths("liba.so.1"),
                ["/opt/liba.so.1", "/lib/liba.so.1"]
            );
            assert!(cache.has_processor_builds("liba.so.1"));
            assert!(cache.paths("libb.so").is_empty());

            let mut old = old_cache(big_endian);
            old.extend(STRINGS);
            assert_eq!(
                Cache::parse(&old).unwrap().paths("liba.so.1"),
                ["/lib/liba.so.1"]
            );

            let mut both = old_cache(big_endian);
            both.resize(both.len().next_multiple_of(8), 0);
            both.extend(new_cache(big_endian));
            assert_eq!(Cache::parse(&both).unwrap().paths("liba.so.1").len(), 2);
        }
    }

    #[test]
    fn entries_that_share_a_long_string_do_not_fill_the_memory() {
        const COUNT: usize = 20_000;
        let base = (NEW_HEADER + COUNT * NEW_ENTRY) as u32;
        let mut bytes = NEW_MAGIC.to_vec();
        bytes.extend(words(&[COUNT as u32, 4096, 0, 0, 0, 0, 0], false));
        for _ in 0..COUNT {
            bytes.extend(words(&[0x303, base, base, 0, 0, 0], false));
        }
        bytes.extend([b'x'; 4095]);
        bytes.push(0);
        let cache = Cache::parse(&bytes).unwrap();
        let held: usize = cache.paths(&"x".repeat(4095)).iter().map(String::len).sum();
        assert!(held > 0 && held as u64 <= MAX_CACHE, "{held}");
    }

    #[test]
    fn damage_is_survived() {
        assert!(Cache::parse(b"").is_none());
        assert!(Cache::parse(b"glibc-ld.so.cache1.0").is_none());
        for sound in [new_cache(false), old_cache(false)] {
            for cut in 0..sound.len() {
                let _ = Cache::parse(&sound[..cut]);
            }
            for at in 0..sound.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut bytes = sound.clone();
                    bytes[at] = value;
                    let _ = Cache::parse(&bytes);
                }
            }
        }
    }
}
