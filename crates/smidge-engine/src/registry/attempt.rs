//! What was tried with a registry, and how its failure is told.

use smidge_image::Reference;
use smidge_registry::{Error as RegistryError, Fault};
use smidge_store::Error as StoreError;

use crate::conversion::registry_kind;
use crate::{Error, Kind};

/// What a verb does with a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Fetch an image.
    Pull,
    /// Send an image.
    Push,
    /// Fetch an image, to hand it on.
    CopyFrom,
    /// Send an image that came from elsewhere.
    CopyTo,
    /// Fetch what builds elsewhere have left.
    ImportCache,
    /// Send what a build has left.
    ExportCache,
    /// Show something of an image without fetching it.
    Look,
    /// List a repository's tags.
    List,
    /// Try credentials.
    LogIn,
}

/// A verb and what it is done with: what went wrong is told in its words.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    verb: Verb,
    /// What it is done with, as people write it: a name, a repository, a registry.
    subject: String,
    domain: String,
    name: Option<Reference>,
}

impl Attempt {
    /// Something that is done with an image.
    pub(crate) fn new(verb: Verb, name: &Reference) -> Self {
        let subject = match verb {
            Verb::List => name.familiar_name(),
            _ => name.familiar(),
        };
        Self {
            verb,
            subject,
            domain: name.domain().to_owned(),
            name: Some(name.clone()),
        }
    }

    /// A login.
    pub(crate) fn login(domain: &str) -> Self {
        Self {
            verb: Verb::LogIn,
            subject: domain.to_owned(),
            domain: domain.to_owned(),
            name: None,
        }
    }

    /// What is done.
    pub(crate) fn verb(&self) -> Verb {
        self.verb
    }

    /// The first line: what was tried, and why it did not happen.
    pub(crate) fn message(&self, why: &str) -> String {
        let subject = &self.subject;
        match self.verb {
            Verb::Pull => format!("cannot pull `{subject}`: {why}"),
            Verb::Push => format!("cannot push `{subject}`: {why}"),
            Verb::CopyFrom => format!("cannot copy from `{subject}`: {why}"),
            Verb::CopyTo => format!("cannot copy to `{subject}`: {why}"),
            Verb::ImportCache => format!("cannot import the build cache `{subject}`: {why}"),
            Verb::ExportCache => format!("cannot export the build cache `{subject}`: {why}"),
            Verb::Look => format!("cannot look at `{subject}`: {why}"),
            Verb::List => format!("cannot list the tags of `{subject}`: {why}"),
            Verb::LogIn => format!("cannot log in to `{subject}`: {why}"),
        }
    }

    /// A fault of this attempt.
    pub(crate) fn fault(&self, kind: Kind, why: &str) -> Error {
        Error::new(kind, self.message(why))
    }

    /// What the registry, or the way to it, did not do.
    pub(crate) fn failed(&self, fault: RegistryError) -> Error {
        use RegistryError as E;
        let (fault, mirrors) = fault.into_parts();
        let fault = match fault {
            // What cannot be read of the store is the store's fault.
            E::Source { request, source } => match source.downcast::<StoreError>() {
                Ok(fault) => return fault.into(),
                Err(source) => E::Source { request, source },
            },
            other => other,
        };
        let kind = registry_kind(&fault);
        let why = match &fault {
            E::Denied { .. } if self.verb == Verb::LogIn => "user name or password is wrong",
            E::Denied { .. } => "access denied",
            E::NotFound { fault, .. } => self.missing(fault),
            E::Refused { fault, .. } => refusal(fault),
            E::Unreachable { .. } => "the registry cannot be reached",
            E::Tls { .. } => "no secure connection to the registry",
            E::Corrupt { .. } => "what the registry sent is corrupt",
            E::Protocol { .. } => "the registry does not keep to the protocol",
            E::Source { .. } => "it cannot be read",
            E::Schema1 { .. } => "its format, Docker's schema 1, is no longer supported",
            E::Blocked { .. } => "the registry is blocked",
            E::Settings { .. } | E::Helper { .. } | E::BehindMirrors { .. } => return fault.into(),
        };
        let mut error = Error::new(kind, self.message(why));
        // Whoever logs in knows as whom.
        let facts = match self.verb {
            Verb::LogIn => Vec::new(),
            _ => facts(&fault),
        };
        let mirrors = mirrors.into_iter().map(|fault| format!("mirror: {fault}"));
        error = facts
            .into_iter()
            .chain(mirrors)
            .fold(error, Error::with_fact);
        error = self
            .advice(&fault)
            .into_iter()
            .fold(error, Error::with_hint);
        match fault {
            // All that there is to say about it is said.
            E::Corrupt { .. } | E::Blocked { .. } | E::Schema1 { .. } => error,
            fault => error.caused_by(fault),
        }
    }

