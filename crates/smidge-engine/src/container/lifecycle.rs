//! stop, kill, wait, rm: a container's end.

use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use smidge_run::{IdMap, Reason, RunError, State, Status, User};
use smidge_store::Container;

use super::logs::nanoseconds;
use super::record::{Known, MountPoint, Record};
use crate::event::Event;
use crate::image::{Filter, Filters};
use crate::{Engine, Error, Kind, Note, Result, Swept};

/// Seconds that `stop` waits before it kills.
const GRACE: i64 = 10;

/// How `stop` ends a program.
#[derive(Clone, Debug, Default)]
pub struct StopRequest {
    /// The signal to send first, if not the container's own.
    pub signal: Option<String>,
    /// Seconds to wait for the program to end by itself; negative waits for ever.
    pub timeout: Option<i64>,
}

/// A signal by name or number.
///
/// # Errors
/// [`Kind::Input`] when there is no such signal.
pub(crate) fn signal_number(text: &str) -> Result<i32> {
    smidge_run::signal_number(text).ok_or_else(|| {
        Error::new(Kind::Input, format!("invalid signal: {text}"))
            .with_hint("signals go by name or number: `smidge kill -s HUP CONTAINER`")
    })
}

impl Engine {
    /// Asks a container's program to end, and kills it when it does not. One that does not run is fine.
    /// What it gives is worth knowing: that the program does not hear the signal.
    ///
    /// # Errors
    /// When there is no such container or signal, or it cannot be sent.
    pub fn stop(&self, name: &str, request: &StopRequest) -> Result<Option<Note>> {
        self.stop_known(&self.container(name)?, request)
    }

    fn stop_known(&self, known: &Known, request: &StopRequest) -> Result<Option<Note>> {
        let record = &known.record;
        let signal = match &request.signal {
            Some(signal) => signal_number(signal)?,
            None => own_signal(known),
        };
        if !known.state.status.is_active() {
            return Ok(None);
        }
        let dir = &known.container.dir;
        let timeout = request
            .timeout
            .or(record.host.stop_timeout)
            .unwrap_or(GRACE);
        let timeout = u64::try_from(timeout).ok().map(Duration::from_secs);
        retire(known);
        let note = |signal: i32| {
            let number = signal.to_string();
            self.note_container(known, "kill", &[("signal", number.as_str())]);
        };
        note(signal);
        let timeout = match gone(send(known, signal))? {
            true => None,
            false => timeout,
        };
        if ended(smidge_run::wait(dir, timeout))? {
            self.note_container(known, "stop", &[]);
            return Ok(unheard(known, signal));
        }
        note(9);
        gone(send(known, 9))?;
        ended(smidge_run::wait(dir, None))?;
        self.note_container(known, "stop", &[]);
        Ok(None)
    }

    /// Stops a container, if it runs, and starts it. The caller must have one thread only.
    ///
    /// # Errors
    /// As [`Engine::stop`] and [`Engine::start`].
    pub fn restart(&self, name: &str, request: &StopRequest) -> Result<Option<Note>> {
        let known = self.container(name)?;
        if let Some(signal) = &request.signal {
            signal_number(signal)?;
        }
        if known.record.host.auto_remove {
            // It is removed when it ends by itself.
            smidge_run::keep(&known.container.dir);
        }
        let note = self.stop_known(&known, request)?;
        self.start(name, None)?;
        self.note_container(&known, "restart", &[]);
        Ok(note)
    }

