//! The parser's complaints, in the words and the shape of every other error.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use smidge_engine::{Error, Kind};

const SUGGESTIONS: [ContextKind; 3] = [
    ContextKind::SuggestedArg,
    ContextKind::SuggestedSubcommand,
    ContextKind::SuggestedValue,
];

/// Says what is wrong with a command line.
pub(super) fn error(fault: &clap::Error, called: &str, path: &[String]) -> Error {
    let text = |kind| match fault.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        // The best one comes last.
        Some(ContextValue::Strings(texts)) if SUGGESTIONS.contains(&kind) => {
            Some(texts.iter().rev().cloned().collect::<Vec<_>>().join("`, `"))
        }
        Some(ContextValue::Strings(texts)) => Some(texts.join("`, `")),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let message = match fault.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            format!("unknown flag `{argument}`")
        }
        ErrorKind::UnknownArgument => format!("unexpected argument `{argument}`"),
        ErrorKind::InvalidSubcommand => {
            format!(
                "unknown command `{}`",
                text(ContextKind::InvalidSubcommand).unwrap_or_default()
            )
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("`{argument}` needs a value"),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            format!("invalid value `{value}` for `{argument}`")
        }
        ErrorKind::MissingRequiredArgument => format!("missing argument: `{argument}`"),
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg).unwrap_or_default();
            format!("`{argument}` cannot be used together with `{other}`")
        }
        _ => first_line(fault),
    };
    let mut error = Error::new(Kind::Input, message);
    if let Some(source) = std::error::Error::source(fault) {
        let is_number = source.is::<std::num::ParseIntError>();
        error = error.with_fact(match is_number {
            true => "expected a whole number".to_owned(),
            false => source.to_string(),
        });
    }
    if let Some(valid) = text(ContextKind::ValidValue).filter(|valid| !valid.is_empty()) {
        error = error.with_fact(format!("possible values: `{valid}`"));
    }
    for suggestion in SUGGESTIONS.into_iter().filter_map(text) {
        error = error.with_hint(format!("did you mean `{suggestion}`?"));
    }
    let words: Vec<&str> = [called]
        .into_iter()
        .chain(path.iter().map(String::as_str))
        .collect();
    error.with_hint(format!("what there is: `{} --help`", words.join(" ")))
}

fn first_line(fault: &clap::Error) -> String {
    let text = fault.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    fn check(line: &str, expected: Expect) {
        let argv = line.split(' ').map(std::ffi::OsString::from).collect();
        let command = super::super::command("smidge");
        let spelled = super::super::spelling::spelled(&command, argv);
        let fault = command.try_get_matches_from(spelled.argv).unwrap_err();
        let error = super::error(&fault, "smidge", &spelled.path);
        let styled = crate::render::error::error(&error, "smidge");
        expected.assert_eq(&anstream::adapter::strip_str(&styled).to_string());
    }

    #[test]
    fn mistakes_are_named_and_the_way_out_shown() {
        check(
            "smidge buidl .",
            expect![[r#"
                error: unknown command `buidl`
                hint: did you mean `build`, `buildx`, `builder`?
                hint: what there is: `smidge --help`
            "#]],
        );
        check(
            "smidge run --nmae x app",
            expect![[r#"
            error: unknown flag `--nmae`
            hint: did you mean `--name`?
            hint: what there is: `smidge run --help`
        "#]],
        );
        check(
            "smidge run",
            expect![[r#"
            error: missing argument: `<IMAGE>`
            hint: what there is: `smidge run --help`
        "#]],
        );
        check(
            "smidge build --progress fast .",
            expect![[r#"
                error: invalid value `fast` for `--progress <STYLE>`
                  possible values: `auto`, `tty`, `plain`, `none`, `json`
                hint: what there is: `smidge build --help`
            "#]],
        );
        check(
            "smidge run --name",
            expect![[r#"
            error: `--name <NAME>` needs a value
            hint: what there is: `smidge run --help`
        "#]],
        );
        check(
            "smidge image lss",
            expect![[r#"
                error: unknown command `lss`
                hint: did you mean `ls`, `list`?
                hint: what there is: `smidge image --help`
            "#]],
        );
    }

    #[test]
    fn what_was_expected_of_a_value_is_said() {
        check(
            "smidge stop -t x web",
            expect![[r#"
                error: invalid value `x` for `--timeout <SECONDS>`
                  expected a whole number
                hint: what there is: `smidge stop --help`
            "#]],
        );
        check(
            "smidge run --mac-address zz app",
            expect![[r#"
                error: invalid value `zz` for `--mac-address <MAC>`
                  expected six bytes, as in 02:42:ac:11:00:02
                hint: what there is: `smidge run --help`
            "#]],
        );
    }
}
