//! From the log to the lines that are wanted, and to those that are still to come.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;

use super::{Entry, aged, path};
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
    let files = files(dir).map_err(RunError::record(&path))?;
    if files.is_empty() && watch.is_none() {
        return Ok(());
    }
    let mut lines = Lines::new(files, query.tail).map_err(RunError::record(&path))?;
    loop {
        // Asked before reading: what is written before the end is read after it was seen.
        let ended = watch.as_ref().is_none_or(Watch::has_ended);
        while let Some(entry) = lines.next().map_err(RunError::record(&path))? {
            if window.is_over(&entry) {
                return Ok(());
            }
            if window.holds(&entry) {
                sink(&entry).map_err(RunError::supervise("write the output"))?;
            }
        }
        if watch.is_some() && lines.turn(dir).map_err(RunError::record(&path))? {
            continue;
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

/// The files of the log, the oldest first, each once even if they are renamed meanwhile.
fn files(dir: &Path) -> io::Result<Vec<File>> {
    let mut files: Vec<File> = Vec::new();
    for age in 0.. {
        match File::open(aged(dir, age)) {
            Ok(file) => {
                let known = files
                    .iter()
                    .any(|known| is_same(known, &file).unwrap_or(false));
                files.extend((!known).then_some(file));
            }
            // While the newest one is being renamed, there is none of its name.
            Err(error) if error.kind() == io::ErrorKind::NotFound && age == 0 => (),
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    files.reverse();
    Ok(files)
}

fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// The log's lines from some place on.
struct Lines {
    reader: Option<BufReader<File>>,
    /// The files that come after it.
    newer: VecDeque<File>,
    /// A line whose end has not been written yet.
    line: Vec<u8>,
}

impl Lines {
    fn new(mut files: Vec<File>, tail: Option<usize>) -> io::Result<Self> {
        if let Some(count) = tail {
            let mut missing = count;
            let mut first = files.len();
            for (index, file) in files.iter_mut().enumerate().rev() {
                let (start, still) = tail_start(file, missing)?;
                file.seek(SeekFrom::Start(start))?;
                (first, missing) = (index, still);
                if missing == 0 {
                    break;
                }
            }
            files.drain(..first);
        }
        let mut newer = VecDeque::from(files);
        Ok(Self {
            reader: newer.pop_front().map(BufReader::new),
            newer,
            line: Vec::new(),
        })
    }

    /// Looks whether the log goes on in another file, or from the start of this one.
    fn turn(&mut self, dir: &Path) -> io::Result<bool> {
        let Some(reader) = &mut self.reader else {
            self.newer.extend(files(dir)?);
            return Ok(!self.newer.is_empty());
        };
        if reader.stream_position()? > reader.get_ref().metadata()?.len() {
            self.line.clear();
            reader.seek(SeekFrom::Start(0))?;
            return Ok(true);
        }
        let files = files(dir)?;
        let at = files
            .iter()
            .position(|file| is_same(file, reader.get_ref()).unwrap_or(false));
        self.newer
            .extend(files.into_iter().skip(at.map_or(0, |at| at + 1)));
        Ok(!self.newer.is_empty())
    }

    /// The next whole line that makes sense.
    fn next(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if let Some(reader) = &mut self.reader {
                reader.read_until(b'\n', &mut self.line)?;
            }
            if self.line.last() != Some(&b'\n') {
                let Some(file) = self.newer.pop_front() else {
                    return Ok(None);
                };
                self.line.clear();
                self.reader = Some(BufReader::new(file));
                continue;
            }
            let entry = serde_json::from_slice(&self.line);
            self.line.clear();
            if let Ok(entry) = entry {
                return Ok(Some(entry));
            }
        }
    }
}

/// Where the last `count` lines begin, and how many lines are missing even so. Reads backwards, so that the length of the log does not matter.
fn tail_start(file: &File, count: usize) -> io::Result<(u64, usize)> {
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
                return Ok((start + index as u64 + 1, 0));
            }
            missing -= 1;
        }
        end = start;
    }
    Ok(if count == 0 {
        (length, 0)
    } else {
        (0, missing)
    })
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
        let mut writer = Writer::open(dir.path(), None).unwrap();
        writer.append(Stream::Stdout, b"last words\n");
        let query = LogQuery {
            follow: true,
            ..LogQuery::default()
        };
        assert_eq!(texts(dir.path(), &query), ["last words"]);
    }

    #[test]
    fn a_limited_log_keeps_its_last_lines() {
        for files in [1, 2, 3] {
            let dir = tempfile::tempdir().unwrap();
            let limit = crate::spec::LogLimit { size: 500, files };
            let mut writer = Writer::open(dir.path(), Some(limit)).unwrap();
            for number in 0..100 {
                writer.append(Stream::Stdout, format!("{number}\n").as_bytes());
            }
            let all = texts(dir.path(), &LogQuery::default());
            let kept: Vec<String> = (100 - all.len()..100).map(|n| n.to_string()).collect();
            assert_eq!(all, kept, "the last ones, in order");
            assert!(all.len() < 10 * files as usize, "{files}: {}", all.len());
            let found = std::fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(found, files as usize);
            for tail in 0..all.len() {
                let query = LogQuery {
                    tail: Some(tail),
                    ..LogQuery::default()
                };
                assert_eq!(texts(dir.path(), &query), all[all.len() - tail..]);
            }
        }
    }

    #[test]
    fn who_follows_a_limited_log_misses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let limit = crate::spec::LogLimit {
            size: 200,
            files: 3,
        };
        let mut writer = Writer::open(dir.path(), Some(limit)).unwrap();
        let mut lines = Lines::new(files(dir.path()).unwrap(), None).unwrap();
        for number in 0..50 {
            writer.append(Stream::Stdout, format!("{number}\n").as_bytes());
            let _ = lines.turn(dir.path()).unwrap();
            let entry = lines.next().unwrap().unwrap();
            assert_eq!(entry.text, format!("{number}\n"));
        }
    }
}
