//! A file that one thread writes while another reads it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How far the writing has come, for those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    written: u64,
    end: Option<End>,
    unwanted: bool,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Whole,
    Failed,
}

/// The writer's side: whoever waits learns that no more will come, however the writing ends.
pub(crate) struct Writing<'p>(&'p Progress);

/// The reader's side. Its end comes when the writer has found the content right, and not before.
///
/// # Errors
/// Its `Read` fails when the writer has failed; the writer knows why.
pub(crate) struct Follower<'p> {
    file: &'p File,
    progress: &'p Progress,
    position: u64,
    written: u64,
}

impl Progress {
    pub(crate) fn writing(&self) -> Writing<'_> {
        Writing(self)
    }

    pub(crate) fn follow<'p>(&'p self, file: &'p File) -> Follower<'p> {
        Follower {
            file,
            progress: self,
            position: 0,
            written: 0,
        }
    }

    /// Says that nobody needs what is still to come.
    pub(crate) fn refuse(&self) {
        self.state().unwanted = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writing<'_> {
    /// Says how much is written, and learns whether more is wanted.
    pub(crate) fn advance(&self, written: u64) -> bool {
        let mut state = self.0.state();
        state.written = written;
        self.0.changed.notify_all();
        !state.unwanted
    }

    /// Says that all is there, and right.
    pub(crate) fn finish(self) {
        self.0.state().end = Some(End::Whole);
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.state().end.get_or_insert(End::Failed);
        self.0.changed.notify_all();
    }
}

impl Follower<'_> {
    /// Waits until there is more than was read; tells if there will be no more.
    fn wait(&mut self) -> io::Result<bool> {
        let mut state = self.progress.state();
        loop {
            self.written = state.written;
            match state.end {
                _ if self.written > self.position => return Ok(true),
                Some(End::Whole) => return Ok(false),
                Some(End::Failed) => {
                    return Err(io::Error::other("the rest of the blob did not come"));
                }
                None => {}
            }
            state = self
                .progress
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Read for Follower<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || (self.position == self.written && !self.wait()?) {
            return Ok(0);
        }
        let most = usize::try_from(self.written - self.position)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}
