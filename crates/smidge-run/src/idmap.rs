//! How the container's user and group ids appear on the host (`user_namespaces(7)`).

use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::spec::User;

/// The mapping of a container's ids to the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdMap {
    /// No user namespace: the ids are the host's own. For root only.
    None,
    /// Many ids: written directly by root, by `newuidmap` and `newgidmap` for others.
    Ranges {
        /// User ids.
        uids: Vec<Range>,
        /// Group ids.
        gids: Vec<Range>,
    },
    /// One id each, which needs nobody's permission.
    Single {
        /// The user id inside.
        uid: u32,
        /// The group id inside.
        gid: u32,
        /// The user id that it is on the host: the caller's.
        host_uid: u32,
        /// The group id that it is on the host: the caller's.
        host_gid: u32,
    },
}

/// Consecutive ids and what they are on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first id inside.
    pub container: u32,
    /// The first id on the host.
    pub host: u32,
    /// How many.
    pub length: u32,
}

impl IdMap {
    /// Picks the widest map that the caller may use on this host: none for root, the ranges of
    /// `/etc/subuid` and `/etc/subgid` where the set-user-ID programs that map them are installed,
    /// else a single id, which is then the one that `user` asks for.
    ///
    /// # Errors
    /// When `/etc/subuid` or `/etc/subgid` exists and cannot be read.
    pub fn for_host(user: &User) -> Result<Self, RunError> {
        let _ = user;
        unimplemented!()
    }
}
