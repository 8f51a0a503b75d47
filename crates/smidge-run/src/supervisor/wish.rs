//! What a supervisor does for others while its program runs: its networks change, and its way out is made.

use std::os::fd::AsFd as _;

use super::Supervisor;
use crate::cgroup::forget_changes;
use crate::error::RunError;
use crate::hub::Wish;
use crate::journal::label;
use crate::lifetime::Settling;
use crate::message::Reply;
use crate::network::Attachment;
use crate::outlet;
use crate::state::{Outlook, Status};
use crate::terminal::Size;

impl Supervisor<'_> {
    /// Does what clients have asked for, and answers them.
    pub(super) fn fulfil(&mut self) {
        if let Some(Size { rows, columns }) = self.hub.resized.take() {
            let size = [("height", rows.to_string()), ("width", columns.to_string())];
            self.note("resize", &size);
        }
        for (client, wish) in std::mem::take(&mut self.hub.wishes) {
            let done = match wish {
                Wish::Connect(attachment) => self.connect(*attachment),
                Wish::Disconnect(bridge) => self.disconnect(&bridge),
                Wish::LeadOut => {
                    self.lead_out();
                    Ok(())
                }
                Wish::Limit(all) => forget_changes(&self.spec.dir).map(|()| {
                    self.spec.to_mut().resources = *all;
                }),
            };
            let reply = done.map_or_else(Reply::Failed, |()| Reply::Done);
            if let Some(client) = self.hub.clients.get_mut(client) {
                client.tell(&reply);
            }
            self.hub.settling = Settling::begin();
        }
    }

    /// Lets the program go on that asks for a socket, once there is a network.
    pub(super) fn answer_call(&mut self) {
        let received = self.hub.program.receive_call();
        if let Some(call) = received {
            self.lead_out();
            self.hub.program.let_go_on(call);
        }
    }

    /// Makes the container's way out of its network namespace, if it is to have one and nobody has asked
    /// for it yet.
    pub(super) fn lead_out(&mut self) {
        if self.state.outlook != Outlook::Pending || self.state.status != Status::Running {
            return;
        }
        let program = &mut self.hub.program;
        let before = self.spec.attachments.len();
        self.state.outlook = outlet::open(&mut self.spec, program, self.watch.outlet);
        if let Some(journal) = &self.spec.journal {
            let new = self.spec.attachments.get(before..).unwrap_or_default();
            journal.note_networks(&label(&self.spec.dir), new, true);
        }
        // The program does not wait for what `inspect` shows to be right.
        let _ = self.state.write(&self.spec.dir);
        self.hub.settling = Settling::begin();
    }

    fn connect(&mut self, attachment: Attachment) -> Result<(), RunError> {
        let mut all = self.spec.attachments.clone();
        let program = &mut self.hub.program;
        if let Some(known) = all.iter_mut().find(|a| a.bridge == attachment.bridge) {
            *known = attachment;
            program.networks.rename(known)?;
            self.spec.to_mut().attachments = all;
            return Ok(());
        }
        all.push(attachment);
        if self.state.status == Status::Running {
            let (pid, pidfd) = (program.pid, program.pidfd.as_fd());
            program.networks.connect(&all, pidfd, pid)?;
        }
        let spec = self.spec.to_mut();
        if !spec.cleanup.is_empty() {
            let new = all.last().into_iter().flat_map(|new| &new.leases);
            spec.cleanup.extend(new.cloned());
        }
        spec.attachments = all;
        Ok(())
    }

    fn disconnect(&mut self, bridge: &str) -> Result<(), RunError> {
        let all = self.spec.attachments.iter().cloned();
        let (gone, rest): (Vec<_>, Vec<_>) = all.partition(|a| a.bridge == bridge);
        let program = &mut self.hub.program;
        if self.state.status == Status::Running {
            for gone in &gone {
                let pidfd = program.pidfd.as_fd();
                program.networks.disconnect(gone, &rest, pidfd)?;
            }
        }
        let spec = self.spec.to_mut();
        spec.attachments = rest;
        // The address may be another container's by the time that this one is thrown away.
        spec.cleanup
            .retain(|path| !gone.iter().any(|gone| path.starts_with(&gone.dir)));
        Ok(())
    }
}
