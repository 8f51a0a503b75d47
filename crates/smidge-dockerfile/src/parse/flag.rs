//! The flags of each instruction.

use super::word::{Flag, split_flags};
use crate::diagnostic::Diagnostic;
use crate::line::Slice;
use crate::span::Word;
use crate::suggest::suggest;

/// Flags that may be given more than once.
const REPEATABLE: &[&str] = &["device", "exclude", "mount"];

/// Returns the flags that an instruction takes, without their dashes.
fn known(keyword: &str) -> &'static [&'static str] {
    match keyword {
        "ADD" => &[
            "checksum",
            "chmod",
            "chown",
            "exclude",
            "keep-git-dir",
            "link",
            "unpack",
        ],
        "COPY" => &["chmod", "chown", "exclude", "from", "link", "parents"],
        "FROM" => &["platform"],
        "HEALTHCHECK" => &[
            "interval",
            "retries",
            "start-interval",
            "start-period",
            "timeout",
        ],
        "RUN" => &["device", "mount", "network", "security"],
        _ => &[],
    }
}

/// The flags found in front of an instruction's arguments, all known.
pub(super) struct Flags(Vec<Flag>);

impl Flags {
    /// Splits off the flags and reports those that the instruction does not take.
    pub(super) fn split<'l>(
        keyword: &str,
        rest: Slice<'l>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> (Self, Slice<'l>) {
        let (found, rest) = split_flags(rest);
        let mut flags: Vec<Flag> = Vec::new();
        for flag in found {
            if !known(keyword).contains(&flag.name.as_str()) {
                diagnostics.push(unknown(keyword, &flag));
            } else if flags.iter().any(|other| other.name == flag.name)
                && !REPEATABLE.contains(&flag.name.as_str())
            {
                let message = format!("flag `--{}` is given twice", flag.name);
                diagnostics.push(Diagnostic::error(flag.span, message));
            } else {
                flags.push(flag);
            }
        }
        (Self(flags), rest)
    }

    /// Takes the value of a flag.
    pub(super) fn word(&mut self, name: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Word> {
        self.words(name, diagnostics).pop()
    }

    /// Takes the values of a flag that may be repeated.
    pub(super) fn words(&mut self, name: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<Word> {
        let mut values = Vec::new();
        for flag in self.0.extract_if(.., |flag| flag.name == name) {
            match flag.value {
                Some(value) => values.push(value),
                None => diagnostics.push(missing_value(&flag)),
            }
        }
        values
    }

    /// Takes a flag that is true or false.
    pub(super) fn truth(&mut self, name: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<bool> {
        let at = self.0.iter().position(|flag| flag.name == name)?;
        let flag = self.0.remove(at);
        let Some(value) = &flag.value else {
            return Some(true);
        };
        match value.value.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            "" => {
                diagnostics.push(missing_value(&flag));
                None
            }
            _ => {
                let message = format!("invalid value `{}` for flag `--{name}`", value.value);
                let error = Diagnostic::error(value.span, message);
                diagnostics.push(error.with_label("must be `true` or `false`"));
                None
            }
        }
    }
}

fn missing_value(flag: &Flag) -> Diagnostic {
    Diagnostic::error(
        flag.span,
        format!("missing a value on flag `--{}`", flag.name),
    )
}

fn unknown(keyword: &str, flag: &Flag) -> Diagnostic {
    let known = known(keyword);
    let error = Diagnostic::error(
        flag.span,
        format!("unknown flag `--{}` for `{keyword}`", flag.name),
    );
    match suggest(&flag.name, known.iter().copied()) {
        Some(name) => error.with_label(format!("did you mean `--{name}`?")),
        None if known.is_empty() => error.with_label(format!("`{keyword}` takes no flags")),
        None => {
            let list: Vec<_> = known.iter().map(|name| format!("`--{name}`")).collect();
            error.with_help(format!("`{keyword}` takes {}", list.join(", ")))
        }
    }
}
