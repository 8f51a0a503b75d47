//! How a container lives and ends.

use serde_json::{Value, json};
use smidge_image::RunConfig;
use smidge_run::Restart;

use super::health::HealthRequest;
use crate::{Error, Kind, Result};

/// How a container lives and ends, as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// `--init`; with `false` signals that the program has made no arrangements for are dropped.
    pub init: Option<bool>,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
    /// `--stop-timeout`, in seconds.
    pub stop_timeout: Option<i64>,
    /// `--restart`.
    pub restart: Option<String>,
    /// `--health-…`.
    pub health: HealthRequest,
}

impl Lifetime {
    /// What the sandbox is told.
    pub(super) fn settled(
        &self,
        remove: bool,
        config: &mut RunConfig,
    ) -> Result<smidge_run::Lifetime> {
        let restart = self.restart.as_deref().map_or(Ok(Restart::No), restart)?;
        if remove && restart != Restart::No {
            return Err(Error::new(
                Kind::Input,
                "conflicting options: cannot specify both --restart and --rm",
            ));
        }
        Ok(smidge_run::Lifetime {
            restart,
            bare: self.init == Some(false),
            health: self.health.settled(config)?,
        })
    }
}

/// `no`, `always`, `unless-stopped` or `on-failure[:N]`.
///
/// # Errors
/// [`Kind::Input`] for anything else.
pub(super) fn restart(text: &str) -> Result<Restart> {
    let bad = |why: &str| {
        Err(Error::new(
            Kind::Input,
            format!("invalid restart policy '{text}': {why}"),
        )
        .with_hint(
            "use one of `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:COUNT`",
        ))
    };
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    match (name, count) {
        ("" | "no", None) => Ok(Restart::No),
        ("always", None) => Ok(Restart::Always),
        ("unless-stopped", None) => Ok(Restart::UnlessStopped),
        ("on-failure", None | Some("")) => Ok(Restart::OnFailure(0)),
        ("on-failure", Some(count)) => match count.parse() {
            Ok(count) => Ok(Restart::OnFailure(count)),
            Err(_) => bad("maximum retry count must be an integer"),
        },
        ("no" | "always" | "unless-stopped", Some(_)) => {
            bad("maximum retry count can only be used with 'on-failure'")
        }
        _ => bad("there is no such policy"),
    }
}

/// A policy as `inspect` shows it.
pub(super) fn shown(restart: Restart) -> Value {
    let (name, count) = match restart {
        Restart::No => ("no", 0),
        Restart::OnFailure(count) => ("on-failure", count),
        Restart::Always => ("always", 0),
        Restart::UnlessStopped => ("unless-stopped", 0),
    };
    json!({"Name": name, "MaximumRetryCount": count})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_dockers() {
        for (text, expected) in [
            ("no", Some(Restart::No)),
            ("", Some(Restart::No)),
            ("always", Some(Restart::Always)),
            ("unless-stopped", Some(Restart::UnlessStopped)),
            ("on-failure", Some(Restart::OnFailure(0))),
            ("on-failure:3", Some(Restart::OnFailure(3))),
            ("on-failure:-1", None),
            ("on-failure:", Some(Restart::OnFailure(0))),
            ("always:3", None),
            ("sometimes", None),
        ] {
            assert_eq!(restart(text).ok(), expected, "{text}");
        }
    }
}
