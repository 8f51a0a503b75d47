//! Instructions whose arguments are words or `key=value` pairs.

use super::Context;
use super::flag::Flags;
use super::json::{self, Json};
use super::word::{quoted_words, split_pair};
use crate::diagnostic::{Diagnostic, Rule};
use crate::instruction::{Argument, From, Kind, Pair};
use crate::line::Slice;
use crate::span::{Span, Word};

/// `FROM [--platform=…] image [AS name]`.
pub(super) fn from(
    span: Span,
    keyword: Slice<'_>,
    mut flags: Flags,
    rest: Slice<'_>,
    context: &mut Context<'_>,
) -> Option<From> {
    let platform = flags.word("platform", context.diagnostics);
    let words: Vec<_> = rest.words().take(4).collect();
    let (image, name) = match words.as_slice() {
        [image] => (image, None),
        [image, middle, name] if middle.text().eq_ignore_ascii_case("as") => {
            check_as_casing(keyword, *middle, context);
            (image, Some(stage_name(*name, context)?))
        }
        [_, middle, _] => {
            let error = Diagnostic::error(middle.span(), "`FROM` requires one or three arguments");
            context.report(error.with_label("expected `AS`"));
            return None;
        }
        _ => return context.require("either one or three arguments"),
    };
    Some(From {
        span,
        keyword: keyword.word(),
        platform,
        image: image.word(),
        name,
    })
}

fn check_as_casing(from: Slice<'_>, middle: Slice<'_>, context: &mut Context<'_>) {
    let lower = from.text().chars().all(|c| c.is_ascii_lowercase());
    let expected = if lower { "as" } else { "AS" };
    if middle.text() != expected {
        let message = format!(
            "`{}` and `{}` keywords' casing do not match",
            middle.text(),
            from.text()
        );
        let warning = Diagnostic::warning(Rule::FromAsCasing, middle.span(), message);
        context.report(warning.with_label(format!("write `{expected}`")));
    }
}

fn stage_name(word: Slice<'_>, context: &mut Context<'_>) -> Option<Word> {
    let lower = word.text().to_lowercase();
    let valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower
            .chars()
            .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.'));
    if !valid {
        let message = format!("invalid name for build stage: `{}`", word.text());
        let error = Diagnostic::error(word.span(), message);
        let label = "must start with a letter and hold letters, digits, `-`, `_` and `.` only";
        context.report(error.with_label(label));
        return None;
    }
    if lower != word.text() {
        let message = format!("stage name `{}` should be lowercase", word.text());
        context.report(Diagnostic::warning(
            Rule::StageNameCasing,
            word.span(),
            message,
        ));
    }
    Some(Word::new(lower, word.span()))
}

