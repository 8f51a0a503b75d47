//! `events`: what happened to containers, images and volumes, and what happens.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use smidge_run::journal::{Journal, files};

use crate::container::{Known, nanoseconds};
use crate::image::{Filter, Filters};
use crate::{Engine, Error, Kind, Result};

pub use smidge_run::journal::Event;

/// Which events to show.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Those from a time on, as `logs` takes it; without one, all with an end, and otherwise those that are
    /// still to come.
    pub since: Option<String>,
    /// Those before a time; without one, there is no end.
    pub until: Option<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
}

/// What can be filtered by.
const FILTERS: [&str; 8] = [
    "container",
    "event",
    "image",
    "label",
    "network",
    "scope",
    "type",
    "volume",
];

/// How long to wait at most before the clock is looked at.
const NAP: Duration = Duration::from_secs(3600);

/// How far each file has been read.
type Places = BTreeMap<PathBuf, u64>;

impl Engine {
    /// Shows what happened and what happens to `sink`, whose error ends it.
    ///
    /// # Errors
    /// When a filter or a time cannot be understood, when the store cannot be read, when `sink` fails.
    pub fn events(
        &self,
        query: &EventQuery,
        sink: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<()> {
        let filters = Filters::new(&query.filters, &FILTERS)?;
        let time = |text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| nanoseconds(text, self.host.now))
                .transpose()
        };
        let directory = self.events_directory();
        let (since, until) = (time(&query.since)?, time(&query.until)?);
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            let message = "`--since` cannot be after `--until`";
            return Err(Error::new(Kind::Input, message));
        }
        let now = nanoseconds_of(SystemTime::now());
        let (since, mut places) = match since.or(until.map(|_| 0)) {
            Some(since) => (since, Places::new()),
            // What has happened is of no interest, however much it is.
            None => (
                now,
                ends(&directory).map_err(|error| self.unreadable(error))?,
            ),
        };
        std::fs::create_dir_all(&directory).map_err(|error| self.unreadable(error))?;
        // Before the first look, so that nothing comes between the two.
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(|error| self.unreadable(error.into()))?;
        inotify::add_watch(
            &watch,
            &directory,
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE,
        )
        .map_err(|error| self.unreadable(error.into()))?;
        loop {
            let events = read_on(
                &files(&directory).map_err(|e| self.unreadable(e))?,
                &mut places,
            )
            .map_err(|error| self.unreadable(error))?;
            for event in events {
                let is_due = event.time >= since && until.is_none_or(|until| event.time < until);
                if is_due && suits(&event, &filters) {
                    sink(&event)?;
                }
            }
            let left = until.map(|until| until.saturating_sub(nanoseconds_of(SystemTime::now())));
            if left.is_some_and(|left| left <= 0) {
                return Ok(());
            }
            let left = left.map_or(NAP, |left| {
                Duration::from_nanos(left.unsigned_abs()).min(NAP)
            });
            wait(&watch, left);
        }
    }

    /// Where what happens is written down.
    pub(crate) fn events_directory(&self) -> PathBuf {
        self.store.root().join("events")
    }

    /// Writes down that something happens. What has been done is done, whether that can be or not.
    pub(crate) fn note(&self, event: &Event) {
        let _ = event.record(&self.events_directory());
    }

    /// Writes down that something happens to a container.
    pub(crate) fn note_container(&self, known: &Known, action: &str, more: &[(&str, &str)]) {
        let mut event = self.container_event(known, action);
        for (key, value) in more {
            event = event.with(key, *value);
        }
        self.note(&event);
    }

    fn container_event(&self, known: &Known, action: &str) -> Event {
        let mut event = Event::now("container", action, &known.container.id);
        event.attributes = self
            .journal(&known.record.image, known.record.labels())
            .attributes;
        event.with("name", known.container.name.as_str())
    }

    /// What is written down of a user who leaves a container's program alone.
    pub(crate) fn farewell(&self, known: &Known, action: &str) -> Farewell {
        Farewell {
            event: self.container_event(known, action),
            directory: self.events_directory(),
        }
    }

    /// Writes down that what nothing needs was removed.
    pub(crate) fn note_prune(&self, kind: &str, bytes: u64) {
        self.note(&Event::now(kind, "prune", "").with("reclaimed", bytes.to_string()));
    }

    /// Where a container's supervisor writes down what happens to it.
    pub(crate) fn journal(&self, image: &str, labels: &BTreeMap<String, String>) -> Journal {
        let mut attributes = labels.clone();
        attributes.insert("image".to_owned(), image.to_owned());
        Journal {
            directory: self.events_directory(),
            attributes,
            volumes: Vec::new(),
        }
    }

    fn unreadable(&self, source: io::Error) -> Error {
        let path = self.events_directory();
        Error::io(format!("cannot read `{}`", path.display()), source)
    }
}

