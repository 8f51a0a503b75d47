//! Networks that users have made: what is known of them, and which addresses are given out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::container::random;
use crate::error::READ;
use crate::image::parse;
use crate::{Error, Store, Subnet, Workspace, name, regular};

/// What is known of a network, in its directory.
const RECORD: &str = "network.json";

/// Which addresses are given out: a file each, which names the container.
const LEASES: &str = "leases";

/// How many holders of addresses are looked at before one that nobody has had is taken.
const LOOKS: usize = 16;

/// A network in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its directory, in which the sandbox keeps who is on it.
    pub dir: PathBuf,
    /// What is kept of it.
    pub record: NetworkRecord,
}

/// What is kept of a network. Changing this is a format break.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkRecord {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// When it was made, RFC 3339 with nanoseconds.
    pub created: String,
    /// What its bridge is called.
    pub bridge: String,
    /// Its ranges of addresses, at most one of each family.
    pub subnets: Vec<Subnet>,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether it was said that containers may be put on it by hand.
    pub attachable: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What its driver was told.
    pub options: BTreeMap<String, String>,
}

/// Who asks for an address.
pub struct Applicant<'a> {
    /// The container's id.
    pub container: &'a str,
    /// What else stands in the lease, such as the process that starts the container. One line.
    pub note: &'a str,
    /// The address that it wants, if it cares.
    pub wanted: Option<IpAddr>,
    /// Whether the container that has an address, by its id and note, needs it.
    pub needs: &'a dyn Fn(&Lease) -> bool,
}

/// That a container was given an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub ip: IpAddr,
    /// The container's id.
    pub container: String,
    /// What else was written down.
    pub note: String,
}

/// Why an address cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another container has it.
    Taken {
        /// The container's id.
        by: String,
    },
    /// It is of another network, or one that no container may have.
    Outside,
    /// There is no other left.
    Exhausted,
}

impl Store {
    /// Makes a network, all at once: `plan` settles what it is like by its id and the others that there are,
    /// which do not change meanwhile.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::NetworkExists`], when the store cannot be written; what `plan` fails with.
    pub fn create_network<E: From<Error>>(
        &self,
        name: &str,
        plan: impl FnOnce(&str, &[Network]) -> Result<NetworkRecord, E>,
    ) -> Result<Network, E> {
        if !is_valid(name) {
            let (kind, name) = ("network", name.to_owned());
            return Err(Error::BadName { kind, name }.into());
        }
        let parent = self.path("networks");
        self.make_directory(&parent, 0o755)?;
        let _turn = self.lock_directory(&parent)?;
        let others = self.networks()?;
        if others.iter().any(|other| other.name == name) {
            return Err(Error::NetworkExists(name.to_owned()).into());
        }
        let bytes: [u8; 32] = random()?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let record = plan(&id, &others)?;
        Ok(self.place_network(name, record)?)
    }

