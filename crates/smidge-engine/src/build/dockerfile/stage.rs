//! Stages: one draft for each, step by step.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use smidge_dockerfile::instruction::Timing;
use smidge_dockerfile::plan::{
    Action, AddAction, Base, CommandLine, CopyAction, CopySource, From, HealthAction, Platform,
    Stage, Step,
};
use smidge_dockerfile::{Plan, PlanOptions, Span, Word, parse, plan};
use smidge_image::{Empty, Entry, EntryKind, Healthcheck, History, NodeKind, RunConfig, Tree as _};

use super::context::Context;
use super::copy::{Copying, Manner};
use super::report::Text;
use crate::build::config::{self, assign};
use crate::build::draft::{Draft, Origin, build_time, created};
use crate::build::layer::{Layer, Member, RootFs};
use crate::build::request::{BuildRequest, SourceKind};
use crate::build::scratch::Scratch;
use crate::build::user;
use crate::{Engine, Error, Kind, Note, Result};

/// What Docker puts in the environment of an image that starts from nothing.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Drafts the image of a Dockerfile.
pub(in crate::build) fn draft(
    context: &Path,
    file: &Path,
    request: &BuildRequest,
    engine: &Engine,
    scratch: &Scratch,
) -> Result<Draft> {
    let text = read(file, request)?;
    let (plan, notes) = planned(&text, request, engine)?;
    let context = Context::directory(context, file)?;
    let mut builder = Builder {
        text,
        context,
        engine,
        scratch,
        done: Vec::new(),
    };
    for stage in &plan.stages {
        let done = builder
            .stage(stage, request)
            .map_err(|error| other_way(error, file, request))?;
        builder.done.push(done);
    }
    let Some(Done { mut draft, .. }) = builder.done.pop() else {
        return Err(Error::new(Kind::Input, "the Dockerfile has no stage"));
    };
    draft.notes.splice(0..0, notes);
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

/// The instructions that would be carried out, in order.
pub(in crate::build) fn instructions(
    file: &Path,
    request: &BuildRequest,
    engine: &Engine,
) -> Result<Vec<String>> {
    let (plan, _) = planned(&read(file, request)?, request, engine)?;
    Ok(plan
        .stages
        .iter()
        .flat_map(|stage| &stage.steps)
        .map(|step| step.history.clone())
        .collect())
}

/// Reads the Dockerfile. It goes by the name under which the user can find it.
fn read(file: &Path, request: &BuildRequest) -> Result<Text> {
    let name = match &request.file {
        Some(file) => file.display().to_string(),
        None if request.path == Path::new(".") => "Dockerfile".to_owned(),
        None => request.path.join("Dockerfile").display().to_string(),
    };
    let bytes = fs::read(file).map_err(|e| Error::io(format!("cannot read `{name}`"), e))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::new(Kind::Input, format!("`{name}` is not text in UTF-8")).caused_by(error)
    })?;
    Ok(Text { name, text })
}

/// What the Dockerfile asks for, and what is worth saying about it.
fn planned(text: &Text, request: &BuildRequest, engine: &Engine) -> Result<(Plan, Vec<Note>)> {
    let parsed = parse(&text.text);
    if let Some(error) = text.errors(&parsed.diagnostics) {
        return Err(error);
    }
    let options = PlanOptions {
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        build_platform: platform(engine, None),
        platform: platform(engine, request.platform()),
        ..PlanOptions::default()
    };
    let plan = plan(&parsed.dockerfile, &options).map_err(|diagnostics| {
        let bug = || Error::new(Kind::Bug, format!("cannot plan `{}`", text.name));
        text.errors(&diagnostics).unwrap_or_else(bug)
    })?;
    if let Some(error) = text.unsupported(&plan) {
        return Err(error);
    }
    let warnings = parsed
        .diagnostics
        .iter()
        .chain(&plan.warnings)
        .cloned()
        .collect::<Vec<_>>();
    let notes = text.notes(&warnings).collect();
    Ok((plan, notes))
}

fn platform(engine: &Engine, wanted: Option<&smidge_image::Platform>) -> Platform {
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

/// A stage that is built.
struct Done {
    draft: Draft,
    rootfs: RootFs,
    name: String,
}

struct Builder<'b> {
    text: Text,
    context: Context,
    engine: &'b Engine,
    scratch: &'b Scratch,
    done: Vec<Done>,
}

