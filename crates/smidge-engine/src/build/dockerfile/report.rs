//! What is wrong with a Dockerfile, as errors that show the place.

use smidge_dockerfile::plan::{Action, Base, CopySource, From};
use smidge_dockerfile::{Diagnostic, Plan, Span};

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

    /// An error at a place.
    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> Error {
        Error::new(Kind::Input, message).with_snippet(self.snippet(span))
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
                Note {
                    message: diagnostic.message.clone(),
                    snippet: Some(snippet),
                }
            })
    }

    /// Everything in the plan that this version cannot do, at its place.
    pub(super) fn unsupported(&self, plan: &Plan) -> Option<Error> {
        let mut errors = Vec::new();
        let mut refuse = |span, what: String| {
            let snippet = self.snippet(span).with_label("not yet");
            let hint = "build this one with `docker build` for now";
            errors.push(
                Error::new(Kind::Input, what)
                    .with_snippet(snippet)
                    .with_hint(hint),
            );
        };
        for stage in &plan.stages {
            if let Base::Image(name) | Base::Context(name) = &stage.base {
                refuse(
                    stage.base_span,
                    format!("cannot build from `{name}` yet: only `FROM scratch` is supported"),
                );
            }
            for step in &stage.steps {
                for (span, what) in missing(&step.action, step.span) {
                    refuse(span, format!("{what} not supported yet"));
                }
            }
        }
        join(errors)
    }
}

/// What an action asks for that is not there yet.
fn missing(action: &Action, span: Span) -> Vec<(Span, &'static str)> {
    match action {
        Action::Run(_) => vec![(span, "`RUN` is")],
        Action::Copy(copy) => {
            let from = match &copy.from {
                From::Image(_) | From::Named(_) => Some("copying from other images is"),
                From::Context | From::Stage(_) => None,
            };
            let place = copy.from_span.unwrap_or(span);
            let flags = [
                from.map(|what| (place, what)),
                copy.parents.then_some((span, "`COPY --parents` is")),
                (!copy.excludes.is_empty()).then_some((span, "`COPY --exclude` is")),
            ];
            flags.into_iter().flatten().collect()
        }
        Action::Add(add) => {
            let remote = add.sources.iter().filter_map(|source| match source {
                CopySource::Path(word) if is_remote(&word.value) => {
                    Some((word.span, "adding from the network is"))
                }
                _ => None,
            });
            let excludes = (!add.excludes.is_empty()).then_some((span, "`ADD --exclude` is"));
            remote.chain(excludes).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether Docker would fetch this: a URL or a Git repository.
fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"]
        .iter()
        .any(|start| source.starts_with(start))
}

fn join(errors: impl IntoIterator<Item = Error>) -> Option<Error> {
    let mut errors = errors.into_iter();
    let first = errors.next()?;
    Some(errors.fold(first, Error::with_related))
}