    /// Sends a signal to a container's program; `KILL` unless one is named.
    ///
    /// # Errors
    /// When there is no such container or signal, or the container does not run.
    pub fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let signal = signal.map_or(Ok(9), signal_number)?;
        let known = self.container(name)?;
        if !known.state.status.is_active() {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "cannot kill container: {name}: container {} is not running",
                    known.container.id
                ),
            ));
        }
        let number = signal.to_string();
        self.note_container(&known, "kill", &[("signal", number.as_str())]);
        if signal == 9 || signal == own_signal(&known) {
            retire(&known);
        }
        if known.state.status == Status::Running {
            send(&known, signal)?;
        }
        if signal == 9 {
            // So that what comes next finds it ended.
            ended(smidge_run::wait(&known.container.dir, None))?;
        }
        Ok(())
    }

    /// Waits until a container's program has ended: its exit status, and why it failed if that is known.
    ///
    /// # Errors
    /// When there is no such container, or its state cannot be read.
    pub fn wait(&self, name: &str) -> Result<(i32, Option<Reason>)> {
        let container = self.store.container(name)?;
        let code = match smidge_run::wait(&container.dir, None) {
            Err(RunError::NotRunning { .. }) => {
                return Err(smidge_store::Error::NoSuchContainer(name.to_owned()).into());
            }
            waited => waited?.unwrap_or(0),
        };
        // One that was to be removed at its end is gone.
        let state = State::read(&container.dir).unwrap_or_default();
        Ok((code, state.reason))
    }

    /// Removes a container; one that runs only if `force` is set. With `volumes`, its anonymous
    /// volumes go too. One that somebody else removes meanwhile is removed. What it gives is worth knowing: that its
    /// record is damaged, which takes `force` as well.
    ///
    /// # Errors
    /// When there is no such container, when it runs, when a file cannot be removed.
    pub fn remove_container(&self, name: &str, force: bool, volumes: bool) -> Result<Option<Note>> {
        let container = self.store.container(name)?;
        let removed = match self.known(container.clone()) {
            Ok(known) => self.end_and_discard(known, force, volumes).map(|()| None),
            Err(fault) if force && fault.kind() != Kind::NotFound => {
                self.discard_damaged(&container, &fault).map(Some)
            }
            Err(fault) => return Err(fault),
        };
        match removed {
            Err(_) if !container.dir.exists() => Ok(None),
            removed => removed,
        }
    }

    fn end_and_discard(&self, mut known: Known, force: bool, volumes: bool) -> Result<()> {
        loop {
            if known.state.status.is_active() {
                if !force {
                    return Err(runs(&known.container));
                }
                retire(&known);
                // Whose program has ended by itself may still hold things.
                gone(send(&known, 9))?;
                ended(smidge_run::wait(&known.container.dir, None))?;
            }
            let (_turn, container) = self.last_turn(&known.container)?;
            // Somebody may have started it before.
            known = self.known(container)?;
            if !known.state.status.is_active() {
                return self.discard(&known, volumes || known.record.host.auto_remove);
            }
        }
    }

    /// Removes a container of which little can be read: what is in its directory, and that.
    fn discard_damaged(&self, container: &Container, fault: &Error) -> Result<Note> {
        let (_turn, container) = self.last_turn(container)?;
        let dir = &container.dir;
        if smidge_run::is_held(dir) {
            smidge_run::retire(dir);
            gone(smidge_run::signal(dir, 9))?;
            ended(smidge_run::wait(dir, None))?;
        }
        // All ids that this user has, whichever of them were the container's.
        let map = IdMap::for_host(&User::default())?;
        discard_files(dir, &map)?;
        self.store.remove_container(&container)?;
        let event = Event::now("container", "destroy", &container.id);
        self.note(&event.with("name", container.name.as_str()));
        Ok(Note::new(format!(
            "container `{}` was damaged ({fault}): volumes of its own stay, if it had some; \
             `smidge volume prune` removes them",
            container.name
        )))
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// When there is no such container, when the name is none or taken, when the store cannot be written.
    pub fn rename_container(&self, name: &str, new: &str) -> Result<()> {
        if name.is_empty() || new.is_empty() {
            let fault = "Neither old nor new names may be empty";
            return Err(Error::new(Kind::Input, fault));
        }
        let (_turn, known) = self.turn(name)?;
        if new.strip_prefix('/').unwrap_or(new) == known.container.name {
            let fault = "Renaming a container with the same name as its current name";
            return Err(Error::new(Kind::Input, fault));
        }
        let renamed = self.store.rename_container(&known.container, new)?;
        let event = Event::now("container", "rename", &renamed.id)
            .with("image", known.record.image.as_str())
            .with("name", renamed.name.as_str())
            .with("oldName", format!("/{}", known.container.name));
        self.note(&event);
        if known.state.status.is_active() {
            let told = self.rename_on_networks(&known, &renamed);
            told.map_err(|fault| {
                fault.with_fact("it has its new name, but not yet on its networks")
            })?;
        }
        Ok(())
    }

    /// Removes the containers that do not run and meet all filters (`until`, `label`, `label!`), told by id.
    ///
    /// # Errors
    /// When a filter cannot be understood, when the containers cannot be listed.
    pub fn prune_containers(&self, filters: &[Filter]) -> Result<Swept> {
        let filters = Filters::new(filters, &PRUNE_FILTERS)?;
        let until = self.until(&filters)?;
        let mut swept = Swept::default();
        for known in self.all_containers()? {
            let is_ended = !known.state.status.is_active();
            if is_ended
                && filters.labels(known.record.labels())
                && is_before(&known.record.created, until)
            {
                let removed = self.discard_if_ended(&known.container);
                swept.note(known.container.id, removed);
            }
        }
        self.note_prune("container", swept.bytes);
        Ok(swept)
    }

    /// Removes a container, unless it has been started since it was looked at: how large it was. None if it
    /// stays, or somebody else has removed it.
    fn discard_if_ended(&self, container: &Container) -> Result<Option<u64>> {
        let known = self
            .last_turn(container)
            .and_then(|(turn, container)| Ok((turn, self.known(container)?)));
        let (_turn, known) = match known {
            Err(fault) if fault.kind() == Kind::NotFound => return Ok(None),
            known => known?,
        };
        if known.state.status.is_active() {
            return Ok(None);
        }
        let size = smidge_store::disk_usage(&known.container.dir);
        self.discard(&known, false)?;
        Ok(Some(size))
    }

    /// The time that an `until` filter names, in nanoseconds since 1970.
    pub(crate) fn until(&self, filters: &Filters) -> Result<Option<i64>> {
        let until = filters.values("until").last();
        until
            .map(|text| nanoseconds(text, self.host.now))
            .transpose()
    }

    /// Removes what a container has on the disk, its record last, so that a removal that was
    /// interrupted can be repeated. The caller has its turn, and has found that it does not run.
    pub(crate) fn discard(&self, known: &Known, volumes: bool) -> Result<()> {
        let Known {
            container, record, ..
        } = known;
        discard_files(&container.dir, record.spec.disk_map())?;
        if volumes {
            self.discard_volumes(container, record)?;
        }
        self.leave_networks(known)?;
        // The supervisor of one that is thrown away removes it as well, and one of the two tells.
        if self.store.remove_container(container)? {
            self.note_container(known, "destroy", &[]);
        }
        Ok(())
    }

    /// Removes the volumes that go with a container.
    pub(super) fn discard_volumes(&self, container: &Container, record: &Record) -> Result<()> {
        let nameless = |mount: &&MountPoint| mount.anonymous || mount.borrowed;
        for mount in record.mounts.iter().filter(nameless) {
            // Another one may have it through `--volumes-from`.
            if let Some(volume) = mount.source.parent().filter(|volume| volume.exists())
                && !self.has_other_users(&mount.name, &container.id)?
            {
                smidge_run::remove_tree(record.spec.disk_map(), volume)?;
                self.note_volume("destroy", &mount.name);
            }
        }
        Ok(())
    }

    /// Whether another container has a volume. What was read of containers before need not be read again:
    /// what they have mounted stays the same.
    fn has_other_users(&self, volume: &str, but: &str) -> Result<bool> {
        let mut known = self
            .volumes_of
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let ids = self.store.container_ids()?;
        known.retain(|id, _| ids.contains(id));
        for id in ids {
            // One that cannot be read has nothing that could be missed.
            if let Entry::Vacant(place) = known.entry(id)
                && let Ok(other) = self.container(place.key())
            {
                let mounts = other.record.mounts.into_iter();
                place.insert(mounts.map(|mount| mount.name).collect());
            }
        }
        let mut others = known.iter().filter(|(id, _)| *id != but);
        Ok(others.any(|(_, volumes)| volumes.iter().any(|other| other == volume)))
    }

    /// What has become of a container.
    ///
    /// # Errors
    /// When there is no such container, or its state cannot be read.
    pub fn state(&self, name: &str) -> Result<State> {
        Ok(self.container(name)?.state)
    }
}

