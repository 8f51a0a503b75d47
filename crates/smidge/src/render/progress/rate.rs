//! How fast work goes on.

use std::collections::VecDeque;
use std::time::Duration;

/// Speed over the last few seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When how many bytes were done, oldest first.
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// What happened longer ago says nothing about now.
    const WINDOW: Duration = Duration::from_secs(5);
    /// What happened within less is chance.
    const LEAST: Duration = Duration::from_millis(300);

    /// For work of which so much is done when it starts.
    pub(super) fn new(now: Duration, done: u64) -> Self {
        Self {
            samples: VecDeque::from([(now, done)]),
        }
    }

    /// Takes note of how much is done by now, and tells the bytes a second, once that can be told.
    pub(super) fn sample(&mut self, now: Duration, done: u64) -> Option<u64> {
        self.samples.push_back((now, done));
        // The sample that is just older than the window says where the window began.
        while matches!(self.samples.get(1), Some((second, _)) if now.saturating_sub(*second) > Self::WINDOW)
        {
            self.samples.pop_front();
        }
        let (first, before) = self.samples.front()?;
        let took = now.saturating_sub(*first);
        let bytes = done.saturating_sub(*before);
        (took >= Self::LEAST).then(|| (bytes as f64 / took.as_secs_f64()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_last_seconds() {
        let mut rate = Rate::new(Duration::ZERO, 0);
        let mut at = |tenths: u64, done| rate.sample(Duration::from_millis(100 * tenths), done);
        assert_eq!(at(1, 1_000), None);
        assert_eq!(at(10, 10_000), Some(10_000));
        assert_eq!(at(20, 10_000), Some(5_000));
        for tenths in (30..=200).step_by(10) {
            at(tenths, 10_000);
        }
        assert_eq!(at(201, 10_000), Some(0));
        // A clock that stands still, bytes that get fewer: strange, and no reason to fail.
        assert_eq!(at(201, 0), Some(0));
        assert_eq!(at(0, u64::MAX), None);
    }
}
