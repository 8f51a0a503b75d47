//! Pipes for splicing, lent only to flows that have bytes on the move.

use std::os::fd::OwnedFd;

use rustix::io;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Wanted capacity: the most that an unprivileged user may ask for by default
/// (`/proc/sys/fs/pipe-max-size`).
const CAPACITY: usize = 1 << 20;

/// How many pipes exist at most. A user's pipes may hold 64 MiB in all (`pipe-user-pages-soft`,
/// pipe(7)); past that new pipes shrink to two pages, so a busy proxy must not eat it all.
pub(super) const LIMIT: usize = 16;

/// A pipe and the number of bytes in it.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    filled: usize,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused when the user's pipes hold too much already; any size works.
        let _ = fcntl_setpipe_size(&write, CAPACITY);
        Ok(Self {
            read,
            write,
            filled: 0,
        })
    }

    /// Bytes taken in and not yet passed on.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Takes bytes from `socket`; 0 means that its peer has sent everything.
    pub(super) fn fill(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let taken = splice(socket, None, &self.write, None, CAPACITY, flags)?;
        self.filled += taken;
        Ok(taken)
    }

    /// Passes bytes on to `socket`.
    ///
    /// Never with `SPLICE_F_MORE`: it corks the socket until its timer runs out.
    pub(super) fn drain(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let passed = splice(&self.read, None, socket, None, self.filled, flags)?;
        self.filled -= passed;
        Ok(passed)
    }
}

/// Lends pipes, so that a thousand idle connections hold none.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Vec<Pipe>,
    existing: usize,
}

impl Pool {
    /// An empty pipe, unless too many are out.
    pub(super) fn lend(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.existing == LIMIT {
            return None;
        }
        let pipe = Pipe::new().ok()?;
        self.existing += 1;
        Some(pipe)
    }

    /// Takes a pipe back. One that still holds bytes of a broken connection is closed.
    pub(super) fn take_back(&mut self, pipe: Pipe) {
        if pipe.filled == 0 {
            self.idle.push(pipe);
        } else {
            self.existing -= 1;
        }
    }
}
