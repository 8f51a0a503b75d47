//! From the log to the lines that are wanted, and to those that are still to come.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;

use super::{Entry, path};
use crate::clock;
use crate::error::RunError;
use crate::state::State;

/// Which lines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Whether to go on until the container exits.
    pub follow: bool,
    /// At most this many lines from the end.
    pub tail: Option<usize>,
    /// Only lines from this time on: RFC 3339, or seconds since 1970 with or without a fraction.
    pub since: Option<String>,
    /// Only lines up to this time, as `since`.
    pub until: Option<String>,
}

/// Reads the log of the container in `dir`; every wanted line goes to `sink`, whose error ends the
/// reading. What a crash has left of a line is passed over.
///
/// # Errors
/// When the log cannot be read, a time cannot be understood, or `sink` fails.
pub fn read(
    dir: &Path,
    query: &LogQuery,
    sink: &mut dyn FnMut(&Entry) -> io::Result<()>,
) -> Result<(), RunError> {
    let window = Window::new(query)?;
    let path = path(dir);
    let watch = if query.follow {
        Some(Watch::new(dir)?)
    } else {
        None
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && watch.is_none() => return Ok(()),
        Err(error) => return Err(RunError::record(&path)(error)),
    };
    let mut lines = Lines::new(file, query.tail).map_err(RunError::record(&path))?;
    loop {
        // Asked before reading: what is written before the end is read after it was seen.
        let ended = watch.as_ref().is_none_or(Watch::has_ended);
        while let Some(entry) = lines.next().map_err(RunError::record(&path))? {
            if window.is_over(&entry) {
                return Ok(());
            }
            if window.holds(&entry) {
                sink(&entry).map_err(RunError::supervise("pass the log on"))?;
            }
        }
        match &watch {
            Some(watch) if !ended => watch.wait().map_err(RunError::record(&path))?,
            _ => return Ok(()),
        }
    }
}

/// The times between which lines are wanted, in the log's own form, which sorts by time.
struct Window {
    since: Option<String>,
    until: Option<String>,
}

impl Window {
    fn new(query: &LogQuery) -> Result<Self, RunError> {
        let parse = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => match clock::parse(text) {
                Some(time) => Ok(Some(time)),
                None => Err(RunError::Time { text: text.clone() }),
            },
        };
        Ok(Self {
            since: parse(&query.since)?,
            until: parse(&query.until)?,
        })
    }

    fn holds(&self, entry: &Entry) -> bool {
        self.since.as_ref().is_none_or(|since| entry.time >= *since)
    }

    fn is_over(&self, entry: &Entry) -> bool {
        self.until.as_ref().is_some_and(|until| entry.time > *until)
    }
}

/// The log's lines from some place on.
struct Lines {
    reader: BufReader<File>,
    /// A line whose end has not been written yet.
    line: Vec<u8>,
}

impl Lines {
    fn new(mut file: File, tail: Option<usize>) -> io::Result<Self> {
        if let Some(count) = tail {
            let start = tail_start(&file, count)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self {
            reader: BufReader::new(file),
            line: Vec::new(),
        })
    }

    /// The next whole line that makes sense.
    fn next(&mut self) -> io::Result<Option<Entry>> {
        loop {
            self.reader.read_until(b'\n', &mut self.line)?;
            if self.line.last() != Some(&b'\n') {
                return Ok(None);
            }
            let entry = serde_json::from_slice(&self.line);
            self.line.clear();
            if let Ok(entry) = entry {
                return Ok(Some(entry));
            }
        }
    }
}

/// Where the last `count` lines begin. Reads backwards, so that the length of the log does not matter.
fn tail_start(file: &File, count: usize) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let length = end;
    let mut missing = count;
    let mut block = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let size = usize::try_from(end - start).unwrap_or(block.len());
        file.read_exact_at(&mut block[..size], start)?;
        for (index, _) in block[..size]
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
        {
            if missing == 0 {
                return Ok(start + index as u64 + 1);
            }
            missing -= 1;
        }
        end = start;
    }
    Ok(if count == 0 { length } else { 0 })
}

