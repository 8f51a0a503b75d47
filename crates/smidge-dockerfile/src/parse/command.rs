//! Instructions that start a program.

use std::time::Duration;

use super::arguments::not_strings;
use super::flag::Flags;
use super::json::{self, Json};
use super::{Context, keyword, not_json};
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::instruction::{
    Command, Field, Healthcheck, Kind, Mount, Network, Run, Security, Timing,
};
use crate::line::Slice;
use crate::span::Word;
use crate::suggest::suggest;

/// Docker refuses to probe more often than this.
const SHORTEST: Duration = Duration::from_millis(1);

/// `CMD` and `ENTRYPOINT`.
pub(super) fn start(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Command> {
    if rest.is_empty() {
        return context.require("at least one argument");
    }
    command(rest, context)
}

/// Reads a command in exec or shell form. A malformed array is a shell form, as in Docker.
fn command(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Command> {
    if rest.text().starts_with('[') {
        match json::parse(rest) {
            Json::Words(words) => return Some(Command::Exec(words)),
            Json::NotStrings(span) => return not_strings(span, context),
            Json::Invalid(at) if resembles_array(rest.text(), context.keyword) => {
                context.report(not_json(rest, at, "it will be run by a shell"));
            }
            Json::Invalid(_) => {}
        }
    }
    Some(Command::Shell(rest.word()))
}

/// Tells an exec form with a slip from the shell's `[ … ]`, which needs a blank behind the bracket.
fn resembles_array(text: &str, keyword: &str) -> bool {
    let inner = text.trim_start_matches('[');
    let start = if keyword == "RUN" {
        inner
    } else {
        inner.trim_start()
    };
    start.starts_with(['"', '\'']) && (keyword != "RUN" || text.ends_with(']'))
}

/// `RUN`.
pub(super) fn run(rest: Slice<'_>, mut flags: Flags, context: &mut Context<'_>) -> Option<Kind> {
    let mounts = flags.words("mount", context.diagnostics);
    let network = flags.word("network", context.diagnostics);
    let security = flags.word("security", context.diagnostics);
    let devices = flags.words("device", context.diagnostics);
    let network = network.map_or(Some(Network::Default), |word| {
        let known = [
            ("default", Network::Default),
            ("none", Network::None),
            ("host", Network::Host),
        ];
        choice("network", &word, &known, context)
    });
    let security = security.map_or(Some(Security::Sandbox), |word| {
        let known = [
            ("sandbox", Security::Sandbox),
            ("insecure", Security::Insecure),
        ];
        choice("security", &word, &known, context)
    });
    let mounts: Vec<_> = mounts.iter().map(|word| mount(word, context)).collect();
    let heredocs = std::mem::take(&mut context.heredocs);
    if rest.is_empty() {
        return context.require("at least one argument");
    }
    let command = command(rest, context)?;
    if matches!(&command, Command::Exec(words) if words.value.is_empty()) {
        return context.fail(rest.span(), "`RUN` has no program to run");
    }
    Some(Kind::Run(Box::new(Run {
        command,
        heredocs,
        mounts: mounts.into_iter().collect::<Option<_>>()?,
        network: network?,
        security: security?,
        devices,
    })))
}

fn choice<T: Copy>(
    flag: &str,
    word: &Word,
    known: &[(&str, T)],
    context: &mut Context<'_>,
) -> Option<T> {
    let found = known.iter().find(|(name, _)| *name == word.value);
    if found.is_none() {
        let message = format!("unsupported `--{flag}` mode `{}`", word.value);
        let error = Diagnostic::error(word.span, message);
        let names: Vec<_> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
        context.report(
            match suggest(&word.value, known.iter().map(|(name, _)| *name)) {
                Some(name) => error.with_label(format!("did you mean `{name}`?")),
                None => error.with_label(format!("must be {}", names.join(" or "))),
            },
        );
    }
    found.map(|&(_, value)| value)
}

/// Splits a mount's fields; commas separate them unless they stand in double quotes.
fn mount(word: &Word, context: &mut Context<'_>) -> Option<Mount> {
    let mut fields = Vec::new();
    for field in split_fields(&word.value) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (field.as_str(), None),
        };
        fields.push(Field {
            key: key.to_ascii_lowercase(),
            value,
        });
    }
    let mount = Mount {
        span: word.span,
        fields,
    };
    // What needs no variable is checked at once, so that it is reported with all the rest.
    let variable = |field: &Field| {
        field
            .value
            .as_ref()
            .is_some_and(|value| value.contains('$'))
    };
    if mount
        .fields
        .iter()
        .any(|field| field.key == "from" && variable(field))
    {
        let error = Diagnostic::error(word.span, "`from` of a mount cannot hold variables");
        context.report(error.with_help("define a stage with `FROM $IMAGE AS name` and use that"));
        return None;
    }
    if !mount.fields.iter().any(variable)
        && let Err(error) = crate::mount::Settings::read(&mount.fields)
    {
        return context.fail(word.span, error.to_string());
    }
    Some(mount)
}

