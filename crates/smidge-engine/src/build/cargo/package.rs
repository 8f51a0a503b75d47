//! Which program of a package or workspace is meant.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::build::compiler::Compiler;
use crate::build::request::BuildRequest;
use crate::{Error, Kind, Progress, Result};

/// The program to build.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binary {
    /// Its name.
    pub(super) name: String,
    /// The manifest of its package.
    pub(super) manifest: PathBuf,
    /// The directory of its workspace.
    pub(super) workspace: PathBuf,
}

/// What `cargo metadata --no-deps` prints, as far as it matters here
/// (<https://doc.rust-lang.org/cargo/commands/cargo-metadata.html>).
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_default_members: Option<Vec<String>>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    default_run: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Package {
    fn binaries(&self) -> impl Iterator<Item = &str> {
        let binary = |target: &&Target| target.kind.iter().any(|kind| kind == "bin");
        self.targets
            .iter()
            .filter(binary)
            .map(|target| target.name.as_str())
    }
}

/// Asks Cargo what there is, and picks the program.
pub(super) fn binary(
    cargo: &Compiler<'_>,
    directory: &Path,
    request: &BuildRequest,
    progress: &dyn Progress,
) -> Result<Binary> {
    let args = ["metadata", "--quiet", "--no-deps", "--format-version=1"];
    let mut text = String::new();
    cargo.run(cargo.command(directory, args), progress, |line| {
        text.push_str(line)
    })?;
    let metadata: Metadata = serde_json::from_slice(text.as_bytes()).map_err(|error| {
        Error::new(Kind::Host, "cannot understand `cargo metadata`").caused_by(error)
    })?;
    pick(&metadata, &directory.join("Cargo.toml"), request)
}

fn pick(metadata: &Metadata, manifest: &Path, request: &BuildRequest) -> Result<Binary> {
    let packages = candidates(metadata, manifest, request)?;
    let all: Vec<(&Package, &str)> = packages
        .iter()
        .flat_map(|package| package.binaries().map(move |name| (*package, name)))
        .collect();
    let default =
        |(package, name): &&(&Package, &str)| package.default_run.as_deref() == Some(*name);
    let chosen = match (&request.cargo.bin, &all[..]) {
        (Some(bin), _) => all.iter().find(|(_, name)| name == bin),
        (None, [only]) => Some(only),
        (None, several) => several.iter().find(default),
    };
    let Some((package, name)) = chosen else {
        return Err(undecided(&all, request));
    };
    Ok(Binary {
        name: (*name).to_owned(),
        manifest: package.manifest_path.clone(),
        workspace: metadata.workspace_root.clone(),
    })
}

/// The packages whose programs may be meant: the named one, that of the directory, or, in the root
/// of a workspace, its default members.
fn candidates<'m>(
    metadata: &'m Metadata,
    manifest: &Path,
    request: &BuildRequest,
) -> Result<Vec<&'m Package>> {
    if let Some(name) = &request.cargo.package {
        let found: Vec<_> = metadata
            .packages
            .iter()
            .filter(|p| p.name == *name)
            .collect();
        if found.is_empty() {
            let shown = request.path.display();
            let message = format!("there is no package `{name}` in the workspace of `{shown}`");
            let names: Vec<_> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
            return Err(Error::new(Kind::NotFound, message)
                .with_fact(format!("packages: {}", names.join(", "))));
        }
        return Ok(found);
    }
    // Cargo may have gone through other links than the user.
    let real = manifest
        .canonicalize()
        .unwrap_or_else(|_| manifest.to_owned());
    let same = |package: &&Package| {
        package.manifest_path == manifest
            || package
                .manifest_path
                .canonicalize()
                .is_ok_and(|path| path == real)
    };
    if let Some(package) = metadata.packages.iter().find(same) {
        return Ok(vec![package]);
    }
    let default = |package: &&Package| {
        metadata
            .workspace_default_members
            .as_ref()
            .is_none_or(|ids| ids.contains(&package.id))
    };
    Ok(metadata.packages.iter().filter(default).collect())
}

