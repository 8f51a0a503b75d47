//! Lines of the file to lines of instructions: directives, comments, continuations, heredocs.
//!
//! The rules are those of BuildKit's parser; the reference describes most of them under
//! <https://docs.docker.com/reference/dockerfile/#format>.

use crate::diagnostic::{Diagnostic, Rule};
use crate::instruction::Directives;
use crate::line::{Line, Slice, is_blank};
use crate::span::{Span, Word};
use crate::suggest::suggest;

/// Reads a Dockerfile instruction by instruction.
pub(crate) struct Reader<'t> {
    text: &'t str,
    position: usize,
    pub(crate) directives: Directives,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Whether the checks were set from outside, so that the file does not.
    checked: bool,
}

/// An instruction's line and the comment right above it.
pub(crate) struct Statement {
    pub(crate) line: Line,
    pub(crate) comment: Option<Word>,
}

/// One line of the file: its text without the line end, and where it stands.
#[derive(Clone, Copy)]
struct Physical<'t> {
    text: &'t str,
    start: usize,
    /// Offset behind the line end.
    next: usize,
}

impl Physical<'_> {
    fn span(self) -> Span {
        Span::new(self.start, self.start + self.text.len())
    }
}

impl<'t> Reader<'t> {
    /// Starts at the file's first line. `check` stands for what the file says itself of the checks.
    pub(crate) fn new(text: &'t str, check: Option<&str>) -> Self {
        let position = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        let mut reader = Self {
            text,
            position,
            directives: Directives::default(),
            diagnostics: Vec::new(),
            checked: check.is_some(),
        };
        if let Some(check) = check {
            reader.set_check(&Word::new(check.to_owned(), Span::default()));
        }
        reader.read_directives();
        reader
    }

    /// Returns the next instruction, with its continuations joined.
    pub(crate) fn statement(&mut self) -> Option<Statement> {
        let mut comment = None;
        loop {
            let physical = self.advance()?;
            let trimmed = physical.text.trim_start();
            let indent = physical.text.len() - trimmed.len();
            if let Some(text) = trimmed.strip_prefix('#') {
                let span = Span::new(physical.start + indent, physical.span().end);
                comment =
                    (!text.trim().is_empty()).then(|| Word::new(text.trim().to_owned(), span));
                continue;
            }
            let mut line = Line::default();
            let (piece, continues) = self.strip_continuation(trimmed);
            line.push(piece, physical.start + indent);
            if continues {
                self.join(&mut line);
            }
            if line.all().trim().is_empty() {
                comment = None;
                continue;
            }
            return Some(Statement { line, comment });
        }
    }

    /// Reads the lines of a heredoc, which follow the instruction. `None` if its end is missing:
    /// then it has swallowed the rest of the file.
    pub(crate) fn heredoc(&mut self, name: &str, strip_tabs: bool) -> Option<(&'t str, Span)> {
        let start = self.position;
        while let Some(line) = self.advance() {
            let candidate = if strip_tabs {
                line.text.trim_start_matches('\t')
            } else {
                line.text
            };
            if candidate == name {
                return Some((&self.text[start..line.start], Span::new(start, line.start)));
            }
        }
        None
    }

