//! pause, unpause, update, stats: what is done to a container that runs, from outside.

use smidge_run::{Resources, RunError, State, Status, Usage};

use super::lifetime;
use super::record::Known;
use super::resource;
use crate::network::NetworkMode;
use crate::{Engine, Error, Kind, Result};

impl Engine {
    /// Makes a container's processes stand still.
    ///
    /// # Errors
    /// When there is no such container, it does not run or is paused already, or the kernel has nothing
    /// for it that this user may use.
    pub fn pause(&self, name: &str) -> Result<()> {
        // `update` writes down of the same groups which they are.
        let (_turn, known) = self.turn(name)?;
        smidge_run::pause(&known.container.dir, &known.record.spec.resources)?;
        self.note_container(&known, "pause", &[]);
        Ok(())
    }

    /// Lets a container's processes go on.
    ///
    /// # Errors
    /// When there is no such container, or it is not paused.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let (_turn, known) = self.turn(name)?;
        smidge_run::unpause(&known.container.dir)?;
        self.note_container(&known, "unpause", &[]);
        Ok(())
    }

    /// Changes what a container may use, and what happens when its program ends (`--restart`): at once if
    /// it runs.
    ///
    /// # Errors
    /// When there is no such container or policy, the limits make no sense together, or the kernel does
    /// not take them: then everything stays as it was.
    pub fn update(&self, name: &str, changed: &Resources, policy: Option<&str>) -> Result<()> {
        let policy = policy.map(lifetime::restart).transpose()?;
        let (_turn, mut known) = self.turn(name)?;
        let Known {
            container,
            record,
            state,
            ..
        } = &mut known;
        if policy.is_some() && record.host.auto_remove {
            let fault = format!(
                "cannot change the restart policy of container `{name}`: it is removed when it ends"
            );
            return Err(Error::new(Kind::Conflict, fault));
        }
        let mut all = record.spec.resources.clone();
        all.update(changed);
        resource::check(&all)?;
        // No limit is what it starts without.
        let mut next = all.clone();
        next.pids_limit = next.pids_limit.filter(|limit| *limit > 0);
        if state.status == Status::Restarting && !changed.is_empty() {
            match smidge_run::update_next(&container.dir, &next) {
                // It is not started again.
                Ok(()) | Err(RunError::NotRunning { .. }) => {}
                Err(fault) => return Err(fault.into()),
            }
            *state = State::read(&container.dir)?;
        }
        if state.status == Status::Running && !changed.is_empty() {
            smidge_run::update(&container.dir, &all, changed)?;
        }
        record.spec.resources = next;
        if let Some(policy) = policy {
            record.spec.lifetime.restart = policy;
        }
        container.write_record(record)?;
        if let Some(policy) = policy {
            smidge_run::change_restart(&container.dir, policy);
        }
        self.note_container(&known, "update", &[]);
        Ok(())
    }

    /// What a container uses; none if it does not run.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn usage(&self, known: &Known) -> Result<Option<Usage>> {
        match smidge_run::usage(&known.container.dir) {
            // What goes over the machine's own network is not the container's alone.
            Ok(usage) if known.record.network() == NetworkMode::Host => Ok(Some(Usage {
                received: 0,
                sent: 0,
                ..usage
            })),
            Ok(usage) => Ok(Some(usage)),
            Err(RunError::NotRunning { .. }) => Ok(None),
            Err(_) if !known.container.dir.exists() => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }
}

/// Refuses what cannot be done to a container that stands still.
pub(crate) fn refuse_paused(known: &Known, verb: &str) -> Result<()> {
    if !known.state.paused {
        return Ok(());
    }
    let name = &known.container.name;
    let message = format!(
        "cannot {verb} container `{name}`: it is paused, unpause the container before that"
    );
    Err(Error::new(Kind::Conflict, message)
        .with_hint(format!("let it go on: `smidge unpause {name}`")))
}