    fn place_network(&self, name: &str, record: NetworkRecord) -> Result<Network, Error> {
        let dir = self.path("networks").join(name);
        let temp = self.workspace()?;
        let whole = temp.path().join("network");
        self.make_directory(&whole.join(LEASES), 0o755)?;
        let json = serde_json::to_vec(&record).map_err(|source| Error::Document {
            what: name.to_owned(),
            kind: "network record",
            source,
        })?;
        File::create_new(whole.join(RECORD))
            .and_then(|mut file| file.write_all(&json).and_then(|()| file.sync_all()))
            .map_err(|error| self.io("write", &whole, error))?;
        if dir.exists() {
            // Without a record it is no network, but what a crash has left of one.
            let aside = temp.path().join("left");
            fs::rename(&dir, aside).map_err(|error| self.io("remove", &dir, error))?;
        }
        match renameat_with(CWD, &whole, CWD, &dir, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Network {
                name: name.to_owned(),
                dir,
                record,
            }),
            Err(error) => Err(self.io("create", &dir, error.into())),
        }
    }

    /// All networks that can be read, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn networks(&self) -> Result<Vec<Network>, Error> {
        let paths = self.list(&self.path("networks"))?;
        let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
        // A damaged one must not hide the others.
        let networks = names.filter_map(|name| self.network(name).ok().flatten());
        Ok(networks.collect())
    }

    /// The network of a name.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn network(&self, name: &str) -> Result<Option<Network>, Error> {
        if !is_valid(name) {
            return Ok(None);
        }
        let dir = self.path("networks").join(name);
        let path = dir.join(RECORD);
        let bytes = match regular::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(READ, &path, error)),
        };
        Ok(Some(Network {
            name: name.to_owned(),
            record: parse(&path.display().to_string(), "network record", &bytes)?,
            dir,
        }))
    }

    /// Removes a network, all at once, unless a container needs one of its addresses: the ids of those
    /// that do. `last` is done before the network is gone, while nobody can get an address.
    ///
    /// # Errors
    /// When the store cannot be written, and what `last` fails with.
    pub fn remove_network<E: From<Error>>(
        &self,
        network: &Network,
        needs: &dyn Fn(&Lease) -> bool,
        last: impl FnOnce() -> Result<(), E>,
    ) -> Result<Result<Workspace, Vec<String>>, E> {
        let grave = self.workspace()?;
        let Some(_lock) = self.lock_leases(network)? else {
            return Ok(Ok(grave));
        };
        let leases = self.leases(network)?.into_iter();
        let users: Vec<String> = leases.filter(needs).map(|lease| lease.container).collect();
        if !users.is_empty() {
            return Ok(Err(users));
        }
        last()?;
        let aside = grave.path().join("network");
        match renameat_with(CWD, &network.dir, CWD, &aside, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => Ok(Ok(grave)),
            Err(error) => Err(self.io("remove", &network.dir, error.into()).into()),
        }
    }

    /// Gives a container an address of a subnet: the one that it wants, or the first that nobody needs.
    ///
    /// # Errors
    /// [`Error::NoSuchNetwork`], and when the store cannot be written. Inside: why there is none.
    pub fn lease(
        &self,
        network: &Network,
        subnet: &Subnet,
        applicant: &Applicant<'_>,
    ) -> Result<Result<IpAddr, Refusal>, Error> {
        let gone = || Error::NoSuchNetwork(network.name.clone());
        let _lock = self.lock_leases(network)?.ok_or_else(gone)?;
        let dir = network.dir.join(LEASES);
        let chosen = match applicant.wanted {
            Some(ip) if !subnet.grants(ip) => return Ok(Err(Refusal::Outside)),
            Some(ip) => match holder(&dir, ip).filter(|lease| applicant.is_kept_off(lease)) {
                Some(lease) => {
                    return Ok(Err(Refusal::Taken {
                        by: lease.container,
                    }));
                }
                None => ip,
            },
            None => match self.choose(&dir, subnet, applicant)? {
                Some(ip) => ip,
                None => return Ok(Err(Refusal::Exhausted)),
            },
        };
        let path = dir.join(chosen.to_string());
        let text = format!("{}\n{}\n", applicant.container, applicant.note);
        fs::write(&path, text).map_err(|error| self.io("write", &path, error))?;
        Ok(Ok(chosen))
    }

    fn choose(
        &self,
        dir: &Path,
        subnet: &Subnet,
        applicant: &Applicant<'_>,
    ) -> Result<Option<IpAddr>, Error> {
        let paths = self.list(dir)?;
        let given = paths.iter().filter_map(|path| address_of(path));
        let given: BTreeSet<IpAddr> = given.collect();
        let is_needed =
            |ip: IpAddr| holder(dir, ip).is_some_and(|lease| applicant.is_kept_off(&lease));
        let mut looks = 0;
        let early = subnet.free().find(|ip| {
            !given.contains(ip)
                || looks < LOOKS && {
                    looks += 1;
                    !is_needed(*ip)
                }
        });
        Ok(early.or_else(|| subnet.free().find(|ip| !is_needed(*ip))))
    }

    /// Takes back the addresses that a container was given of a network.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn end_lease(&self, network: &Network, container: &str) -> Result<(), Error> {
        let Some(_lock) = self.lock_leases(network)? else {
            return Ok(());
        };
        for lease in self.leases(network)? {
            if lease.container == container {
                let path = network.dir.join(LEASES).join(lease.ip.to_string());
                fs::remove_file(&path).map_err(|error| self.io("remove", &path, error))?;
            }
        }
        Ok(())
    }

    /// Which addresses are given out, needed or not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn leases(&self, network: &Network) -> Result<Vec<Lease>, Error> {
        let dir = network.dir.join(LEASES);
        let paths = self.list(&dir)?;
        let leases = paths
            .iter()
            .filter_map(|path| holder(&dir, address_of(path)?));
        Ok(leases.collect())
    }

    /// Locks the leases of a network; `None` if it is gone.
    fn lock_leases(&self, network: &Network) -> Result<Option<File>, Error> {
        let dir = network.dir.join(LEASES);
        let lock = match self.lock_directory(&dir) {
            Err(_) if !dir.is_dir() => return Ok(None),
            locked => locked?,
        };
        // It may have been removed, and another one made, while somebody else had the lock.
        let current = self.network(&network.name)?;
        let same = current.is_some_and(|current| current.record.id == network.record.id);
        Ok(same.then_some(lock))
    }

    fn lock_directory(&self, path: &Path) -> Result<File, Error> {
        let directory = File::open(path).map_err(|error| self.io(READ, path, error))?;
        let locked = directory.lock();
        locked.map_err(|error| self.io("lock", path, error))?;
        Ok(directory)
    }
}

