//! A row of the table: what is asked, and what came of it at each registry.

use crate::client::Verdict;
use crate::server::{Kind, Server};

/// Something that a registry must do.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// The specification's number of the endpoint, or what else it is about.
    pub(crate) endpoint: &'static str,
    /// What is asked for.
    pub(crate) name: &'static str,
    run: fn(&Server) -> Verdict,
    debian: Debian,
}

/// What is known of Debian's registry.
#[derive(Clone, Copy)]
pub(crate) enum Debian {
    /// It does the same.
    Same,
    /// It does something else, and may.
    Differs(&'static str),
    /// The case needs what only smidge has.
    NotAsked,
}

/// What came of a case.
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    /// As was known.
    Differs(&'static str),
    /// It was known to differ, and does not.
    DiffersNoMore,
    NotAsked,
}

impl Case {
    pub(crate) const fn new(
        endpoint: &'static str,
        name: &'static str,
        run: fn(&Server) -> Verdict,
    ) -> Self {
        Self {
            endpoint,
            name,
            run,
            debian: Debian::Same,
        }
    }

    /// Says what is known of Debian's registry.
    pub(crate) const fn at_debian(self, debian: Debian) -> Self {
        Self { debian, ..self }
    }

    /// Asks a registry.
    pub(crate) fn ask(&self, server: &Server) -> Outcome {
        let known = match server.kind {
            Kind::Smidge => Debian::Same,
            Kind::Debian => self.debian,
        };
        if matches!(known, Debian::NotAsked) {
            return Outcome::NotAsked;
        }
        match ((self.run)(server), known) {
            (Ok(()), Debian::Differs(_)) => Outcome::DiffersNoMore,
            (Ok(()), _) => Outcome::Passed,
            (Err(_), Debian::Differs(how)) => Outcome::Differs(how),
            (Err(why), _) => Outcome::Failed(why),
        }
    }
}

impl Outcome {
    /// One word of the table.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Passed | Self::DiffersNoMore => "ok",
            Self::Failed(_) => "FAILED",
            Self::Differs(_) => "differs",
            Self::NotAsked => "-",
        }
    }
}
