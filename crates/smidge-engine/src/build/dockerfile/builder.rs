//! The build of one platform's image: which stage waits for which.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use smidge_dockerfile::Plan;
use smidge_dockerfile::plan::{Action, Base, From, MountKind, RunAction, Stage, Step};
use smidge_run::{Finished, Limit, Running, Spawner};

use super::base::{self, Bases};
use super::context::Context;
use super::exchange::Exchange;
use super::file::{self, Planned};
use super::named::NamedSource;
use super::option;
use super::remote::Fetcher;
use super::report::Text;
use super::run::EXPOSED;
use super::source::Fetched;
use super::stage::Done;
use crate::build::config;
use crate::build::draft::{Draft, Joining};
use crate::build::layer::RootFs;
use crate::build::request::{BuildRequest, SourceKind};
use crate::build::scratch::Scratch;
use crate::{Engine, Error, Kind, Note, Progress, Result, StepName, StepTask};

/// Everything that the stages have in common.
pub(super) struct Builder<'b> {
    pub(super) text: Text,
    pub(super) context: Context,
    pub(super) engine: &'b Engine,
    pub(super) request: &'b BuildRequest,
    pub(super) scratch: &'b Scratch,
    pub(super) progress: &'b dyn Progress,
    pub(super) exchange: &'b Exchange<'b>,
    pub(super) plan: &'b Plan,
    pub(super) bases: Bases,
    /// The platform to build for.
    pub(super) platform: smidge_image::Platform,
    /// What starts programs, where there are any.
    pub(super) spawner: Option<Spawner>,
    /// What `--secret` gives, by id.
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    /// The sockets that `--ssh` gives, by id.
    pub(super) agents: BTreeMap<String, PathBuf>,
    /// What `--add-host` adds: names and addresses.
    pub(super) hosts: Vec<(String, String)>,
    /// What `--ulimit` sets.
    pub(super) limits: Vec<Limit>,
    /// Whether a program ran that was not isolated.
    pub(super) exposed: AtomicBool,
    /// Images that files are copied from.
    images: HashMap<String, Arc<RootFs>>,
    /// What `--build-context` names.
    contexts: HashMap<String, Named>,
    /// Programs that run now.
    running: Mutex<Vec<Arc<Running>>>,
    board: Board,
}

/// What a name stands for that `--build-context` gave.
pub(super) enum Named {
    /// Files.
    Files(Context),
    /// An image's files.
    Image(Arc<RootFs>),
}

/// Which stages are done.
struct Board {
    stages: Mutex<Stages>,
    changed: Condvar,
}

struct Stages {
    done: Vec<Option<Arc<Done>>>,
    /// The first error; the others wait in vain.
    failed: Option<Error>,
    over: bool,
}

impl Board {
    fn stages(&self) -> MutexGuard<'_, Stages> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a Dockerfile is.
pub(in crate::build) struct Place<'p> {
    /// The directory that files are taken from.
    pub(in crate::build) context: &'p Path,
    /// The Dockerfile.
    pub(in crate::build) file: &'p Path,
    /// What its user knows it by.
    pub(in crate::build) name: &'p str,
    /// What other builds know, and learn.
    pub(in crate::build) exchange: &'p Exchange<'p>,
}

/// Drafts the image of a Dockerfile.
pub(in crate::build) fn draft(
    place: &Place<'_>,
    request: &BuildRequest,
    engine: &Engine,
    scratch: &Scratch,
    progress: &dyn Progress,
) -> Result<Draft> {
    let Planned {
        text,
        plan,
        bases,
        notes,
    } = file::planned((place.file, place.name), request, engine, progress)?;
    let stages = plan.stages.len();
    let mut builder = Builder {
        text,
        context: Context::directory(place.context, place.file)?,
        engine,
        request,
        scratch,
        progress,
        exchange: place.exchange,
        plan: &plan,
        bases,
        platform: file::convert(&file::platform(engine, request.platform())),
        spawner: None,
        secrets: option::secrets(request, &engine.host)?,
        agents: option::agents(request, &engine.host)?,
        hosts: option::hosts(request)?,
        limits: option::limits(request)?,
        exposed: AtomicBool::new(false),
        images: HashMap::new(),
        contexts: HashMap::new(),
        running: Mutex::default(),
        board: Board {
            stages: Mutex::new(Stages {
                done: (0..stages).map(|_| None).collect(),
                failed: None,
                over: false,
            }),
            changed: Condvar::new(),
        },
    };
    builder.fetch()?;
    builder.look_up_contexts()?;
    if actions(&plan).any(|action| matches!(action, Action::Run(_))) {
        // While there is one thread.
        builder.spawner = Some(Spawner::start()?);
    }
    let mut draft = builder
        .build()
        .map_err(|error| other_way(error, place.file, request))?;
    draft.notes.splice(0..0, notes);
    if builder.exposed.into_inner() {
        draft.notes.push(Note::new(EXPOSED.to_owned()));
    }
    if request.dockerfile.squash {
        draft.joining = Joining::Squashed;
    }
    let entrypoint = draft.config.entrypoint.is_some();
    if request.config.entrypoint.is_some() || (request.config.cmd.is_some() && !entrypoint) {
        // What is started is then not said in the Dockerfile.
        draft.origin = None;
    }
    config::apply(&mut draft.config, &request.config, &engine.host)?;
    if !request.args.is_empty() {
        draft.config.cmd = Some(request.args.clone());
    }
    Ok(draft)
}

