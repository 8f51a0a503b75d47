//! Which ids a container has: `--userns`.

use std::fs::File;

use smidge_run::{Emulator, IdMap, User};

use super::create::CreateRequest;
use super::isolation::Users;
use super::sharing::Shares;
use crate::{Engine, Error, Kind, Result};

/// A container's ids.
pub(super) struct Ids {
    /// What they are on the host.
    pub(super) map: IdMap,
    /// Whether its files on the disk have the ids that it knows, and not those of the map.
    pub(super) shifted: bool,
    /// Held until its record is written, which tells others that the ids are taken.
    _lock: Option<File>,
}

impl Engine {
    /// Settles the ids of a container that is to be made.
    ///
    /// # Errors
    /// When what was asked for cannot be had, or contradicts what is shared with others.
    pub(super) fn ids(
        &self,
        request: &CreateRequest,
        user: &User,
        shares: &Shares,
        emulator: Option<&Emulator>,
    ) -> Result<Ids> {
        let usual = |map| Ids {
            map,
            shifted: shares.shifted,
            _lock: None,
        };
        let users = request.isolation.users;
        let refused = |why: &str| Err(Error::new(Kind::Input, why));
        if users != Users::Usual && shares.id_map.is_some() {
            return refused(
                "conflicting options: whoever shares something with a container has its user namespace",
            );
        }
        if users != Users::Usual && self.host.uid != 0 {
            return refused(
                "`--userns` is for root's containers: an ordinary user's are in user namespaces anyway",
            );
        }
        if users == Users::Own && request.isolation.privileged {
            return refused("conflicting options: `--privileged` takes the host's user namespace");
        }
        if users == Users::Own {
            return self.own_ids();
        }
        Ok(usual(match (&shares.id_map, IdMap::for_host(user)?) {
            (Some(theirs), _) => theirs.clone(),
            // What it takes to let the kernel start the emulator for children, too.
            (None, IdMap::None) if emulator.is_some() && users == Users::Usual => {
                IdMap::identity()?
            }
            (None, map) => map,
        }))
    }

    /// Ids that no other container of the store has.
    fn own_ids(&self) -> Result<Ids> {
        let path = self.store.root().join("containers/ids.lock");
        let lock = File::create(&path).and_then(|lock| lock.lock().map(|()| lock));
        let lock =
            lock.map_err(|source| Error::io(format!("cannot lock `{}`", path.display()), source))?;
        let others = self.all_containers()?;
        let taken = others
            .iter()
            .filter(|known| known.record.spec.isolation.shifted);
        let taken: Vec<&IdMap> = taken.map(|known| &known.record.spec.id_map).collect();
        let map = IdMap::own(&taken).map_err(|fault| {
            Error::from(fault).with_hint(
                "set some aside: add `containers:2147483648:1073741824` to `/etc/subuid` and `/etc/subgid`",
            )
        })?;
        Ok(Ids {
            map,
            shifted: true,
            _lock: Some(lock),
        })
    }
}
