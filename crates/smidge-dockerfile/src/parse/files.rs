//! `COPY` and `ADD`.

use std::collections::VecDeque;

use super::Context;
use super::arguments::list;
use super::flag::Flags;
use crate::diagnostic::Diagnostic;
use crate::instruction::{Add, Copy, Heredoc, Kind, Source};
use crate::line::{Line, Slice};
use crate::reader::marker;
use crate::span::Word;

pub(super) fn copy(rest: Slice<'_>, mut flags: Flags, context: &mut Context<'_>) -> Option<Kind> {
    let from = flags.word("from", context.diagnostics);
    if let Some(from) = &from {
        check_from(from, context);
    }
    let copy = Copy {
        from,
        chown: flags.word("chown", context.diagnostics),
        chmod: flags.word("chmod", context.diagnostics),
        link: flags.truth("link", context.diagnostics).unwrap_or_default(),
        parents: flags
            .truth("parents", context.diagnostics)
            .unwrap_or_default(),
        excludes: flags.words("exclude", context.diagnostics),
        ..Copy::default()
    };
    let (sources, destination) = sources(rest, context)?;
    Some(Kind::Copy(Box::new(Copy {
        sources,
        destination,
        ..copy
    })))
}

pub(super) fn add(rest: Slice<'_>, mut flags: Flags, context: &mut Context<'_>) -> Option<Kind> {
    let add = Add {
        chown: flags.word("chown", context.diagnostics),
        chmod: flags.word("chmod", context.diagnostics),
        link: flags.truth("link", context.diagnostics).unwrap_or_default(),
        excludes: flags.words("exclude", context.diagnostics),
        keep_git_dir: flags
            .truth("keep-git-dir", context.diagnostics)
            .unwrap_or_default(),
        checksum: flags.word("checksum", context.diagnostics),
        unpack: flags.truth("unpack", context.diagnostics),
        ..Add::default()
    };
    let (sources, destination) = sources(rest, context)?;
    Some(Kind::Add(Box::new(Add {
        sources,
        destination,
        ..add
    })))
}

/// Docker settles which stages are needed before it knows any variable.
fn check_from(from: &Word, context: &mut Context<'_>) {
    if from.value.is_empty() {
        context.report(Diagnostic::error(from.span, "`--from` names nothing"));
    } else if from.value.contains('$') {
        let error = Diagnostic::error(
            from.span,
            "variable expansion is not supported for `--from`",
        );
        let help = "define a stage with `FROM $IMAGE AS name`, with `ARG IMAGE` above the first \
                    `FROM`, and copy from it";
        context.report(error.with_help(help));
    }
}

fn sources(rest: Slice<'_>, context: &mut Context<'_>) -> Option<(Vec<Source>, Word)> {
    let mut words = list(rest, context)?;
    let keyword = context.keyword;
    let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
        let message = match rest.is_empty() {
            true => format!("`{keyword}` requires at least two arguments"),
            false => format!(
                "`{keyword}` requires at least two arguments, but only one was provided: the \
                 destination could not be determined"
            ),
        };
        return context.fail(
            if rest.is_empty() {
                context.place
            } else {
                rest.span()
            },
            message,
        );
    };
    if is_marker(&destination) {
        let message = format!("`{keyword}` cannot accept a heredoc as a destination");
        return context.fail(destination.span, message);
    }
    let mut heredocs = VecDeque::from(std::mem::take(&mut context.heredocs));
    let mut sources = Vec::new();
    for word in words {
        let line = Line::elsewhere(&word.value, word.span);
        sources.push(match take_heredoc(line.all(), &mut heredocs) {
            Some(mut heredoc) => {
                if heredoc.strip_tabs {
                    heredoc.content = strip_tabs(&heredoc.content);
                }
                Source::Heredoc(heredoc)
            }
            // Its end is missing, which has been reported.
            None if is_marker(&word) && !rest.text().starts_with('[') => return None,
            None => Source::Path(word),
        });
    }
    Some((sources, destination))
}

/// Takes the heredoc that a source word stands for, if it is one.
fn take_heredoc(word: Slice<'_>, heredocs: &mut VecDeque<Heredoc>) -> Option<Heredoc> {
    let found = marker(word)?;
    let at = heredocs
        .iter()
        .position(|heredoc| heredoc.name == found.name)?;
    heredocs.remove(at)
}

fn is_marker(word: &Word) -> bool {
    marker(Line::elsewhere(&word.value, word.span).all()).is_some()
}

/// Takes the tabs off the start of every line.
pub(crate) fn strip_tabs(content: &str) -> String {
    content
        .split_inclusive('\n')
        .map(|line| line.trim_start_matches('\t'))
        .collect()
}