/// Tells when the log grows and when the container ends.
struct Watch<'a> {
    dir: &'a Path,
    events: OwnedFd,
    supervisor: Option<OwnedFd>,
}

impl<'a> Watch<'a> {
    fn new(dir: &'a Path) -> Result<Self, RunError> {
        let watch = || {
            let events =
                inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let flags = inotify::WatchFlags::MODIFY
                | inotify::WatchFlags::MOVED_TO
                | inotify::WatchFlags::DELETE
                | inotify::WatchFlags::DELETE_SELF;
            inotify::add_watch(&events, dir, flags)?;
            Ok::<_, rustix::io::Errno>(events)
        };
        let events = watch().map_err(RunError::record(dir))?;
        let supervisor = State::read(dir)?.supervisor.open();
        Ok(Self {
            dir,
            events,
            supervisor,
        })
    }

    fn has_ended(&self) -> bool {
        self.supervisor.is_none()
            || State::read(self.dir).map_or(true, |state| !state.status.is_active())
    }

    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.events, PollFlags::IN)];
        fds.extend(
            self.supervisor
                .iter()
                .map(|pidfd| PollFd::new(pidfd, PollFlags::IN)),
        );
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.events, &mut buffer);
        while events.next().is_ok() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Stream, Writer};

    fn texts(dir: &Path, query: &LogQuery) -> Vec<String> {
        let mut texts = Vec::new();
        read(dir, query, &mut |entry| {
            texts.push(entry.text.trim_end().to_owned());
            Ok(())
        })
        .unwrap();
        texts
    }

    fn entry(second: u32, text: &str) -> String {
        let time = format!("2026-01-01T00:00:{second:02}.000000000Z");
        let entry = Entry {
            text: format!("{text}\n"),
            stream: Stream::Stdout,
            time,
        };
        serde_json::to_string(&entry).unwrap() + "\n"
    }

    #[test]
    fn the_wanted_lines_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut text: String = (0..50).map(|n| entry(n, &n.to_string())).collect();
        text.insert_str(entry(0, "0").len(), "{\"log\":\"torn\n");
        std::fs::write(path(dir.path()), text + "{\"log\":\"unfinished").unwrap();
        let query = LogQuery::default();
        assert_eq!(texts(dir.path(), &query).len(), 50);
        let tail = |count| {
            texts(
                dir.path(),
                &LogQuery {
                    tail: Some(count),
                    ..query.clone()
                },
            )
        };
        assert_eq!(tail(0), [""; 0]);
        assert_eq!(tail(2), ["48", "49"]);
        assert_eq!(tail(1000).len(), 50);
        let since = Some("2026-01-01T00:00:48Z".to_owned());
        assert_eq!(
            texts(
                dir.path(),
                &LogQuery {
                    since,
                    ..query.clone()
                }
            ),
            ["48", "49"]
        );
        let until = Some("2026-01-01T01:00:01+01:00".to_owned());
        assert_eq!(
            texts(
                dir.path(),
                &LogQuery {
                    until,
                    ..query.clone()
                }
            ),
            ["0", "1"]
        );
        let since = Some("nonsense".to_owned());
        let refused = read(dir.path(), &LogQuery { since, ..query }, &mut |_| Ok(()));
        assert!(matches!(refused, Err(RunError::Time { .. })));
    }

    #[test]
    fn a_tail_may_span_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let text: String = (0..60).map(|n| entry(n, &"x".repeat(5000))).collect();
        std::fs::write(path(dir.path()), text).unwrap();
        for count in [1, 12, 13, 14, 26, 59, 60, 61] {
            let query = LogQuery {
                tail: Some(count),
                ..LogQuery::default()
            };
            assert_eq!(texts(dir.path(), &query).len(), count.min(60));
        }
    }

    #[test]
    fn a_log_that_was_never_written_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(texts(dir.path(), &LogQuery::default()), [""; 0]);
    }

    #[test]
    fn following_a_stopped_container_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path()).unwrap();
        writer.append(Stream::Stdout, b"last words\n");
        let query = LogQuery {
            follow: true,
            ..LogQuery::default()
        };
        assert_eq!(texts(dir.path(), &query), ["last words"]);
    }
}