impl Builder<'_> {
    fn stage(&self, stage: &Stage, request: &BuildRequest) -> Result<Done> {
        let (draft, rootfs) = match &stage.base {
            Base::Stage(base) => {
                let base = self.done.get(*base).ok_or_else(|| {
                    self.text
                        .error(stage.base_span, "the stage comes after this one")
                })?;
                let mut draft = base.draft.clone();
                // They are carried out here, and not handed down.
                draft.config.on_build = None;
                (draft, base.rootfs.clone())
            }
            _ => (self.scratch_draft(stage, request), RootFs::default()),
        };
        let name = stage
            .name
            .clone()
            .unwrap_or_else(|| stage.index.to_string());
        let mut state = State {
            draft,
            rootfs,
            has_cmd: false,
        };
        for step in &stage.steps {
            self.step(&mut state, step)
                .map_err(self.text.locate(step.span))?;
        }
        Ok(Done {
            draft: state.draft,
            rootfs: state.rootfs,
            name,
        })
    }

    /// The empty image as Docker has it.
    fn scratch_draft(&self, stage: &Stage, request: &BuildRequest) -> Draft {
        let planned = stage.platform.clone();
        let platform = planned.unwrap_or_else(|| platform(self.engine, request.platform()));
        let platform = smidge_image::Platform {
            os: platform.os,
            variant: platform.variant,
            ..smidge_image::Platform::linux(&platform.architecture)
        };
        let mut draft = Draft::new("Dockerfile", platform);
        draft.config.env = vec![DEFAULT_PATH.to_owned()];
        draft.config.working_dir = "/".to_owned();
        draft
    }

    fn step(&self, state: &mut State, step: &Step) -> Result<()> {
        let layer = match &step.action {
            Action::Copy(copy) => Some(self.copy(state, step, copy)?),
            Action::Add(add) => Some(self.add(state, step, add)?),
            Action::Workdir(directory) => {
                state.draft.config.working_dir.clone_from(directory);
                self.make_directory(state, directory, &step.user)?
            }
            Action::Entrypoint(command) => {
                state.origin(&self.text, command);
                state.draft.config.entrypoint = Some(command.argv.clone());
                // An inherited command was meant for another entrypoint.
                if !state.has_cmd {
                    state.draft.config.cmd = None;
                }
                None
            }
            Action::Cmd(command) => {
                if state.draft.config.entrypoint.is_none() {
                    state.origin(&self.text, command);
                }
                state.has_cmd = true;
                state.draft.config.cmd = Some(command.argv.clone());
                // Docker has set this for every CMD since it learnt to run on Windows.
                state
                    .draft
                    .config
                    .extra
                    .insert("ArgsEscaped".to_owned(), true.into());
                None
            }
            Action::Maintainer(author) => {
                state.draft.author = Some(author.clone());
                None
            }
            setting => {
                set(&mut state.draft.config, setting);
                None
            }
        };
        let history = History {
            created: Some(created(&self.engine.host)?),
            created_by: Some(step.history.clone()),
            ..History::default()
        };
        let layer = layer.filter(|layer| !layer.is_empty());
        state
            .draft
            .steps
            .push(crate::build::draft::Step { history, layer });
        Ok(())
    }

    fn copy(&self, state: &mut State, step: &Step, copy: &CopyAction) -> Result<Layer> {
        let context = match &copy.from {
            From::Stage(stage) => {
                let done = self.done.get(*stage);
                let done = done.ok_or_else(|| Error::new(Kind::Bug, "the stage is not built"))?;
                Context::stage(Arc::new(done.rootfs.clone()), &done.name)
            }
            _ => self.context.clone(),
        };
        let manner = Manner {
            owner: self.owner(&state.rootfs, copy.chown.as_ref())?,
            mode: self.mode(copy.chmod.as_ref())?,
            keep_owner: matches!(copy.from, From::Stage(_)),
            ..self.manner(step, &copy.destination, &copy.sources)
        };
        self.transfer(state, &manner, &context, &copy.sources)
    }

    fn add(&self, state: &mut State, step: &Step, add: &AddAction) -> Result<Layer> {
        let manner = Manner {
            owner: self.owner(&state.rootfs, add.chown.as_ref())?,
            mode: self.mode(add.chmod.as_ref())?,
            unpack: add.unpack != Some(false),
            ..self.manner(step, &add.destination, &add.sources)
        };
        self.transfer(state, &manner, &self.context, &add.sources)
    }

    fn manner(&self, step: &Step, destination: &Word, sources: &[CopySource]) -> Manner {
        let destination = &destination.value;
        let destination = match destination.as_str() {
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            "." => format!("{}/", step.workdir),
            relative => format!("{}/{relative}", step.workdir),
        };
        Manner {
            destination,
            many: sources.len() > 1,
            owner: None,
            keep_owner: false,
            mode: None,
            unpack: false,
            mtime: build_time(&self.engine.host),
            reason: step.history.clone(),
        }
    }

    fn transfer(
        &self,
        state: &mut State,
        manner: &Manner,
        context: &Context,
        sources: &[CopySource],
    ) -> Result<Layer> {
        let mut copying = Copying::new(&state.rootfs, manner, self.scratch);
        for source in sources {
            match source {
                CopySource::Path(word) => {
                    copying
                        .copy(context, &word.value)
                        .map_err(self.text.locate(word.span))?;
                }
                CopySource::Inline(file) => {
                    copying
                        .write(&file.name, &file.content)
                        .map_err(self.text.locate(file.span))?;
                }
            }
        }
        let note = |path| Note::new(format!("left out `{path}`: it is a device, pipe or socket"));
        state.draft.notes.extend(copying.skipped.iter().map(note));
        let unmatched =
            |source| Note::new(format!("nothing in {} matches `{source}`", context.name));
        state
            .draft
            .notes
            .extend(copying.unmatched.iter().map(unmatched));
        let (layer, rootfs) = copying.finish();
        state.rootfs = rootfs;
        Ok(layer)
    }

    fn owner(&self, rootfs: &RootFs, chown: Option<&Word>) -> Result<Option<(u32, u32)>> {
        let Some(word) = chown else { return Ok(None) };
        let owner = user::owner(rootfs, &word.value).map_err(self.text.locate(word.span))?;
        Ok(Some(owner))
    }

    fn mode(&self, chmod: Option<&Word>) -> Result<Option<u32>> {
        let Some(word) = chmod else { return Ok(None) };
        match u32::from_str_radix(&word.value, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
            _ => Err(self
                .text
                .error(word.span, format!("`{}` is not an octal mode", word.value))
                .with_hint("symbolic modes are not supported yet: write it as `--chmod=755`")),
        }
    }

    /// Makes the working directory, and what is missing above it. They belong to the user of the
    /// stage.
    fn make_directory(
        &self,
        state: &mut State,
        directory: &str,
        user: &str,
    ) -> Result<Option<Layer>> {
        let path = smidge_image::LayerPath::parse(directory.as_bytes());
        let path = state
            .rootfs
            .place(&path.map_err(|error| Error::of(Kind::Input, error))?)?;
        let found = state.rootfs.resolve(path.as_bytes());
        match found.ok().flatten().map(|(_, node)| node.kind) {
            Some(NodeKind::Directory) => return Ok(None),
            Some(_) => {
                let message = format!("the working directory `{path}` is a file in the image");
                return Err(Error::new(Kind::Input, message));
            }
            None => {}
        }
        let (uid, gid) = match user {
            "" => (0, 0),
            user => user::owner(&state.rootfs, user)?,
        };
        let mut layer = Layer::default();
        for path in path.ancestors().chain([path.clone()]) {
            if !matches!(state.rootfs.node(&path), Ok(None)) {
                continue;
            }
            let entry = Entry {
                uid,
                gid,
                mtime: build_time(&self.engine.host),
                ..Entry::new(path, EntryKind::Directory)
            };
            let member = Member::bare(entry, "working directory");
            state.rootfs.insert(member.clone());
            layer.insert(member);
        }
        Ok(Some(layer))
    }
}