fn split_fields(text: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// `SHELL ["program", …]`.
pub(super) fn shell(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Kind> {
    if rest.is_empty() {
        return context.require("at least one argument");
    }
    match json::parse(rest) {
        Json::Words(words) if words.value.is_empty() => context.require("at least one argument"),
        Json::Words(words) => Some(Kind::Shell(words.value)),
        Json::NotStrings(span) => not_strings(span, context),
        Json::Invalid(_) => {
            let error = Diagnostic::error(
                rest.span(),
                "`SHELL` requires the arguments to be in JSON form",
            );
            context.report(error.with_help("write `SHELL [\"/bin/sh\", \"-c\"]`"));
            None
        }
    }
}

/// `HEALTHCHECK [options] CMD …` or `HEALTHCHECK NONE`.
pub(super) fn healthcheck(
    rest: Slice<'_>,
    mut flags: Flags,
    context: &mut Context<'_>,
) -> Option<Kind> {
    if rest.is_empty() {
        return context.require("at least one argument");
    }
    let timing = timing(&mut flags, context);
    let (word, rest) = keyword(rest);
    match word.text().to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => Some(Kind::Healthcheck(Box::new(Healthcheck::None))),
        "NONE" => context.fail(rest.span(), "`HEALTHCHECK NONE` takes no arguments"),
        "CMD" if rest.is_empty() => {
            context.fail(word.span(), "missing command after `HEALTHCHECK CMD`")
        }
        "CMD" => {
            let command = command(rest, context)?;
            if matches!(&command, Command::Exec(words) if words.value.is_empty()) {
                return context.fail(rest.span(), "missing command after `HEALTHCHECK CMD`");
            }
            Some(Kind::Healthcheck(Box::new(Healthcheck::Check {
                command,
                timing: timing?,
            })))
        }
        _ => {
            let message = format!("unknown type `{}` in `HEALTHCHECK`", word.text());
            let error = Diagnostic::error(word.span(), message);
            context.report(error.with_label("must be `CMD` or `NONE`"));
            None
        }
    }
}

fn timing(flags: &mut Flags, context: &mut Context<'_>) -> Option<Timing> {
    let mut complete = true;
    let mut interval = |name: &str| {
        let word = flags.word(name, context.diagnostics)?;
        let duration = read_interval(name, &word, context);
        complete &= duration.is_some();
        duration.filter(|duration| !duration.is_zero())
    };
    let mut timing = Timing {
        interval: interval("interval"),
        timeout: interval("timeout"),
        start_period: interval("start-period"),
        start_interval: interval("start-interval"),
        retries: None,
    };
    if let Some(word) = flags.word("retries", context.diagnostics) {
        timing.retries = word
            .value
            .parse()
            .ok()
            .filter(|&retries| retries <= i32::MAX as u32);
        if timing.retries.is_none() {
            let message = format!("invalid value `{}` for flag `--retries`", word.value);
            let error = Diagnostic::error(word.span, message);
            context.report(error.with_label("must be a number that is not negative"));
            complete = false;
        }
    }
    complete.then_some(timing)
}

fn read_interval(name: &str, word: &Word, context: &mut Context<'_>) -> Option<Duration> {
    match duration::parse(&word.value) {
        Some(short) if !short.is_zero() && short < SHORTEST => {
            context.fail(word.span, format!("`--{name}` cannot be less than 1ms"))
        }
        Some(duration) => Some(duration),
        None => {
            let message = format!("invalid duration `{}` for flag `--{name}`", word.value);
            let error = Diagnostic::error(word.span, message);
            context.report(error.with_label("write it as `30s` or `1m30s`"));
            None
        }
    }
}
