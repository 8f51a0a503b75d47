//! What a verb shows while it works.

/// Receives what a verb has to say before its answer is ready. Implemented by whoever shows it.
pub trait Progress: Sync {
    /// Starts a piece of work, of `total` bytes if that is known beforehand.
    fn task(&self, name: &str, total: Option<u64>) -> Box<dyn Task + '_>;

    /// Passes on one line that another program printed.
    fn line(&self, text: &str);

    /// Whether compilers may write to smidge's own standard error: their output then comes through
    /// as it is, with colours. Otherwise it arrives through [`Progress::line`].
    fn inherit_stderr(&self) -> bool;
}

/// One piece of work under way. Dropping it ends it, however it went.
pub trait Task: Send {
    /// Reports that so many more bytes are done.
    fn advance(&self, bytes: u64);

    /// Reports that the work is complete.
    fn finish(&self);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn task(&self, _name: &str, _total: Option<u64>) -> Box<dyn Task + '_> {
        Box::new(*self)
    }

    fn line(&self, _text: &str) {}

    fn inherit_stderr(&self) -> bool {
        false
    }
}

impl Task for Silent {
    fn advance(&self, _bytes: u64) {}

    fn finish(&self) {}
}