impl Applicant<'_> {
    /// Whether an address is another container's who needs it.
    fn is_kept_off(&self, lease: &Lease) -> bool {
        lease.container != self.container && (self.needs)(lease)
    }
}

/// Docker's rule for the names of networks, but for spaces.
fn is_valid(name: &str) -> bool {
    name::is_valid(name) || name.len() == 1 && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn address_of(path: &Path) -> Option<IpAddr> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Who was given an address. What a crash has left half written names nobody.
fn holder(dir: &Path, ip: IpAddr) -> Option<Lease> {
    let bytes = regular::read(&dir.join(ip.to_string())).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    Some(Lease {
        ip,
        container: lines.next()?.to_owned(),
        note: lines.next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(store: &Store, name: &str) -> Result<Network, Error> {
        store.create_network(name, |id, _| {
            Ok(NetworkRecord {
                id: id.to_owned(),
                subnets: vec![Subnet::new("10.1.0.0/29".parse().unwrap()).unwrap()],
                ..NetworkRecord::default()
            })
        })
    }

    fn given(
        store: &Store,
        network: &Network,
        (container, wanted): (&str, Option<&str>),
        needs: &dyn Fn(&Lease) -> bool,
    ) -> Result<String, Refusal> {
        let applicant = Applicant {
            container,
            note: "note",
            wanted: wanted.map(|ip| ip.parse().unwrap()),
            needs,
        };
        let lease = store.lease(network, &network.record.subnets[0], &applicant);
        lease.unwrap().map(|ip| ip.to_string())
    }

    #[test]
    fn addresses_are_given_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let network = made(&store, "net").unwrap();
        let lease = |container, wanted| given(&store, &network, (container, wanted), &|_| true);
        assert_eq!(lease("a", None).unwrap(), "10.1.0.2");
        assert_eq!(lease("b", None).unwrap(), "10.1.0.3");
        let taken = Refusal::Taken { by: "b".to_owned() };
        assert_eq!(lease("a", Some("10.1.0.3")), Err(taken));
        assert_eq!(lease("b", Some("10.1.0.3")).unwrap(), "10.1.0.3");
        for outside in ["10.2.0.1", "10.1.0.1", "10.1.0.0", "10.1.0.7", "fd00::1"] {
            assert_eq!(lease("a", Some(outside)), Err(Refusal::Outside));
        }
        for container in ["c", "d", "e"] {
            lease(container, None).unwrap();
        }
        assert_eq!(lease("f", None), Err(Refusal::Exhausted));
        let ended = |lease: &Lease| lease.container != "d";
        assert_eq!(
            given(&store, &network, ("f", None), &ended).unwrap(),
            "10.1.0.5"
        );
        store.end_lease(&network, "b").unwrap();
        assert_eq!(lease("g", None).unwrap(), "10.1.0.3");
        // What a crash has left half written is nobody's.
        fs::write(network.dir.join("leases/10.1.0.4"), "").unwrap();
        assert_eq!(lease("h", None).unwrap(), "10.1.0.4");
        assert_eq!(store.leases(&network).unwrap().len(), 5);
    }

    #[test]
    fn networks_are_made_and_removed_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        // As somebody may leave it who joins what is being removed.
        fs::create_dir_all(directory.path().join("networks/net/members")).unwrap();
        let network = made(&store, "net").unwrap();
        assert!(matches!(made(&store, "net"), Err(Error::NetworkExists(_))));
        assert!(matches!(made(&store, "../x"), Err(Error::BadName { .. })));
        assert_eq!(store.network("net").unwrap().as_ref(), Some(&network));
        made(&store, "a").unwrap();
        assert_eq!(store.networks().unwrap().len(), 2);
        given(&store, &network, ("c", None), &|_| true).unwrap();
        let remove = |needed: bool| {
            let last = || Ok::<(), Error>(());
            store.remove_network(&network, &|_| needed, last).unwrap()
        };
        assert_eq!(remove(true).unwrap_err(), ["c"]);
        assert!(remove(false).is_ok());
        assert_eq!(store.network("net").unwrap(), None);
        assert!(remove(false).is_ok());
        let applicant = Applicant {
            container: "c",
            note: "",
            wanted: None,
            needs: &|_| false,
        };
        let late = store.lease(&network, &network.record.subnets[0], &applicant);
        assert!(matches!(late, Err(Error::NoSuchNetwork(_))));
    }
}
