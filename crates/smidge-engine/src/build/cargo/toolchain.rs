//! The user's Rust: where it lies, which targets it can compile for.

use std::fs;
use std::path::{Path, PathBuf};

use smidge_image::Platform;

use crate::build::compiler::Compiler;
use crate::build::target::Target;
use crate::{Error, Host, Kind, Result};

/// What a compiler says of itself.
#[derive(Debug, Default)]
pub(super) struct Toolchain {
    /// Where it is installed.
    sysroot: Option<PathBuf>,
    /// The commit that it was made from.
    commit: Option<String>,
    /// The target that it runs on.
    host: Option<String>,
}

impl Toolchain {
    /// Asks a compiler.
    pub(super) fn ask(rustc: &Compiler<'_>, directory: &Path) -> Result<Self> {
        let sysroot = rustc.ask(rustc.command(directory, ["--print=sysroot"]))?;
        let version = rustc
            .ask(rustc.command(directory, ["-vV"]))?
            .unwrap_or_default();
        let field = |name: &str| {
            let value = version.lines().find_map(|line| line.strip_prefix(name));
            value.map(|value| value.trim().to_owned())
        };
        Ok(Self {
            sysroot: sysroot.map(|path| PathBuf::from(path.trim())),
            commit: field("commit-hash:"),
            host: field("host:"),
        })
    }

    /// Where Cargo and the compiler keep sources, whose paths get into programs, and what to call these
    /// places instead. The standard library's goes by the name that it has when its source is not
    /// installed.
    pub(super) fn sources(&self, host: &Host) -> Vec<(PathBuf, String)> {
        let home = host.env.get("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| host.home.as_ref().map(|home| home.join(".cargo")));
        let mut paths: Vec<_> = home
            .into_iter()
            .map(|home| (home, "/cargo".to_owned()))
            .collect();
        if let (Some(sysroot), Some(commit)) = (&self.sysroot, &self.commit) {
            paths.push((
                sysroot.join("lib/rustlib/src/rust"),
                format!("/rustc/{commit}"),
            ));
        }
        paths
    }

    /// Whether the linker that comes with Rust is there.
    pub(super) fn has_linker(&self) -> bool {
        let (Some(sysroot), Some(host)) = (&self.sysroot, &self.host) else {
            return false;
        };
        let libraries = sysroot.join("lib/rustlib").join(host);
        libraries.join("bin/rust-lld").is_file()
    }
}

/// The targets of a platform whose standard library is installed: with musl first, because that is
/// smaller and static by nature; with glibc, which links statically as well.
pub(super) fn installed(
    rustc: &Compiler<'_>,
    directory: &Path,
    target: &Target,
    platform: Option<&Platform>,
) -> Result<Vec<&'static str>> {
    let mut installed = Vec::new();
    for triple in target.rust {
        let command = rustc.command(directory, ["--print=target-libdir", "--target", triple]);
        let libraries = rustc.ask(command)?.unwrap_or_default();
        if has_std(Path::new(libraries.trim())) {
            installed.push(triple);
        }
    }
    if installed.is_empty() {
        let goal = platform.map_or_else(|| "this machine".to_owned(), |p| format!("`{p}`"));
        let message =
            format!("cannot compile Rust for {goal}: its standard library is not installed");
        let musl = target.rust[0];
        return Err(Error::new(Kind::NotFound, message)
            .with_fact(format!("looked for: {}", target.rust.join(", ")))
            .with_hint(format!("install it: `rustup target add {musl}`")));
    }
    Ok(installed)
}

fn has_std(libraries: &Path) -> bool {
    let Ok(entries) = fs::read_dir(libraries) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}