/// `ARG name[=default] …`.
pub(super) fn arg(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Kind> {
    let words = quoted_words(rest, context.escape);
    if words.is_empty() {
        return context.require("at least one argument");
    }
    let mut arguments = Vec::new();
    for word in words {
        let argument = match split_pair(&word) {
            Some((name, value)) => Argument {
                name,
                default: Some(value),
            },
            None => Argument {
                name: word,
                default: None,
            },
        };
        if argument.name.value.is_empty() {
            return context.fail(argument.name.span, "`ARG` names can not be blank");
        }
        warn_of_secret(&argument.name, context);
        arguments.push(argument);
    }
    Some(Kind::Arg(arguments))
}

/// `ENV` and `LABEL`: `key=value …`, or the old `key value`.
pub(super) fn pairs(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Vec<Pair>> {
    let words = quoted_words(rest, context.escape);
    let Some(first) = words.first() else {
        return context.require("at least one argument");
    };
    if !first.value.contains('=') {
        return legacy_pair(rest, context).map(|pair| vec![pair]);
    }
    let mut pairs = Vec::new();
    let mut complete = true;
    for word in &words {
        match split_pair(word) {
            None => {
                let message = format!("can't find `=` in `{}`", word.value);
                let error = Diagnostic::error(word.span, message);
                context.report(error.with_label("must be of the form `name=value`"));
                complete = false;
            }
            Some((key, _)) if key.value.is_empty() => {
                let message = format!("`{}` names can not be blank", context.keyword);
                context.report(Diagnostic::error(word.span, message));
                complete = false;
            }
            Some((key, value)) => {
                warn_of_secret(&key, context);
                pairs.push(Pair {
                    key,
                    value,
                    legacy: false,
                });
            }
        }
    }
    complete.then_some(pairs)
}

fn legacy_pair(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Pair> {
    let (key, value) = rest.split_word();
    if value.is_empty() {
        let message = format!("`{}` must have two arguments", context.keyword);
        return context.fail(key.span(), message);
    }
    let keyword = context.keyword;
    let message =
        format!("`{keyword} key=value` should be used instead of legacy `{keyword} key value`");
    context.report(Diagnostic::warning(
        Rule::LegacyKeyValueFormat,
        rest.span(),
        message,
    ));
    let key = key.word();
    warn_of_secret(&key, context);
    Some(Pair {
        key,
        value: value.word(),
        legacy: true,
    })
}

/// Warns of a name that says what it holds: what `ARG` and `ENV` set can be read in the image.
fn warn_of_secret(name: &Word, context: &mut Context<'_>) {
    const SECRET: &[&str] = &[
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: &[&str] = &["public", "file", "version"];
    if !matches!(context.keyword, "ARG" | "ENV") {
        return;
    }
    let lower = name.value.to_ascii_lowercase();
    let names = |list: &[&str]| lower.split('_').any(|part| list.contains(&part));
    if names(SECRET) && !names(HARMLESS) {
        let message = format!(
            "do not use `ARG` or `ENV` for sensitive data (`{} {}`)",
            context.keyword, name.value
        );
        let warning = Diagnostic::warning(Rule::SecretsUsedInArgOrEnv, name.span, message);
        context.report(warning.with_help("use `RUN --mount=type=secret` in place of it"));
    }
}

/// `EXPOSE port …`.
pub(super) fn expose(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Kind> {
    let ports: Vec<_> = rest.words().map(Slice::word).collect();
    if ports.is_empty() {
        return context.require("at least one argument");
    }
    Some(Kind::Expose(ports))
}

/// `VOLUME path …` or `VOLUME ["path", …]`.
pub(super) fn volume(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Kind> {
    let mut volumes = list(rest, context)?;
    if volumes.is_empty() {
        return context.require("at least one argument");
    }
    for volume in &mut volumes {
        volume.value = volume.value.trim().to_owned();
        if volume.value.is_empty() {
            return context.fail(volume.span, "a volume can not be an empty string");
        }
    }
    Some(Kind::Volume(volumes))
}

/// Reads words that may also be written as a JSON array.
pub(super) fn list(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Vec<Word>> {
    if rest.text().starts_with('[') {
        match json::parse(rest) {
            Json::Words(words) => return Some(words.value),
            Json::NotStrings(span) => return not_strings(span, context),
            Json::Invalid(at) if rest.text().ends_with(']') => {
                context.report(super::not_json(rest, at, "each word is taken as it stands"));
            }
            Json::Invalid(_) => {}
        }
    }
    Some(rest.words().map(Slice::word).collect())
}

/// Reports a JSON array that holds something else than strings.
pub(super) fn not_strings<T>(span: Span, context: &mut Context<'_>) -> Option<T> {
    context.fail(span, "a JSON array here must be comprised of strings only")
}

/// Instructions that take the whole rest of the line as one argument.
pub(super) fn single(rest: Slice<'_>, context: &mut Context<'_>) -> Option<Word> {
    if rest.is_empty() {
        return context.require("exactly one argument");
    }
    if context.keyword == "MAINTAINER" {
        let warning = Diagnostic::warning(
            Rule::MaintainerDeprecated,
            context.place,
            "`MAINTAINER` is deprecated in favor of a label",
        );
        let help = "write `LABEL org.opencontainers.image.authors=…`";
        context.report(warning.with_help(help));
    }
    Some(rest.word())
}
