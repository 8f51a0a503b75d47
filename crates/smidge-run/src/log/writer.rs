//! From chunks of output to lines of the log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Stream, aged, path};
use crate::clock;
use crate::error::RunError;
use crate::spec::LogLimit;

/// The most bytes of output in one object, as Docker has it.
const LINE: usize = 16 << 10;

/// Appends output to the log.
///
/// A disk that is full costs lines of the log, never the program's life: errors are passed over.
#[derive(Debug)]
pub(crate) struct Writer {
    file: Option<File>,
    dir: PathBuf,
    limit: Option<LogLimit>,
    /// Bytes in the file, as far as that matters.
    length: u64,
    /// What has no newline yet, of either stream.
    partial: [Vec<u8>; 2],
    encoded: Vec<u8>,
}

#[derive(Serialize)]
struct Line<'a> {
    log: &'a str,
    stream: Stream,
    time: &'a str,
}

impl Writer {
    /// Opens the log of the container in `dir`, which goes on where it ended.
    pub(crate) fn open(dir: &Path, limit: Option<LogLimit>) -> Result<Self, RunError> {
        let path = path(dir);
        let file = open(&path).map_err(RunError::record(&path))?;
        let length = match limit {
            Some(_) => file.metadata().map_or(0, |metadata| metadata.len()),
            None => 0,
        };
        Ok(Self {
            file: Some(file),
            dir: dir.to_owned(),
            limit,
            length,
            ..Self::disabled()
        })
    }

    /// A log that keeps nothing.
    pub(crate) fn disabled() -> Self {
        Self {
            file: None,
            dir: PathBuf::new(),
            limit: None,
            length: 0,
            partial: Default::default(),
            encoded: Vec::new(),
        }
    }

    /// Adds a chunk of output.
    pub(crate) fn append(&mut self, stream: Stream, chunk: &[u8]) {
        if self.file.is_none() {
            return;
        }
        let time = clock::now();
        let mut partial = std::mem::take(&mut self.partial[stream as usize]);
        let mut rest = chunk;
        while !rest.is_empty() {
            let room = LINE - partial.len();
            let (part, complete) = match rest.iter().take(room).position(|byte| *byte == b'\n') {
                Some(newline) => (&rest[..=newline], true),
                None => (&rest[..room.min(rest.len())], rest.len() >= room),
            };
            rest = &rest[part.len()..];
            if !complete {
                partial.extend_from_slice(part);
            } else if partial.is_empty() {
                let kept = self.encode(stream, part, &time);
                partial.extend_from_slice(kept);
            } else {
                partial.extend_from_slice(part);
                let kept = self.encode(stream, &partial, &time).len();
                partial.drain(..partial.len() - kept);
            }
        }
        self.partial[stream as usize] = partial;
        self.flush();
    }

    /// Adds what has never got its newline.
    pub(crate) fn finish(&mut self) {
        let time = clock::now();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let partial = std::mem::take(&mut self.partial[stream as usize]);
            if !partial.is_empty() && self.file.is_some() {
                self.encode(stream, &partial, &time);
                if let Some(cut) = incomplete(&partial) {
                    self.encode(stream, &partial[cut..], &time);
                }
            }
        }
        self.flush();
    }

    /// Encodes one object; gives back the beginning of a character that was cut off its end.
    fn encode<'a>(&mut self, stream: Stream, text: &'a [u8], time: &str) -> &'a [u8] {
        let cut = incomplete(text)
            .filter(|cut| *cut > 0)
            .unwrap_or(text.len());
        let (text, kept) = text.split_at(cut);
        let line = Line {
            log: &String::from_utf8_lossy(text),
            stream,
            time,
        };
        // Into memory: cannot fail.
        let _ = serde_json::to_writer(&mut self.encoded, &line);
        self.encoded.push(b'\n');
        let length = self.length + self.encoded.len() as u64;
        if self.limit.is_some_and(|limit| length >= limit.size) {
            self.flush();
        }
        kept
    }

    /// Begins the next file, if this one is full. The oldest one goes.
    fn turn(&mut self) {
        let Some(limit) = self.limit.filter(|limit| self.length >= limit.size) else {
            return;
        };
        if limit.files <= 1 {
            let emptied = self.file.as_ref().map(|file| file.set_len(0));
            if matches!(emptied, Some(Ok(()))) {
                self.length = 0;
            }
            return;
        }
        for age in (0..limit.files - 1).rev() {
            let _ = std::fs::rename(aged(&self.dir, age), aged(&self.dir, age + 1));
        }
        if let Ok(file) = open(&path(&self.dir)) {
            self.file = Some(file);
            self.length = 0;
        }
    }

    fn flush(&mut self) {
        if !self.encoded.is_empty() {
            self.turn();
            self.length += self.encoded.len() as u64;
        }
        if let Some(file) = &mut self.file
            && !self.encoded.is_empty()
        {
            write_whole(file, &self.encoded);
        }
        self.encoded.clear();
    }
}

