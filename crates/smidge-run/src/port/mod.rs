//! Published ports: listeners outside, connections made inside, bytes spliced between them.
//!
//! No privilege and no helper program: a socket stays in the network namespace that it was made
//! in, wherever its process goes. So the listeners are made first; then one process takes them
//! along into the container's network namespace and makes its connections there. Or, where that was asked
//! for ([`Publish::Direct`](crate::Publish)), the program itself gets the listeners.

mod connection;
mod datagram;
mod dial;
mod direct;
mod gate;
mod lead;
mod listener;
mod pipe;
mod proxy;
mod relay;
mod socket;
mod theirs;

pub(crate) use direct::install;
pub use listener::Listeners;
pub(crate) use proxy::enter;
pub use proxy::{Calls, Proxy, Way};
pub use socket::{Holder, holder};
