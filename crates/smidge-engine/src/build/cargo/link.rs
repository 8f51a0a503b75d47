//! What links programs for other machines: nothing that Cargo calls by itself does.

use serde_json::Value;

use super::config::CargoConfig;
use super::toolchain::Toolchain;
use crate::build::c::{cross_packages, has_library};
use crate::build::compiler::Compiler;
use crate::build::target::Target;
use crate::{Error, Host, Kind, Result};

/// How a program is linked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Linker {
    /// By what Cargo calls: that of this machine, or what the user has configured.
    Cargo,
    /// By `cargo zigbuild` in place of `cargo build`.
    Zigbuild,
    /// By a program.
    Program(String),
}

impl Linker {
    /// Cargo's subcommand that builds with it.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Zigbuild => "zigbuild",
            Self::Cargo | Self::Program(_) => "build",
        }
    }
}

/// What there is to choose from.
pub(super) struct Choice<'c> {
    /// The machine.
    pub(super) target: &'c Target,
    /// Its targets whose standard library is installed, the best first.
    pub(super) installed: &'c [&'static str],
    /// The user's configuration.
    pub(super) config: &'c CargoConfig,
    /// The user's Rust.
    pub(super) toolchain: &'c Toolchain,
    /// The surroundings.
    pub(super) host: &'c Host,
}

impl Choice<'_> {
    /// The first target that can be linked, and by what. `None` if there is nothing that links.
    pub(super) fn take(&self) -> Result<Option<(&'static str, Linker)>> {
        for triple in self.installed {
            if let Some(linker) = self.linker(triple)? {
                return Ok(Some((triple, linker)));
            }
        }
        Ok(None)
    }

    fn linker(&self, triple: &str) -> Result<Option<Linker>> {
        if self.is_configured(triple) {
            return Ok(Some(Linker::Cargo));
        }
        if self.host.find_program("cargo-zigbuild").is_some() {
            return Ok(Some(Linker::Zigbuild));
        }
        let musl = triple.contains("musl");
        for name in self.cross_compilers(triple) {
            // Rust's musl comes with everything; for glibc the machine's own library is needed.
            if let Some(compiler) = Compiler::look_for(&name, self.host)
                && (musl || has_library(&compiler)?)
            {
                return Ok(Some(Linker::Program(name)));
            }
        }
        let bundled = musl && self.toolchain.has_linker();
        Ok(bundled.then(|| Linker::Program("rust-lld".to_owned())))
    }

    /// GCCs for a target. One for soft floats does not link what was compiled for hard ones.
    fn cross_compilers(&self, triple: &str) -> Vec<String> {
        let mut names = Vec::new();
        if triple.contains("musl") {
            names.push(format!("{}-gcc", self.target.zig));
        }
        if triple.ends_with("hf") == self.target.gnu.ends_with("hf") {
            names.push(format!("{}-gcc", self.target.gnu));
        }
        names
    }

    /// Whether the user says what links, in a file, a variable or a flag.
    fn is_configured(&self, triple: &str) -> bool {
        let word = triple.to_ascii_uppercase().replace('-', "_");
        let variable = |name: &str| self.host.env.get(name).map(String::as_str);
        let flags = ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"]
            .into_iter()
            .filter_map(variable);
        let own_flags = self.config.of_target(triple, "rustflags");
        let says = |flags: &str| flags.contains("linker=");
        variable(&format!("CARGO_TARGET_{word}_LINKER")).is_some()
            || self.config.of_target(triple, "linker").is_some()
            || flags.into_iter().any(says)
            || own_flags.map(Value::to_string).as_deref().is_some_and(says)
            || self.config.build_flags().iter().any(|flag| says(flag))
    }

    /// Nothing links: what would.
    pub(super) fn refusal(&self, platform: &str) -> Error {
        let mut names: Vec<String> = ["cargo-zigbuild".to_owned()].to_vec();
        for triple in self.installed {
            for name in self.cross_compilers(triple) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let configuration = format!("target.{}.linker", self.installed[0]);
        let message =
            format!("cannot link Rust for `{platform}`: there is no linker for that machine");
        let mut error = Error::new(Kind::NotFound, message)
            .with_fact(format!("standard library: {}", self.installed.join(", ")))
            .with_fact(format!("looked for: {}", names.join(", ")))
            .with_fact(format!("not configured: {configuration}"));
        if !self.installed.iter().any(|triple| triple.contains("musl")) {
            let musl = self.target.rust[0];
            error = error.with_hint(format!(
                "let Rust link by itself, with musl: `rustup target add {musl}`"
            ));
        }
        error
            .with_hint(format!(
                "install a cross compiler: `{}`",
                cross_packages(self.target)
            ))
            .with_hint("or Zig and `cargo install cargo-zigbuild`")
    }
}
