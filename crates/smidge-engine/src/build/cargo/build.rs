//! One call of `cargo build`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use smidge_image::{Digest, Platform};

use super::flag::{Handover, Setting, handover};
use super::lock;
use super::package::{Binary, binary};
use crate::build::compiler::Compiler;
use crate::build::request::BuildRequest;
use crate::build::scratch::Scratch;
use crate::{Engine, Error, Host, Kind, Progress, Result};

/// A build that is worked out: what would be run, and what it would make.
pub(in crate::build) struct Build<'h> {
    cargo: Compiler<'h>,
    /// The command line.
    pub(in crate::build) command: Command,
    /// The program's name.
    pub(in crate::build) name: String,
}

/// Compiles the program, and returns where it is: under its name, and under nobody else's hands.
pub(in crate::build) fn compile(
    directory: &Path,
    request: &BuildRequest,
    engine: &Engine,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let Build {
        cargo,
        command,
        name,
        ..
    } = Build::new(directory, request, engine, progress)?;
    let mut program = None;
    cargo.run(command, progress, |line| {
        // Cargo's lines are JSON; a build script's own output may be among them.
        if let Ok(message) = serde_json::from_slice::<Message>(line.as_bytes())
            && message.target.is_some_and(|target| target.name == name)
        {
            program = message.executable.or(program.take());
        }
    })?;
    let program = program.ok_or_else(|| {
        Error::new(
            Kind::Host,
            format!("`cargo build` made no program `{name}`"),
        )
    })?;
    take(&program, &scratch.path().join(&name))
}

/// A message of `cargo build --message-format=json`
/// (<https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>).
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Makes a file ours, so that the next build cannot change it while it is packed.
fn take(from: &Path, to: &Path) -> Result<PathBuf> {
    fs::hard_link(from, to)
        .or_else(|_| fs::copy(from, to).map(drop))
        .map_err(|source| Error::io(format!("cannot read `{}`", from.display()), source))?;
    Ok(to.to_owned())
}

impl<'h> Build<'h> {
    /// Works out how to build a program.
    pub(in crate::build) fn new(
        directory: &Path,
        request: &BuildRequest,
        engine: &'h Engine,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let host = &engine.host;
        let cargo = Compiler::find("cargo", "Cargo package", host)?;
        let rustc = Compiler::find("rustc", "Cargo package", host)?;
        let binary = binary(&cargo, directory, request, progress)?;
        let triple = triple(&rustc, directory, request.platform.as_ref(), host)?;

        let id = Digest::of(binary.workspace.as_os_str().as_encoded_bytes()).short();
        let cache = engine.store.root().join("cache/cargo").join(id);
        let target = cache.join("target");
        let mut remap = toolchain_paths(&rustc, directory, host)?;
        remap.push((target.clone(), "/target".to_owned()));
        remap.push((binary.workspace.clone(), ".".to_owned()));
        let mut args = vec![
            "build".to_owned(),
            "--message-format=json-render-diagnostics".to_owned(),
        ];
        let manifest = if binary.workspace.join("Cargo.lock").exists() {
            args.push("--locked".to_owned());
            binary.manifest.clone()
        } else {
            let shadow = lock::shadow(&binary.workspace, &cache)?;
            remap.push((shadow.clone(), ".".to_owned()));
            let inside = binary
                .manifest
                .strip_prefix(&binary.workspace)
                .unwrap_or(&binary.manifest);
            shadow.join(inside)
        };
        let setting = Setting {
            triple: &triple,
            remap,
            small: request.cargo.small,
        };
        args.extend(arguments(&binary, &manifest, &target, &triple));
        args.extend(options(request));
        let handover = handover(&cargo, directory, &setting, host)?;
        if let Handover::Config(config) = &handover {
            args.extend(["--config".to_owned(), config.clone()]);
        }
        let mut command = cargo.command(directory, args);
        if let Handover::Variable(flags) = handover {
            command.env("CARGO_ENCODED_RUSTFLAGS", flags);
        }
        Ok(Self {
            cargo,
            command,
            name: binary.name,
        })
    }
}

fn arguments(binary: &Binary, manifest: &Path, target: &Path, triple: &str) -> Vec<String> {
    vec![
        format!("--manifest-path={}", manifest.display()),
        format!("--target-dir={}", target.display()),
        format!("--bin={}", binary.name),
        format!("--target={triple}"),
    ]
}

