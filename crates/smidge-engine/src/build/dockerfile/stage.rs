//! Stages: one draft for each, step by step.

use std::sync::Arc;

use smidge_dockerfile::plan::{
    Action, AddAction, Base, CommandLine, CopyAction, CopySource, Stage, Step,
};
use smidge_dockerfile::{Span, Word};
use smidge_image::{Entry, EntryKind, History, NodeKind, Platform, Tree as _};
use smidge_store::Image;

use super::builder::{Builder, Named};
use super::choice::Flags;
use super::context::Context;
use super::copy::{Copying, Manner};
use super::remote::{Wishes, is_remote};
use super::report::Text;
use super::setting::set;
use super::{base, file};
use crate::build::draft::{self, Below, Draft, Origin, StepLayer, build_time, created};
use crate::build::layer::{Layer, Member, RootFs};
use crate::build::user;
use crate::{Error, Kind, Note, Result, StepTask};

/// What Docker puts in the environment of an image that starts from nothing.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage that is built.
pub(super) struct Done {
    /// Its image.
    pub(super) draft: Draft,
    /// Its files.
    pub(super) rootfs: Arc<RootFs>,
    pub(super) name: String,
}

/// Where the build is.
pub(super) struct At<'a> {
    /// The stage.
    pub(super) stage: &'a Stage,
    /// The instruction.
    pub(super) step: &'a Step,
    /// What it is shown by.
    pub(super) task: &'a dyn StepTask,
}

