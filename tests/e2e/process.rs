//! Processes of this machine, found by a word of their command lines.

use std::sync::atomic::{AtomicU32, Ordering};

/// A number of seconds that only one test sleeps for: its processes are known by it.
pub(crate) fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("1{:07}{number:02}", std::process::id() % 10_000_000)
}

/// How many processes have this word on their command lines. The dead have none.
pub(crate) fn running(word: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            let mut words = line.split(|byte| *byte == 0);
            words.any(|one| one == word.as_bytes())
        })
        .count()
}
