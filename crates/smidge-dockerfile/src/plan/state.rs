//! What a stage has settled so far: variables, directory, user, shell.

use std::collections::HashMap;

use super::option::{BaseConfig, PlanOptions};
use super::{Base, Variable};
use crate::expand::{Budget, ExpandError};

/// What Docker gives to an image without a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage's running state; a stage that builds on it starts from a copy.
#[derive(Clone, Default)]
pub(super) struct State {
    /// Every definition so far.
    pub(super) log: Vec<Variable>,
    /// What counts now.
    pub(super) variables: HashMap<String, String>,
    /// Declared build arguments with the values they had then, in order.
    pub(super) arguments: Vec<(String, String)>,
    argument_places: HashMap<String, usize>,
    pub(super) workdir: String,
    /// Whether a `WORKDIR` of this file has been seen.
    pub(super) workdir_set: bool,
    pub(super) user: String,
    /// Empty until a `SHELL` says otherwise.
    pub(super) shell: Vec<String>,
    /// `ONBUILD` triggers, for stages that build on this one.
    pub(super) triggers: Vec<String>,
    /// Whether the base's variables are known, so that others are surely undefined.
    pub(super) complete: bool,
}

impl State {
    /// Makes the state at the start of a stage.
    pub(super) fn initial(
        base: &Base,
        options: &PlanOptions,
        states: &[Option<Self>],
        budget: &Budget,
    ) -> Result<Self, ExpandError> {
        let config = match base {
            Base::Stage(index) => {
                let Some(Some(parent)) = states.get(*index) else {
                    return Ok(Self::default());
                };
                budget.spend(parent.weight())?;
                return Ok(Self {
                    triggers: Vec::new(),
                    ..parent.clone()
                });
            }
            Base::Scratch => Some(BaseConfig::default()),
            Base::Image(name) | Base::Context(name) => options.bases.get(name).cloned(),
        };
        let mut state = Self {
            complete: config.is_some(),
            ..Self::default()
        };
        let config = config.unwrap_or_default();
        state.user = config.user;
        state.shell = config.shell;
        state.workdir = clean_path("/", &config.working_dir);
        for (name, value) in config.env {
            state.set(name, value, false);
        }
        if !state.variables.contains_key("PATH") {
            state.set("PATH".to_owned(), DEFAULT_PATH.to_owned(), false);
        }
        Ok(state)
    }

    /// Sets a variable.
    pub(super) fn set(&mut self, name: String, value: String, build_only: bool) {
        self.variables.insert(name.clone(), value.clone());
        self.log.push(Variable {
            name,
            value,
            build_only,
        });
    }

    /// Declares a build argument.
    pub(super) fn declare(&mut self, name: &str, value: Option<&str>) {
        let value = value.unwrap_or_default().to_owned();
        match self.argument_places.get(name) {
            Some(&place) => self.arguments[place].1 = value,
            None => {
                self.argument_places
                    .insert(name.to_owned(), self.arguments.len());
                self.arguments.push((name.to_owned(), value));
            }
        }
    }

    /// Tells whether a build argument is declared, be it without a value.
    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.argument_places.contains_key(name)
    }

    /// Lists the names of all variables, each perhaps more than once.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.log.iter().map(|variable| variable.name.as_str())
    }

    /// Returns the shell that runs shell forms.
    pub(super) fn shell_or_default(&self) -> Vec<String> {
        match self.shell.is_empty() {
            true => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            false => self.shell.clone(),
        }
    }

    fn weight(&self) -> usize {
        self.log
            .iter()
            .map(|variable| 64 + variable.name.len() + variable.value.len())
            .sum()
    }
}

/// Joins a path to a directory and removes `.`, `..` and doubled slashes, as `path.Join` in Go.
pub(super) fn clean_path(directory: &str, path: &str) -> String {
    let start = if path.starts_with('/') { "" } else { directory };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (directory, path, expected) in [
            ("/", "", "/"),
            ("/a", "", "/a"),
            ("/a", "b", "/a/b"),
            ("/a", "/b", "/b"),
            ("/a/b", "../c", "/a/c"),
            ("/", "../..", "/"),
            ("/a", "./b//c/.", "/a/b/c"),
        ] {
            assert_eq!(clean_path(directory, path), expected, "{directory} {path}");
        }
    }
}
