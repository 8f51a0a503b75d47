//! Instructions' lines to typed instructions.

mod arguments;
mod command;
mod files;
pub(crate) use files::strip_tabs;
mod flag;
mod json;
mod word;

use crate::Parsed;
use crate::check;
use crate::diagnostic::{Diagnostic, Severity};
use crate::instruction::{Dockerfile, From, Heredoc, Instruction, Kind, StageSource};
use crate::line::{Line, Slice};
use crate::reader::{Reader, keyword, markers};
use crate::span::{Span, Word};
use crate::suggest::suggest;

/// Every instruction there is.
const KEYWORDS: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Parses a Dockerfile. It never fails: what is wrong is in the diagnostics, all of it.
///
/// ```
/// let parsed = smidge_dockerfile::parse("FROM scratch\nCOYP a /a\n");
/// let error = &parsed.diagnostics[0];
/// assert_eq!(error.message, "unknown instruction `COYP`");
/// assert_eq!(error.label.as_deref(), Some("did you mean `COPY`?"));
/// assert_eq!(error.span.text("FROM scratch\nCOYP a /a\n"), "COYP");
/// ```
pub fn parse(text: &str) -> Parsed {
    parse_checked(text, None)
}

/// Parses a Dockerfile. Where `check` is given, such as `skip=all` or `error=true`, it counts in place of
/// the file's own `# check=`.
pub fn parse_checked(text: &str, check: Option<&str>) -> Parsed {
    let mut file = File::new(text, check);
    while let Some(statement) = file.reader.statement() {
        file.add(&statement.line, statement.comment);
    }
    file.finish()
}

/// What an instruction's line turns out to be.
enum Statement {
    From(From),
    Other(Instruction),
}

/// What the parser of an instruction's arguments works with.
struct Context<'c> {
    /// The keyword in upper case.
    keyword: &'static str,
    escape: char,
    /// Heredocs that stand below the instruction, in order.
    heredocs: Vec<Heredoc>,
    diagnostics: &'c mut Vec<Diagnostic>,
    /// Where the keyword stands.
    place: Span,
}

impl Context<'_> {
    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn fail<T>(&mut self, span: Span, message: impl Into<String>) -> Option<T> {
        self.report(Diagnostic::error(span, message));
        None
    }

    /// Reports that an instruction stands alone, or with too few arguments.
    fn require<T>(&mut self, what: &str) -> Option<T> {
        let message = format!("`{}` requires {what}", self.keyword);
        self.fail(self.place, message)
    }
}

struct File<'t> {
    reader: Reader<'t>,
    dockerfile: Dockerfile,
    /// Whether an instruction before the first `FROM` has been reported.
    homeless: bool,
    /// Whether a `FROM` was seen, if only a wrong one.
    staged: bool,
    statements: usize,
    descriptions: Vec<check::Description>,
}

impl<'t> File<'t> {
    fn new(text: &'t str, check: Option<&str>) -> Self {
        Self {
            reader: Reader::new(text, check),
            dockerfile: Dockerfile {
                len: text.len(),
                ..Dockerfile::default()
            },
            homeless: false,
            staged: false,
            statements: 0,
            descriptions: Vec::new(),
        }
    }

    fn add(&mut self, line: &Line, comment: Option<Word>) {
        self.statements += 1;
        let (word, _) = keyword(line.all());
        let place = word.span();
        let upper = word.text().to_ascii_uppercase();
        self.staged |= upper == "FROM";
        let heredocs = heredocs(&mut self.reader, line);
        let escape = self.reader.directives.escape;
        let parsed = statement(line.all(), escape, heredocs, &mut self.reader.diagnostics);
        match parsed {
            None => {}
            Some(Statement::From(from)) => {
                self.descriptions
                    .extend(check::Description::of_stage(&from, comment));
                let stage = StageSource {
                    from,
                    instructions: Vec::new(),
                };
                self.dockerfile.stages.push(stage);
            }
            Some(Statement::Other(instruction)) => {
                self.descriptions
                    .extend(check::Description::of_argument(&instruction, comment));
                self.place(instruction, place);
            }
        }
    }

