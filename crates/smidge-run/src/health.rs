//! Whether a program is well: what is asked, when, and what the answers come to. Docker's rules.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How to find out whether a program is well, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is done to find out.
    pub probe: Probe,
    /// The time from the end of a probe to the next one.
    pub interval: Duration,
    /// The most that a probe may take.
    pub timeout: Duration,
    /// How long after the start failures do not count, unless the program has been well before.
    pub start_period: Duration,
    /// The time between probes until then.
    pub start_interval: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// What is done to find out whether a program is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A program of the container's is started in it, and ends with 0.
    Command(Vec<String>),
    /// A program of the host's is started in the container's network namespace, and ends with 0.
    Host(Vec<String>),
    /// The container answers an HTTP request.
    Http {
        /// `GET`, `HEAD`, …
        method: String,
        /// Where it listens inside.
        port: u16,
        /// The request's target, from its first slash on.
        path: String,
        /// The status that is expected; any from 200 to 399 if it is not given.
        code: Option<u16>,
    },
    /// The container accepts a connection at a port.
    Tcp(u16),
}

/// What is known of a program's health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthState {
    /// The verdict.
    pub status: HealthStatus,
    /// Failures since it was last well.
    pub failing_streak: u32,
    /// The last few answers, the oldest first.
    pub log: Vec<ProbeResult>,
}

/// Whether a program is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Not known yet.
    #[default]
    Starting,
    /// It is.
    Healthy,
    /// It has not been for a while.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What one probe has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began, RFC 3339.
    pub start: String,
    /// When it ended.
    pub end: String,
    /// 0 if all is well; -1 if there was no answer in time.
    pub exit_code: i32,
    /// What was said, cut after 4096 bytes.
    pub output: String,
}

/// How many answers are kept.
const KEPT: usize = 5;

impl HealthState {
    /// Takes a probe's answer in. The probe began so long after the program.
    pub(crate) fn take(&mut self, health: &Health, since_start: Duration, result: ProbeResult) {
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if self.status != HealthStatus::Starting || since_start >= health.start_period {
            self.failing_streak += 1;
            if self.failing_streak >= health.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(result);
        let surplus = self.log.len().saturating_sub(KEPT);
        self.log.drain(..surplus);
    }

    /// How long to wait for the next probe.
    pub(crate) fn pause(&self, health: &Health, since_start: Duration) -> Duration {
        if self.status == HealthStatus::Starting && since_start < health.start_period {
            health.start_interval
        } else {
            health.interval
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health {
            probe: Probe::Tcp(80),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::from_secs(60),
            start_interval: Duration::from_secs(5),
            retries: 2,
        }
    }

    fn after(answers: &[(u64, i32)]) -> HealthState {
        let mut state = HealthState::default();
        for (second, exit_code) in answers {
            let result = ProbeResult {
                exit_code: *exit_code,
                ..ProbeResult::default()
            };
            state.take(&health(), Duration::from_secs(*second), result);
        }
        state
    }

    #[test]
    fn verdicts_are_dockers() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        type Case<'a> = (&'a [(u64, i32)], HealthStatus, u32);
        let cases: [Case<'_>; 7] = [
            (&[], Starting, 0),
            (&[(1, 1), (2, 1), (3, 1)], Starting, 0),
            (&[(1, 1), (2, 0)], Healthy, 0),
            // Once it was well, failures count in the start period too.
            (&[(1, 0), (2, 1)], Healthy, 1),
            (&[(1, 0), (2, 1), (3, -1)], Unhealthy, 2),
            (&[(59, 1), (60, 1), (90, 1)], Unhealthy, 2),
            (&[(60, 1), (90, 1), (120, 0)], Healthy, 0),
        ];
        for (answers, status, streak) in cases {
            let state = after(answers);
            assert_eq!(
                (state.status, state.failing_streak),
                (status, streak),
                "{answers:?}"
            );
        }
        assert_eq!(after(&[(1, 1); 9]).log.len(), 5);
    }

    #[test]
    fn probes_come_faster_while_the_program_starts() {
        let pause = |answers: &[(u64, i32)], second| {
            after(answers)
                .pause(&health(), Duration::from_secs(second))
                .as_secs()
        };
        assert_eq!(pause(&[], 0), 5);
        assert_eq!(pause(&[(5, 1)], 10), 5);
        assert_eq!(pause(&[(5, 0)], 10), 30);
        assert_eq!(pause(&[(5, 1)], 60), 30);
    }
}
