//! The build checks that need nothing but the file.

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Rule, Severity};
use crate::instruction::{Check, Dockerfile, From, Instruction, Kind, StageSource};
use crate::span::{Span, Word};

/// A comment right above the definition of a stage or argument, and the name that is defined.
pub(crate) struct Description {
    name: String,
    comment: Word,
}

impl Description {
    pub(crate) fn of_stage(from: &From, comment: Option<Word>) -> Option<Self> {
        Some(Self {
            name: from.name.as_ref()?.value.clone(),
            comment: comment?,
        })
    }

    pub(crate) fn of_argument(instruction: &Instruction, comment: Option<Word>) -> Option<Self> {
        match &instruction.kind {
            Kind::Arg(arguments) => Some(Self {
                name: arguments.first()?.name.value.clone(),
                comment: comment?,
            }),
            _ => None,
        }
    }
}

impl StageSource {
    /// What the comment right above the stage says of it: `# name description`.
    pub fn description<'t>(&self, text: &'t str) -> Option<&'t str> {
        let name = &self.from.name.as_ref()?.value;
        let above = text
            .get(..self.from.span.start)?
            .trim_end_matches([' ', '\t']);
        let comments = above.lines().rev().map(str::trim_start);
        let mut comments = comments.map_while(|line| line.strip_prefix('#'));
        comments.find_map(|comment| {
            let (first, rest) = comment.trim().split_once(' ')?;
            first.eq_ignore_ascii_case(name).then(|| rest.trim())
        })
    }
}

impl Check {
    /// Leaves out the checks that are to be skipped, and those experimental ones that nobody
    /// asked for; makes the others errors where that is wanted.
    pub(crate) fn apply(&self, diagnostics: &mut Vec<Diagnostic>) {
        let named = |list: &[String], rule: Rule| {
            list.iter()
                .any(|name| name == "all" || name.eq_ignore_ascii_case(rule.name()))
        };
        diagnostics.retain(|diagnostic| {
            let Some(rule) = diagnostic.rule else {
                return true;
            };
            let asked = !rule.is_experimental() || named(&self.experimental, rule);
            asked && !named(&self.skip, rule)
        });
        if self.error {
            for diagnostic in diagnostics.iter_mut().filter(|found| found.rule.is_some()) {
                diagnostic.severity = Severity::Error;
            }
        }
    }
}

/// Makes the checks that look at the whole file.
pub(crate) fn file(
    dockerfile: &Dockerfile,
    descriptions: &[Description],
    diagnostics: &mut Vec<Diagnostic>,
) {
    stage_names(dockerfile, diagnostics);
    casing(dockerfile, diagnostics);
    for stage in &dockerfile.stages {
        overridden(&stage.instructions, diagnostics);
    }
    for Description { name, comment } in descriptions {
        if comment.value.split(' ').next() != Some(name) {
            let message = format!("comment should follow the format `# {name} <description>`");
            let warning =
                Diagnostic::warning(Rule::InvalidDefinitionDescription, comment.span, message);
            let help = "if it describes something else, leave an empty line below it";
            diagnostics.push(warning.with_help(help));
        }
    }
}

fn stage_names(dockerfile: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = HashSet::new();
    for name in dockerfile
        .stages
        .iter()
        .filter_map(|stage| stage.from.name.as_ref())
    {
        if ["context", "scratch"].contains(&name.value.as_str()) {
            let message = format!("stage name should not use reserved name `{}`", name.value);
            diagnostics.push(Diagnostic::warning(
                Rule::ReservedStageName,
                name.span,
                message,
            ));
        }
        if !seen.insert(name.value.as_str()) {
            let message = format!("duplicate stage name `{}`", name.value);
            let warning = Diagnostic::warning(Rule::DuplicateStageName, name.span, message);
            diagnostics.push(warning.with_label("stage names should be unique"));
        }
    }
}

/// All keywords should be written as most of them are.
fn casing(dockerfile: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    let keywords: Vec<(&str, Span)> = dockerfile
        .stages
        .iter()
        .flat_map(|stage| {
            let from = std::iter::once(&stage.from.keyword);
            from.chain(
                stage
                    .instructions
                    .iter()
                    .map(|instruction| &instruction.keyword),
            )
        })
        .map(|keyword| (keyword.value.as_str(), keyword.span))
        .collect();
    let is_lower = |word: &str| !word.bytes().any(|b| b.is_ascii_uppercase());
    let is_upper = |word: &str| !word.bytes().any(|b| b.is_ascii_lowercase());
    let lower = keywords.iter().filter(|(word, _)| is_lower(word)).count();
    let upper = keywords.iter().filter(|(word, _)| is_upper(word)).count();
    for (word, span) in keywords {
        let (right, name) = match lower > upper {
            true => (is_lower(word), "lowercase"),
            false => (is_upper(word), "uppercase"),
        };
        if !right {
            let message =
                format!("`{word}` should match the case of the instruction majority ({name})");
            diagnostics.push(Diagnostic::warning(
                Rule::ConsistentInstructionCasing,
                span,
                message,
            ));
        }
    }
}

/// Of some instructions only the last one in a stage counts.
fn overridden(instructions: &[Instruction], diagnostics: &mut Vec<Diagnostic>) {
    let mut last: [Option<Span>; 3] = [None; 3];
    for instruction in instructions {
        let (slot, name) = match instruction.kind {
            Kind::Cmd(_) => (0, "CMD"),
            Kind::Entrypoint(_) => (1, "ENTRYPOINT"),
            Kind::Healthcheck(_) => (2, "HEALTHCHECK"),
            _ => continue,
        };
        if let Some(before) = last[slot].replace(instruction.span) {
            let message =
                format!("multiple `{name}` instructions in one stage: only the last one counts");
            let warning =
                Diagnostic::warning(Rule::MultipleInstructionsDisallowed, before, message);
            diagnostics.push(warning.with_label("this one has no effect"));
        }
    }
}
