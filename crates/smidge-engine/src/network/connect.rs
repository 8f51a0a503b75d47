//! Putting containers on networks, and taking them off, whether they run or not.

use smidge_run::network::{self as sandbox, Attachment};

use super::attach::{Guest, keep, kept, tell_hosts, tell_resolver};
use super::view::is_on;
use super::{Endpoint, NetworkMode, plan, unknown};
use crate::container::{Known, Record};
use crate::event::Event;
use crate::{Engine, Error, Kind, Result};

impl Engine {
    /// Puts a container on a network, at once if it runs.
    ///
    /// # Errors
    /// When there is no such container or network, when it is on it already, when the address that was asked
    /// for cannot be had, when the container has no network of its own.
    pub fn connect(&self, container: &str, endpoint: &Endpoint) -> Result<()> {
        let (_turn, mut known) = self.turn(container)?;
        // Docker asks in this order.
        check(&known.record, &self.find_network(&endpoint.network)?.name)?;
        let asked = NetworkMode::Networks(vec![endpoint.clone()]);
        let NetworkMode::Networks(mut resolved) = self.resolve(&asked)? else {
            return Err(unknown(&endpoint.network));
        };
        let mut endpoints = self.endpoints(&known)?;
        if let Some(endpoint) = resolved.pop() {
            if endpoints
                .iter()
                .any(|other| other.network == endpoint.network)
            {
                let (name, network) = (&known.container.name, &endpoint.network);
                let message =
                    format!("endpoint with name {name} already exists in network {network}");
                return Err(Error::new(Kind::Conflict, message));
            }
            endpoints.push(endpoint);
        }
        let Some(added) = endpoints.last().cloned() else {
            return Err(unknown(&endpoint.network));
        };
        if known.state.status.is_active() {
            self.plug_in(&known, &added)?;
        }
        if !added.is_default() {
            tell_resolver(&known, true)?;
        }
        known.record.host.network = NetworkMode::Networks(endpoints);
        known.container.write_record(&known.record)?;
        self.note_place(&known, &added.network, "connect");
        Ok(())
    }

    fn plug_in(&self, known: &Known, endpoint: &Endpoint) -> Result<()> {
        let network = self.network_to_join(&endpoint.network)?;
        let mut attachments = kept(known);
        let prefix = plan::device_prefix(&network.record);
        let is_free = |device: &String| attachments.iter().all(|other| other.device != *device);
        let device = (0..).map(|at| format!("{prefix}{at}")).find(is_free);
        let guest = Guest {
            container: &known.container,
            record: &known.record,
        };
        let place = (&network, device.unwrap_or_default());
        let admitted = self.admit(&guest, endpoint, place).and_then(|attachment| {
            sandbox::connect(&known.container.dir, &attachment)?;
            Ok(attachment)
        });
        let attachment = match admitted {
            Ok(attachment) => attachment,
            Err(fault) => {
                self.store.end_lease(&network, &known.container.id)?;
                return Err(fault);
            }
        };
        attachments.push(attachment);
        keep(&known.container, &attachments)?;
        tell_hosts(&guest, &attachments)
    }

    /// Takes a container off a network, at once if it runs.
    ///
    /// # Errors
    /// When there is no such container or network, when it is not on it, when the container has no network of
    /// its own.
    pub fn disconnect(&self, container: &str, network: &str) -> Result<()> {
        let (_turn, mut known) = self.turn(container)?;
        let mut endpoints = self.endpoints(&known)?;
        let is = |name: &str| {
            endpoints
                .iter()
                .position(|endpoint| endpoint.network == name)
        };
        // A network that is gone is known by its name alone.
        let at = is(network).or_else(|| is(&self.find_network(network).ok()?.name));
        let Some(at) = at else {
            check(&known.record, &self.find_network(network)?.name)?;
            let id = &known.container.id;
            let message = format!("container {id} is not connected to network {network}");
            return Err(Error::new(Kind::Input, message));
        };
        let removed = endpoints.remove(at).network;
        if known.state.status.is_active() {
            self.pull_out(&known, &removed)?;
        }
        if let Some(network) = self.store.network(&removed)? {
            self.store.end_lease(&network, &known.container.id)?;
        }
        if endpoints.iter().all(Endpoint::is_default) {
            tell_resolver(&known, false)?;
        }
        known.record.host.network = NetworkMode::Networks(endpoints);
        known.container.write_record(&known.record)?;
        self.note_place(&known, &removed, "disconnect");
        Ok(())
    }

    fn pull_out(&self, known: &Known, network: &str) -> Result<()> {
        let (gone, left): (Vec<Attachment>, Vec<Attachment>) = kept(known)
            .into_iter()
            .partition(|attachment| is_on(attachment, network));
        for attachment in &gone {
            sandbox::disconnect(&known.container.dir, &attachment.bridge)?;
        }
        keep(&known.container, &left)?;
        let guest = Guest {
            container: &known.container,
            record: &known.record,
        };
        tell_hosts(&guest, &left)
    }

    fn note_place(&self, known: &Known, network: &str, action: &str) {
        let id = self.find_network(network).map(|row| row.record.id);
        let event = Event::now("network", action, &id.unwrap_or_default())
            .with("container", known.container.id.as_str())
            .with("name", network)
            .with("type", "bridge");
        self.note(&event);
    }
}

/// Refuses what no container can be connected to or disconnected from.
fn check(record: &Record, network: &str) -> Result<()> {
    let message = match (record.network(), network) {
        (_, "host") => {
            "container cannot be disconnected from host network or connected to host network"
        }
        (_, "none") | (NetworkMode::None, _) => {
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        }
        (NetworkMode::Host | NetworkMode::Container(_), _) => {
            "container sharing network namespace with another container or host cannot be connected to any other network"
        }
        (_, "pasta") | (NetworkMode::Pasta, _) => {
            "container whose network is pasta's cannot be connected to any other network"
        }
        (NetworkMode::Private | NetworkMode::Networks(_), _) => return Ok(()),
    };
    Err(Error::new(Kind::Conflict, message))
}
