//! What a supervisor does between two runs of its program: its restart policy.

use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::{DOOR, SIGNAL, Supervisor, note_start, unknown};
use crate::error::RunError;
use crate::journal::label;
use crate::launch::launch;
use crate::lifetime::{Backoff, Settling};
use crate::outlet;
use crate::program::Program;
use crate::reason::Failure;
use crate::state::State;

impl Supervisor<'_> {
    /// Starts the program again, after a while, if it is to be; true if it runs.
    pub(super) fn starts_again(&mut self, code: i32, backoff: &mut Backoff) -> bool {
        if self.state.oom_killed {
            self.note("oom", &[]);
        }
        self.note("die", &[("exitCode", code.to_string())]);
        if let Some(journal) = &self.spec.journal {
            journal.note_places(&label(&self.spec.dir), &self.spec.attachments, false);
        }
        // Who wants it to stay down has said so before it ended it.
        self.hub.admit(&self.door);
        self.hub.hear_all();
        self.fulfil();
        let restart = self.hub.restart.unwrap_or(self.spec.lifetime.restart);
        if self.hub.retired || !restart.again(code, self.state.restart_count) {
            return false;
        }
        if let Some(proxy) = self.proxy.take() {
            proxy.stop();
        }
        self.state.note_shortage(&self.spec.dir);
        self.state.rest(code);
        let _ = self.state.write(&self.spec.dir);
        let reason = self.state.reason.as_ref();
        self.hub.say_farewell(code, reason, false);
        self.rest(backoff.next(self.started.elapsed()));
        if self.hub.retired {
            return false;
        }
        match self.start_again() {
            Ok(()) => true,
            Err(error) => {
                self.state.error = error.to_string();
                self.state.reason = (self.watch.inquest)(&Failure::NotStarted(&error));
                false
            }
        }
    }

    /// Serves clients for a while, or until one says that the program shall stay down.
    fn rest(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        self.hub.settling = Settling::begin();
        while !self.hub.retired && Instant::now() < end {
            let mut interests = Vec::with_capacity(8);
            self.hub.add_interests(&mut interests);
            interests.push((SIGNAL, PollFlags::IN));
            interests.push((DOOR, PollFlags::IN));
            let rest = end.saturating_duration_since(Instant::now());
            let due = self.wait(&interests, Some(rest));
            due.iter().for_each(|source| self.serve(*source));
            self.hub.dismiss();
        }
    }

    fn start_again(&mut self) -> Result<(), RunError> {
        self.mounts = None;
        let mut program = Program::start(&self.spec, self.size, launch)?;
        let outlook = outlet::prepare(&mut self.spec, &mut program, self.watch.outlet);
        let listeners = self.listeners.try_clone();
        let published = listeners.and_then(|listeners| program.publish(&self.spec, listeners));
        self.proxy = published.inspect_err(|_| program.kill())?;
        self.started = Instant::now();
        self.state = State {
            restart_count: self.state.restart_count + 1,
            health: unknown(&self.spec),
            outlook,
            ..State::running(program.pid, self.state.ports.clone())
        };
        let written = self.state.write(&self.spec.dir);
        written.inspect_err(|_| program.kill())?;
        self.hub.replace(program);
        note_start(&self.spec);
        self.begin_to_check();
        Ok(())
    }
}