    fn advance(&mut self) -> Option<Physical<'t>> {
        let line = self.peek()?;
        self.position = line.next;
        Some(line)
    }

    fn peek(&self) -> Option<Physical<'t>> {
        let rest = &self.text[self.position..];
        if rest.is_empty() {
            return None;
        }
        let end = rest.find('\n');
        let text = &rest[..end.unwrap_or(rest.len())];
        Some(Physical {
            text: text.trim_end_matches('\r'),
            start: self.position,
            next: self.position + end.map_or(rest.len(), |end| end + 1),
        })
    }

    /// Appends the lines that continue an instruction. Comments among them do not count.
    fn join(&mut self, line: &mut Line) {
        while let Some(physical) = self.advance() {
            let trimmed = physical.text.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                let warning = Diagnostic::warning(
                    Rule::NoEmptyContinuation,
                    physical.span(),
                    "empty line in a continued instruction",
                );
                self.diagnostics
                    .push(warning.with_help("remove the line, or put a `#` in it"));
                continue;
            }
            let (piece, continues) = self.strip_continuation(physical.text);
            line.push(piece, physical.start);
            if !continues {
                return;
            }
        }
    }

    /// Takes off a trailing escape character, unless it is itself escaped.
    fn strip_continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let escape = self.directives.escape;
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(piece) if !piece.ends_with(escape) => (piece, true),
            _ => (line, false),
        }
    }

    fn read_directives(&mut self) {
        let mut seen: Vec<String> = Vec::new();
        while let Some(physical) = self.peek() {
            let Some((key, value)) = directive(physical) else {
                return;
            };
            let name = key.value.to_ascii_lowercase();
            if !["syntax", "escape", "check"].contains(&name.as_str()) {
                self.hint_at_directive(&name, key.span);
                return;
            }
            self.position = physical.next;
            if seen.contains(&name) {
                let message = format!("only one `{name}` parser directive can be used");
                self.diagnostics.push(Diagnostic::error(key.span, message));
                continue;
            }
            match name.as_str() {
                "syntax" => self.directives.syntax = Some(value),
                "escape" => self.set_escape(&value),
                _ if self.checked => {}
                _ => self.set_check(&value),
            }
            seen.push(name);
        }
    }

    fn hint_at_directive(&mut self, name: &str, span: Span) {
        if let Some(known) = suggest(name, ["syntax", "escape", "check"]) {
            let message = format!("`{name}` is not a parser directive, so this is a comment");
            let mut warning = Diagnostic::error(span, message);
            warning.severity = crate::Severity::Warning;
            self.diagnostics
                .push(warning.with_label(format!("did you mean `{known}`?")));
        }
    }

    fn set_escape(&mut self, value: &Word) {
        match value.value.as_str() {
            "\\" => self.directives.escape = '\\',
            "`" => self.directives.escape = '`',
            other => {
                let message = format!("invalid escape character `{other}`");
                let error = Diagnostic::error(value.span, message);
                self.diagnostics
                    .push(error.with_label("must be `\\` or a backtick"));
            }
        }
    }

    fn set_check(&mut self, value: &Word) {
        let check = &mut self.directives.check;
        let list = |names: &str| -> Vec<String> {
            names
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect()
        };
        for setting in value
            .value
            .split(';')
            .filter(|setting| !setting.trim().is_empty())
        {
            let parts = setting
                .split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()));
            match parts {
                Some(("skip", names)) => check.skip = list(names),
                Some(("experimental", names)) => check.experimental = list(names),
                Some(("error", truth @ ("true" | "false"))) => check.error = truth == "true",
                _ => {
                    let message = format!("invalid check option `{}`", setting.trim());
                    let error = Diagnostic::error(value.span, message);
                    let help = "`skip=NAME,…`, `experimental=NAME,…` and `error=true` are known";
                    self.diagnostics.push(error.with_help(help));
                }
            }
        }
    }
}

/// Splits `# key = value`; the value is not empty.
fn directive(line: Physical<'_>) -> Option<(Word, Word)> {
    let mut source = Line::default();
    source.push(line.text, line.start);
    let comment = source.all().trim();
    let body: Slice<'_> = comment
        .text()
        .starts_with('#')
        .then(|| comment.from(1).trim())?;
    let equals = body.text().find('=')?;
    let key = body.part(0..equals).trim();
    let value = body.from(equals + 1).trim();
    let mut letters = key.text().chars();
    let named = letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.all(|c| c.is_ascii_alphanumeric());
    (named && !value.is_empty()).then(|| (key.word(), value.word()))
}

/// A `<<NAME` in an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) name: String,
    pub(crate) expand: bool,
    pub(crate) strip_tabs: bool,
    pub(crate) span: Span,
}

/// Finds the heredocs that an instruction announces. An unclosed quote hides them all, as the
/// instruction is then not a list of words.
pub(crate) fn markers(line: Slice<'_>) -> Vec<Marker> {
    shell_words(line)
        .unwrap_or_default()
        .into_iter()
        .filter_map(marker)
        .collect()
}

/// Reads one word as a heredoc's beginning: `[digits]<<[-]name`, the name perhaps quoted.
pub(crate) fn marker(word: Slice<'_>) -> Option<Marker> {
    let rest = word
        .text()
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.contains('<') {
        return None;
    }
    let (name, quoted) = unquote(rest)?;
    (!name.is_empty()).then(|| Marker {
        name,
        expand: !quoted,
        strip_tabs,
        span: word.span(),
    })
}