    fn place(&mut self, instruction: Instruction, place: Span) {
        let is_arg = matches!(instruction.kind, Kind::Arg(_));
        match self.dockerfile.stages.last_mut() {
            Some(stage) => stage.instructions.push(instruction),
            None if is_arg => self.dockerfile.global_args.push(instruction),
            None if self.staged || self.homeless => {}
            None => {
                self.homeless = true;
                let error = Diagnostic::error(place, "no build stage in current context");
                let error = error.with_label("only `ARG` may stand before the first `FROM`");
                self.reader.diagnostics.push(error);
            }
        }
    }

    fn finish(mut self) -> Parsed {
        self.dockerfile.directives = self.reader.directives;
        let mut diagnostics = self.reader.diagnostics;
        if self.statements == 0 {
            diagnostics.push(Diagnostic::error(
                Span::default(),
                "file with no instructions",
            ));
        } else if !self.staged && !self.homeless {
            let end = Span::new(self.dockerfile.len, self.dockerfile.len);
            diagnostics.push(Diagnostic::error(
                end,
                "no `FROM`, so there is nothing to build",
            ));
        }
        check::file(&self.dockerfile, &self.descriptions, &mut diagnostics);
        self.dockerfile.directives.check.apply(&mut diagnostics);
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
        Parsed {
            dockerfile: self.dockerfile,
            diagnostics,
        }
    }
}

/// Reads the heredocs that an instruction announces; one without an end is reported.
fn heredocs(reader: &mut Reader<'_>, line: &Line) -> Vec<Heredoc> {
    if !takes_heredocs(line.all()) {
        return Vec::new();
    }
    let mut heredocs = Vec::new();
    for marker in markers(line.all()) {
        let Some((content, span)) = reader.heredoc(&marker.name, marker.strip_tabs) else {
            let message = format!("unterminated heredoc `{}`", marker.name);
            let help = format!("end it with a line that holds `{}` alone", marker.name);
            reader
                .diagnostics
                .push(Diagnostic::error(marker.span, message).with_help(help));
            break;
        };
        heredocs.push(Heredoc {
            name: marker.name,
            content: content.to_owned(),
            expand: marker.expand,
            strip_tabs: marker.strip_tabs,
            span,
            marker: marker.span,
        });
    }
    heredocs
}

