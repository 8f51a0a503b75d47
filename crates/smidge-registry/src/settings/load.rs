//! All that is set.

use super::rule::Rule;
use super::{Sources, registries_conf, registries_toml};
use crate::Result;

/// What is set about registries.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub(super) sources: Sources,
    /// Of equal keys the last one counts.
    pub(super) rules: Vec<Rule>,
}

impl Settings {
    /// Reads all rules. Certificates and logins are read when they are asked for.
    ///
    /// # Errors
    /// [`Error::Settings`](crate::Error::Settings) with file and line.
    pub fn load(sources: Sources) -> Result<Self> {
        let mut rules = Vec::new();
        for path in &sources.registries_conf {
            rules.extend(registries_conf::load(path)?);
        }
        for path in &sources.registries_toml {
            rules.extend(registries_toml::load(path, &sources)?);
        }
        Ok(Self { sources, rules })
    }

    /// The files that the settings came from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }
}
