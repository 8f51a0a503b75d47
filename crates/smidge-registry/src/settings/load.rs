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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The blocks of a language in `docs/registries.md`.
    fn examples(language: &str) -> Vec<String> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/registries.md");
        let page = fs::read_to_string(page).unwrap();
        let blocks = page.split("\n```").skip(1).step_by(2);
        let found: Vec<String> = blocks
            .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
            .map(str::to_owned)
            .collect();
        assert!(!found.is_empty(), "{language}");
        found
    }

    #[test]
    fn the_examples_of_the_documentation_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.toml");
        for example in examples("toml") {
            fs::write(&path, &example).unwrap();
            let loaded = Settings::load(Sources {
                registries_toml: vec![path.clone()],
                ..Sources::default()
            });
            let settings = loaded.unwrap_or_else(|error| panic!("{error}\n{example}"));
            assert!(!settings.rules.is_empty(), "{example}");
        }
        for example in examples("json") {
            fs::write(&path, &example).unwrap();
            let file = crate::settings::auth_file::AuthFile::read(&path)
                .unwrap()
                .unwrap();
            assert!(file.store().unwrap().is_some());
        }
    }

    #[test]
    fn files_that_are_not_there_say_nothing() {
        let gone = std::path::PathBuf::from("/nowhere/at/all");
        let settings = Settings::load(Sources {
            registries_toml: vec![gone.clone()],
            registries_conf: vec![gone.clone()],
            certs_dirs: vec![gone.clone()],
            auth_files: vec![gone],
            ..Sources::default()
        });
        let settings = settings.unwrap();
        assert_eq!(
            settings
                .endpoints(&"a.io/x".parse().unwrap())
                .unwrap()
                .len(),
            1
        );
        assert!(settings.credentials("a.io", "x").unwrap().is_none());
        assert!(settings.forget_login("a.io").unwrap().is_empty());
    }
}