/// Removes what a container's program has, or had, in its directory.
fn discard_files(dir: &Path, map: &IdMap) -> Result<()> {
    // Of one that was killed before its state was known, or whose supervisor was.
    smidge_run::remove_group(dir);
    for name in ["merged", "upper", "work", "root", "root.draft"] {
        smidge_run::remove_tree(map, &dir.join(name))?;
    }
    Ok(())
}

/// That a container is not removed because it runs.
fn runs(Container { id, name, .. }: &Container) -> Error {
    let fault = format!(
        "cannot remove container `{name}`: container is running: stop the container before removing or force remove"
    );
    Error::new(Kind::Conflict, fault)
        .with_fact(format!("id: {id}"))
        .with_hint(format!("stop it first: `smidge stop {name}`"))
        .with_hint(format!("or kill and remove it: `smidge rm -f {name}`"))
}

/// Tells a container's supervisor that the end of its program is wanted: it neither starts it again nor asks
/// why it has ended.
fn retire(known: &Known) {
    smidge_run::retire(&known.container.dir);
}

/// That a program makes no arrangements for the signal that is to end it, if that is so: by itself it
/// would have gone on until it was killed.
fn unheard(known: &Known, signal: i32) -> Option<Note> {
    let state = State::read(&known.container.dir).ok()?;
    let name = smidge_run::signal_name(signal)?;
    (state.ended_by == signal).then(|| {
        Note::new(format!(
            "the program of `{}` does not handle {name}: it was ended at once",
            known.container.name
        ))
    })
}

