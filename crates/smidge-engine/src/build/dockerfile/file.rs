//! The Dockerfile itself: read, and planned as far as its base images are known.

use std::collections::BTreeSet;
use std::path::Path;

use smidge_dockerfile::instruction::StageSource;
use smidge_dockerfile::plan::{self, BaseConfig, BaseImage, Platform};
use smidge_dockerfile::{Dockerfile, Plan, PlanOptions, parse, parse_checked};

use super::base::{self, Bases};
use super::report::Text;
use crate::build::request::BuildRequest;
use crate::build::response::Target;
use crate::host::read_whole;
use crate::{Engine, Error, Kind, Note, Progress, Result};

/// What a Dockerfile asks for.
pub(super) struct Planned {
    /// Its text.
    pub(super) text: Text,
    /// The stages that are needed.
    pub(super) plan: Plan,
    /// The images that they start from.
    pub(super) bases: Bases,
    /// What is worth saying.
    pub(super) notes: Vec<Note>,
}

/// The instructions that would be carried out, in order. Nothing is fetched for it.
pub(in crate::build) fn instructions(
    file: (&Path, &str),
    request: &BuildRequest,
    engine: &Engine,
) -> Result<Vec<String>> {
    let (_, plan, _) = plan_with(file, request, engine, &mut stored(engine))?;
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    Ok(steps.map(|step| step.history.clone()).collect())
}

/// What is worth saying about a Dockerfile. Nothing is fetched for it.
pub(in crate::build) fn notes(
    file: (&Path, &str),
    request: &BuildRequest,
    engine: &Engine,
) -> Result<Vec<Note>> {
    let (.., notes) = plan_with(file, request, engine, &mut stored(engine))?;
    Ok(notes)
}

/// The stages of a Dockerfile. Nothing is fetched for it.
pub(in crate::build) fn targets(
    file: (&Path, &str),
    request: &BuildRequest,
    engine: &Engine,
) -> Result<Vec<Target>> {
    let (text, plan, _) = plan_with(file, request, engine, &mut stored(engine))?;
    let wanted = plan.target().map(|stage| stage.index);
    let parsed = parse(&text.text);
    let stages = parsed.dockerfile.stages.iter().enumerate();
    let target = |(index, stage): (usize, &StageSource)| Target {
        name: stage.from.name.as_ref().map(|name| name.value.clone()),
        description: stage.description(&text.text).map(str::to_owned),
        is_default: Some(index) == wanted,
    };
    Ok(stages.map(target).collect())
}

/// Reads and plans a Dockerfile. Images that are missing are fetched.
pub(super) fn planned(
    file: (&Path, &str),
    request: &BuildRequest,
    engine: &Engine,
    progress: &dyn Progress,
) -> Result<Planned> {
    let mut bases = Bases::new(request, &engine.host)?;
    let (text, plan, notes) = plan_with(file, request, engine, &mut |image, platform| {
        bases.provide(engine, (image, platform), progress)
    })?;
    Ok(Planned {
        text,
        plan,
        bases,
        notes,
    })
}

/// What is to be known of a base image; `None` if the plan is to do without.
type Lookup<'l> = dyn FnMut(&BaseImage, &smidge_image::Platform) -> Result<Option<BaseConfig>> + 'l;

/// Reads and plans a Dockerfile; gives what is worth saying about it, too.
fn plan_with(
    file: (&Path, &str),
    request: &BuildRequest,
    engine: &Engine,
    images: &mut Lookup<'_>,
) -> Result<(Text, Plan, Vec<Note>)> {
    let text = read(file)?;
    let check = request.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
    let parsed = parse_checked(&text.text, check.map(String::as_str));
    if let Some(error) = text.errors(&parsed.diagnostics) {
        return Err(error);
    }
    let mut options = options(request, engine);
    resolve(&parsed.dockerfile, &mut options, &text, images)?;
    let plan = plan::plan(&parsed.dockerfile, &options).map_err(|found| text.refusal(&found))?;
    let found = parsed.diagnostics.iter().chain(&plan.warnings).cloned();
    let notes = text.notes(&found.collect::<Vec<_>>()).collect();
    Ok((text, plan, notes))
}

/// Reads the Dockerfile, which goes by a name that tells its user something.
fn read((file, name): (&Path, &str)) -> Result<Text> {
    let name = name.to_owned();
    let bytes = read_whole(file).map_err(|e| Error::io(format!("cannot read `{name}`"), e))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::new(Kind::Input, format!("`{name}` is not text in UTF-8")).caused_by(error)
    })?;
    Ok(Text { name, text })
}

fn options(request: &BuildRequest, engine: &Engine) -> PlanOptions {
    PlanOptions {
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        build_platform: platform(engine, None),
        platform: platform(engine, request.platform()),
        contexts: contexts(request),
        ..PlanOptions::default()
    }
}

/// The names that `--build-context` gives.
fn contexts(request: &BuildRequest) -> BTreeSet<String> {
    let named = request.dockerfile.build_contexts.iter();
    let names = named.filter_map(|text| text.split_once('='));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

/// The images that are here. What another would bring along is seen when it is.
fn stored(
    engine: &Engine,
) -> impl FnMut(&BaseImage, &smidge_image::Platform) -> Result<Option<BaseConfig>> {
    |image, platform| match image.context {
        true => Ok(None),
        false => Ok(base::stored(engine, &image.name, platform).ok()),
    }
}

/// Looks up base images until their triggers (`ONBUILD`) name no new ones. What is wrong with the
/// stages, the plan says, together with all else.
fn resolve(
    dockerfile: &Dockerfile,
    options: &mut PlanOptions,
    text: &Text,
    look_up: &mut Lookup<'_>,
) -> Result<()> {
    while let Ok(images) = plan::base_images(dockerfile, options) {
        let known = options.bases.len();
        for image in images {
            if options.bases.contains_key(&image.name) {
                continue;
            }
            let wanted = convert(image.platform.as_ref().unwrap_or(&options.platform));
            let config = look_up(&image, &wanted).map_err(text.locate(image.span))?;
            options
                .bases
                .extend(config.map(|config| (image.name, config)));
        }
        if options.bases.len() == known {
            break;
        }
    }
    Ok(())
}

/// The platform to build for, in the words of the plan.
pub(super) fn platform(engine: &Engine, wanted: Option<&smidge_image::Platform>) -> Platform {
    match wanted {
        Some(wanted) => Platform {
            os: wanted.os.clone(),
            architecture: wanted.architecture.clone(),
            variant: wanted.variant.clone(),
        },
        None => Platform {
            architecture: engine.host.architecture().to_owned(),
            ..Platform::default()
        },
    }
}

/// A platform of the plan in the words of images.
pub(super) fn convert(platform: &Platform) -> smidge_image::Platform {
    smidge_image::Platform {
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        ..smidge_image::Platform::linux(&platform.architecture)
    }
}
