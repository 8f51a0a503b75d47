//! Dockerfile text in, instructions with spans and a plan of stages out.
//!
//! **Does:** lexing and parsing as BuildKit does ([`parse`]), build checks, expansion of variables,
//! the stages and steps that a target needs ([`plan`](plan::plan)), matching of `.dockerignore`
//! ([`ignore`]).
//!
//! **Does not:**
//! - *Invariant:* touch disk, network, clock or environment. What a plan depends on beside the text
//!   comes in [`PlanOptions`].
//! - *Invariant:* fail on the first fault. Parsing always gives a [`Dockerfile`] and every
//!   [`Diagnostic`]; each diagnostic has a [`Span`] in the text that was given.
//! - *Invariant:* panic, or grow without bound, whatever the text is.
//!
//! ```
//! use smidge_dockerfile::{PlanOptions, parse, plan};
//!
//! let text = "FROM golang AS build\nRUN make\nFROM scratch\nCOPY --from=build /app /\n";
//! let parsed = parse(text);
//! assert!(parsed.diagnostics.is_empty());
//! let plan = plan(&parsed.dockerfile, &PlanOptions::default()).unwrap();
//! assert_eq!(plan.stages.len(), 2);
//! assert_eq!(plan.target().unwrap().steps[0].history, "COPY /app / # buildkit");
//! ```
//!
//! The language: <https://docs.docker.com/reference/dockerfile/>. The checks:
//! <https://docs.docker.com/reference/build-checks/>.

mod check;
mod diagnostic;
mod duration;
mod expand;
pub mod ignore;
pub mod instruction;
mod line;
mod mount;
mod parse;
mod pattern;
pub mod plan;
mod reader;
mod span;
mod suggest;

pub use diagnostic::{Diagnostic, Rule, Severity};
pub use instruction::Dockerfile;
pub use parse::{parse, parse_checked};
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
