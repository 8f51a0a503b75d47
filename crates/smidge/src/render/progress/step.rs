//! Steps of a Dockerfile in `BuildKit`'s words: their names, and what their programs write, by lines.

use std::collections::VecDeque;
use std::time::Duration;

use smidge_engine::StepName;

use crate::render::control;

/// The most of a line that is waited for; what is longer is taken apart.
const LONGEST: usize = 16 << 10;

/// How many lines of a failed step are shown again.
const LAST_WORDS: usize = 10;

/// `[build 2/4] RUN make`.
pub(super) fn label(name: &StepName) -> String {
    let place = (name.total > 0).then(|| format!("{}/{}", name.number, name.total));
    let platform = name.platform.clone();
    let words: Vec<String> = [platform, name.stage.clone(), place]
        .into_iter()
        .flatten()
        .collect();
    let text: Vec<&str> = name.text.split_whitespace().collect();
    let text = match words.is_empty() {
        true => text.join(" "),
        false => format!("[{}] {}", words.join(" "), text.join(" ")),
    };
    control::neutral(&text)
}

/// Seconds as `BuildKit` writes them: `0.4s`.
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// A line that a step's program wrote, and when that was, counted from the step's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) time: Duration,
    pub(super) line: String,
}

impl Said {
    /// `0.312 text`.
    pub(super) fn text(&self) -> String {
        format!("{:.3} {}", self.time.as_secs_f64(), self.line)
    }
}

/// Makes lines of what a program writes, however it is cut into pieces, and remembers the last ones.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// The beginning of a line.
    begun: Vec<u8>,
    last: VecDeque<Said>,
}

impl Output {
    /// The lines that are complete now.
    pub(super) fn take(&mut self, time: Duration, bytes: &[u8]) -> Vec<Said> {
        let begun = &mut self.begun;
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || begun.len() >= LONGEST {
                lines.push(std::mem::take(begun));
            }
        }
        let said = |line: Vec<u8>| Said {
            time,
            line: clean(&line),
        };
        let lines: Vec<Said> = lines.into_iter().map(said).collect();
        self.remember(&lines);
        lines
    }

    /// What was begun and not completed.
    pub(super) fn end(&mut self, time: Duration) -> Option<Said> {
        if self.begun.is_empty() {
            return None;
        }
        let line = clean(&std::mem::take(&mut self.begun));
        let said = Said { time, line };
        self.remember(std::slice::from_ref(&said));
        Some(said)
    }

    fn remember(&mut self, lines: &[Said]) {
        self.last.extend(lines.iter().cloned());
        let surplus = self.last.len().saturating_sub(LAST_WORDS);
        self.last.drain(..surplus);
    }

    /// The last lines, oldest first.
    pub(super) fn last(&self) -> impl DoubleEndedIterator<Item = &Said> {
        self.last.iter()
    }

    /// What is shown when all is over, of a step that failed.
    pub(super) fn last_words(&self, label: &str) -> String {
        let mut text = format!("------\n > {label}:\n");
        for said in &self.last {
            text.push_str(&said.text());
            text.push('\n');
        }
        text.push_str("------\n");
        text
    }
}

/// A line as it would be left on a terminal: nothing in it can move the cursor or change colours.
fn clean(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches(['\n', '\r']);
    // What is drawn over, as bars are, is gone.
    let line = line.rsplit('\r').next().unwrap_or_default();
    control::neutral(&anstream::adapter::strip_str(line).to_string())
}

/// The columns that a text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// As much of a text as fits into so many columns.
pub(super) fn cut(text: &str, room: usize) -> String {
    let mut taken = 0;
    let fits = |c: &char| {
        taken += columns(*c);
        taken <= room
    };
    text.chars().take_while(fits).collect()
}

