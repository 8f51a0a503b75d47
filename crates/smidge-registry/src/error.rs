//! What can go wrong with a registry.

use smidge_image::Digest;

/// Why a registry did not do what it was asked.
///
/// Texts name URLs without user names, passwords, tokens and signed query strings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry wants credentials, or other ones, or more rights.
    #[error("{request}: {fault}")]
    Denied {
        /// Method and URL.
        request: String,
        /// The registry's own words.
        fault: Fault,
        /// The registry, as names have it.
        domain: String,
        /// Whose credentials were used: "user `me` from `~/.docker/config.json`"; `None` for nobody's.
        credentials: Option<String>,
    },
    /// There is no such manifest, blob, repository or tag.
    #[error("{request}: {fault}")]
    NotFound {
        /// Method and URL.
        request: String,
        /// The registry's own words.
        fault: Fault,
    },
    /// The registry refused, or failed, in another way; asking again did not help.
    #[error("{request}: {fault}")]
    Refused {
        /// Method and URL.
        request: String,
        /// The registry's own words.
        fault: Fault,
    },
    /// The registry cannot be reached, or broke off, again and again.
    #[error("{request}")]
    Unreachable {
        /// Method and URL.
        request: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The registry's certificate is not trusted, or ours is not accepted.
    #[error("{request}: TLS: {why}")]
    Tls {
        /// Method and URL.
        request: String,
        /// What is wrong.
        why: String,
        /// Host and port.
        host: String,
    },
    /// What came is not what was asked for.
    #[error(
        "{request}: expected {expected}, {expected_size} bytes, received {received}, {received_size} bytes"
    )]
    Corrupt {
        /// Method and URL.
        request: String,
        /// The digest asked for.
        expected: Digest,
        /// The size asked for, in bytes.
        expected_size: u64,
        /// The digest of what came.
        received: Digest,
        /// The size of what came, in bytes.
        received_size: u64,
    },
    /// The registry's answer breaks the protocol.
    #[error("{request}: {why}")]
    Protocol {
        /// Method and URL.
        request: String,
        /// Which rule, and how.
        why: String,
    },
    /// The bytes to send cannot be read.
    #[error("{request}: cannot read what is to be sent")]
    Source {
        /// Method and URL.
        request: String,
        /// What happened.
        source: std::io::Error,
    },
    /// An image in the format of before 2016.
    #[error("{request}: the image is in Docker's schema 1, which is no longer supported")]
    Schema1 {
        /// Method and URL.
        request: String,
    },
    /// A settings, auth or certificate file cannot be read or understood.
    #[error("`{path}`: {why}")]
    Settings {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong, with a line if there is one.
        why: String,
    },
    /// The registry did not do it, and mirrors that were asked before it failed, too.
    #[error("{error}")]
    BehindMirrors {
        /// What became of it at the registry itself.
        error: Box<Error>,
        /// What became of it at each mirror, in words.
        mirrors: Vec<String>,
    },
    /// The registry is blocked by the settings.
    #[error("registry `{domain}` is blocked by `{path}`")]
    Blocked {
        /// The registry.
        domain: String,
        /// The file that says so.
        path: std::path::PathBuf,
    },
    /// A credential helper failed.
    #[error("credential helper `{helper}`: {why}")]
    Helper {
        /// The program: `docker-credential-…`.
        helper: String,
        /// What it said.
        why: String,
    },
}

impl Error {
    /// The registry's own error, and in words what became of it at each mirror that failed before.
    #[must_use]
    pub fn into_parts(self) -> (Self, Vec<String>) {
        match self {
            Self::BehindMirrors { error, mirrors } => (*error, mirrors),
            other => (other, Vec::new()),
        }
    }

    /// With what became of it at the mirrors. Not to have something is no failure of a mirror's.
    pub(crate) fn behind(self, mirrors: &[Self]) -> Self {
        let failed = mirrors
            .iter()
            .filter(|error| !matches!(error, Self::NotFound { .. }));
        let mirrors: Vec<String> = failed.map(Self::in_full).collect();
        match mirrors.is_empty() {
            true => self,
            false => Self::BehindMirrors {
                error: Box::new(self),
                mirrors,
            },
        }
    }

    /// Whether a registry says that it has no such thing, or does not know the question.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Refused { fault, .. } => matches!(fault.status, 405 | 501),
            _ => false,
        }
    }

    /// The error with its cause, in one line.
    fn in_full(&self) -> String {
        match self {
            Self::Unreachable { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }
}

/// A registry's answer that is no success (distribution-spec, "Error Codes").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// The HTTP status.
    pub status: u16,
    /// `DENIED`, `NAME_UNKNOWN`, …; empty if the registry did not say.
    pub code: String,
    /// What the registry adds in words; may be empty.
    pub message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, " \"{}\"", self.message)?;
        }
        Ok(())
    }
}
