//! `RUN`: a program sees the image so far, and what it leaves behind is the next layer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smidge_dockerfile::instruction::{Network, Security};
use smidge_dockerfile::plan::RunAction;
use smidge_image::{Descriptor, DiffId, Digest, LayerPath, Tree as _, media_type};
use smidge_run::{Finished, IdMap, Mount, Spec, Streams, capability};
use smidge_store::{CachedStep, Ownership, SnapshotOptions, Times};

use super::builder::Builder;
use super::cache::{Cached, KeyMaker};
use super::exchange::Record;
use super::mount::{Mounted, write};
use super::stage::{At, State};
use crate::build::assembly::Packer as _;
use crate::build::draft::{Below, StepLayer, Stored, build_time};
use crate::container::{Account, emulator, find_user};
use crate::{Error, Kind, Result, StepTask};

/// What `PATH` is if nobody says.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the machine is called in which a program builds.
const HOSTNAME: &str = "buildkitsandbox";

/// What to say where programs only have a root directory of their own.
pub(super) const EXPOSED: &str = "no namespaces here: `RUN` steps are not isolated from this \
     container, and have no `/proc` and few devices";

/// A program that is to run.
struct Job<'a> {
    run: &'a RunAction,
    account: Account,
    /// Its environment, less what mounts and proxies add.
    env: Vec<String>,
}

