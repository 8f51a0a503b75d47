//! Containers whose programs could look into smidge when it comes among them.

use smidge_run::{Namespace, Probe};

use crate::{Engine, Result};

impl Engine {
    /// Lets the caller begin anew as a sealed copy of itself, if programs of a container could get hold of
    /// its binary when it comes among them. To be called before anything is done. What else is wrong with
    /// the container is told by whatever comes then.
    ///
    /// # Errors
    /// When no copy can be made.
    pub fn seal_against(&self, name: &str) -> Result<()> {
        if self.host.uid != 0 {
            return Ok(());
        }
        match self.container(name) {
            Ok(known) if smidge_run::looks_into_others(&known.record.spec) => {
                Ok(smidge_run::seal()?)
            }
            _ => Ok(()),
        }
    }

    /// The same for a container that is about to be made, whose programs may look into others: its health
    /// may be asked for among them.
    ///
    /// # Errors
    /// As [`Engine::seal_against`].
    pub fn seal(&self) -> Result<()> {
        match self.host.uid {
            0 => Ok(smidge_run::seal()?),
            _ => Ok(()),
        }
    }

    /// The same for a container that is about to be started: for its own programs, if its health is asked
    /// for among them, and for those of the container whose processes it is to share.
    ///
    /// # Errors
    /// As [`Engine::seal_against`].
    pub fn seal_for(&self, name: &str) -> Result<()> {
        if self.host.uid != 0 {
            return Ok(());
        }
        let Ok(known) = self.container(name) else {
            return Ok(());
        };
        let spec = &known.record.spec;
        let probe = spec.lifetime.health.as_ref().map(|health| &health.probe);
        if matches!(probe, Some(Probe::Command(_))) && smidge_run::looks_into_others(spec) {
            smidge_run::seal()?;
        }
        let mut joined = spec.isolation.joined.iter();
        let processes = joined.find(|joined| joined.namespace == Namespace::Processes);
        let id = processes.and_then(|joined| joined.dir.file_name()?.to_str());
        id.map_or(Ok(()), |id| self.seal_against(id))
    }
}
