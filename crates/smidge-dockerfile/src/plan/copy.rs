//! `COPY` and `ADD` with everything expanded.

use super::action::{Action, AddAction, CopyAction, CopySource, From, Inline};
use super::stage::Planner;
use crate::diagnostic::Diagnostic;
use crate::instruction::{Add, Copy, Source};
use crate::span::{Span, Word};

impl Planner<'_> {
    pub(super) fn copy(&mut self, copy: &Copy) -> Option<(Action, String)> {
        let from = match &copy.from {
            None => From::Context,
            Some(from) => self.from(&from.value, from.span)?,
        };
        let sources = self.sources(&copy.sources, "COPY");
        let destination = self.destination(&copy.destination, copy.sources.len(), "COPY");
        let chown = self.optional(copy.chown.as_ref());
        let chmod = self.chmod(copy.chmod.as_ref());
        let excludes = self.excludes(&copy.excludes);
        let action = CopyAction {
            sources: sources?,
            destination: destination?,
            from,
            from_span: copy.from.as_ref().map(|from| from.span),
            chown: chown?,
            chmod: chmod?,
            link: copy.link,
            parents: copy.parents,
            excludes: excludes?,
        };
        let mut history = String::from("COPY");
        if action.parents {
            history.push_str(" --parents");
        }
        describe(&mut history, &action.chown, &action.chmod, &action.sources);
        history.push_str(&format!(" {} # buildkit", action.destination.value));
        Some((Action::Copy(Box::new(action)), history))
    }

    pub(super) fn add(&mut self, add: &Add) -> Option<(Action, String)> {
        let sources = self.sources(&add.sources, "ADD");
        let destination = self.destination(&add.destination, add.sources.len(), "ADD");
        let chown = self.optional(add.chown.as_ref());
        let chmod = self.chmod(add.chmod.as_ref());
        let excludes = self.excludes(&add.excludes);
        let checksum = self.optional(add.checksum.as_ref())?;
        let sources = sources?;
        if let Some(checksum) = &checksum {
            self.check_checksum(checksum, &sources)?;
        }
        let action = AddAction {
            sources,
            destination: destination?,
            chown: chown?,
            chmod: chmod?,
            link: add.link,
            excludes: excludes?,
            keep_git_dir: add.keep_git_dir,
            checksum,
            unpack: add.unpack,
        };
        let mut history = String::from("ADD");
        describe(&mut history, &action.chown, &action.chmod, &action.sources);
        history.push_str(&format!(" {} # buildkit", action.destination.value));
        Some((Action::Add(Box::new(action)), history))
    }

    /// Finds what `from` names, as a place in the plan.
    pub(super) fn from(&mut self, name: &str, span: Span) -> Option<From> {
        // What cannot be found has been reported when the stages were sorted.
        match self
            .context
            .graph
            .source(name, span, self.context.index)
            .ok()?
        {
            From::Stage(index) => Some(From::Stage(self.context.graph.positions[index])),
            other => Some(other),
        }
    }

    /// Expands the sources; as in BuildKit, files of the Dockerfile come last.
    fn sources(&mut self, sources: &[Source], keyword: &str) -> Option<Vec<CopySource>> {
        let mut paths = Vec::new();
        let mut inline = Vec::new();
        let mut complete = true;
        for source in sources {
            let expanded = match source {
                Source::Path(word) => self.path(word, keyword),
                Source::Heredoc(heredoc) => self.inline(heredoc),
            };
            match expanded {
                Some(source @ CopySource::Path(_)) => paths.push(source),
                Some(source) => inline.push(source),
                None => complete = false,
            }
        }
        paths.append(&mut inline);
        complete.then_some(paths)
    }

    fn path(&mut self, word: &Word, keyword: &str) -> Option<CopySource> {
        let path = self.expand_word(word)?;
        if keyword == "COPY" && is_remote(&path.value) {
            let what = if is_git(&path.value) {
                "a git repository"
            } else {
                "a URL"
            };
            let error = Diagnostic::error(word.span, format!("source can't be {what} for `COPY`"));
            self.report(error.with_help("use `ADD` in place of `COPY`"));
            return None;
        }
        Some(CopySource::Path(path))
    }

    fn inline(&mut self, heredoc: &crate::instruction::Heredoc) -> Option<CopySource> {
        let content = match heredoc.expand {
            // In a heredoc quotes are text, and the escape is always a backslash.
            true => {
                let word = Word::new(heredoc.content.clone(), heredoc.span);
                self.expansion(&word, '\\', false)?.text
            }
            false => heredoc.content.clone(),
        };
        Some(CopySource::Inline(Inline {
            name: heredoc.name.clone(),
            content,
            span: heredoc.span,
        }))
    }

    fn destination(&mut self, word: &Word, sources: usize, keyword: &str) -> Option<Word> {
        let destination = self.expand_word(word)?;
        let is_directory = matches!(destination.value.as_str(), "" | "." | "..")
            || ["/", "/.", "/.."]
                .iter()
                .any(|end| destination.value.ends_with(end));
        if sources > 1 && !is_directory {
            let message = format!(
                "when using `{keyword}` with more than one source file, the destination must be a \
                 directory and end with a `/`"
            );
            let help = format!("write `{}/`", destination.value);
            self.report(Diagnostic::error(word.span, message).with_help(help));
            return None;
        }
        Some(destination)
    }

    fn optional(&mut self, word: Option<&Word>) -> Option<Option<Word>> {
        let Some(word) = word else { return Some(None) };
        let word = self.expand_word(word)?;
        Some((!word.value.is_empty()).then_some(word))
    }

    fn chmod(&mut self, word: Option<&Word>) -> Option<Option<Word>> {
        let mode = self.optional(word)?;
        if let Some(mode) = &mode
            && !is_mode(&mode.value)
        {
            let message = format!("invalid chmod parameter `{}`", mode.value);
            let error = Diagnostic::error(mode.span, message);
            let label = "must be octal, up to 7777, or symbolic such as `u+x`";
            self.report(error.with_label(label));
            return None;
        }
        Some(mode)
    }

    fn excludes(&mut self, words: &[Word]) -> Option<Vec<String>> {
        let expanded: Vec<_> = words.iter().map(|word| self.expand(word)).collect();
        expanded.into_iter().collect()
    }

    fn check_checksum(&mut self, checksum: &Word, sources: &[CopySource]) -> Option<()> {
        let [source] = sources else {
            return self.fail(
                checksum.span,
                "`--checksum` can't be specified for multiple sources",
            );
        };
        match source {
            CopySource::Path(path) if is_remote(&path.value) => Some(()),
            _ => self.fail(
                checksum.span,
                "`--checksum` requires a HTTP(S) or git source",
            ),
        }
    }
}

