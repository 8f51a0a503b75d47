//! How the errors of the crates below become the engine's: every variant gets its kind here.

use smidge_registry::Error as RegistryError;
use smidge_run::{Lack, RunError};
use smidge_store::Error as StoreError;

use crate::registry::credentials;
use crate::{Error, Kind, confinement};

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        let error = match error {
            // What a registry did not send is the registry's fault.
            E::Fetch(source) => match source.downcast::<RegistryError>() {
                Ok(fault) => return fault.into(),
                Err(source) => E::Fetch(source),
            },
            other => other,
        };
        let kind = match &error {
            E::Io { source, .. } | E::Undeletable { source, .. } => Kind::of_io(source),
            E::ReadOnly { .. } => Kind::Denied,
            E::NoSuchImage(_)
            | E::NoSuchContainer(_)
            | E::NoSuchNetwork(_)
            | E::NoSuchPlatform { .. }
            | E::NotHeld { .. } => Kind::NotFound,
            E::ManyNames { .. }
            | E::ImageInUse { .. }
            | E::NameInUse { .. }
            | E::NetworkExists(_) => Kind::Conflict,
            E::Fetch(_)
            | E::NoSpace { .. }
            | E::Corrupt { .. }
            | E::MissingBlob { .. }
            | E::Input(_)
            | E::Output(_) => Kind::Host,
            E::NotStore { .. }
            | E::LayoutVersion { .. }
            | E::Document { .. }
            | E::TooLarge { .. }
            | E::Invalid { .. }
            | E::NoImages(_)
            | E::UnknownType { .. }
            | E::OtherType { .. }
            | E::AmbiguousImage { .. }
            | E::AmbiguousContainer { .. }
            | E::Reference { .. }
            | E::Layer { .. }
            | E::Entry { .. }
            | E::DiffId { .. }
            | E::Bomb { .. }
            | E::Copy(_)
            | E::Empty
            | E::ManyHeld { .. }
            | E::NotArchive { .. }
            | E::Member { .. }
            | E::Archive(_)
            | E::BadName { .. } => Kind::Input,
        };
        let hint = advice(&error);
        hint.into_iter()
            .fold(Self::of(kind, error), Self::with_hint)
    }
}

/// What to do about a store's error.
pub(crate) fn advice(error: &StoreError) -> Option<String> {
    Some(match error {
        StoreError::ReadOnly { .. } => "use a store of your own: `smidge --root DIR …`".to_owned(),
        StoreError::NoSpace { .. } => "remove what no image needs: `smidge prune`".to_owned(),
        StoreError::ManyNames { id, .. } => {
            format!("remove all its names: `smidge rmi -f {}`", id.short())
        }
        StoreError::ImageInUse { container, .. } => {
            format!("remove the container first: `smidge rm -f {container}`")
        }
        StoreError::NameInUse { name, .. } => {
            format!("remove that container first: `smidge rm -f {name}`")
        }
        StoreError::NoSuchContainer(_) => "what there is: `smidge ps -a`".to_owned(),
        StoreError::NoSuchImage(_) => "what there is: `smidge images`".to_owned(),
        StoreError::NoSuchPlatform { name, wanted, .. } => {
            format!("pull it: `smidge pull --platform {wanted} {name}`")
        }
        _ => return None,
    })
}

/// Who can mend what went wrong with a registry.
pub(crate) fn registry_kind(error: &RegistryError) -> Kind {
    use RegistryError as E;
    match error {
        E::Denied { .. } | E::Blocked { .. } => Kind::Denied,
        E::NotFound { .. } => Kind::NotFound,
        E::BehindMirrors { error, .. } => registry_kind(error),
        E::Schema1 { .. } | E::Settings { .. } => Kind::Input,
        E::Refused { .. }
        | E::Unreachable { .. }
        | E::Tls { .. }
        | E::Corrupt { .. }
        | E::Protocol { .. }
        | E::Source { .. }
        | E::Helper { .. } => Kind::Host,
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        let (error, mirrors) = error.into_parts();
        let who = credentials(&error).into_iter();
        let facts = who.chain(mirrors.into_iter().map(|fault| format!("mirror: {fault}")));
        let facts: Vec<String> = facts.collect();
        let framed = Self::of(registry_kind(&error), error);
        facts.into_iter().fold(framed, Self::with_fact)
    }
}