/// Parses a trigger that a base image's `ONBUILD` has left. All of it is shown at one place.
pub(crate) fn trigger(
    text: &str,
    span: Span,
    escape: char,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Instruction> {
    // A heredoc of the trigger follows in lines of its own.
    let mut reader = Reader::new(text, None);
    reader.directives.escape = escape;
    let first = reader.statement()?;
    let line = Line::elsewhere(first.line.all().text(), span);
    let mut heredocs = heredocs(&mut reader, &line);
    heredocs.iter_mut().for_each(|heredoc| heredoc.span = span);
    diagnostics.extend(
        reader
            .diagnostics
            .into_iter()
            .map(|found| Diagnostic { span, ..found }),
    );
    match statement(line.all(), escape, heredocs, diagnostics)? {
        Statement::Other(instruction) => Some(instruction),
        Statement::From(_) => {
            let message = "`FROM` isn't allowed as an `ONBUILD` trigger";
            diagnostics.push(Diagnostic::error(span, message));
            None
        }
    }
}

/// Tells whether `<<` in an instruction announces a heredoc.
fn takes_heredocs(line: Slice<'_>) -> bool {
    let (mut word, mut rest) = keyword(line);
    if word.text().eq_ignore_ascii_case("ONBUILD") {
        (word, rest) = keyword(rest);
    }
    let takes = ["ADD", "COPY", "RUN"]
        .iter()
        .any(|name| word.text().eq_ignore_ascii_case(name));
    if !takes {
        return false;
    }
    let (_, rest) = word::split_flags(rest);
    !rest.text().starts_with('[') || !matches!(json::parse(rest), json::Json::Words(_))
}

fn statement(
    line: Slice<'_>,
    escape: char,
    heredocs: Vec<Heredoc>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Statement> {
    let (word, rest) = keyword(line);
    let span = line.trim().span();
    let upper = word.text().to_ascii_uppercase();
    let Some(&known) = KEYWORDS.iter().find(|&&known| known == upper) else {
        diagnostics.push(unknown(word));
        return None;
    };
    let (flags, rest) = flag::Flags::split(known, rest, diagnostics);
    let place = word.span();
    let mut context = Context {
        keyword: known,
        escape,
        heredocs,
        diagnostics,
        place,
    };
    if known == "FROM" {
        let from = arguments::from(span, word, flags, rest, &mut context)?;
        return Some(Statement::From(from));
    }
    let kind = kind(rest, flags, &mut context)?;
    Some(Statement::Other(Instruction {
        span,
        keyword: word.word(),
        kind,
    }))
}

fn kind(rest: Slice<'_>, flags: flag::Flags, context: &mut Context<'_>) -> Option<Kind> {
    match context.keyword {
        "ADD" => files::add(rest, flags, context),
        "ARG" => arguments::arg(rest, context),
        "CMD" => command::start(rest, context).map(Kind::Cmd),
        "COPY" => files::copy(rest, flags, context),
        "ENTRYPOINT" => command::start(rest, context).map(Kind::Entrypoint),
        "ENV" => arguments::pairs(rest, context).map(Kind::Env),
        "EXPOSE" => arguments::expose(rest, context),
        "HEALTHCHECK" => command::healthcheck(rest, flags, context),
        "LABEL" => arguments::pairs(rest, context).map(Kind::Label),
        "MAINTAINER" => arguments::single(rest, context).map(Kind::Maintainer),
        "ONBUILD" => on_build(rest, context),
        "RUN" => command::run(rest, flags, context),
        "SHELL" => command::shell(rest, context),
        "STOPSIGNAL" => arguments::single(rest, context).map(Kind::StopSignal),
        "USER" => arguments::single(rest, context).map(Kind::User),
        "VOLUME" => arguments::volume(rest, context),
        _ => arguments::single(rest, context).map(Kind::Workdir),
    }
}

fn on_build(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Kind> {
    if rest.is_empty() {
        return context.require("at least one argument");
    }
    let (word, _) = keyword(rest);
    match word.text().to_ascii_uppercase().as_str() {
        "ONBUILD" => {
            let message = "chaining `ONBUILD` via `ONBUILD ONBUILD` isn't allowed";
            return context.fail(word.span(), message);
        }
        upper @ ("FROM" | "MAINTAINER") => {
            let message = format!("`{upper}` isn't allowed as an `ONBUILD` trigger");
            return context.fail(word.span(), message);
        }
        _ => {}
    }
    let mut trigger = rest.word();
    for heredoc in &context.heredocs {
        trigger.value.push('\n');
        trigger.value.push_str(&heredoc.content);
        trigger.value.push_str(&heredoc.name);
    }
    let heredocs = std::mem::take(&mut context.heredocs);
    match statement(rest, context.escape, heredocs, context.diagnostics)? {
        Statement::Other(instruction) => Some(Kind::OnBuild(trigger, Box::new(instruction))),
        Statement::From(_) => None,
    }
}

fn unknown(word: Slice<'_>) -> Diagnostic {
    let name: String = word.text().chars().take(64).collect();
    let error = Diagnostic::error(word.span(), format!("unknown instruction `{name}`"));
    match suggest(word.text(), KEYWORDS.iter().copied()) {
        Some(known) => error.with_label(format!("did you mean `{known}`?")),
        None => error,
    }
}

/// Makes the warning for a text that looks like an exec form but is none.
fn not_json(slice: Slice<'_>, offset: usize, consequence: &str) -> Diagnostic {
    let trimmed = slice.trim();
    let place = trimmed.from(offset.min(trimmed.text().len()));
    let width = place.text().chars().next().map_or(0, char::len_utf8);
    let message = format!("this looks like a JSON array, but is not one: {consequence}");
    let mut warning = Diagnostic::error(slice.span(), message);
    warning.severity = Severity::Warning;
    if width > 0 {
        warning.span = place.part(0..width).span();
        warning.label = Some("JSON ends here".to_owned());
    }
    warning.with_help("strings need double quotes and commas between them: `[\"a\", \"b\"]`")
}
