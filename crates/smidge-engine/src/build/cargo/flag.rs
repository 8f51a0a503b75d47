//! The compiler flags of a build, added to the user's own.
//!
//! Cargo takes flags from one place only: `CARGO_ENCODED_RUSTFLAGS`, else `RUSTFLAGS`, else all of
//! `target.*.rustflags` that match, else `build.rustflags`
//! (<https://doc.rust-lang.org/cargo/reference/config.html#buildrustflags>). So flags of ours go
//! where the user's are: into the variable if there is one, else into `target.TRIPLE.rustflags` by
//! `--config`, which Cargo joins to what files say; and there the user's `build.rustflags` would be
//! lost if nothing carried them over.

use std::path::PathBuf;

use serde_json::Value;

use super::config::CargoConfig;
use crate::Host;

/// What separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\x1f";

/// What the flags depend on.
pub(super) struct Setting<'s> {
    /// The target triple.
    pub(super) triple: &'s str,
    /// Directories whose names must not get into the program, and what to call them instead.
    pub(super) remap: Vec<(PathBuf, String)>,
    /// The oldest processor that the program is to run on, if not the target's usual.
    pub(super) cpu: Option<&'static str>,
    /// Whether size is all that counts.
    pub(super) small: bool,
}

impl Setting<'_> {
    /// The flags of ours.
    pub(super) fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let mut codegen = |option: &str| flags.extend(["-C".to_owned(), option.to_owned()]);
        // Part of every musl target; what a library compiled for itself must know as well.
        if !self.triple.contains("musl") {
            codegen("target-feature=+crt-static");
        }
        if self.small {
            // At a fixed address no table of relocations is needed: 45 kB of 1.3 MB. The price is
            // address space randomisation of the program itself, so it is not the default.
            codegen("relocation-model=static");
        }
        if let Some(cpu) = self.cpu {
            codegen(&format!("target-cpu={cpu}"));
        }
        for (from, to) in &self.remap {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
        flags
    }
}

/// How flags are handed to Cargo: an environment variable or an argument.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handover {
    /// `CARGO_ENCODED_RUSTFLAGS`.
    Variable(String),
    /// The value of `--config`.
    Config(String),
}

/// Works out how our flags get to the compiler without the user's being lost.
pub(super) fn handover(config: &CargoConfig, setting: &Setting<'_>, host: &Host) -> Handover {
    match in_environment(host, &setting.flags()) {
        Some(variable) => Handover::Variable(variable),
        None => Handover::Config(as_config(config, setting)),
    }
}

/// The flags that the environment has, with ours; `None` if it has none.
fn in_environment(host: &Host, ours: &[String]) -> Option<String> {
    let encoded = host.env.get("CARGO_ENCODED_RUSTFLAGS");
    let theirs = match encoded {
        Some(flags) => flags
            .split(SEPARATOR)
            .map(str::to_owned)
            .collect::<Vec<_>>(),
        None => host
            .env
            .get("RUSTFLAGS")?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    };
    let theirs = theirs.into_iter().filter(|flag| !flag.is_empty());
    Some(
        theirs
            .chain(ours.iter().cloned())
            .collect::<Vec<_>>()
            .join(SEPARATOR),
    )
}

fn as_config(config: &CargoConfig, setting: &Setting<'_>) -> String {
    // Flags for this very target are what Cargo would use alone. Flags for a `cfg(…)` may or may not
    // match; a flag too many is better than one too few.
    let theirs = match config.of_target(setting.triple, "rustflags") {
        Some(_) => Vec::new(),
        None => config.build_flags(),
    };
    // A list of JSON strings is a list of TOML strings.
    let flags = Value::from([theirs, setting.flags()].concat());
    format!("target.{}.rustflags={flags}", setting.triple)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: Setting<'static> = Setting {
        triple: "x86_64-unknown-linux-musl",
        remap: Vec::new(),
        cpu: None,
        small: true,
    };
    const OURS: &str = r#""-C","relocation-model=static""#;

    #[test]
    fn flags_of_the_configuration_are_kept() {
        let cases = [
            ("{}", String::new()),
            (
                r#"{"build":{"rustflags":["-C","a b"]}}"#,
                r#""-C","a b","#.to_owned(),
            ),
            (
                r#"{"build":{"rustflags":"-C  a"}}"#,
                r#""-C","a","#.to_owned(),
            ),
            (
                r#"{"build":{"rustflags":["-D"]},"target":{"x86_64-unknown-linux-musl":{"rustflags":["-E"]}}}"#,
                String::new(),
            ),
            (
                r#"{"build":{"rustflags":["-D"]},"target":{"cfg(unix)":{"rustflags":["-E"]}}}"#,
                r#""-D","#.to_owned(),
            ),
        ];
        for (config, theirs) in cases {
            let expected = format!("target.x86_64-unknown-linux-musl.rustflags=[{theirs}{OURS}]");
            let config = serde_json::from_str(config).unwrap();
            assert_eq!(as_config(&config, &SETTING), expected);
        }
    }

    #[test]
    fn flags_of_the_environment_are_kept() {
        let mut host = crate::host::test_host("/".as_ref());
        let ours = ["-C".to_owned(), "x".to_owned()];
        assert_eq!(in_environment(&host, &ours), None);
        host.env.insert("RUSTFLAGS".into(), " -C  a ".into());
        assert_eq!(
            in_environment(&host, &ours).as_deref(),
            Some("-C\x1fa\x1f-C\x1fx")
        );
        host.env
            .insert("CARGO_ENCODED_RUSTFLAGS".into(), "-C\x1fa b".into());
        assert_eq!(
            in_environment(&host, &ours).as_deref(),
            Some("-C\x1fa b\x1f-C\x1fx")
        );
    }

    #[test]
    fn the_target_and_the_paths_decide_the_flags() {
        let setting = Setting {
            triple: "x86_64-unknown-linux-gnu",
            remap: vec![("/home/me/app".into(), ".".into())],
            cpu: Some("x86-64-v3"),
            small: true,
        };
        let flags = setting.flags();
        assert!(flags.contains(&"target-feature=+crt-static".to_owned()));
        assert!(flags.contains(&"relocation-model=static".to_owned()));
        assert!(flags.contains(&"target-cpu=x86-64-v3".to_owned()));
        assert!(flags.contains(&"--remap-path-prefix=/home/me/app=.".to_owned()));
        assert!(
            !SETTING
                .flags()
                .iter()
                .any(|flag| flag.contains("crt-static"))
        );
    }
}
