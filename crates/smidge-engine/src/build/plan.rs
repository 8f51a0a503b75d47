//! What a build would do, in words.

use super::cargo::Build;
use super::compiler::{Compiler, shown, shown_with};
use super::detect::Source;
use super::request::{BuildRequest, Output, OutputFormat, Sink};
use super::response::BuildPlan;
use super::{c, go, program, zig};
use crate::{Engine, Result, Silent};

/// Says what a build would do.
pub(super) fn plan(request: &BuildRequest, source: &Source, engine: &Engine) -> Result<BuildPlan> {
    let each = request.each();
    let mut steps = Vec::new();
    for one in &each {
        let prefix = match one.platform() {
            Some(platform) if each.len() > 1 => format!("for {platform}: "),
            _ => String::new(),
        };
        let of_platform = image(one, source, engine)?;
        steps.extend(of_platform.iter().map(|step| format!("{prefix}{step}")));
    }
    if each.len() > 1 {
        steps.push(format!("join the {} images in one index", each.len()));
    }
    steps.push(destination(&request.output, each.len(), engine));
    Ok(BuildPlan {
        source: source.name().to_owned(),
        path: request.path.display().to_string(),
        steps,
        tags: request
            .tags
            .iter()
            .map(smidge_image::Reference::familiar)
            .collect(),
    })
}

/// What is done to have the image of one platform.
fn image(request: &BuildRequest, source: &Source, engine: &Engine) -> Result<Vec<String>> {
    let host = &engine.host;
    let output = engine.store.root().join("tmp/build");
    let mut steps = Vec::new();
    match source {
        Source::Elf(path) => steps.extend(packing(request, program::name(path)?)),
        Source::Cargo(directory) => {
            let build = Build::new(directory, request, engine, &Silent)?;
            steps.push(format!("run `{}`", shown(&build.command)));
            steps.extend(packing(request, &build.name));
        }
        Source::Go(directory) => {
            let go = Compiler::find("go", "Go package", host)?;
            let command = go::command(&go, directory, &output, request, host);
            let environment = go::environment(request.platform(), host);
            steps.push(format!("run `{}`", shown_with(&environment, &command)));
            let name = directory.file_name().unwrap_or_default().to_string_lossy();
            steps.extend(packing(request, &name));
        }
        Source::C(file) => {
            let build = c::Build::new(file, &output, request, host)?;
            steps.push(format!("run `{}`", shown(&build.command)));
            steps.extend(packing(request, &build.name));
        }
        Source::Zig(file) => {
            let build = zig::Build::new(file, &output, request, engine)?;
            steps.push(format!("run `{}`", shown(&build.command)));
            steps.extend(packing(request, &build.name));
        }
        Source::Dockerfile {
            context,
            file,
            name,
        } => {
            let instructions = super::dockerfile::instructions((file, name), request, engine)?;
            steps.push(format!(
                "read `{}`, with `{}` as context",
                file.display(),
                context.display()
            ));
            steps.extend(instructions);
        }
    }
    if request.with_libs {
        steps.push("add the loader and libraries that the program needs".to_owned());
    }
    if request.dockerfile.slim_final {
        steps.push("leave out what the final stage does not need to run".to_owned());
    } else if request.dockerfile.squash {
        steps.push("make one layer of those that were made".to_owned());
    }
    if request.prove {
        steps.push("prove that the program can start".to_owned());
    }
    Ok(steps)
}

fn packing(request: &BuildRequest, name: &str) -> Vec<String> {
    let strip = (request.strip != Some(false)).then(|| "strip the program".to_owned());
    let include = |include: &super::request::Include| {
        format!(
            "add `{}` as `{}`",
            include.source.display(),
            include.destination
        )
    };
    let pack = format!("make an image of it, as `/{name}`");
    strip
        .into_iter()
        .chain([pack])
        .chain(request.includes.iter().map(include))
        .collect()
}

fn destination(output: &Output, images: usize, engine: &Engine) -> String {
    let Output::Export { format, sink } = output else {
        let what = if images > 1 { "them" } else { "the image" };
        return format!("store {what} in `{}`", engine.store.root().display());
    };
    let what = match format {
        OutputFormat::DockerArchive => "a docker-archive",
        OutputFormat::OciArchive => "an OCI archive",
        OutputFormat::Oci => "an OCI layout",
        OutputFormat::Rootfs if images > 1 => "a directory of each one's files",
        OutputFormat::Rootfs => "a directory of its files",
        OutputFormat::Tar => "a tar archive of its files",
    };
    match sink {
        Sink::Path(path) => format!("write {what} to `{}`", path.display()),
        Sink::Stdout => format!("write {what} to standard output"),
    }
}
