//! Emulation of user and group ids, for containers that have a single id.
//!
//! Built up step by step; so far what the keeper of a run calls.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::error::RunError;
use crate::launch::Launched;
use crate::spec::{Spec, User};

/// The emulation for one running container.
#[derive(Debug)]
pub struct Pretence {
    listener: OwnedFd,
    user: User,
    pid: u32,
}

impl Pretence {
    /// Takes the listener out of what [`launch`](crate::launch) gave; `None` if the container was
    /// launched without [`Spec::pretend`].
    pub fn take(spec: &Spec, launched: &mut Launched) -> Option<Self> {
        Some(Self {
            listener: launched.pretence.take()?,
            user: spec.user.clone(),
            pid: launched.pid,
        })
    }

    /// Answers the container's system calls until its PID 1, `program`, has ended, or nobody is left
    /// to ask. To be called at once: until then the container's programs wait.
    ///
    /// The caller must have one thread. It becomes a member of the container's user namespace, for
    /// good, which may clear its `PR_SET_PDEATHSIG`.
    ///
    /// # Errors
    /// When the container cannot be entered. It should be killed then: its calls fail with `ENOSYS`.
    pub fn serve(&mut self, program: BorrowedFd<'_>) -> Result<(), RunError> {
        let _ = (&self.listener, &self.user, self.pid, program);
        Ok(())
    }

    /// The owners of what cannot carry a claim, as `((st_dev, st_ino), (uid, gid))` of the container's
    /// upper directory on the host: symbolic links, named pipes, sockets.
    #[must_use]
    pub fn link_owners(&self) -> Vec<((u64, u64), (u32, u32))> {
        Vec::new()
    }
}