/// Where a file is missing that a package beside the Dockerfile may be there to make, says so.
fn other_way(error: Error, file: &Path, request: &BuildRequest) -> Error {
    let beside = |name: &str| file.with_file_name(name).is_file();
    let kind = match error.kind() {
        Kind::NotFound if request.kind.is_some() => return error,
        Kind::NotFound if beside("Cargo.toml") => SourceKind::Cargo,
        Kind::NotFound if beside("go.mod") || beside("main.go") => SourceKind::Go,
        _ => return error,
    };
    let (word, path) = (kind.word(), request.path.display());
    error.with_hint(format!(
        "to build the {word} package without its Dockerfile: `smidge build --as {word} {path}`"
    ))
}

impl Builder<'_> {
    /// Looks up the images that files are copied from.
    fn fetch(&mut self) -> Result<()> {
        let steps = self.plan.stages.iter().flat_map(|stage| &stage.steps);
        for step in steps {
            for name in sources(&step.action).filter_map(image_name) {
                if self.images.contains_key(name) {
                    continue;
                }
                let wanted = (name, &self.platform);
                let image = self
                    .bases
                    .image(self.engine, wanted, self.progress)
                    .and_then(|image| base::files(&image, self.engine));
                let image = image.map_err(self.text.locate(step.span))?;
                self.images.insert(name.to_owned(), image);
            }
        }
        Ok(())
    }

    /// Builds all stages, a thread each if there are several.
    fn build(&self) -> Result<Draft> {
        match &self.plan.stages[..] {
            [] => {}
            [only] => self.finish(0, only),
            several => thread::scope(|scope| {
                for (number, stage) in several.iter().enumerate() {
                    scope.spawn(move || {
                        if self.wait_for(stage) {
                            self.finish(number, stage);
                        }
                    });
                }
            }),
        }
        let mut stages = self.board.stages();
        if let Some(error) = stages.failed.take() {
            return Err(error);
        }
        let last = stages.done.pop().flatten();
        let done = last.ok_or_else(|| Error::new(Kind::Input, "the Dockerfile has no stage"))?;
        Ok(done.draft.clone())
    }

    fn finish(&self, number: usize, stage: &Stage) {
        let done = self.stage(stage);
        let mut stages = self.board.stages();
        match done {
            Ok(done) => stages.done[number] = Some(Arc::new(done)),
            Err(error) => {
                stages.over = true;
                stages.failed.get_or_insert(error);
                self.running().iter().for_each(|program| program.kill());
            }
        }
        self.board.changed.notify_all();
    }

    /// Waits until everything that a stage needs is there; tells if it ever will be.
    fn wait_for(&self, stage: &Stage) -> bool {
        let needed = needed(stage);
        let mut stages = self.board.stages();
        loop {
            if stages.over {
                return false;
            }
            if needed.iter().all(|stage| stages.done[*stage].is_some()) {
                return true;
            }
            let waited = self.board.changed.wait(stages);
            stages = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether another stage has failed, so that all of it is in vain.
    pub(super) fn is_over(&self) -> bool {
        self.board.stages().over
    }

    /// Waits for a program, which is killed when another stage fails meanwhile.
    pub(super) fn wait(&self, program: Running, meanwhile: impl FnOnce()) -> Result<Finished> {
        let program = Arc::new(program);
        self.running().push(Arc::clone(&program));
        if self.is_over() {
            program.kill();
        }
        meanwhile();
        let finished = program.wait();
        self.running().retain(|other| !Arc::ptr_eq(other, &program));
        Ok(finished?)
    }

    fn running(&self) -> MutexGuard<'_, Vec<Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stage that this one waited for.
    pub(super) fn finished(&self, stage: usize) -> Result<Arc<Done>> {
        let stages = self.board.stages();
        let done = stages.done.get(stage).cloned().flatten();
        done.ok_or_else(|| Error::new(Kind::Bug, "the stage is not built"))
    }

    /// The files of an image that was looked up.
    pub(super) fn files(&self, name: &str) -> Result<Arc<RootFs>> {
        let image = self.images.get(name).cloned();
        image.ok_or_else(|| Error::new(Kind::Bug, "the image was not looked up"))
    }

    /// A named build context.
    pub(super) fn named(&self, name: &str) -> Result<&Named> {
        let named = self.contexts.get(name);
        named.ok_or_else(|| Error::new(Kind::Bug, "the build context was not looked up"))
    }

    /// Whether files from there keep their owners: those of images do.
    pub(super) fn keeps_owners(&self, from: &From) -> bool {
        match from {
            From::Stage(_) | From::Image(_) => true,
            From::Named(name) => matches!(self.named(name), Ok(Named::Image(_))),
            From::Context => false,
        }
    }

    /// Fetches what is elsewhere.
    pub(super) fn fetcher(&self) -> Fetcher<'_> {
        Fetcher {
            engine: self.engine,
            connection: &self.request.dockerfile.connection,
            scratch: self.scratch,
            progress: self.progress,
        }
    }

    /// Looks up what `--build-context` names, as far as the stages want it.
    fn look_up_contexts(&mut self) -> Result<()> {
        let wanted: BTreeSet<String> = named(self.plan).map(str::to_owned).collect();
        for name in wanted {
            let wanted = (name.as_str(), &self.platform);
            let context = match self.bases.context(&name).cloned() {
                Some(NamedSource::Files(source)) => {
                    let fetched = source.fetch(&self.fetcher(), &mut std::io::empty(), false)?;
                    let Fetched::Directory(directory) = fetched else {
                        let message =
                            format!("the build context `{name}` is a file, not a directory");
                        return Err(Error::new(Kind::Input, message));
                    };
                    Named::Files(Context::named(&directory, &name)?)
                }
                // The plan has looked up those that stages start from, for the stages' platforms.
                _ if !copied(self.plan).any(|copied| copied == name) => continue,
                _ => match self
                    .bases
                    .context_image(self.engine, wanted, self.progress)?
                {
                    Some(image) => Named::Image(base::files(&image, self.engine)?),
                    None => continue,
                },
            };
            self.contexts.insert(name, context);
        }
        Ok(())
    }

    /// Shows that a stage starts.
    pub(super) fn from(&self, stage: &Stage, total: usize) {
        let from = match &stage.base {
            Base::Image(name) | Base::Context(name) => name.clone(),
            // There is nothing to bring, or it was shown when it was built.
            Base::Scratch | Base::Stage(_) => return,
        };
        let name = self.step_name(stage, (1, total), format!("FROM {from}"));
        self.progress.step(&name).finish();
    }

    /// Shows that a step starts, if it is one that is shown.
    pub(super) fn task(
        &self,
        stage: &Stage,
        step: &Step,
        place: (usize, usize),
    ) -> Box<dyn StepTask + '_> {
        let shown = matches!(
            step.action,
            Action::Copy(_) | Action::Add(_) | Action::Run(_) | Action::Workdir(_)
        );
        if !shown {
            return Box::new(crate::Silent);
        }
        let text = self.text.text.get(step.span.start..step.span.end);
        let words: Vec<&str> = text.unwrap_or_default().split_whitespace().collect();
        self.progress
            .step(&self.step_name(stage, place, words.join(" ")))
    }

    fn step_name(&self, stage: &Stage, (number, total): (usize, usize), text: String) -> StepName {
        let several = self.plan.stages.len() > 1;
        let named = || {
            stage
                .name
                .clone()
                .unwrap_or_else(|| format!("stage-{}", stage.index))
        };
        StepName {
            stage: several.then(named),
            number,
            total,
            text,
            platform: (self.request.platforms.len() > 1).then(|| self.platform.to_string()),
        }
    }
}