fn describe(
    history: &mut String,
    chown: &Option<Word>,
    chmod: &Option<Word>,
    sources: &[CopySource],
) {
    for (flag, word) in [("chown", chown), ("chmod", chmod)] {
        if let Some(word) = word {
            history.push_str(&format!(" --{flag}={}", word.value));
        }
    }
    for source in sources {
        match source {
            CopySource::Path(path) => history.push_str(&format!(" {}", path.value)),
            CopySource::Inline(file) => history.push_str(&format!(" <<{}", file.name)),
        }
    }
}

/// Tells whether a source is fetched from elsewhere.
fn is_remote(source: &str) -> bool {
    is_git(source) || source.starts_with("http://") || source.starts_with("https://")
}

fn is_git(source: &str) -> bool {
    let path = source.split('#').next().unwrap_or(source);
    let path = path.split('?').next().unwrap_or(path);
    source.starts_with("git@")
        || source.starts_with("git://")
        || source.starts_with("ssh://")
        || ((source.starts_with("https://") || source.starts_with("http://"))
            && path.ends_with(".git"))
}

/// Tells whether a text is a mode: octal, or what chmod(1) calls symbolic.
fn is_mode(text: &str) -> bool {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).is_ok_and(|mode| mode <= 0o7777);
    }
    text.split(',').all(|clause| {
        let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        actions.starts_with(['+', '-', '=']) && actions.chars().all(|c| "+-=rwxXstugo".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_known() {
        for mode in ["0755", "755", "7777", "u+x", "a=rX,go-w", "+x", "u=rw,g=u"] {
            assert!(is_mode(mode), "{mode}");
        }
        for mode in ["", "888", "10000", "u", "x", "u+q", "u+x,", "0x1ff"] {
            assert!(!is_mode(mode), "{mode}");
        }
    }

    #[test]
    fn remote_sources_are_known() {
        for source in [
            "https://a/b",
            "git@github.com:a/b.git",
            "https://h/a.git#v1:sub",
        ] {
            assert!(is_remote(source), "{source}");
        }
        for source in ["a", "/http://x", "x.git", "git", "httpsx"] {
            assert!(!is_remote(source), "{source}");
        }
        assert!(!is_git("https://a/b.git.txt"));
    }
}