fn undecided(all: &[(&Package, &str)], request: &BuildRequest) -> Error {
    let shown = request.path.display();
    let list = |error: Error| {
        let line = |(package, name): &(&Package, &str)| {
            format!("program: {name} (package {})", package.name)
        };
        all.iter().map(line).fold(error, Error::with_fact)
    };
    match (&request.cargo.bin, all.first()) {
        (_, None) => Error::new(
            Kind::Input,
            format!("`{shown}` has no program: it is a library"),
        )
        .with_hint("a program needs a `src/main.rs`, or a `[[bin]]` in its `Cargo.toml`"),
        (Some(bin), _) => list(Error::new(
            Kind::NotFound,
            format!("`{shown}` has no program `{bin}`"),
        )),
        (None, Some((_, first))) => list(Error::new(
            Kind::Input,
            format!("`{shown}` has several programs"),
        ))
        .with_hint(format!(
            "say which one: `smidge build --bin {first} {shown}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(
        change: impl Fn(&mut BuildRequest),
        manifest: &str,
    ) -> std::result::Result<String, String> {
        let text = r#"{"packages":[
            {"id":"a","name":"app","manifest_path":"/w/app/Cargo.toml","default_run":null,"targets":[
                {"name":"app","kind":["bin"]},{"name":"admin","kind":["bin"]},{"name":"app","kind":["lib"]}]},
            {"id":"b","name":"tool","manifest_path":"/w/tool/Cargo.toml","default_run":"two","targets":[
                {"name":"one","kind":["bin"]},{"name":"two","kind":["bin"]}]},
            {"id":"c","name":"core","manifest_path":"/w/core/Cargo.toml","default_run":null,"targets":[
                {"name":"core","kind":["lib"]},{"name":"build-script-build","kind":["custom-build"]}]},
            {"id":"d","name":"single","manifest_path":"/w/single/Cargo.toml","default_run":null,"targets":[
                {"name":"only","kind":["bin"]}]}],
            "workspace_default_members":["d","c"],"workspace_root":"/w"}"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        let mut request = BuildRequest::new("app");
        change(&mut request);
        let found = pick(&metadata, Path::new(manifest), &request);
        found
            .map(|b| format!("{} {}", b.manifest.display(), b.name))
            .map_err(|error| {
                let rest: Vec<_> = error.facts().iter().chain(error.hints()).cloned().collect();
                format!("{error}; {}", rest.join("; "))
            })
    }

    #[test]
    fn the_program_is_picked_or_the_choice_is_listed() {
        let bin = |name: &str| {
            let name = name.to_owned();
            move |request: &mut BuildRequest| request.cargo.bin = Some(name.clone())
        };
        let plain = |_: &mut BuildRequest| {};
        let ok = |text: &str| Ok(text.to_owned());
        let err = |text: &str| Err(text.to_owned());
        assert_eq!(
            picked(plain, "/w/single/Cargo.toml"),
            ok("/w/single/Cargo.toml only")
        );
        assert_eq!(
            picked(plain, "/w/Cargo.toml"),
            ok("/w/single/Cargo.toml only")
        );
        assert_eq!(
            picked(plain, "/w/tool/Cargo.toml"),
            ok("/w/tool/Cargo.toml two")
        );
        assert_eq!(
            picked(bin("admin"), "/w/app/Cargo.toml"),
            ok("/w/app/Cargo.toml admin")
        );
        assert_eq!(
            picked(plain, "/w/app/Cargo.toml"),
            err("`app` has several programs; program: app (package app); \
                program: admin (package app); say which one: `smidge build --bin app app`")
        );
        assert!(
            picked(plain, "/w/core/Cargo.toml")
                .unwrap_err()
                .contains("it is a library")
        );
        assert!(
            picked(bin("x"), "/w/app/Cargo.toml")
                .unwrap_err()
                .starts_with("`app` has no program `x`")
        );
        let package = |request: &mut BuildRequest| request.cargo.package = Some("tool".into());
        assert_eq!(
            picked(package, "/w/app/Cargo.toml"),
            ok("/w/tool/Cargo.toml two")
        );
        let package = |request: &mut BuildRequest| request.cargo.package = Some("nope".into());
        let message = picked(package, "/w/app/Cargo.toml").unwrap_err();
        assert!(
            message.ends_with("; packages: app, tool, core, single"),
            "{message}"
        );
    }
}
