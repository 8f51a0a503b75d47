//! Dockerfile text in, a plan of stages out.

mod diagnostic;
pub mod ignore;
pub mod instruction;
pub mod plan;
mod span;

pub use diagnostic::{Diagnostic, Rule, Severity};
pub use instruction::Dockerfile;
pub use plan::{Plan, PlanOptions, base_images, plan};
pub use span::{Location, Span, Spanned, Word, source_line};

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

/// Parses a Dockerfile. It never fails: what is wrong is in the diagnostics, all of it.
pub fn parse(text: &str) -> Parsed {
    let _ = text;
    unimplemented!()
}