    /// What the store did not do while blobs came in or went out; `part` is what it was about: "layer
    /// 3", "the config".
    pub(crate) fn not_stored(&self, part: &str, fault: StoreError) -> Error {
        let corrupt = |why: &str, expected: String, received: String| {
            let again = match self.verb {
                Verb::Pull => format!("pull again: `smidge pull {}`", self.subject),
                _ => "try again".to_owned(),
            };
            let done = match self.verb {
                Verb::CopyFrom | Verb::CopyTo => "copied",
                _ => "stored",
            };
            let message = format!("{part} of `{}` {why}; nothing was {done}", self.subject);
            Error::new(Kind::Host, message)
                .with_fact(format!("expected: {expected}"))
                .with_fact(format!("received: {received}"))
                .with_fact(format!("from: {}", self.domain))
                .with_hint(format!(
                    "{again}; if it repeats, the registry, or a proxy on the way, changes the bytes"
                ))
        };
        match fault {
            StoreError::Fetch(source) => match source.downcast::<RegistryError>() {
                Ok(fault) => self.failed(fault),
                Err(source) => {
                    Error::new(Kind::Host, self.message("it broke off")).caused_by(source)
                }
            },
            StoreError::Corrupt {
                expected,
                expected_size,
                received,
                received_size,
                ..
            } => corrupt(
                "is corrupt",
                format!("{expected}, {expected_size} bytes"),
                format!("{received}, {received_size} bytes"),
            ),
            StoreError::DiffId {
                expected, received, ..
            } => corrupt(
                "is not the one that its config names",
                format!("diff id {expected}"),
                format!("diff id {received}"),
            ),
            other => other.into(),
        }
    }

