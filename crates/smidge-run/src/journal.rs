//! What happened, written down for whoever asks later or waits for it: a line of JSON an event, a file a
//! day.
//!
//! ```text
//! DIR/2026-11-22.jsonl    appended to, a line a write(2): any number of processes may
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::clock;

/// So many days are kept.
const DAYS: usize = 7;

/// The end of a file's name.
const SUFFIX: &str = ".jsonl";

/// Something that happened. Changing this is a format break.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// What kind of thing it happened to: `container`, `image`, `volume`.
    pub kind: String,
    /// What happened: `start`, `die`, …
    pub action: String,
    /// To which one: its id or name.
    pub id: String,
    /// What is worth knowing about it.
    pub attributes: BTreeMap<String, String>,
    /// When, in nanoseconds since 1970.
    pub time: i64,
}

/// Where what happens to a container is written down, and what is said of it every time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Journal {
    /// The directory.
    pub directory: PathBuf,
    /// The container's image and labels.
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Something that happens now.
    pub fn now(kind: &str, action: &str, id: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        Self {
            kind: kind.to_owned(),
            action: action.to_owned(),
            id: id.to_owned(),
            attributes: BTreeMap::new(),
            time: i64::try_from(now).unwrap_or(i64::MAX),
        }
    }

    /// Says something about it.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attributes.insert(name.to_owned(), value.into());
        self
    }

    /// Writes it down in a directory, which is made if it is missing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record(&self, directory: &Path) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        let path = directory.join(format!("{}{SUFFIX}", &clock::now()[..10]));
        let mut file = match append(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(directory)?;
                start(directory, &path)?
            }
            file => file?,
        };
        // In one piece, so that it is not mixed with what others write.
        file.write_all(&line)
    }
}

impl Journal {
    /// Writes down that something happens to the container that [`label`] names. What cannot be written
    /// must not keep a container from running.
    pub(crate) fn note(&self, label: &str, action: &str, more: &[(&str, String)]) {
        let (id, name) = label.split_once(' ').unwrap_or_default();
        let mut event = Event::now("container", action, id);
        event.attributes = self.attributes.clone();
        event = event.with("name", name);
        for (key, value) in more {
            event = event.with(key, value.clone());
        }
        let _ = event.record(&self.directory);
    }
}

/// The id and the name that the container in `dir` has now.
pub(crate) fn label(dir: &Path) -> String {
    let label = fs::read_to_string(dir.join("name")).unwrap_or_default();
    label.trim_end().to_owned()
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

/// Starts a day's file, and removes those of days long gone.
fn start(directory: &Path, path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let mut days: Vec<PathBuf> = files(directory)?;
    days.truncate(days.len().saturating_sub(DAYS));
    for old in days {
        let _ = fs::remove_file(old);
    }
    Ok(file)
}

/// The files of a journal, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.to_string_lossy().ends_with(SUFFIX));
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("events");
        fs::create_dir(&below).unwrap();
        for day in 10..20 {
            fs::write(below.join(format!("2001-01-{day}.jsonl")), "").unwrap();
        }
        Event::now("volume", "create", "data")
            .record(&below)
            .unwrap();
        Event::now("volume", "destroy", "data")
            .record(&below)
            .unwrap();
        let left = files(&below).unwrap();
        assert_eq!(left.len(), DAYS);
        let text = fs::read_to_string(left.last().unwrap()).unwrap();
        let events: Vec<Event> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events[0].action, "create");
        assert!(events[0].time <= events[1].time);
    }
}