/// The columns of a character (Unicode's `East_Asian_Width`, and marks that go with the character before
/// them), in broad ranges.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f
        | 0x0483..=0x0489
        | 0x0591..=0x05bd
        | 0x0610..=0x061a
        | 0x064b..=0x065f
        | 0x0900..=0x0902
        | 0x0e31
        | 0x0e34..=0x0e3a
        | 0x0e47..=0x0e4e
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff
        | 0x200b..=0x200f
        | 0x202a..=0x202e
        | 0x2060..=0x2064
        | 0x20d0..=0x20f0
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f
        | 0xfeff
        | 0xe0100..=0xe01ef => 0,
        // A tab is shown as one blank.
        0x1100..=0x115f
        | 0x231a..=0x231b
        | 0x23e9..=0x23ec
        | 0x25fd..=0x25fe
        | 0x2614..=0x2615
        | 0x2648..=0x2653
        | 0x26a1
        | 0x2705
        | 0x2728
        | 0x274c
        | 0x2753..=0x2755
        | 0x2757
        | 0x2795..=0x2797
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xa960..=0xa97f
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x16fe0..=0x18cff
        | 0x1b000..=0x1b2ff
        | 0x1f004
        | 0x1f0cf
        | 0x1f18e
        | 0x1f191..=0x1f19a
        | 0x1f200..=0x1f320
        | 0x1f32d..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f7e0..=0x1f7eb
        | 0x1f90c..=0x1f9ff
        | 0x1fa70..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(output: &mut Output, bytes: &[u8]) -> Vec<String> {
        let said = output.take(Duration::ZERO, bytes);
        said.into_iter().map(|said| said.line).collect()
    }

    #[test]
    fn names_are_buildkits() {
        let name = StepName {
            stage: Some("build".to_owned()),
            number: 2,
            total: 4,
            text: "RUN make \\\n    all".to_owned(),
            platform: None,
        };
        assert_eq!(label(&name), "[build 2/4] RUN make \\ all");
        let foreign = StepName {
            stage: None,
            platform: Some("linux/arm64".to_owned()),
            ..name.clone()
        };
        assert_eq!(label(&foreign), "[linux/arm64 2/4] RUN make \\ all");
        let bare = StepName {
            text: "a\x1b[2J".to_owned(),
            ..StepName::default()
        };
        assert_eq!(label(&bare), "a\u{fffd}[2J");
    }

    #[test]
    fn lines_come_whole_whatever_they_are_cut_into() {
        let mut output = Output::default();
        assert_eq!(lines(&mut output, b"one\ntw"), ["one"]);
        assert_eq!(lines(&mut output, b"o\n\nthree"), ["two", ""]);
        let rest = output.end(Duration::ZERO).map(|said| said.line);
        assert_eq!(rest.as_deref(), Some("three"));
        assert_eq!(output.end(Duration::ZERO), None);
        assert_eq!(lines(&mut output, &[b'x'; 3 * LONGEST / 2]).len(), 1);
    }

    #[test]
    fn lines_cannot_steer_the_terminal() {
        let mut output = Output::default();
        let text = b"\x1b[31mred\x1b[0m\r\n10%\r50%\r100%\r\na\x07b\n\xff\n";
        assert_eq!(lines(&mut output, text), ["red", "100%", "ab", "\u{fffd}"]);
    }

    #[test]
    fn the_last_words_are_few() {
        let mut output = Output::default();
        for number in 0..12 {
            let line = format!("line {number}\n");
            let time = Duration::from_millis(number * 100);
            output.take(time, line.as_bytes());
        }
        let words = output.last_words("[2/2] RUN x");
        assert!(
            words.starts_with("------\n > [2/2] RUN x:\n0.200 line 2\n"),
            "{words}"
        );
        assert!(words.ends_with("1.100 line 11\n------\n"), "{words}");
    }

    #[test]
    fn widths_are_those_of_terminals() {
        for (text, expected) in [
            ("abc", 3),
            ("größe", 5),
            ("日本", 4),
            ("e\u{301}", 1),
            ("🦀", 2),
        ] {
            assert_eq!(width(text), expected, "{text}");
        }
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(cut("abc", 0), "");
    }
}
