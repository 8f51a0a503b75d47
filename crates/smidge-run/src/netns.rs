//! A container's own network namespace, made by its launcher while the process inside builds its root: to make
//! one takes as long as half of the rest, and on a machine with more than one processor it costs nothing here.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::channel::Channel;
use crate::error::RunError;
use crate::idmap::IdMap;
use crate::spec::Spec;
use crate::sys;

/// Whether the process inside is cloned without one and handed one: where it belongs to no user namespace of
/// the container's, and nobody else puts anything into it.
pub(crate) fn is_handed_in(spec: &Spec) -> bool {
    spec.network.is_own()
        && spec.id_map == IdMap::None
        && spec.isolation.joined.is_empty()
        && !spec.waits_for_networks()
}

/// Makes one, and hands it in.
pub(crate) fn bring(spec: &Spec, channel: &Channel) -> Result<(), RunError> {
    let made = make(spec)?;
    // A process that does not take it has failed already, and has said how.
    let _ = channel.send_files(&[made.as_fd()]);
    Ok(())
}

/// Makes one. The process, which must have one thread only, is in it for a moment.
fn make(spec: &Spec) -> Result<OwnedFd, RunError> {
    let this = || File::open("/proc/self/ns/net").map_err(RunError::setup("see the network"));
    let own = this()?;
    sys::unshare(libc::CLONE_NEWNET).map_err(|source| RunError::Namespaces {
        id: spec.id.clone(),
        source,
    })?;
    let made = bring_up_loopback().and_then(|()| this());
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(RunError::setup("come back to the network"))?;
    made.map(OwnedFd::from)
}

/// Enters the one that is handed in.
pub(crate) fn enter(channel: &Channel) -> Result<(), RunError> {
    let entered = channel.receive_files().and_then(|files| {
        let network = Some(LinkNameSpaceType::Network);
        let mut files = files.iter();
        files.try_for_each(|made| move_into_link_name_space(made.as_fd(), network))
    });
    entered.map_err(RunError::setup("enter the network"))
}

/// Brings up the loopback device of the namespace that the process is in.
pub(crate) fn bring_up_loopback() -> Result<(), RunError> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
        .map_err(RunError::setup("open a socket"))?;
    sys::loopback_up(socket.as_fd()).map_err(RunError::setup("bring up the loopback device"))
}
