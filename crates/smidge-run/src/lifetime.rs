//! How a container lives: what happens when its program ends.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::sys;

/// How a container lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifetime {
    /// What happens when the program ends.
    pub restart: Restart,
    /// Whether a signal that the program has made no arrangements for is left to the kernel, which drops
    /// it for the first process of a PID namespace (`--init=false`).
    pub bare: bool,
    /// How to find out whether the program is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

impl Lifetime {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a program that has ended is started again by its supervisor. Nobody starts it again after the
/// host's own end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// No.
    #[default]
    No,
    /// When it fails, so many times at most; 0 means any number.
    OnFailure(u32),
    /// Always.
    Always,
    /// Always. Docker's other word for it: they differ after the end of a daemon.
    UnlessStopped,
}

impl Restart {
    /// Whether a program that ended with `code` after `count` starts by itself is started again.
    pub(crate) fn again(self, code: i32, count: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => code != 0 && (most == 0 || count < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

/// How long to wait before the program is started again: Docker's times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_mins(1);
    /// A program that ran for longer than this is believed to work.
    const PROVEN: Duration = Duration::from_secs(10);

    pub(crate) fn new() -> Self {
        Self(Duration::ZERO)
    }

    /// The next pause, after the program ran for so long.
    pub(crate) fn next(&mut self, ran: Duration) -> Duration {
        self.0 = match self.0 {
            _ if ran > Self::PROVEN => Self::FIRST,
            Duration::ZERO => Self::FIRST,
            last => (last * 2).min(Self::LAST),
        };
        self.0
    }
}

/// A while in which a watching process keeps the memory that it has just used: to see a program off that ends
/// soon takes much of the same.
#[derive(Debug)]
pub(crate) struct Settling(Cell<Option<Instant>>);

impl Settling {
    /// What ends sooner is not worth the trouble.
    const MOMENT: Duration = Duration::from_millis(100);

    pub(crate) fn begin() -> Self {
        Self(Cell::new(Some(Instant::now() + Self::MOMENT)))
    }

    /// Waits like poll(2) does.
    pub(crate) fn poll(
        &self,
        fds: &mut [PollFd<'_>],
        patience: Option<Duration>,
    ) -> rustix::io::Result<usize> {
        let pause = self.pause(patience);
        poll(fds, pause.as_ref())
    }

    /// How long to wait where there is nothing else to do for so long; to be asked right before. If it is
    /// time, the memory is given back now, so that no more of the code comes in again than what sleeps; if it is
    /// not yet, whoever waits wakes up once for that.
    pub(crate) fn pause(&self, patience: Option<Duration>) -> Option<Timespec> {
        let now = Instant::now();
        let rest = self.0.get().map(|due| due.saturating_duration_since(now));
        let is_due = rest == Some(Duration::ZERO);
        let pause = [patience, rest.filter(|_| !is_due)];
        let pause = pause.into_iter().flatten().min();
        if is_due {
            self.0.set(None);
            sys::release_memory();
        }
        pause.and_then(|pause| Timespec::try_from(pause).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_where_they_are_counted() {
        for (restart, code, count, again) in [
            (Restart::No, 1, 0, false),
            (Restart::OnFailure(0), 1, 1000, true),
            (Restart::OnFailure(0), 0, 0, false),
            (Restart::OnFailure(2), 137, 1, true),
            (Restart::OnFailure(2), 137, 2, false),
            (Restart::Always, 0, 1000, true),
            (Restart::UnlessStopped, 1, 5, true),
        ] {
            assert_eq!(
                restart.again(code, count),
                again,
                "{restart:?} {code} {count}"
            );
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_until_the_program_works() {
        let mut backoff = Backoff::new();
        let millis: Vec<u128> = (0..12)
            .map(|_| backoff.next(Duration::from_secs(1)).as_millis())
            .collect();
        assert_eq!(
            millis,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
            ]
        );
        assert_eq!(backoff.next(Duration::from_secs(11)).as_millis(), 100);
    }
}