impl Builder<'_> {
    /// Builds a stage whose base, and everything else that it needs, is there.
    pub(super) fn stage(&self, stage: &Stage) -> Result<Done> {
        let mut state = self.start(stage)?;
        // As BuildKit counts: an image that a stage starts from is its first step, another stage or
        // nothing is none.
        let mut number = usize::from(matches!(stage.base, Base::Image(_) | Base::Context(_)));
        let shown = stage.steps.iter().filter(|step| is_shown(step)).count() + number;
        self.from(stage, shown);
        for step in &stage.steps {
            number += usize::from(is_shown(step));
            let task = self.task(stage, step, (number, shown));
            let at = At {
                stage,
                step,
                task: &*task,
            };
            let done = self
                .step(&mut state, &at)
                .map_err(self.text.locate(step.span));
            match &done {
                Ok(()) => task.finish(),
                // Broken off for another's sake: what went wrong is said there.
                Err(_) if self.is_over() => {}
                Err(error) => task.fail(&error.to_string()),
            }
            done?;
        }
        let name = stage.name.clone();
        Ok(Done {
            draft: state.draft,
            rootfs: Arc::new(state.rootfs),
            name: name.unwrap_or_else(|| stage.index.to_string()),
        })
    }

    fn start(&self, stage: &Stage) -> Result<State> {
        let (draft, rootfs) = match &stage.base {
            Base::Stage(base) => {
                let base = self.finished(*base)?;
                let mut draft = base.draft.clone();
                // They are carried out here, and not handed down.
                draft.config.on_build = None;
                draft.brought.clear();
                (draft, (*base.rootfs).clone())
            }
            Base::Image(name) => self.image_draft(stage, name)?,
            Base::Context(name) => self.context_draft(stage, name)?,
            Base::Scratch => (self.scratch_draft(stage), RootFs::default()),
        };
        Ok(State {
            draft,
            rootfs,
            has_cmd: false,
        })
    }

    fn image_draft(&self, stage: &Stage, name: &str) -> Result<(Draft, RootFs)> {
        let platform = self.platform_of(stage);
        let image = self.bases.known(name, &platform);
        let image = image.ok_or_else(|| Error::new(Kind::Bug, "the image was not looked up"))?;
        self.draft_over(image)
    }

    /// A stage that starts from the files of a build context, or from the image that it stands for.
    fn context_draft(&self, stage: &Stage, name: &str) -> Result<(Draft, RootFs)> {
        if let Some(image) = self.bases.known_context(name, &self.platform_of(stage)) {
            return self.draft_over(image);
        }
        let Named::Files(context) = self.named(name)? else {
            return Err(Error::new(Kind::Bug, "the image was not looked up"));
        };
        let mut draft = self.scratch_draft(stage);
        let manner = Manner::all("/", build_time(&self.engine.host), "the build context");
        let lower = RootFs::default();
        let mut copying = Copying::new(&lower, &manner, self.scratch);
        copying.copy(context, "/")?;
        let (layer, rootfs) = copying.finish();
        draft.push(format!("FROM {name}"), Some(layer));
        Ok((draft, rootfs))
    }

    fn draft_over(&self, image: &Image) -> Result<(Draft, RootFs)> {
        let base = base::base(image);
        let mut draft = Draft::new("Dockerfile", image.config.platform());
        draft.config = image.config.config.clone();
        draft.config.on_build = None;
        draft.below = Below::unpack(base.layers.clone(), 0, &self.engine.store)?;
        draft.base = Some(Arc::new(base));
        let rootfs = draft.below.rootfs();
        Ok((draft, rootfs))
    }

    /// The empty image as Docker has it.
    fn scratch_draft(&self, stage: &Stage) -> Draft {
        let mut draft = Draft::new("Dockerfile", self.platform_of(stage));
        draft.config.env = vec![DEFAULT_PATH.to_owned()];
        draft.config.working_dir = "/".to_owned();
        draft
    }

    pub(super) fn platform_of(&self, stage: &Stage) -> Platform {
        match &stage.platform {
            Some(platform) => file::convert(platform),
            None => self.platform.clone(),
        }
    }

    fn step(&self, state: &mut State, at: &At<'_>) -> Result<()> {
        let step = at.step;
        let layer = match &step.action {
            Action::Copy(copy) => {
                let layer = self.copy(state, step, copy)?;
                self.note_brought(state, &layer);
                Some(layer)
            }
            Action::Add(add) => {
                let layer = self.add(state, step, add)?;
                self.note_brought(state, &layer);
                Some(layer)
            }
            Action::Workdir(directory) => {
                state.draft.config.working_dir.clone_from(directory);
                self.make_directory(state, directory, &step.user)?
            }
            Action::Run(run) => {
                let stored = self.run(state, at, run)?;
                return state.push(self, step, Some(StepLayer::Stored(stored)));
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
                let extra = &mut state.draft.config.extra;
                extra.insert("ArgsEscaped".to_owned(), true.into());
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
        state.push(self, step, layer.map(StepLayer::Files))
    }

    fn copy(&self, state: &mut State, step: &Step, copy: &CopyAction) -> Result<Layer> {
        let context = self.source(&copy.from)?;
        let manner = Manner {
            owner: self.owner(&state.rootfs, copy.chown.as_ref())?,
            keep_owner: self.keeps_owners(&copy.from),
            ..self.manner(step, &copy.destination, &copy.sources)
        };
        let flags = Flags {
            parents: copy.parents,
            link: copy.link,
            ..self.flags(&copy.excludes, copy.chmod.as_ref())?
        };
        let copying = Copying::new(&state.rootfs, &manner, self.scratch).with(flags);
        self.transfer(state, copying, &context, (&copy.sources, None))
    }

    fn add(&self, state: &mut State, step: &Step, add: &AddAction) -> Result<Layer> {
        let manner = Manner {
            owner: self.owner(&state.rootfs, add.chown.as_ref())?,
            unpack: add.unpack != Some(false),
            ..self.manner(step, &add.destination, &add.sources)
        };
        let flags = Flags {
            link: add.link,
            ..self.flags(&add.excludes, add.chmod.as_ref())?
        };
        let copying = Copying::new(&state.rootfs, &manner, self.scratch).with(flags);
        self.transfer(state, copying, &self.context, (&add.sources, Some(add)))
    }

    /// Remembers what the user has put in, where that makes a difference.
    fn note_brought(&self, state: &mut State, layer: &Layer) {
        if self.request.dockerfile.slim_final {
            let paths = layer.members().map(|member| member.entry.path.clone());
            state.draft.brought.extend(paths);
        }
    }

    fn flags(&self, excludes: &[String], chmod: Option<&Word>) -> Result<Flags> {
        let flags = Flags::default().excluding(excludes)?;
        let mode = chmod.map(|mode| mode.value.as_str());
        let flags = flags.chmod(mode);
        match chmod {
            Some(word) => flags.map_err(self.text.locate(word.span)),
            None => flags,
        }
    }

    fn manner(&self, step: &Step, destination: &Word, sources: &[CopySource]) -> Manner {
        let destination = &destination.value;
        let destination = match destination.as_str() {
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            "." => format!("{}/", step.workdir),
            relative => format!("{}/{relative}", step.workdir),
        };
        Manner {
            many: sources.len() > 1,
            ..Manner::all(&destination, build_time(&self.engine.host), &step.history)
        }
    }

    /// Copies all sources; those of an `ADD` may be elsewhere.
    fn transfer(
        &self,
        state: &mut State,
        mut copying: Copying<'_>,
        context: &Context,
        (sources, add): (&[CopySource], Option<&AddAction>),
    ) -> Result<Layer> {
        for source in sources {
            match (source, add) {
                (CopySource::Path(word), Some(add)) if is_remote(&word.value) => {
                    let wishes = Wishes {
                        checksum: add.checksum.as_ref().map(|word| word.value.as_str()),
                        keep_git: add.keep_git_dir,
                    };
                    let fetched = self.fetcher().add(&word.value, wishes);
                    fetched
                        .and_then(|remote| copying.add(&remote, add.unpack == Some(true)))
                        .map_err(self.text.locate(word.span))?;
                }
                (CopySource::Path(word), _) => copying
                    .copy(context, &word.value)
                    .map_err(self.text.locate(word.span))?,
                (CopySource::Inline(file), _) => copying
                    .write(&file.name, &file.content)
                    .map_err(self.text.locate(file.span))?,
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
            // Docker makes a layer of nothing then.
            Some(NodeKind::Directory) => return Ok((directory != "/").then(Layer::default)),
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
pub(super) struct State {
    pub(super) draft: Draft,
    pub(super) rootfs: RootFs,
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

    /// Ends a step. A layer that a program has written is unpacked already, and lies below from now on.
    fn push(&mut self, builder: &Builder<'_>, step: &Step, layer: Option<StepLayer>) -> Result<()> {
        // A trigger that is kept for others leaves no entry.
        if step.history.is_empty() {
            return Ok(());
        }
        let history = History {
            created: Some(created(&builder.engine.host)?),
            created_by: Some(step.history.clone()),
            ..History::default()
        };
        let stored = match &layer {
            Some(StepLayer::Stored(stored)) => Some(*stored),
            _ => None,
        };
        self.draft.steps.push(draft::Step { history, layer });
        if let Some(stored) = stored {
            let mut layers = std::mem::take(&mut self.draft.below.layers);
            layers.push((stored.descriptor(), stored.diff_id));
            let steps = self.draft.steps.len();
            self.draft.below = Below::unpack(layers, steps, &builder.engine.store)?;
            self.rootfs = self.draft.below.rootfs();
        }
        Ok(())
    }
}

/// Whether BuildKit counts it among a stage's steps: those that do more than set something.
fn is_shown(step: &Step) -> bool {
    matches!(
        step.action,
        Action::Copy(_) | Action::Add(_) | Action::Run(_) | Action::Workdir(_)
    )
}