/// A stage being built.
struct State {
    draft: Draft,
    rootfs: RootFs,
    /// Whether this very stage has a `CMD`.
    has_cmd: bool,
}

impl State {
    /// Remembers where it is said what is started.
    fn origin(&mut self, text: &Text, command: &CommandLine) {
        let place = command
            .arguments
            .first()
            .copied()
            .unwrap_or_else(|| Span::new(0, 0));
        let snippet = text.snippet(text.quoted(place));
        self.draft.origin = Some(Origin {
            snippet,
            shell_form: command.shell_form,
        });
    }
}

/// Sets what an instruction says in the config.
fn set(config: &mut RunConfig, action: &Action) {
    match action {
        Action::Env(pairs) => {
            pairs
                .iter()
                .for_each(|(name, value)| assign(&mut config.env, name, value));
        }
        Action::Label(pairs) => config.labels.extend(pairs.iter().cloned()),
        Action::User(user) => config.user.clone_from(user),
        Action::Expose(ports) => {
            let key =
                |port: &smidge_dockerfile::plan::Port| format!("{}/{}", port.number, port.protocol);
            config
                .exposed_ports
                .extend(ports.iter().map(|port| (key(port), Empty {})));
        }
        Action::Volume(paths) => {
            config
                .volumes
                .extend(paths.iter().map(|path| (path.clone(), Empty {})));
        }
        Action::StopSignal(signal) => config.stop_signal = Some(signal.clone()),
        Action::Shell(shell) => config.shell = Some(shell.clone()),
        Action::Healthcheck(check) => config.healthcheck = Some(healthcheck(check)),
        Action::OnBuild(trigger) => {
            config
                .on_build
                .get_or_insert_default()
                .push(trigger.clone());
        }
        // Seen by the plan alone, or done elsewhere.
        Action::Arg(_)
        | Action::Copy(_)
        | Action::Add(_)
        | Action::Run(_)
        | Action::Workdir(_)
        | Action::Entrypoint(_)
        | Action::Cmd(_)
        | Action::Maintainer(_) => {}
    }
}

fn healthcheck(action: &HealthAction) -> Healthcheck {
    let Timing {
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = action.timing;
    let nanoseconds = |duration: Option<Duration>| {
        duration.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    };
    Healthcheck {
        test: Some(action.test.clone()),
        interval: nanoseconds(interval),
        timeout: nanoseconds(timeout),
        start_period: nanoseconds(start_period),
        start_interval: nanoseconds(start_interval),
        retries: retries.map_or(0, i64::from),
    }
}