impl Builder<'_> {
    /// Runs a program, unless it is known what it leaves behind.
    pub(super) fn run(&self, state: &mut State, at: &At<'_>, run: &RunAction) -> Result<Stored> {
        if self.is_over() {
            return Err(Error::new(Kind::Host, "another stage has failed"));
        }
        self.allowed(run)?;
        self.settle(state)?;
        let job = self.job(state, at, run)?;
        let key = self.key(state, at, &job)?;
        self.exchange.meet(run);
        let stored = match self.known(at, &key) {
            Some(stored) => {
                at.task.cached();
                stored
            }
            None => {
                let stored = self.execute(state, at, &job)?;
                let step = CachedStep {
                    diff_id: stored.diff_id,
                    size: stored.size,
                    description: at.step.history.clone(),
                };
                self.engine.store.keep_step(&key, &step)?;
                stored
            }
        };
        let record = Record {
            key,
            layer: stored.diff_id,
            size: stored.size,
            description: at.step.history.clone(),
        };
        self.exchange.learn(&record);
        state.draft.records.push(record);
        Ok(stored)
    }

    /// What the step left behind when it was carried out before, here or elsewhere.
    fn known(&self, at: &At<'_>, key: &Digest) -> Option<Stored> {
        if !self.trusts(at.stage) {
            return None;
        }
        let known = self.engine.store.cached_step(key);
        let known = known.or_else(|| self.exchange.bring(key));
        known.map(|CachedStep { diff_id, size, .. }| Stored { diff_id, size })
    }

    /// Refuses what nobody has allowed.
    fn allowed(&self, run: &RunAction) -> Result<()> {
        let allow = &self.request.dockerfile.allow;
        if run.security == Security::Insecure && !allow.iter().any(|a| a == "security.insecure") {
            let message = "`RUN --security=insecure` is not allowed";
            return Err(Error::new(Kind::Denied, message)
                .with_hint("allow it: `smidge build --allow security.insecure …`"));
        }
        if let Some(device) = run.devices.first() {
            let message =
                format!("cannot give `{device}` to a `RUN`: there are no devices of that kind");
            return Err(Error::new(Kind::Input, message));
        }
        Ok(())
    }

    /// Turns the files that were added since the last program ran into layers that a program can see.
    fn settle(&self, state: &mut State) -> Result<()> {
        let draft = &mut state.draft;
        let mut rootfs = draft.below.rootfs();
        let mut layers = std::mem::take(&mut draft.below.layers);
        let above = draft.steps.iter_mut().skip(draft.below.steps);
        for layer in above.filter_map(|step| step.layer.as_mut()) {
            if let StepLayer::Files(files) = layer {
                files.complete(&rootfs, build_time(&self.engine.host));
                rootfs.apply(files);
                let stored = self.packer(None).pack(files, self.progress)?;
                layers.push((stored.descriptor(), stored.diff_id));
                *layer = StepLayer::Stored(stored);
            }
        }
        draft.below = Below::unpack(layers, draft.steps.len(), &self.engine.store)?;
        state.rootfs = draft.below.rootfs();
        Ok(())
    }

    fn job<'a>(&self, state: &State, at: &At<'_>, run: &'a RunAction) -> Result<Job<'a>> {
        let account = find_user(&state.rootfs, &at.step.user)?;
        let environment = at.stage.environment(at.step);
        let has = |name: &str| environment.iter().any(|(known, _)| known == name);
        let mut env = Vec::new();
        if !has("PATH") {
            env.push(DEFAULT_PATH.to_owned());
        }
        if !has("HOME") {
            env.push(format!("HOME={}", account.home));
        }
        env.extend(
            environment
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        Ok(Job { run, account, env })
    }

    /// Names the outcome by everything that it depends on, as far as that can be known.
    fn key(&self, state: &State, at: &At<'_>, job: &Job<'_>) -> Result<Digest> {
        let Job { run, account, env } = job;
        let mut key = KeyMaker::new("run");
        key.add(state.draft.platform.to_string());
        for (_, diff_id) in &state.draft.below.layers {
            key.add(diff_id.0.to_string());
        }
        key.add("in");
        key.add(&at.step.workdir);
        key.add(format!("{:?}", account.user));
        for texts in [&run.command.argv, env] {
            key.add(texts.len().to_string());
            texts.iter().for_each(|text| key.add(text));
        }
        if let Some(script) = &run.script {
            key.add(&script.name);
            key.add(&script.content);
        }
        let options = &self.request.dockerfile;
        key.add(format!("{:?} {:?}", self.network(run)?, run.security));
        key.add(format!("{:?} {:?}", options.shm_size, options.add_hosts));
        key.add(format!("{:?}", self.limits));
        key.add(format!("{:?}", self.engine.host.source_date_epoch));
        if self.hostname() != HOSTNAME {
            key.add(format!("called {}", self.hostname()));
        }
        self.add_mounts(&mut key, run)?;
        Ok(key.finish())
    }

    fn execute(&self, state: &State, at: &At<'_>, job: &Job<'_>) -> Result<Stored> {
        let dir = self.scratch.subdirectory()?;
        let mounted = self.mounts(job.run, &dir.join("mounts"))?;
        let spec = self.spec(state, at, job, (&dir, &mounted))?;
        let began = SystemTime::now();
        let finished = self.watch(&spec, at.task)?;
        drop(mounted.caches);
        if finished.status != 0 {
            self.debug(&spec)?;
            return Err(self.failed(at, &finished));
        }
        let options = SnapshotOptions {
            times: self.times(began),
            stubs: stubs(state, &spec),
            lower: spec.layers.clone(),
            link_owners: finished.link_owners.into_iter().collect::<BTreeMap<_, _>>(),
            ..SnapshotOptions::new(Ownership::of_caller())
        };
        let snapshot = self.engine.store.snapshot(&dir.join("upper"), &options)?;
        smidge_run::remove_tree(&spec.id_map, &dir)?;
        Ok(snapshot.into())
    }

    /// Files that the program made bear its time, which is another one each time. Unless the user has
    /// named a time, those that it only unpacked keep theirs.
    fn times(&self, began: SystemTime) -> Times {
        let since = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        Times {
            since: i64::try_from(since.as_secs()).ok(),
            clamp: self.engine.host.source_date_epoch.is_some(),
            value: build_time(&self.engine.host),
        }
    }

    fn spec(
        &self,
        state: &State,
        at: &At<'_>,
        job: &Job<'_>,
        (dir, mounted): (&Path, &Mounted),
    ) -> Result<Spec> {
        let (host, store) = (&self.engine.host, &self.engine.store);
        let mut layers = store.checkout_layers(&state.draft.below.layers)?;
        let skeleton = store.root().join("skeleton");
        if smidge_run::make_skeleton(&skeleton).is_ok() {
            layers.push(skeleton);
        }
        let emulator = emulator(&state.draft.platform, host);
        let ids_are_real = Ownership::of_caller() == Ownership::Layer;
        let id_map = match ids_are_real {
            true if emulator.is_some() => IdMap::identity()?,
            true => IdMap::for_root()?,
            false => IdMap::Single {
                uid: 0,
                gid: 0,
                host_uid: host.uid,
                host_gid: host.gid,
            },
        };
        let proxies = self.plan.proxy.iter();
        let proxies = proxies.map(|(name, value)| format!("{name}={value}"));
        let own = job.env.iter().chain(&mounted.env).cloned();
        let insecure = job.run.security == Security::Insecure;
        Ok(Spec {
            id: format!("build-{}", std::process::id()),
            layers,
            args: job.run.command.argv.clone(),
            env: proxies.chain(own).collect(),
            cwd: at.step.workdir.clone(),
            user: job.account.user.clone(),
            hostname: self.hostname().to_owned(),
            mounts: self
                .own_files(dir)?
                .into_iter()
                .chain(mounted.mounts.iter().cloned())
                .collect(),
            network: self.network(job.run)?,
            id_map,
            capabilities: capability::DEFAULT,
            seccomp: !insecure,
            no_new_privileges: false,
            // What a machine that goes down has not written is not missed.
            cleanup: vec![dir.to_owned()],
            dir: dir.to_owned(),
            emulator,
            pretend: !ids_are_real,
            shm_size: self.request.dockerfile.shm_size,
            limits: self.limits.clone(),
            insecure,
            ..Spec::default()
        })
    }

    fn network(&self, run: &RunAction) -> Result<smidge_run::Network> {
        let wanted = self.request.dockerfile.network.as_deref();
        match (run.network, wanted) {
            (Network::None, _) | (Network::Default, Some("none")) => Ok(smidge_run::Network::None),
            (Network::Host, _) | (Network::Default, None | Some("host" | "default")) => {
                Ok(smidge_run::Network::Host)
            }
            (Network::Default, Some(other)) => {
                let message = format!("unknown network `{other}`");
                Err(Error::new(Kind::Input, message)
                    .with_hint("`--network` takes `default`, `host` or `none` in a build"))
            }
        }
    }

    /// What the machine is called: as `BUILDKIT_SANDBOX_HOSTNAME` says, if it says anything.
    fn hostname(&self) -> &str {
        let wanted = self.request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME");
        let wanted = wanted.filter(|name| !name.is_empty());
        wanted.map_or(HOSTNAME, String::as_str)
    }

    /// The files that every container has in `/etc`.
    fn own_files(&self, dir: &Path) -> Result<Vec<Mount>> {
        let resolver = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let mut hosts = format!(
            "127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
            self.hostname()
        );
        for (name, address) in &self.hosts {
            hosts.push_str(&format!("{address}\t{name}\n"));
        }
        let files = [("hosts", hosts), ("resolv.conf", resolver)];
        let mount = |(name, text): (&str, String)| {
            let source = dir.join(name);
            // For whomever the program runs as, whatever the umask.
            write(&source, text.as_bytes(), 0o644)?;
            Ok(Mount::bind(source, format!("/etc/{name}"), false))
        };
        files.into_iter().map(mount).collect()
    }

    /// Starts the program and shows what it writes, to its end.
    fn watch(&self, spec: &Spec, task: &dyn StepTask) -> Result<Finished> {
        let spawner = self.spawner.as_ref();
        let spawner = spawner.ok_or_else(|| Error::new(Kind::Bug, "no program can be started"))?;
        let piped = |source| Error::io("cannot make a pipe", source);
        // One for both streams, so that what is written comes in order.
        let (mut output, out) = io::pipe().map_err(piped)?;
        let err = out.try_clone().map_err(piped)?;
        let nothing =
            File::open("/dev/null").map_err(|e| Error::io("cannot open `/dev/null`", e))?;
        let streams = Streams {
            stdin: OwnedFd::from(nothing),
            stdout: OwnedFd::from(out),
            stderr: OwnedFd::from(err),
        };
        let running = spawner.spawn(spec, streams);
        let running = running.map_err(|error| {
            let error = Error::from(error);
            match error.kind() {
                // The codes of a program that cannot start are for `run`.
                Kind::CannotRun(_) => error.with_kind(Kind::Input),
                _ => error,
            }
        })?;
        if !running.is_isolated() {
            self.exposed.store(true, Ordering::Relaxed);
        }
        self.wait(running, || pass_on(&mut output, task))
    }

    /// Lets the user look at what a program has left that failed, if that was asked for.
    fn debug(&self, spec: &Spec) -> Result<()> {
        let (Some(shell), Some(spawner)) = (&self.request.dockerfile.debug_shell, &self.spawner)
        else {
            return Ok(());
        };
        let own = |stream: BorrowedFd<'_>| {
            stream
                .try_clone_to_owned()
                .map_err(|e| Error::io("cannot hand on the terminal", e))
        };
        let streams = Streams {
            stdin: own(io::stdin().as_fd())?,
            stdout: own(io::stderr().as_fd())?,
            stderr: own(io::stderr().as_fd())?,
        };
        let spec = Spec {
            args: vec![shell.clone()],
            ..spec.clone()
        };
        let running = spawner.spawn(&spec, streams)?;
        self.wait(running, || {})?;
        Ok(())
    }

    /// What writes layers.
    pub(super) fn packer(&self, stage: Option<&smidge_dockerfile::plan::Stage>) -> Cached<'_> {
        Cached {
            store: &self.engine.store,
            trusted: stage.is_none_or(|stage| self.trusts(stage)),
        }
    }

    /// A program did not succeed. Its own output says why; here is what it may not know, and how to look.
    fn failed(&self, at: &At<'_>, finished: &Finished) -> Error {
        let command = at.step.history.strip_suffix(" # buildkit");
        let command = command.unwrap_or(&at.step.history).chars().take(120);
        let command: String = command.collect();
        let mut error = Error::new(Kind::Input, format!("`{command}` {}", how(finished)));
        if self.scratch.is_full() {
            let root = self.engine.store.root().display();
            error = error
                .with_fact(format!("no space left on the disk of the store `{root}`"))
                .with_hint("remove what no image needs: `smidge prune`");
        }
        if self.exposed.load(Ordering::Relaxed) {
            error = error.with_fact(EXPOSED);
        }
        if finished.status == 137 {
            error = error.with_hint("it may have had too little memory");
        }
        match self.request.dockerfile.debug_shell {
            Some(_) => error,
            None => error.with_hint("look at what it has left: `smidge build --debug-shell …`"),
        }
    }

    /// Whether what is known of a stage counts.
    fn trusts(&self, stage: &smidge_dockerfile::plan::Stage) -> bool {
        let options = &self.request.dockerfile;
        let named =
            |name: &String| Some(name) == stage.name.as_ref() || *name == stage.index.to_string();
        !options.no_cache && !options.no_cache_filter.iter().any(named)
    }

    /// What a manifest would say of a layer that was packed here.
    pub(super) fn stored(&self, diff_id: DiffId) -> Result<Descriptor> {
        let path = self
            .engine
            .store
            .root()
            .join("blobs/sha256")
            .join(diff_id.0.hex());
        let size = path.metadata().map(|metadata| metadata.size());
        let size = size.map_err(|e| Error::io(format!("cannot read `{}`", path.display()), e))?;
        Ok(Descriptor::new(media_type::LAYER, diff_id.0, size))
    }
}

