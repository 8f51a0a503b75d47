//! How far a container is shut in.

/// How far a container is shut in, as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// `--read-only`.
    pub read_only: bool,
}
