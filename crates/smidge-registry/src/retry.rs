//! How long to wait, and how often to ask again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// How patient the client is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// How long a connection may take to come about.
    pub(crate) connect: Duration,
    /// How long nothing may come, or go.
    pub(crate) idle: Duration,
    /// How long a registry may take to answer to bytes it was sent: it may copy them somewhere else first.
    pub(crate) commit: Duration,
    /// How often a request is made at most.
    pub(crate) attempts: u32,
    /// The first wait between attempts; each further one is twice as long.
    pub(crate) base: Duration,
    /// The longest wait.
    pub(crate) longest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            commit: Duration::from_secs(600),
            attempts: 6,
            base: Duration::from_millis(250),
            longest: Duration::from_secs(60),
        }
    }
}

impl Policy {
    /// How long to wait after an attempt (the first is 1). Half of it is chance, so that many clients
    /// that were turned away together do not come back together.
    pub(crate) fn delay(&self, attempt: u32, retry_after: Option<Duration>) -> Duration {
        if let Some(told) = retry_after {
            return told.min(self.longest);
        }
        let doubled = self
            .base
            .saturating_mul(1 << attempt.clamp(1, 16).saturating_sub(1));
        let longest = doubled.min(self.longest);
        longest.mul_f64(0.5 + chance() / 2.0)
    }
}

/// Whether asking again may help.
pub(crate) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// What `Retry-After` says: seconds, or a date.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    Some(
        (date - OffsetDateTime::from(now))
            .try_into()
            .unwrap_or(Duration::ZERO),
    )
}

/// A number from 0 to 1 that other processes do not get: the standard library seeds its hash maps with it.
fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let policy = Policy {
            base: Duration::from_secs(1),
            longest: Duration::from_secs(10),
            ..Policy::default()
        };
        for (attempt, most) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (40, 10)] {
            let delay = policy.delay(attempt, None);
            let most = Duration::from_secs(most);
            assert!(delay <= most && delay >= most / 2, "{attempt}: {delay:?}");
        }
    }

    #[test]
    fn what_the_server_says_is_followed_within_limits() {
        let policy = Policy::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 7);
        for (value, seconds) in [
            ("3", Some(3)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(value, now), expected, "{value}");
        }
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(policy.delay(1, hour), Duration::from_secs(60));
    }

    #[test]
    fn chance_is_between_0_and_1() {
        assert!((0..100).map(|_| chance()).all(|c| (0.0..=1.0).contains(&c)));
    }
}
