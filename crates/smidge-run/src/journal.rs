//! What happened, written down for whoever asks later or waits for it: a line of JSON an event, a file a
//! day, and another one when that is full.
//!
//! ```text
//! DIR/2026-11-22.jsonl         appended to, a line a write(2): any number of processes may
//! DIR/2026-11-22_0001.jsonl    the same day's next
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::network::Attachment;

/// So many days are kept.
const DAYS: usize = 7;

/// The end of a file's name.
const SUFFIX: &str = ".jsonl";

/// Bytes after which a file is full.
const FULL: u64 = 4 << 20;

/// So many files are kept, whatever their days.
const FILES: usize = 16;

/// Bytes of a file's name that are its day.
const DAY: usize = "2026-11-22".len();

/// Something that happened. Changing this is a format break.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// What kind of thing it happened to: `container`, `image`, `network`, `volume`, `builder`.
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
    /// What is said of the volumes that are mounted with it; what happens to them, and when, is left open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Event>,
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
        // In one piece, so that it is not mixed with what others write.
        open(directory, &clock::now()[..DAY])?.write_all(&line)
    }

    /// The same, as something that happens now.
    fn record_as(mut self, action: &str, directory: &Path) {
        let now = Self::now(&self.kind, action, &self.id);
        (self.action, self.time) = (now.action, now.time);
        // What cannot be written must not keep a container from running.
        let _ = self.record(directory);
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

    /// Writes down what happens to the networks and volumes of the container that [`label`] names, when it
    /// starts or when it has ended.
    pub(crate) fn note_places(&self, label: &str, networks: &[Attachment], begins: bool) {
        self.note_networks(label, networks, begins);
        self.note_volumes(label, begins);
    }

    /// The same of networks alone.
    pub(crate) fn note_networks(&self, label: &str, networks: &[Attachment], begins: bool) {
        let (id, _) = label.split_once(' ').unwrap_or_default();
        let joins = if begins { "connect" } else { "disconnect" };
        for network in networks {
            let name = network.dir.file_name().unwrap_or_default();
            Event::now("network", joins, &network.id)
                .with("container", id)
                .with("name", name.to_string_lossy())
                .with("type", "bridge")
                .record_as(joins, &self.directory);
        }
    }

    fn note_volumes(&self, label: &str, begins: bool) {
        let (id, _) = label.split_once(' ').unwrap_or_default();
        let mounts = if begins { "mount" } else { "unmount" };
        for volume in &self.volumes {
            let mut event = volume.clone().with("container", id);
            if !begins {
                let told = |key: &String| matches!(key.as_str(), "container" | "driver");
                event.attributes.retain(|key, _| told(key));
            }
            event.record_as(mounts, &self.directory);
        }
    }
}

/// The id and the name that the container in `dir` has now.
pub(crate) fn label(dir: &Path) -> String {
    let label = fs::read_to_string(dir.join("name")).unwrap_or_default();
    label.trim_end().to_owned()
}

/// The file that a day's events go to.
fn open(directory: &Path, day: &str) -> io::Result<File> {
    let append = |path: &Path| OpenOptions::new().append(true).open(path);
    // What most days have; it may be gone if they have many more.
    if let Ok(file) = append(&directory.join(format!("{day}{SUFFIX}")))
        && file.metadata()?.len() < FULL
    {
        return Ok(file);
    }
    fs::create_dir_all(directory)?;
    let mut kept = files(directory)?;
    let last = kept.last().filter(|last| day_of(last) == day);
    if let Some(last) = last
        && fs::metadata(last).is_ok_and(|metadata| metadata.len() < FULL)
        && let Ok(file) = append(last)
    {
        return Ok(file);
    }
    let path = directory.join(match last.map(|last| number_of(last) + 1) {
        None => format!("{day}{SUFFIX}"),
        Some(number) => format!("{day}_{number:04}{SUFFIX}"),
    });
    let file = OpenOptions::new().append(true).create(true).open(&path)?;
    kept.push(path);
    for old in gone(&kept) {
        let _ = fs::remove_file(old);
    }
    Ok(file)
}

/// Which of a journal's files, the oldest first, are not kept.
fn gone(files: &[PathBuf]) -> &[PathBuf] {
    let mut days: Vec<String> = files.iter().map(|path| day_of(path)).collect();
    days.dedup();
    let first = days.len().checked_sub(DAYS).map(|at| &days[at]);
    let old = files
        .iter()
        .take_while(|path| first.is_some_and(|first| day_of(path) < *first));
    &files[..old.count().max(files.len().saturating_sub(FILES))]
}

/// The day that a file is for.
fn day_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.chars().take(DAY).collect()
}

/// Which of its day's files it is.
fn number_of(path: &Path) -> u32 {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let number = stem.rsplit_once('_').map(|(_, number)| number.parse());
    number.and_then(Result::ok).unwrap_or(0)
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

    #[test]
    fn a_day_takes_no_more_than_its_share() {
        let directory = tempfile::tempdir().unwrap();
        let fill = || {
            open(directory.path(), "2026-11-22").unwrap();
            let last = files(directory.path()).unwrap().pop().unwrap();
            let file = OpenOptions::new().write(true).open(&last).unwrap();
            file.set_len(FULL).unwrap();
            last.file_name().unwrap().to_string_lossy().into_owned()
        };
        fs::write(directory.path().join("2026-11-21.jsonl"), "").unwrap();
        assert_eq!(fill(), "2026-11-22.jsonl");
        assert_eq!(fill(), "2026-11-22_0001.jsonl");
        let names: Vec<String> = (0..FILES).map(|_| fill()).collect();
        assert_eq!(*names.last().unwrap(), "2026-11-22_0017.jsonl");
        assert_eq!(files(directory.path()).unwrap().len(), FILES);
        // The first of the day is gone, and is not begun again.
        open(directory.path(), "2026-11-22").unwrap();
        open(directory.path(), "2026-11-22").unwrap();
        let left = files(directory.path()).unwrap();
        assert!(left.last().unwrap().ends_with("2026-11-22_0018.jsonl"));
        assert!(left[0].ends_with("2026-11-22_0003.jsonl"), "{left:?}");
    }
}
