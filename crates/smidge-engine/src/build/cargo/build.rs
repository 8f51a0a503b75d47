//! One call of `cargo build`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use smidge_image::Digest;

use super::config::CargoConfig;
use super::flag::{Handover, Setting, handover};
use super::link::{Choice, Linker};
use super::lock;
use super::package::{Binary, binary};
use super::toolchain::{Toolchain, installed};
use crate::build::compiler::Compiler;
use crate::build::request::BuildRequest;
use crate::build::scratch::Scratch;
use crate::build::target::{Target, is_native};
use crate::{Engine, Error, Kind, Progress, Result};

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
    target: Option<Made>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Made {
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
        let Machine {
            triple,
            linker,
            cpu,
            toolchain,
            config,
        } = Machine::new(&cargo, &rustc, directory, request)?;

        let id = Digest::of(binary.workspace.as_os_str().as_encoded_bytes()).short();
        let cache = engine.store.root().join("cache/cargo").join(id);
        let output = cache.join("target");
        let mut remap = toolchain.sources(host);
        remap.push((output.clone(), "/target".to_owned()));
        remap.push((binary.workspace.clone(), ".".to_owned()));
        let mut args = vec![
            linker.verb().to_owned(),
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
            triple,
            remap,
            cpu,
            small: request.cargo.small,
        };
        args.extend(arguments(&binary, &manifest, &output, triple));
        args.extend(options(request));
        let handover = handover(&config, &setting, host);
        if let Linker::Program(linker) = &linker {
            let linker = format!("target.{triple}.linker={linker:?}");
            args.extend(["--config".to_owned(), linker]);
        }
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

/// The machine to compile for, and the user's Rust as far as it matters for it.
struct Machine {
    triple: &'static str,
    linker: Linker,
    cpu: Option<&'static str>,
    toolchain: Toolchain,
    config: CargoConfig,
}

impl Machine {
    fn new(
        cargo: &Compiler<'_>,
        rustc: &Compiler<'_>,
        directory: &Path,
        request: &BuildRequest,
    ) -> Result<Self> {
        let (platform, host) = (request.platform(), cargo.host());
        let target = Target::wanted(platform, host, "Rust")?;
        let toolchain = Toolchain::ask(rustc, directory)?;
        let config = CargoConfig::ask(cargo, directory)?;
        let choice = Choice {
            target: &target,
            installed: &installed(rustc, directory, &target, platform)?,
            config: &config,
            toolchain: &toolchain,
            host,
        };
        let (triple, linker) = match (platform, choice.installed) {
            (Some(platform), _) if !is_native(Some(platform), host) => choice
                .take()?
                .ok_or_else(|| choice.refusal(&platform.to_string()))?,
            (_, [first, ..]) => (*first, Linker::Cargo),
            (_, []) => return Err(Error::new(Kind::Bug, "there is no target to compile for")),
        };
        Ok(Self {
            triple,
            linker,
            cpu: target.cpu,
            toolchain,
            config,
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
