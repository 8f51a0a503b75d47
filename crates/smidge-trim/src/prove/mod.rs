//! Proof that an image's program can start, or the reason why it cannot.
//!
//! Follows the steps of Docker (`$PATH`), of the kernel (execve(2), `fs/binfmt_script.c`,
//! `fs/binfmt_elf.c`) and of the loader in their order, and stops at the first that would fail.

mod fault;
mod lookup;
mod proof;
mod prover;
mod shebang;

pub use fault::{Fault, MissingLibrary, ScriptSpan};
pub use proof::{Program, Proof, prove};
