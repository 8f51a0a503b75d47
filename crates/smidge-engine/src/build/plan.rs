//! What a build would do, in words.

use smidge_image::Platform;

use super::cargo::Build;
use super::compiler::{Compiler, shown};
use super::detect::Source;
use super::request::{BuildRequest, Output, OutputFormat, Sink};
use super::response::BuildPlan;
use super::{go, program};
use crate::{Engine, Result, Silent};

/// Says what a build would do.
pub(super) fn plan(request: &BuildRequest, source: &Source, engine: &Engine) -> Result<BuildPlan> {
    let mut steps = Vec::new();
    match source {
        Source::Elf(path) => steps.extend(packing(request, program::name(path)?)),
        Source::Cargo(directory) => {
            let build = Build::new(directory, request, engine, &Silent)?;
            steps.push(format!("run `{}`", shown(&build.command)));
            steps.extend(packing(request, &build.name));
        }
        Source::Go(directory) => {
            let go = Compiler::find("go", "Go package", &engine.host)?;
            let output = engine.store.root().join("tmp/build");
            let command = go::command(&go, directory, &output, request, &engine.host);
            let platform = request.platform.clone();
            let platform = platform.unwrap_or_else(|| Platform::linux(engine.host.architecture()));
            steps.push(format!(
                "run `CGO_ENABLED=0 GOOS=linux GOARCH={} {}`",
                platform.architecture,
                shown(&command)
            ));
            let name = directory.file_name().unwrap_or_default().to_string_lossy();
            steps.extend(packing(request, &name));
        }
        Source::Dockerfile { context, file } => {
            let instructions = super::dockerfile::instructions(file, request, engine)?;
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
    if request.prove {
        steps.push("prove that the program can start".to_owned());
    }
    steps.push(destination(&request.output, engine));
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

fn destination(output: &Output, engine: &Engine) -> String {
    let Output::Export { format, sink } = output else {
        return format!("store the image in `{}`", engine.store.root().display());
    };
    let what = match format {
        OutputFormat::DockerArchive => "a docker-archive",
        OutputFormat::OciArchive => "an OCI archive",
        OutputFormat::Oci => "an OCI layout",
        OutputFormat::Rootfs => "a directory of its files",
        OutputFormat::Tar => "a tar archive of its files",
    };
    match sink {
        Sink::Path(path) => format!("write {what} to `{}`", path.display()),
        Sink::Stdout => format!("write {what} to standard output"),
    }
}
