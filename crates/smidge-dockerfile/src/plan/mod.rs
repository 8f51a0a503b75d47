//! What a Dockerfile asks for: the stages that a target needs, every step expanded.

mod action;
mod config;
mod copy;
mod graph;
mod history;
mod option;
mod port;
mod run;
mod stage;
mod state;

pub use action::{
    Action, AddAction, CommandLine, CopyAction, CopySource, From, HealthAction, Inline, MountKind,
    Port, RunAction, Sharing, StepMount,
};
pub use option::{BaseConfig, PlanOptions, Platform};

use std::collections::{BTreeMap, HashMap};

use crate::diagnostic::Diagnostic;
use crate::expand::Budget;
use crate::instruction::Dockerfile;
use crate::span::Span;
use graph::{Graph, Inputs};
use stage::Context;
use state::State;

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
    /// The `created_by` text of the image's history, as BuildKit writes it. Empty for `ONBUILD`,
    /// which leaves no entry.
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
    /// Returns the variables that a step sees: the base's, then `ENV` and `ARG` so far, in order
    /// of first definition.
    pub fn environment(&self, step: &Step) -> Vec<(String, String)> {
        let seen = self
            .environment
            .get(..step.environment)
            .unwrap_or(&self.environment);
        fold(seen.iter())
    }

    /// Returns `Env` of the stage's image: the base's and every `ENV`, but no `ARG`.
    pub fn image_environment(&self) -> Vec<(String, String)> {
        fold(
            self.environment
                .iter()
                .filter(|variable| !variable.build_only),
        )
    }
}

/// Keeps the last value of each variable, at the place of its first.
fn fold<'v>(variables: impl Iterator<Item = &'v Variable>) -> Vec<(String, String)> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut result: Vec<(String, String)> = Vec::new();
    for Variable { name, value, .. } in variables {
        let place = *places.entry(name).or_insert(result.len());
        match result.get_mut(place) {
            Some((_, old)) => old.clone_from(value),
            None => result.push((name.clone(), value.clone())),
        }
    }
    result
}

/// An image that must be known before the plan is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// Its name after expansion.
    pub name: String,
    /// Whether it is the name of a build context, which may stand for an image, or for files.
    pub context: bool,
    /// `FROM --platform`, expanded.
    pub platform: Option<Platform>,
    /// Where it is named.
    pub span: Span,
}

/// Lists the images that the target's stages start from, so that their configs can be looked up
/// and handed to [`plan`] in [`PlanOptions::bases`]. A config may hold `ONBUILD` triggers that need
/// more stages: ask again with the configs, until nothing new comes.
///
/// # Errors
/// Everything that is wrong with the stages and their bases.
pub fn base_images(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
) -> Result<Vec<BaseImage>, Vec<Diagnostic>> {
    let budget = Budget::default();
    let graph = Graph::new(Inputs {
        dockerfile,
        options,
        budget: &budget,
    });
    if graph.diagnostics.iter().any(Diagnostic::is_error) {
        return Err(settle(dockerfile, graph.diagnostics));
    }
    let mut images: Vec<BaseImage> = Vec::new();
    for node in graph.nodes.iter().filter(|node| node.needed) {
        let (Base::Image(name) | Base::Context(name)) = &node.base else {
            continue;
        };
        let image = BaseImage {
            name: name.clone(),
            context: matches!(node.base, Base::Context(_)),
            platform: node.platform.clone(),
            span: node.source.from.image.span,
        };
        let known = |other: &BaseImage| other.name == *name && other.platform == image.platform;
        if !images.iter().any(known) {
            images.push(image);
        }
    }
    Ok(images)
}

/// Works out the stages and steps for a target.
///
/// ```
/// use smidge_dockerfile::{PlanOptions, parse, plan};
///
/// let parsed = parse("ARG V=3\nFROM alpine:$V\nENV A=1\nCMD [\"/bin/x\"]\n");
/// let plan = plan(&parsed.dockerfile, &PlanOptions::default()).unwrap();
/// let history: Vec<_> = plan.stages[0].steps.iter().map(|step| step.history.as_str()).collect();
/// assert_eq!(history, ["ENV A=1", "CMD [\"/bin/x\"]"]);
/// ```
///
/// # Errors
/// Every fault that expansion brings to light, and the warnings, in the order of the Dockerfile.
pub fn plan(dockerfile: &Dockerfile, options: &PlanOptions) -> Result<Plan, Vec<Diagnostic>> {
    let budget = Budget::default();
    let mut graph = Graph::new(Inputs {
        dockerfile,
        options,
        budget: &budget,
    });
    let mut diagnostics = std::mem::take(&mut graph.diagnostics);
    let mut states: Vec<Option<State>> = Vec::new();
    let mut stages = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if !node.needed {
            states.push(None);
            continue;
        }
        let context = Context {
            dockerfile,
            options,
            graph: &graph,
            budget: &budget,
            index,
        };
        let (stage, state) = stage::run(context, node, &states, &mut diagnostics);
        stages.push(stage);
        states.push(Some(state));
    }
    let warnings = settle(dockerfile, diagnostics);
    if warnings.iter().any(Diagnostic::is_error) {
        return Err(warnings);
    }
    Ok(Plan {
        stages,
        warnings,
        proxy: proxy(options),
    })
}

/// Applies `# check=` and puts the findings in order.
fn settle(dockerfile: &Dockerfile, mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    dockerfile.directives.check.apply(&mut diagnostics);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    diagnostics.dedup();
    diagnostics
}

/// Picks the proxy settings, which need no `ARG`.
fn proxy(options: &PlanOptions) -> Vec<(String, String)> {
    const NAMES: &[&str] = &[
        "all_proxy",
        "ftp_proxy",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ];
    let is_proxy = |name: &str| NAMES.contains(&name.to_ascii_lowercase().as_str());
    let given = options.build_args.iter().filter(|(name, _)| is_proxy(name));
    // As in BuildKit, whichever way a setting is spelled, programs find it in capitals and without.
    let mut settings = BTreeMap::new();
    for (name, value) in given.clone() {
        settings.insert(name.to_ascii_lowercase(), value.clone());
        settings.insert(name.to_ascii_uppercase(), value.clone());
    }
    settings.extend(given.map(|(name, value)| (name.clone(), value.clone())));
    settings.into_iter().collect()
}
