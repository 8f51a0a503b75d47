//! What is wrong with a Dockerfile, as errors that show the place.

use smidge_dockerfile::{Diagnostic, Span};

use crate::{Error, Kind, Note, Snippet};

/// A Dockerfile's text and the name that its user knows it by.
pub(super) struct Text {
    pub(super) name: String,
    pub(super) text: String,
}

impl Text {
    /// The place of a span.
    pub(super) fn snippet(&self, span: Span) -> Snippet {
        Snippet::new(&self.name, &self.text, span.start, span.end)
    }

    /// The span with the quotes around it, if there are any: a JSON string as it is written.
    pub(super) fn quoted(&self, span: Span) -> Span {
        let bytes = self.text.as_bytes();
        let quote = |at: Option<usize>| at.and_then(|at| bytes.get(at)) == Some(&b'"');
        if quote(span.start.checked_sub(1)) && quote(Some(span.end)) {
            Span::new(span.start - 1, span.end + 1)
        } else {
            span
        }
    }

    /// Adds a place to an error that has none.
    pub(super) fn locate(&self, span: Span) -> impl Fn(Error) -> Error {
        move |error| match error.snippet() {
            Some(_) => error,
            None => error.with_snippet(self.snippet(span)),
        }
    }

    /// All errors among the diagnostics as one: the first, and the others as related.
    pub(super) fn errors(&self, diagnostics: &[Diagnostic]) -> Option<Error> {
        join(
            diagnostics
                .iter()
                .filter(|d| d.is_error())
                .map(|diagnostic| {
                    let mut snippet = self.snippet(diagnostic.span);
                    snippet.label.clone_from(&diagnostic.label);
                    let error = Error::new(Kind::Input, &diagnostic.message).with_snippet(snippet);
                    diagnostic.help.iter().fold(error, Error::with_hint)
                }),
        )
    }

    /// As [`Text::errors`], where there must be one.
    pub(super) fn refusal(&self, diagnostics: &[Diagnostic]) -> Error {
        let bug = || Error::new(Kind::Bug, format!("cannot plan `{}`", self.name));
        self.errors(diagnostics).unwrap_or_else(bug)
    }

    /// The warnings among the diagnostics.
    pub(super) fn notes<'d>(
        &'d self,
        diagnostics: &'d [Diagnostic],
    ) -> impl Iterator<Item = Note> + 'd {
        diagnostics
            .iter()
            .filter(|diagnostic| !diagnostic.is_error())
            .map(|diagnostic| {
                let mut snippet = self.snippet(diagnostic.span);
                snippet.label.clone_from(&diagnostic.label);
                // By its name it can be looked up, and switched off: `# check=skip=NAME`.
                let named = diagnostic.rule.map(|rule| format!(" ({})", rule.name()));
                let message = &diagnostic.message;
                Note {
                    message: format!("{message}{}", named.unwrap_or_default()),
                    snippet: Some(snippet),
                }
            })
    }
}

fn join(errors: impl IntoIterator<Item = Error>) -> Option<Error> {
    let mut errors = errors.into_iter();
    let first = errors.next()?;
    Some(errors.fold(first, Error::with_related))
}