/// Splits at white space outside quotes; quotes and escapes stay. Here the escape is always `\`.
fn shell_words(line: Slice<'_>) -> Option<Vec<Slice<'_>>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.text().char_indices() {
        if quote.is_none() && !escaped && c.is_whitespace() {
            words.extend(start.take().map(|start| line.part(start..at)));
            continue;
        }
        start.get_or_insert(at);
        if escaped {
            escaped = false;
            continue;
        }
        match (c, quote) {
            ('\\', None | Some('"')) => escaped = true,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    words.extend(start.map(|start| line.from(start)));
    quote.is_none().then_some(words)
}

/// Removes quotes and escapes; `None` when what is left is not one word.
fn unquote(word: &str) -> Option<(String, bool)> {
    let mut name = String::new();
    let mut quote = None;
    let mut quoted = false;
    let mut characters = word.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', None) => name.extend(characters.next()),
            ('\'' | '"', None) => {
                quote = Some(c);
                quoted = true;
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => return None,
            _ => name.push(c),
        }
    }
    quote.is_none().then_some((name, quoted))
}

/// Splits an instruction into its keyword and the rest.
pub(crate) fn keyword(line: Slice<'_>) -> (Slice<'_>, Slice<'_>) {
    let line = line.trim();
    let end = line.text().find(is_blank).unwrap_or(line.text().len());
    (line.part(0..end), line.from(end).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(text: &str) -> Vec<String> {
        let mut reader = Reader::new(text, None);
        let mut found = Vec::new();
        while let Some(statement) = reader.statement() {
            found.push(statement.line.all().text().to_owned());
        }
        found
    }

    #[test]
    fn lines_are_joined() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("\n \n# x\n", &[]),
            ("A\nB", &["A", "B"]),
            ("A \\\nB", &["A B"]),
            ("A \\  \t\n  B", &["A   B"]),
            ("A \\\r\nB\r\n", &["A B"]),
            ("A \\\\\nB", &["A \\\\", "B"]),
            ("A \\\n# comment\n  # another\nB", &["A B"]),
            ("A \\\n\nB", &["A B"]),
            ("A \\", &["A "]),
            ("\\\nA", &["A"]),
            ("  A\n\tB", &["A", "B"]),
            ("\u{feff}A", &["A"]),
            ("# escape=`\nA `\nB \\\nC", &["A B \\", "C"]),
            ("#Escape = `\nA `\nB", &["A B"]),
            ("# comment\n# escape=`\nA \\\nB", &["A B"]),
            ("\n# escape=`\nA \\\nB", &["A B"]),
            ("# syntax=x\n# escape=`\nA `\nB", &["A B"]),
        ];
        for (text, expected) in cases {
            assert_eq!(statements(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn heredoc_markers_are_found() {
        type Expected<'e> = (&'e str, bool, bool);
        let cases: &[(&str, &[Expected])] = &[
            ("RUN <<EOF", &[("EOF", true, false)]),
            ("RUN <<-EOF", &[("EOF", true, true)]),
            ("RUN <<'EOF'", &[("EOF", false, false)]),
            ("RUN <<\"E F\"", &[("E F", false, false)]),
            ("RUN <<E\\ F", &[("E F", true, false)]),
            (
                "RUN cat <<A > /x && 3<<B cat",
                &[("A", true, false), ("B", true, false)],
            ),
            ("RUN cat <<<EOF", &[]),
            ("RUN echo \"<<EOF\"", &[]),
            ("RUN echo '<<EOF", &[]),
            ("RUN echo x<<EOF", &[]),
            ("RUN cat << EOF", &[]),
            ("RUN cat \\<<EOF", &[]),
            (
                "COPY <<a <<-'b' /",
                &[("a", true, false), ("b", false, true)],
            ),
        ];
        for (text, expected) in cases {
            let mut line = Line::default();
            line.push(text, 0);
            let found: Vec<_> = markers(line.all());
            let found: Vec<_> = found
                .iter()
                .map(|m| (m.name.as_str(), m.expand, m.strip_tabs))
                .collect();
            assert_eq!(found, *expected, "{text}");
        }
    }

    #[test]
    fn a_heredoc_ends_at_its_name() {
        let mut reader = Reader::new("RUN <<-X\n\ta\n  X\n\tX\nRUN b\n", None);
        reader.statement();
        let (content, _) = reader.heredoc("X", true).unwrap();
        assert_eq!(content, "\ta\n  X\n");
        assert_eq!(reader.statement().unwrap().line.all().text(), "RUN b");
    }
}
