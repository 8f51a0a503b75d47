//! One line about one piece of work.

use std::time::Duration;

use crate::render::words;

/// What a line is about.
pub(super) struct Line<'l> {
    /// What is done with what.
    pub(super) label: &'l str,
    /// Bytes done.
    pub(super) done: u64,
    /// Bytes in all, if that is known.
    pub(super) total: Option<u64>,
    /// Bytes a second, if that can be told yet.
    pub(super) rate: Option<u64>,
}

/// Characters of a bar, at most and at least: where there is room for fewer, there is none.
const CELLS: std::ops::RangeInclusive<usize> = 10..=30;

impl Line<'_> {
    /// The line, at most `columns` wide, its label padded to `width`. What matters least goes first
    /// where there is no room: the bar, then the speed.
    pub(super) fn text(&self, width: usize, columns: usize) -> String {
        let label = format!("{:width$}", self.label);
        let amount = self.amount();
        let speed = self.speed();
        // Bars are equally long, whatever can be told about the speed.
        let taken = width + " [] 99.9MB/99.9MB 99.9MB/s 99m59s".len();
        let cells = columns.saturating_sub(taken).min(*CELLS.end());
        let bar = self.bar(cells).filter(|_| CELLS.contains(&cells));
        let fits = |text: &String| text.chars().count() <= columns;
        let text = match bar {
            Some(bar) => Some(format!("{label} [{bar}] {amount}{speed}")),
            None => Some(format!("{label} {amount}{speed}")).filter(fits),
        };
        let text = text.unwrap_or_else(|| format!("{label} {amount}"));
        format!("{:.columns$}", text.trim_end())
    }

    fn bar(&self, cells: usize) -> Option<String> {
        let total = self.total?.max(1);
        let done = self.done.min(total);
        let filled = (u128::from(done) * cells as u128 / u128::from(total)) as usize;
        let bar = match filled {
            0 => String::new(),
            _ if done == total => "=".repeat(filled),
            _ => format!("{:=>filled$}", ">"),
        };
        Some(format!("{bar:cells$}"))
    }

    /// How much is done of how much.
    fn amount(&self) -> String {
        let done = words::size(self.done);
        match self.total {
            Some(total) => format!("{done:>6}/{:<6}", words::size(total)),
            // What does not tell how far it is.
            None if self.done == 0 => String::new(),
            None => format!("{done:>6}"),
        }
    }

    /// How fast it goes, and how long it will take.
    fn speed(&self) -> String {
        let Some(rate) = self.rate.filter(|_| self.total.is_some() || self.done > 0) else {
            return String::new();
        };
        let speed = format!(" {:>6}/s", words::size(rate));
        let left = self.total.and_then(|total| total.checked_sub(self.done));
        match left.and_then(|left| left.checked_div(rate)) {
            Some(seconds) => format!("{speed} {:>6}", short(Duration::from_secs(seconds))),
            None => speed,
        }
    }
}

/// A time in at most six characters.
fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if seconds < 100 => format!("{seconds}s"),
        () if minutes < 100 => format!("{minutes}m{:02}s", seconds % 60),
        () if hours < 100 => format!("{hours}h{:02}m", minutes % 60),
        () if hours < 24 * 1000 => format!("{}d", hours / 24),
        () => "ages".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(done: u64, total: Option<u64>, rate: Option<u64>, columns: usize) -> String {
        let line = Line {
            label: "0a1b2c3d4e5f: Pulling",
            done,
            total,
            rate,
        };
        line.text(22, columns)
    }

    #[test]
    fn a_line_shows_how_much_is_done_and_how_fast_it_goes() {
        let half = text(12_300_000, Some(24_600_000), Some(2_000_000), 100);
        assert_eq!(
            half,
            "0a1b2c3d4e5f: Pulling  [==============>               ] 12.3MB/24.6MB    2MB/s     6s"
        );
        assert_eq!(
            text(0, Some(5), None, 100),
            "0a1b2c3d4e5f: Pulling  [                              ]     0B/5B"
        );
        assert_eq!(
            text(9, Some(5), Some(1), 100),
            "0a1b2c3d4e5f: Pulling  [==============================]     9B/5B         1B/s"
        );
        assert_eq!(
            text(1_500, None, Some(10), 100),
            "0a1b2c3d4e5f: Pulling   1.5kB    10B/s"
        );
    }

    #[test]
    fn what_does_not_tell_how_far_it_is_has_a_name_alone() {
        assert_eq!(text(0, None, Some(0), 100), "0a1b2c3d4e5f: Pulling");
        assert_eq!(text(0, None, None, 10), "0a1b2c3d4e");
    }

    #[test]
    fn a_narrow_terminal_goes_without_the_bar_and_then_without_the_speed() {
        let at = |columns| text(12_300_000, Some(24_600_000), Some(2_000_000), columns);
        assert_eq!(
            at(66),
            "0a1b2c3d4e5f: Pulling  [====>      ] 12.3MB/24.6MB    2MB/s     6s"
        );
        assert_eq!(
            at(60),
            "0a1b2c3d4e5f: Pulling  12.3MB/24.6MB    2MB/s     6s"
        );
        assert_eq!(at(40), "0a1b2c3d4e5f: Pulling  12.3MB/24.6MB");
        assert_eq!(at(12), "0a1b2c3d4e5f");
        assert_eq!(at(0), "");
    }

    #[test]
    fn no_numbers_are_too_large() {
        for (done, total, rate) in [
            (u64::MAX, Some(u64::MAX), Some(u64::MAX)),
            (0, Some(u64::MAX), Some(1)),
            (0, Some(0), Some(0)),
        ] {
            assert!(text(done, total, rate, 200).chars().count() <= 100);
        }
    }

    #[test]
    fn times_are_short() {
        for (seconds, expected) in [
            (0, "0s"),
            (99, "99s"),
            (100, "1m40s"),
            (5_999, "99m59s"),
            (6_000, "1h40m"),
            (359_999, "99h59m"),
            (360_000, "4d"),
            (u64::MAX, "ages"),
        ] {
            assert_eq!(short(Duration::from_secs(seconds)), expected);
        }
    }
}