/// The signal that ends a container's program. What its image names may be none: then it is Docker's own.
fn own_signal(known: &Known) -> i32 {
    let named = known.record.config.stop_signal.as_deref();
    named.and_then(smidge_run::signal_number).unwrap_or(15)
}

/// Sends a signal to a container's program. One that is to end it lets it go on if it stands still, as in
/// Docker: it could not heed it otherwise.
fn send(known: &Known, signal: i32) -> std::result::Result<(), RunError> {
    let dir = &known.container.dir;
    smidge_run::signal(dir, signal)?;
    if known.state.paused && (signal == 9 || signal == own_signal(known)) {
        // It may have ended by now.
        let _ = smidge_run::unpause(dir);
    }
    Ok(())
}

/// The filters of `prune`.
pub(crate) const PRUNE_FILTERS: [&str; 3] = ["until", "label", "label!"];

/// Whether something was made (RFC 3339) before a time in nanoseconds since 1970. What does not say when it
/// was made, was made long ago.
pub(crate) fn is_before(created: &str, until: Option<i64>) -> bool {
    until.is_none_or(|until| {
        nanoseconds(created, std::time::SystemTime::UNIX_EPOCH).is_ok_and(|made| made < until)
            || created.is_empty()
    })
}

/// Whether the program had ended before the signal came; its supervisor may still be about to say so.
fn gone(sent: std::result::Result<(), RunError>) -> Result<bool> {
    match sent {
        Ok(()) => Ok(false),
        Err(RunError::NotRunning { .. }) => Ok(true),
        Err(fault) => Err(fault.into()),
    }
}

/// Whether the program ended in time.
fn ended(waited: std::result::Result<Option<i32>, RunError>) -> Result<bool> {
    match waited {
        // It was thrown away since.
        Err(RunError::NotRunning { .. }) => Ok(true),
        waited => Ok(waited?.is_some()),
    }
}