/// How often whoever shows a program's output gets a chance to show the time that passes.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Passes on what a program writes until it has no more; nothing, now and then, while it is silent.
fn pass_on(from: &mut io::PipeReader, task: &dyn StepTask) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let waited = poll(&mut [PollFd::new(&*from, PollFlags::IN)], Some(&TICK));
        if waited == Ok(0) {
            task.output(&[]);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(read @ 1..) => task.output(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

/// The places that the sandbox makes for its mounts where the image has none, with what is above
/// them.
fn stubs(state: &State, spec: &Spec) -> Vec<LayerPath> {
    let mut stubs = Vec::new();
    for mount in &spec.mounts {
        let Ok(place) = LayerPath::parse(mount.destination.as_bytes()) else {
            continue;
        };
        for path in place.ancestors().chain([place.clone()]) {
            if !path.is_root() && matches!(state.rootfs.resolve(path.as_bytes()), Ok(None)) {
                stubs.push(path);
            }
        }
    }
    stubs
}

/// How a program ended that did not succeed.
fn how(finished: &Finished) -> String {
    match finished.signal {
        Some(signal) => {
            let name = smidge_run::signal_name(signal);
            let name = name.unwrap_or_else(|| format!("signal {signal}"));
            format!("was killed by {name}")
        }
        None => format!("failed with exit status {}", finished.status),
    }
}
