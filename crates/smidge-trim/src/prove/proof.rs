use smidge_image::Tree;

use super::Fault;
use super::prover::Prover;
use crate::Kept;

/// What will be started: the arguments as Docker computes them, and what bears on finding it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Entry point and command, joined.
    pub argv: Vec<String>,
    /// The environment, as `NAME=value`.
    pub env: Vec<String>,
    /// Where relative paths begin; empty is `/`.
    pub working_dir: String,
    /// The image's architecture as OCI names it: `amd64`.
    pub architecture: String,
    /// Whether `argv` is a shell that runs what the author wrote.
    pub shell_form: bool,
}

impl Program {
    /// A program with arguments, in `/` and with no environment.
    pub fn new<A: Into<String>>(argv: impl IntoIterator<Item = A>, architecture: &str) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            working_dir: "/".into(),
            architecture: architecture.into(),
            shell_form: false,
        }
    }
}

/// That a program can start, and what it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// What was checked, one sentence without a full stop each.
    pub steps: Vec<String>,
    /// The files that starting takes, each where it is: paths and sources are the same.
    pub files: Vec<Kept>,
}

/// Proves that a program can start in a tree.
///
/// # Errors
/// The reason why it cannot.
pub fn prove(tree: &dyn Tree, program: &Program) -> Result<Proof, Fault> {
    Prover::new(tree, program).run()
}
