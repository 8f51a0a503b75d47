//! What a Dockerfile asks for: the stages that a target needs, every step expanded.

mod action;
mod option;

pub use action::{
    Action, AddAction, CommandLine, CopyAction, CopySource, From, HealthAction, Inline, MountKind,
    Port, RunAction, Sharing, StepMount,
};
pub use option::{BaseConfig, PlanOptions, Platform};

use crate::diagnostic::Diagnostic;
use crate::instruction::Dockerfile;
use crate::span::Span;

/// The stages to build, each after what it needs; the last is the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The stages.
    pub stages: Vec<Stage>,
    /// Warnings that only a plan can find.
    pub warnings: Vec<Diagnostic>,
    /// Proxy settings among the build arguments, which every `RUN` gets and no image keeps.
    pub proxy: Vec<(String, String)>,
}

impl Plan {
    /// Returns the stage whose image is wanted.
    pub fn target(&self) -> Option<&Stage> {
        self.stages.last()
    }
}

/// A stage to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name, in lower case.
    pub name: Option<String>,
    /// Its number in the Dockerfile, from 0.
    pub index: usize,
    /// What it starts from.
    pub base: Base,
    /// `FROM --platform`, expanded.
    pub platform: Option<Platform>,
    /// Its steps; those that a base image's `ONBUILD` adds come first.
    pub steps: Vec<Step>,
    /// The `FROM` instruction.
    pub span: Span,
    /// The base's name within it.
    pub base_span: Span,
    environment: Vec<Variable>,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image, as it is named in the Dockerfile after expansion.
    Image(String),
    /// An earlier stage: its place in [`Plan::stages`].
    Stage(usize),
    /// A named build context (`--build-context`).
    Context(String),
}

/// One instruction, ready to be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// The `created_by` text of the image's history, as BuildKit writes it.
    pub history: String,
    /// The instruction; for a base image's trigger, the `FROM`.
    pub span: Span,
    /// Whether it comes from a base image's `ONBUILD`.
    pub trigger: bool,
    /// Working directory before the step, absolute.
    pub workdir: String,
    /// User before the step; empty is root.
    pub user: String,
    /// Shell before the step.
    pub shell: Vec<String>,
    environment: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    name: String,
    value: String,
    /// An `ARG`: seen by `RUN`, not kept in the image.
    build_only: bool,
}

impl Stage {
    /// Returns the variables that a step sees: the base's, `ENV` and `ARG` so far, in order of first definition.
    pub fn environment(&self, step: &Step) -> Vec<(String, String)> {
        let _ = (
            step.environment,
            self.environment
                .first()
                .map(|v| (&v.name, &v.value, v.build_only)),
        );
        unimplemented!()
    }
}

/// An image that must be known before the plan is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// Its name after expansion.
    pub name: String,
    /// `FROM --platform`, expanded.
    pub platform: Option<Platform>,
    /// Where it is named.
    pub span: Span,
}

/// Lists the images that the target's stages start from, so that their configs can be looked up
/// and handed to [`plan`] in [`PlanOptions::bases`].
///
/// # Errors
/// Everything that is wrong with the stages and their bases.
pub fn base_images(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
) -> Result<Vec<BaseImage>, Vec<Diagnostic>> {
    let _ = (dockerfile, options);
    unimplemented!()
}

/// Works out the stages and steps for a target.
///
/// # Errors
/// Every fault that expansion brings to light, in the order of the Dockerfile.
pub fn plan(dockerfile: &Dockerfile, options: &PlanOptions) -> Result<Plan, Vec<Diagnostic>> {
    let _ = (dockerfile, options);
    unimplemented!()
}