    /// What is not there, in words.
    fn missing(&self, fault: &Fault) -> &'static str {
        let digest = self.name.as_ref().is_some_and(|n| n.digest().is_some());
        match fault.code.as_str() {
            "NAME_UNKNOWN" => "there is no such repository",
            "MANIFEST_UNKNOWN" if digest => "the repository has no such digest",
            "MANIFEST_UNKNOWN" => "the repository has no such tag",
            "BLOB_UNKNOWN" => "the registry lacks a part of it",
            _ => "not found",
        }
    }

    fn advice(&self, fault: &RegistryError) -> Vec<String> {
        use RegistryError as E;
        match fault {
            E::Denied { credentials, .. } => self.advice_when_denied(credentials.is_some()),
            E::NotFound { fault, .. } => self.advice_when_missing(fault),
            E::Refused { fault, .. } if fault.status == 429 => {
                vec![format!(
                    "wait, or log in, where more is allowed: `{}`",
                    self.login_command()
                )]
            }
            E::Tls { host, .. } => vec![
                format!(
                    "trust its authority: save that certificate as `/etc/containers/certs.d/{host}/ca.crt`"
                ),
                self.insecurely(),
            ],
            // Nobody listens at the port of TLS: somebody may at that of plain HTTP.
            E::Unreachable { source, .. }
                if source.kind() == std::io::ErrorKind::ConnectionRefused
                    && !self.domain.contains(':') =>
            {
                vec![self.insecurely()]
            }
            E::Corrupt { .. } => vec![
                "try again; if it repeats, the registry, or a proxy on the way, changes the bytes"
                    .to_owned(),
            ],
            E::Schema1 { .. } => vec![
                "have its publisher push it again: engines since 2016 write the newer format"
                    .to_owned(),
            ],
            E::Refused { .. }
            | E::Unreachable { .. }
            | E::Protocol { .. }
            | E::Source { .. }
            | E::Settings { .. }
            | E::BehindMirrors { .. }
            | E::Blocked { .. }
            | E::Helper { .. } => Vec::new(),
        }
    }

    fn advice_when_denied(&self, known: bool) -> Vec<String> {
        let login = self.login_command();
        let mut advice = Vec::new();
        match (self.verb, known) {
            (Verb::LogIn, _) => {}
            (Verb::Push | Verb::CopyTo | Verb::ExportCache, true) => {
                advice.push(format!("log in with a token that may push: `{login}`"));
            }
            (Verb::Push | Verb::CopyTo | Verb::ExportCache, false) => {
                advice.push(format!("log in first: `{login}`"))
            }
            (_, true) => advice.push(format!("log in as somebody who may read it: `{login}`")),
            (_, false) => advice.push(format!("log in, if it is private: `{login}`")),
        }
        let Some(name) = self.name.as_ref().filter(|_| self.domain == "docker.io") else {
            return advice;
        };
        match (self.verb, name.path().strip_prefix("library/")) {
            (Verb::Push, Some(short)) => advice.push(format!(
                "a name without a user is Docker's own; give it one of yours: `smidge tag {} USER/{short}`",
                self.subject
            )),
            (Verb::CopyTo, Some(short)) => advice.push(format!(
                "a name without a user is Docker's own; copy to one of yours: `USER/{short}`"
            )),
            (Verb::Push | Verb::CopyTo | Verb::ExportCache, _) => {}
            _ => advice.push(
                "check the name: Docker Hub says the same where there is no such repository"
                    .to_owned(),
            ),
        }
        advice
    }

    fn advice_when_missing(&self, fault: &Fault) -> Vec<String> {
        match &self.name {
            Some(name) if self.verb != Verb::List && fault.code == "MANIFEST_UNKNOWN" => {
                vec![format!(
                    "see which tags there are: `smidge ls {}`",
                    name.familiar_name()
                )]
            }
            _ => Vec::new(),
        }
    }

    fn login_command(&self) -> String {
        match self.domain.as_str() {
            "docker.io" => "smidge login".to_owned(),
            domain => format!("smidge login {domain}"),
        }
    }

    /// How to do it all the same.
    fn insecurely(&self) -> String {
        let way = match self.verb {
            Verb::Pull => format!("`smidge pull --tls-verify=false {}`", self.subject),
            Verb::Push => format!("`smidge push --tls-verify=false {}`", self.subject),
            Verb::LogIn => format!("`smidge login --tls-verify=false {}`", self.subject),
            Verb::CopyFrom | Verb::CopyTo => "`smidge copy --tls-verify=false …`".to_owned(),
            Verb::ImportCache | Verb::ExportCache => {
                "`smidge build --tls-verify=false …`".to_owned()
            }
            Verb::Look | Verb::List => "`--tls-verify=false`".to_owned(),
        };
        format!("or do without, also where it speaks plain HTTP: {way}")
    }
}

/// Whose credentials were not enough.
pub(crate) fn credentials(fault: &RegistryError) -> Option<String> {
    match fault {
        RegistryError::Denied { credentials, .. } => {
            let who = credentials.as_deref().unwrap_or("none");
            Some(format!("credentials: {who}"))
        }
        _ => None,
    }
}

/// What else is known of a registry's fault, a line each.
fn facts(fault: &RegistryError) -> Vec<String> {
    match fault {
        RegistryError::Corrupt {
            request,
            expected,
            expected_size,
            received,
            received_size,
        } => vec![
            format!("expected: {expected}, {expected_size} bytes"),
            format!("received: {received}, {received_size} bytes"),
            format!("from: {request}"),
        ],
        RegistryError::Blocked { path, .. } => vec![format!("by: {}", path.display())],
        RegistryError::Schema1 { request } => vec![format!("from: {request}")],
        other => credentials(other).into_iter().collect(),
    }
}

/// Why a registry refuses, in words.
fn refusal(fault: &Fault) -> &'static str {
    match fault.status {
        429 => "too many requests",
        500.. => "the registry failed",
        _ => "the registry refused",
    }
}

#[cfg(test)]
mod tests;
