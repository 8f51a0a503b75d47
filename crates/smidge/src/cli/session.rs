//! What every subcommand works with.

use std::io::{StdoutLock, Write as _};
use std::path::PathBuf;

use smidge_engine::container::Reason;
use smidge_engine::{Engine, Error, Host, Note};

use crate::render;
use crate::surroundings;

/// The exit code of a command that did what it should.
pub(super) type Outcome = Result<u8, Error>;

/// One call of smidge.
pub(crate) struct Session {
    /// The name it was called by.
    pub(super) called: &'static str,
    /// The surroundings.
    pub(super) host: Host,
    /// `--root`.
    pub(super) root: Option<PathBuf>,
}

impl Session {
    /// Opens the store.
    pub(super) fn engine(&self) -> Result<Engine, Error> {
        let root = surroundings::store_root(self.root.clone(), &self.host)?;
        Engine::open(&root, self.host.clone())
    }

    /// Standard output.
    pub(super) fn out(&self) -> StdoutLock<'static> {
        std::io::stdout().lock()
    }

    /// Prints a line of data.
    pub(super) fn print(&self, line: &str) -> Result<(), Error> {
        render::listing::write(&mut self.out(), &format!("{line}\n"))
    }

    /// Tells something that is neither data nor a fault.
    pub(super) fn tell(&self, text: &str) {
        // Who closed standard error does not want to know.
        let _ = writeln!(anstream::stderr(), "{text}");
    }

    /// Tells why a program has ended, if that is known.
    pub(super) fn why(&self, reason: Option<&Reason>) {
        if let Some(reason) = reason {
            let text = render::error::reason(reason, self.called);
            let _ = write!(anstream::stderr(), "{text}");
        }
    }

    /// Tells something that is worth knowing.
    pub(super) fn note(&self, note: &Note) {
        let _ = write!(
            anstream::stderr(),
            "{}",
            render::error::note(note, self.called)
        );
    }
}

/// Does something with each of several things. What fails does not keep the others from being done.
pub(super) fn each(names: &[String], mut act: impl FnMut(&str) -> Result<(), Error>) -> Outcome {
    all_of(names.iter().filter_map(|name| act(name).err()))
}

/// The outcome of what went on after each of these faults.
pub(super) fn all_of(mut faults: impl Iterator<Item = Error>) -> Outcome {
    match faults.next() {
        None => Ok(0),
        Some(first) => Err(faults.fold(first, Error::with_related)),
    }
}