/// Writes all of it, up to the end of a line, or nothing: after half a line the next one could not be read
/// either.
fn write_whole(file: &mut File, lines: &[u8]) {
    let mut written = 0;
    while written < lines.len() {
        match file.write(&lines[written..]) {
            Ok(some) if some > 0 => written += some,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    let whole = lines[..written].iter().rposition(|byte| *byte == b'\n');
    let torn = written - whole.map_or(0, |at| at + 1);
    if torn > 0
        && let Ok(metadata) = file.metadata()
    {
        let _ = file.set_len(metadata.len().saturating_sub(torn as u64));
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Where an incomplete UTF-8 character at the end of `text` begins.
fn incomplete(text: &[u8]) -> Option<usize> {
    let start = text.len().saturating_sub(3);
    let last = text.utf8_chunks().last()?.invalid();
    let cut = text.len() - last.len();
    let lacks_its_end = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    (cut >= start && lacks_its_end).then_some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Entry;

    fn log(chunks: &[(Stream, &[u8])]) -> Vec<(Stream, String)> {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), None).unwrap();
        for (stream, chunk) in chunks {
            writer.append(*stream, chunk);
        }
        writer.finish();
        let text = std::fs::read_to_string(path(dir.path())).unwrap();
        let entries = text
            .lines()
            .map(|line| serde_json::from_str::<Entry>(line).unwrap());
        entries.map(|entry| (entry.stream, entry.text)).collect()
    }

    #[test]
    fn lines_are_put_together_from_chunks() {
        use Stream::{Stderr, Stdout};
        let chunks: [(Stream, &[u8]); 6] = [
            (Stdout, b"one\ntw"),
            (Stderr, b"err"),
            (Stdout, b"o\n\n"),
            (Stdout, b"\"\\\t\x01<\xc3"),
            (Stderr, b"or\n"),
            (Stdout, b"\xa9\xff"),
        ];
        let lines = [
            (Stdout, "one\n"),
            (Stdout, "two\n"),
            (Stdout, "\n"),
            (Stderr, "error\n"),
            (Stdout, "\"\\\t\x01<é\u{fffd}"),
        ];
        assert_eq!(
            log(&chunks),
            lines.map(|(stream, text)| (stream, text.to_owned()))
        );
    }

    #[test]
    fn long_lines_are_split_between_characters() {
        let cases: [(&str, usize, &[usize]); 6] = [
            ("a", LINE - 1, &[LINE]),
            ("a", LINE, &[LINE, 1]),
            ("a", 2 * LINE + 5, &[LINE, LINE, 6]),
            ("é", LINE / 2, &[LINE, 1]),
            ("€", LINE / 3 + 1, &[LINE - 1, 4]),
            ("€", 2 * LINE / 3 + 1, &[LINE - 1, LINE - 1, 4]),
        ];
        for (unit, count, lengths) in cases {
            let text = unit.repeat(count) + "\n";
            for size in [1000, 4096, LINE, text.len()] {
                let chunks: Vec<_> = text
                    .as_bytes()
                    .chunks(size)
                    .map(|chunk| (Stream::Stdout, chunk))
                    .collect();
                let lines = log(&chunks);
                let found: Vec<usize> = lines.iter().map(|(_, line)| line.len()).collect();
                assert_eq!(found, lengths, "{count} x {unit} by {size}");
                let whole: String = lines.into_iter().map(|(_, line)| line).collect();
                assert_eq!(whole, text);
            }
        }
    }

    #[test]
    fn bytes_that_are_not_text_do_not_stop_the_log() {
        let noise: Vec<u8> = (0..100_000_u32)
            .map(|n| (n * 7 % 256) as u8 | 0x80)
            .collect();
        let lines = log(&[(Stream::Stdout, &noise)]);
        assert!(lines.len() >= 6);
    }
}
