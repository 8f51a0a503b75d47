//! The way out of containers that asked for no network: as root's have it in Docker, by the network `bridge`,
//! and as an ordinary user's have it in Podman, by `pasta`.

use smidge_run::network::Attachment;
use smidge_run::{Lay, Outlook, Spec, State, Status, Way, WayOut};
use smidge_store::Container;

use super::attach::{self, Guest};
use super::{Endpoint, NetworkMode, plan};
use crate::container::{Known, Record};
use crate::{Engine, Error, Result};

/// The network of root's containers that ask for none.
const DEFAULT: &str = "bridge";

impl Engine {
    /// Settles when a container on the default network gets its way out, and forgets what it had before.
    pub(super) fn plan_way_out(&self, guest: &Guest<'_>, spec: &mut Spec) -> Result<()> {
        attach::forget(guest)?;
        // Where there is no way, nobody has to ask for it.
        if self.why_shut(&NetworkMode::Private).is_some() {
            return Ok(());
        }
        if spec.can_ask_for_network() {
            spec.way_out = WayOut::OnDemand;
            return Ok(());
        }
        spec.way_out = WayOut::IfPossible;
        if self.host.uid != 0 {
            spec.uplink = self.way_out().ok();
        } else if let Ok(way) = self.place_by_default(guest) {
            // Whoever has to go on without it has an address that leads nowhere.
            let attachments: Vec<Attachment> = way.attachment.into_iter().collect();
            attach::settle_in(guest, &attachments)?;
            spec.attachments = attachments;
            spec.cleanup.extend(way.cleanup);
        }
        Ok(())
    }

    /// Makes the way out of a container that runs: for its supervisor.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(crate) fn open_way_out(
        &self,
        (container, record): (&Container, &Record),
        lay: Lay<'_>,
    ) -> std::result::Result<(), String> {
        if self.host.uid != 0 {
            let pasta = self.way_out().map_err(str::to_owned)?;
            let way = Way {
                uplink: Some(pasta),
                ..Way::default()
            };
            return lay(way).map_err(|fault| in_words(&fault));
        }
        let guest = Guest { container, record };
        let way = self
            .place_by_default(&guest)
            .map_err(|fault| in_words(&fault))?;
        let attachment = way.attachment.clone();
        if let Err(fault) = lay(way) {
            let network = self.store.network(DEFAULT).ok().flatten();
            let _ = network.map(|network| self.store.end_lease(&network, &container.id));
            return Err(in_words(&fault));
        }
        let attachments: Vec<Attachment> = attachment.into_iter().collect();
        // It is there, whatever the files say of it.
        let _ = attach::settle_in(&guest, &attachments);
        Ok(())
    }

    /// Why nothing leads out of an ordinary user's containers on the default network, in words, if nothing does.
    pub(crate) fn why_shut(&self, mode: &NetworkMode) -> Option<&'static str> {
        let is_ours = self.host.uid != 0 && *mode == NetworkMode::Private;
        is_ours.then(|| self.way_out().err()).flatten()
    }

    /// Gives a container a place on the default network.
    fn place_by_default(&self, guest: &Guest<'_>) -> Result<Way> {
        let network = self.network_to_join(DEFAULT)?;
        let device = format!("{}0", plan::device_prefix(&network.record));
        let attachment = self.admit(guest, &Endpoint::on(DEFAULT), (&network, device))?;
        let cleanup = match guest.record.host.auto_remove {
            true => attachment.leases.clone(),
            false => Vec::new(),
        };
        Ok(Way {
            attachment: Some(attachment),
            uplink: None,
            cleanup,
        })
    }

    /// Makes the way out of a running container before somebody else comes into its network, or asks how it
    /// is seen there.
    pub(crate) fn lead_out(&self, known: &Known) -> Result<()> {
        if known.state.status != Status::Running || known.state.outlook != Outlook::Pending {
            return Ok(());
        }
        match smidge_run::lead_out(&known.container.dir) {
            // It has ended meanwhile: whoever needs it running will be told.
            Err(smidge_run::RunError::NotRunning { .. }) => Ok(()),
            led => led.map_err(Error::from),
        }
    }

    /// The same where it shows: root's containers have addresses.
    pub(crate) fn lead_out_to_be_seen(&self, known: &mut Known) {
        let is_pending = known.state.outlook == Outlook::Pending;
        // What cannot be had is not shown.
        if is_pending
            && self.host.uid == 0
            && self.lead_out(known).is_ok()
            && let Ok(state) = State::read(&known.container.dir)
        {
            known.state = state;
        }
    }

    /// The networks that a container is on, as if it had asked for the default one by name.
    pub(super) fn endpoints(&self, known: &Known) -> Result<Vec<Endpoint>> {
        let mode = known.record.network();
        if self.host.uid != 0 || mode != NetworkMode::Private {
            return Ok(mode.endpoints().to_vec());
        }
        self.lead_out(known)?;
        let shut = matches!(State::read(&known.container.dir)?.outlook, Outlook::Shut(_));
        Ok(match shut {
            true => Vec::new(),
            false => vec![Endpoint::on(DEFAULT)],
        })
    }
}

/// A fault with what has caused it.
fn in_words(fault: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(fault.source(), |fault| fault.source());
    let all = std::iter::once(fault.to_string()).chain(causes.map(ToString::to_string));
    all.collect::<Vec<_>>().join(": ")
}
