//! Whether bytes come fast enough to be worth waiting for.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// How many bytes are progress: fewer, and it is the same attempt as before.
pub(crate) const PROGRESS: u64 = 64 << 10;

/// Reads that together are no slower than [`PROGRESS`] bytes in the time in which one must bring something.
pub(crate) struct Pace {
    idle: Duration,
    waited: Duration,
    bytes: u64,
}

/// Bytes come, but hardly any.
#[derive(Debug, thiserror::Error)]
#[error("hardly any bytes come")]
pub(crate) struct Slow;

impl Pace {
    /// For reads of which each may take so long.
    pub(crate) fn new(idle: Duration) -> Self {
        Self {
            idle,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Reads once. What the reader does between two reads takes as long as it takes.
    pub(crate) fn read(&mut self, source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        let read = source.read(buffer)?;
        match read {
            0 => Ok(0),
            _ => self.count(start.elapsed(), read as u64).map(|()| read),
        }
    }

    fn count(&mut self, waited: Duration, bytes: u64) -> io::Result<()> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.idle {
            return Ok(());
        }
        if self.bytes < PROGRESS {
            return Err(io::Error::new(io::ErrorKind::TimedOut, Slow));
        }
        *self = Self::new(self.idle);
        Ok(())
    }
}

/// A source and its pace.
pub(crate) struct Paced<R> {
    pub(crate) source: R,
    pub(crate) pace: Pace,
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pace.read(&mut self.source, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_now_and_then_is_no_progress() {
        let minute = Duration::from_secs(60);
        let mut pace = Pace::new(minute);
        pace.count(Duration::from_secs(59), 1).unwrap();
        let error = pace.count(Duration::from_secs(59), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let mut slow = Pace::new(minute);
        for _ in 0..1000 {
            slow.count(Duration::from_secs(20), PROGRESS / 3 + 1)
                .unwrap();
        }
        let mut fast = Pace::new(minute);
        fast.count(Duration::from_secs(1), 1 << 30).unwrap();
        fast.count(minute, 1).unwrap();
        fast.count(Duration::from_secs(59), 1).unwrap();
        assert!(fast.count(Duration::from_secs(1), 1).is_err());
    }

    #[test]
    fn an_end_is_no_slowness() {
        let mut pace = Pace::new(Duration::ZERO);
        assert_eq!(pace.read(&mut io::empty(), &mut [0]).unwrap(), 0);
        assert!(pace.read(&mut &b"x"[..], &mut [0]).is_err());
    }
}