/// Everything that the stages do.
fn actions(plan: &Plan) -> impl Iterator<Item = &Action> {
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    steps.map(|step| &step.action)
}

/// Where a step takes files from.
fn sources(action: &Action) -> impl Iterator<Item = &From> {
    let copied = match action {
        Action::Copy(copy) => Some(&copy.from),
        _ => None,
    };
    let mounted = match action {
        Action::Run(run) => mounted(run),
        _ => Vec::new(),
    };
    copied.into_iter().chain(mounted)
}

fn mounted(run: &RunAction) -> Vec<&From> {
    let from = run.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { from, .. } => Some(from),
        MountKind::Cache { from, .. } => from.as_ref(),
        _ => None,
    });
    from.collect()
}

fn image_name(from: &From) -> Option<&str> {
    match from {
        From::Image(name) => Some(name),
        _ => None,
    }
}

/// The build contexts that the stages want by a name.
fn named(plan: &Plan) -> impl Iterator<Item = &str> {
    let bases = plan.stages.iter().filter_map(|stage| match &stage.base {
        Base::Context(name) => Some(name.as_str()),
        _ => None,
    });
    bases.chain(copied(plan))
}

/// The build contexts that files are copied from.
fn copied(plan: &Plan) -> impl Iterator<Item = &str> {
    let from = actions(plan).flat_map(sources);
    from.filter_map(|from| match from {
        From::Named(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The stages that a stage needs, by their places in the plan.
fn needed(stage: &Stage) -> Vec<usize> {
    let base = match stage.base {
        Base::Stage(stage) => Some(stage),
        _ => None,
    };
    let from = stage.steps.iter().flat_map(|step| sources(&step.action));
    let from = from.filter_map(|from| match from {
        From::Stage(stage) => Some(*stage),
        _ => None,
    });
    base.into_iter().chain(from).collect()
}