/// What to do about a part of the kernel that cannot be had.
fn out_of_control(error: &RunError) -> Option<&'static str> {
    let RunError::NoController { why, .. } = error else {
        return None;
    };
    match why {
        Lack::NotDelegated { .. } => Some(
            "as root it can be had; or where systemd delegates it: `systemd-run --user --scope -p \
             Delegate=yes smidge …`",
        ),
        Lack::NotGiven { .. } => Some(
            "let systemd hand it on: `systemctl edit user@.service`, and there `[Service]` with \
             `Delegate=cpu cpuset io memory pids`",
        ),
        Lack::Occupied { .. } => Some(
            "start smidge in a group below that one: `systemd-run --user --scope -p Delegate=yes \
             smidge …`",
        ),
        Lack::ReadOnly { .. } => Some(
            "inside a container, its engine has to allow it: `docker run --privileged --cgroupns \
             host …`",
        ),
        Lack::Missing => Some("see what there is: `grep cgroup /proc/mounts; cat /proc/cgroups`"),
        Lack::Unknown | Lack::NoFile { .. } | Lack::Outside { .. } => None,
    }
}

fn of_lack(why: &Lack) -> Kind {
    match why {
        Lack::Outside { .. } => Kind::Input,
        Lack::ReadOnly { .. } | Lack::NotDelegated { .. } => Kind::Denied,
        _ => Kind::Host,
    }
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        use RunError as E;
        let kind = match &error {
            E::NotInPath { .. } => Kind::CannotRun(127),
            E::Exec { source, .. } | E::WorkingDirectory { source, .. } => {
                Kind::CannotRun(if source.kind() == std::io::ErrorKind::NotFound {
                    127
                } else {
                    126
                })
            }
            E::OwnBinary { .. } => Kind::CannotRun(126),
            E::NoProgram { .. } | E::Nul { .. } | E::Unmapped { .. } | E::Time { .. } => {
                Kind::Input
            }
            E::MountSource { source, .. }
            | E::Device { source, .. }
            | E::Sysctl { source, .. }
            | E::Record { source, .. }
            | E::IdFile { source, .. } => Kind::of_io(source),
            E::PortRefused { .. } => Kind::Denied,
            E::NoController { why, .. } => of_lack(why),
            E::PortInUse { .. }
            | E::AlreadyRunning { .. }
            | E::Visited { .. }
            | E::NotRunning { .. }
            | E::NotShared { .. }
            | E::NoIds { .. }
            | E::Paused { .. }
            | E::NotPaused { .. } => Kind::Conflict,
            E::Limit { source, .. } | E::Cgroup { source, .. } => Kind::of_io(source),
            E::Namespaces { .. }
            | E::NeedsNamespaces { .. }
            | E::IdMap { .. }
            | E::RootFs { .. }
            | E::Network { .. }
            | E::Uplink { .. }
            | E::Unmappable { .. }
            | E::Mount { .. }
            | E::Hook { .. }
            | E::Setup { .. }
            | E::Died { .. }
            | E::Remove { .. }
            | E::Supervise { .. }
            | E::Unsupervised { .. } => Kind::Host,
        };
        if !confinement::is_refusal(&error) {
            let hint = out_of_control(&error);
            return hint
                .into_iter()
                .fold(Self::of(kind, error), Self::with_hint);
        }
        let error = Self::of(kind, error);
        let error = confinement::facts()
            .into_iter()
            .fold(error, Self::with_fact);
        confinement::hints()
            .into_iter()
            .fold(error, Self::with_hint)
    }
}
