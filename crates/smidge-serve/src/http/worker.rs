//! A thread for what takes much memory: one thing at a time, and always the same thread, since an
//! allocator keeps some of what each thread ever had.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use tokio::sync::oneshot;

use super::fault::Fault;

type Job = Box<dyn FnOnce() + Send>;

/// The thread. Dropping it ends it when it has done what it was given.
pub(crate) struct Worker(Mutex<Sender<Job>>);

impl Worker {
    /// # Errors
    /// When the machine has no more threads.
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, jobs) = channel::<Job>();
        thread::Builder::new().spawn(move || jobs.into_iter().for_each(|job| job()))?;
        Ok(Self(Mutex::new(sender)))
    }

    /// Does something in its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (done, outcome) = oneshot::channel();
        let job = Box::new(move || {
            // Who asked may be gone.
            let _ = done.send(work());
        });
        let sent = {
            let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            sender.send(job)
        };
        sent.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(outcome.await.map_err(io::Error::other)?)
    }
}
