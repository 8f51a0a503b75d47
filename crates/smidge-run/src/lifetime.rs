//! How a container lives: what happens when its program ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::Health;

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
