//! Dockerfile text in, a plan of stages out.

mod check;
mod diagnostic;
mod duration;
mod expand;
pub mod ignore;
pub mod instruction;
mod line;
mod mount;
pub(crate) mod parse;
mod pattern;
pub mod plan;
mod reader;
mod span;
mod suggest;

pub use diagnostic::{Diagnostic, Rule, Severity};
pub use instruction::Dockerfile;
pub use parse::parse;
pub use plan::{Plan, PlanOptions, base_images, plan};
pub use span::{Location, Span, Spanned, Word, source_line};
pub use suggest::suggest;

/// What parsing gives: always a Dockerfile, and everything there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The instructions that could be understood.
    pub dockerfile: Dockerfile,
    /// Errors and warnings in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Tells whether there is an error, so that planning makes no sense.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}