/// The user's wishes in Cargo's words.
fn options(request: &BuildRequest) -> Vec<String> {
    let options = &request.cargo;
    let profile = options.profile.as_deref().unwrap_or("release");
    let mut args = vec![format!("--profile={profile}")];
    if !options.features.is_empty() {
        args.push(format!("--features={}", options.features.join(",")));
    }
    if options.small {
        let settings = [
            "opt-level=\"z\"",
            "lto=\"fat\"",
            "codegen-units=1",
            "panic=\"abort\"",
        ];
        let setting = |setting| {
            [
                "--config".to_owned(),
                format!("profile.{profile}.{setting}"),
            ]
        };
        args.extend(settings.into_iter().flat_map(setting));
    }
    args
}

/// The target: the platform's, with musl if its standard library is installed, because that is
/// smaller and static by nature; with glibc otherwise, which links statically as well.
fn triple(
    rustc: &Compiler<'_>,
    directory: &Path,
    platform: Option<&Platform>,
    host: &Host,
) -> Result<String> {
    let native = Platform::linux(host.architecture());
    let platform = platform.unwrap_or(&native);
    let Some([musl, gnu]) = triples(platform) else {
        let message =
            format!("cannot compile Rust for `{platform}`: it is not known what target that is");
        return Err(Error::new(Kind::Input, message));
    };
    for triple in [musl, gnu] {
        let command = rustc.command(directory, ["--print=target-libdir", "--target", triple]);
        let libraries = rustc.ask(command)?.unwrap_or_default();
        if has_std(Path::new(libraries.trim())) {
            return Ok(triple.to_owned());
        }
    }
    let message =
        format!("cannot compile Rust for `{platform}`: its standard library is not installed");
    Err(Error::new(Kind::NotFound, message)
        .with_hint(format!("install it: `rustup target add {musl}`")))
}

fn triples(platform: &Platform) -> Option<[&'static str; 2]> {
    Some(
        match (platform.architecture.as_str(), platform.variant.as_deref()) {
            ("amd64", _) => ["x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"],
            ("arm64", _) => ["aarch64-unknown-linux-musl", "aarch64-unknown-linux-gnu"],
            ("386", _) => ["i686-unknown-linux-musl", "i686-unknown-linux-gnu"],
            ("arm", Some("v6")) => [
                "arm-unknown-linux-musleabihf",
                "arm-unknown-linux-gnueabihf",
            ],
            ("arm", _) => [
                "armv7-unknown-linux-musleabihf",
                "armv7-unknown-linux-gnueabihf",
            ],
            ("riscv64", _) => [
                "riscv64gc-unknown-linux-musl",
                "riscv64gc-unknown-linux-gnu",
            ],
            ("ppc64le", _) => [
                "powerpc64le-unknown-linux-musl",
                "powerpc64le-unknown-linux-gnu",
            ],
            ("s390x", _) => ["s390x-unknown-linux-musl", "s390x-unknown-linux-gnu"],
            ("loong64", _) => [
                "loongarch64-unknown-linux-musl",
                "loongarch64-unknown-linux-gnu",
            ],
            _ => return None,
        },
    )
}

fn has_std(libraries: &Path) -> bool {
    let Ok(entries) = fs::read_dir(libraries) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

/// Where Cargo and the compiler keep sources, whose paths get into programs, and what to call these
/// places instead. The standard library's goes by the name that it has when its source is not
/// installed.
fn toolchain_paths(
    rustc: &Compiler<'_>,
    directory: &Path,
    host: &Host,
) -> Result<Vec<(PathBuf, String)>> {
    let home = host.env.get("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| host.home.as_ref().map(|home| home.join(".cargo")));
    let mut paths: Vec<_> = home
        .into_iter()
        .map(|home| (home, "/cargo".to_owned()))
        .collect();
    let sysroot = rustc.ask(rustc.command(directory, ["--print=sysroot"]))?;
    let version = rustc
        .ask(rustc.command(directory, ["-vV"]))?
        .unwrap_or_default();
    let commit = version
        .lines()
        .find_map(|line| line.strip_prefix("commit-hash: "));
    if let (Some(sysroot), Some(commit)) = (sysroot, commit) {
        let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
        paths.push((sources, format!("/rustc/{commit}")));
    }
    Ok(paths)
}