/// What is written down of a user who leaves a program alone.
#[derive(Debug)]
pub(crate) struct Farewell {
    event: Event,
    directory: PathBuf,
}

impl Farewell {
    /// Writes it down, with whatever else is to be said.
    pub(crate) fn note(mut self) {
        self.event.time = nanoseconds_of(SystemTime::now());
        // The user has left, whether that can be written or not.
        let _ = self.event.record(&self.directory);
    }

    /// Says something about it.
    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        Self {
            event: self.event.with(name, value),
            ..self
        }
    }
}

/// Waits until something is written.
fn wait(watch: &rustix::fd::OwnedFd, most: Duration) {
    let mut fds = [PollFd::new(watch, PollFlags::IN)];
    let most = Timespec::try_from(most).ok();
    // If it is interrupted, or fails, the files are looked at all the same.
    let _ = poll(&mut fds, most.as_ref());
    let mut buffer = [0; 4096];
    while rustix::io::read(watch, &mut buffer).is_ok_and(|read| read > 0) {}
}

/// Where each file ends now.
fn ends(directory: &Path) -> io::Result<Places> {
    let lengths = files(directory)?.into_iter().map(|path| {
        let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        (path, length)
    });
    Ok(lengths.collect())
}

/// What was written since the last look.
fn read_on(files: &[PathBuf], places: &mut Places) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for path in files {
        let place = places.entry(path.clone()).or_default();
        let mut file = match File::open(path) {
            // Of a day long gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        if file.metadata()?.len() <= *place {
            continue;
        }
        file.seek(SeekFrom::Start(*place))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // A line that is being written is read when it is whole.
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        *place += whole as u64;
        let lines = bytes[..whole].split(|byte| *byte == b'\n');
        events.extend(lines.filter_map(event));
    }
    Ok(events)
}

/// The event in a line. What a crash or a full disk has left of one tells nothing, but the next one may
/// follow it.
fn event(line: &[u8]) -> Option<Event> {
    const BEGINNING: &[u8] = b"{\"kind\":";
    let whole = || serde_json::from_slice(line).ok();
    whole().or_else(|| {
        let mut windows = line.windows(BEGINNING.len());
        let at = windows.rposition(|window| window == BEGINNING)?;
        serde_json::from_slice(&line[at..]).ok()
    })
}

fn suits(event: &Event, filters: &Filters) -> bool {
    let of = |kind: &str, wanted: &String| {
        let name = event.attributes.get("name").map_or("", String::as_str);
        event.kind == kind
            && (event.id.starts_with(wanted.as_str())
                || name.trim_start_matches('/') == wanted.trim_start_matches('/'))
    };
    let image = |wanted: &String| {
        let attribute = match event.kind.as_str() {
            "image" => "name",
            _ => "image",
        };
        let name = event.attributes.get(attribute).map_or("", String::as_str);
        let bare = name.rsplit_once(':').map_or(name, |(bare, _)| bare);
        [name, bare, event.id.as_str()].contains(&wanted.as_str())
    };
    filters.any("type", |kind| *kind == event.kind)
        && filters.any("event", |action| {
            let plain = event.action.split(':').next().unwrap_or_default();
            [plain, event.action.as_str()].contains(&action.as_str())
        })
        && filters.any("container", |wanted| of("container", wanted))
        && filters.any("network", |wanted| of("network", wanted))
        && filters.any("volume", |wanted| of("volume", wanted))
        && filters.any("image", image)
        && filters.any("scope", |scope| scope == "local")
        && filters.labels(&event.attributes)
}

fn nanoseconds_of(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_when_they_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("2026-11-22.jsonl");
        let mut places = Places::new();
        let mut read = |text: &str| -> Vec<String> {
            std::fs::write(&path, text).unwrap();
            let events = read_on(std::slice::from_ref(&path), &mut places).unwrap();
            events.into_iter().map(|event| event.action).collect()
        };
        let (first, rest) = (
            "{\"action\":\"a\"}\n{\"act",
            "ion\":\"b\"}\nrubbish\n{\"action\":\"c\"}\n",
        );
        assert_eq!(read(first), ["a"]);
        assert_eq!(read(first), [""; 0]);
        assert_eq!(read(&format!("{first}{rest}")), ["b", "c"]);
    }
}
