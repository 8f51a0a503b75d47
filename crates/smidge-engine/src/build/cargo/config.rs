//! The user's configuration of Cargo, as far as it matters here.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::Result;
use crate::build::compiler::Compiler;

/// What the files that Cargo reads in a directory add up to.
#[derive(Default, Deserialize)]
pub(super) struct CargoConfig {
    #[serde(default)]
    build: BuildTable,
    #[serde(default)]
    target: Value,
}

#[derive(Default, Deserialize)]
struct BuildTable {
    rustflags: Option<Words>,
}

/// Flags as a list or as one text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<String>),
    Text(String),
}

impl CargoConfig {
    /// Asks Cargo. Only nightly Cargo answers this without the variable; for a question that changes
    /// nothing it is safe to insist. One that cannot be asked is taken to have no configuration.
    pub(super) fn ask(cargo: &Compiler<'_>, directory: &Path) -> Result<Self> {
        let question = ["-Zunstable-options", "config", "get", "--format=json"];
        let mut command = cargo.command(directory, question);
        command.env("RUSTC_BOOTSTRAP", "1");
        let answer = cargo.ask(command)?;
        Ok(answer
            .and_then(|text| serde_json::from_slice(text.as_bytes()).ok())
            .unwrap_or_default())
    }

    /// Flags for whatever is built.
    pub(super) fn build_flags(&self) -> Vec<String> {
        match &self.build.rustflags {
            Some(Words::List(flags)) => flags.clone(),
            Some(Words::Text(text)) => text.split_whitespace().map(str::to_owned).collect(),
            None => Vec::new(),
        }
    }

    /// What it says about a target by its name.
    pub(super) fn of_target(&self, triple: &str, key: &str) -> Option<&Value> {
        self.target.get(triple)?.get(key)
    }
}
