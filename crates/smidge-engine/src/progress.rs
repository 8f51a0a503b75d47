//! What a verb shows while it works.

use smidge_image::Digest;

/// What is done with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It comes from a registry, or from another place, into the store.
    Pull,
    /// It goes to a registry.
    Push,
    /// It is copied from one place to another.
    Copy,
    /// It is compressed, so that it can be sent.
    Compress,
}

impl Action {
    /// While it is done: `Pulling`.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Pull => "Pulling",
            Self::Push => "Pushing",
            Self::Copy => "Copying",
            Self::Compress => "Compressing",
        }
    }

    /// Once it is done: `Pull complete`.
    pub fn done(self) -> &'static str {
        match self {
            Self::Pull => "Pull complete",
            Self::Push => "Pushed",
            Self::Copy => "Copied",
            Self::Compress => "Compressed",
        }
    }
}

/// Why a blob needs no work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The receiver has it.
    Exists,
    /// The registry took it from another of its repositories.
    Mounted(String),
}

/// Receives what a verb has to say before its answer is ready. Implemented by whoever shows it.
pub trait Progress: Sync {
    /// Starts a piece of work, of `total` bytes if that is known beforehand.
    fn task(&self, name: &str, total: Option<u64>) -> Box<dyn Task + '_>;

    /// Starts to move a blob. Blobs may be moved side by side, a thread each.
    fn blob(&self, blob: &Digest, action: Action, total: Option<u64>) -> Box<dyn Task + '_> {
        self.task(&format!("{}: {}", blob.short(), action.doing()), total)
    }

    /// Tells how much [`Progress::blob`] will be called for: so many blobs, so many bytes in all.
    /// What is known only later is told later, and adds up.
    fn expect(&self, _blobs: usize, _bytes: u64) {}

    /// Tells that nothing has to be done with a blob.
    fn settled(&self, _blob: &Digest, _action: Action, _how: &Settled) {}

    /// Starts a step of a Dockerfile. Steps of several stages may run side by side, a thread each.
    fn step(&self, _step: &StepName) -> Box<dyn StepTask + '_> {
        Box::new(Silent)
    }

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

    /// Reports how many bytes are done already, not by this task: what an interrupted one left.
    /// 0 starts it over.
    fn resume(&self, _bytes: u64) {}

    /// Reports that the work is complete.
    fn finish(&self);
}

/// Which step of a Dockerfile it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepName {
    /// The stage's name, if it has one.
    pub stage: Option<String>,
    /// Which step of its stage it is, from 1.
    pub number: usize,
    /// How many steps the stage has.
    pub total: usize,
    /// The instruction.
    pub text: String,
    /// The platform, where the build is for several.
    pub platform: Option<String>,
}

/// A step of a Dockerfile under way. Dropping it ends it, however it went.
pub trait StepTask: Send + Sync {
    /// Passes on what its program wrote, to standard output and standard error together, in order.
    fn output(&self, bytes: &[u8]);

    /// Tells that its outcome was known.
    fn cached(&self);

    /// Tells that it is complete.
    fn finish(&self);

    /// Tells that it failed.
    fn fail(&self, message: &str);
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

impl StepTask for Silent {
    fn output(&self, _bytes: &[u8]) {}

    fn cached(&self) {}

    fn finish(&self) {}

    fn fail(&self, _message: &str) {}
}
