//! The parser's complaints, in the words and the shape of every other error.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use smidge_engine::{Error, Kind};

const SUGGESTIONS: [ContextKind; 3] = [
    ContextKind::SuggestedArg,
    ContextKind::SuggestedSubcommand,
    ContextKind::SuggestedValue,
];

/// Says what is wrong with a command line, in Docker's words where it has them: scripts look for those.
pub(super) fn error(
    fault: &clap::Error,
    command: &Command,
    called: &str,
    path: &[String],
) -> Error {
    let words: Vec<&str> = [called]
        .into_iter()
        .chain(path.iter().map(String::as_str))
        .collect();
    let words = words.join(" ");
    let command = path.iter().try_fold(command, |command, name| {
        command.find_subcommand(name.as_str())
    });
    let text = |kind| text(fault, kind);
    let (message, fact) = message(fault, command, &words);
    let mut error = Error::new(Kind::Input, message);
    if let Some(fact) = fact {
        error = error.with_fact(fact);
    }
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
    error.with_hint(format!("what there is: `{words} --help`"))
}

/// What the parser says of a mistake.
fn text(fault: &clap::Error, kind: ContextKind) -> Option<String> {
    match fault.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        // The best one comes last.
        Some(ContextValue::Strings(texts)) if SUGGESTIONS.contains(&kind) => {
            Some(texts.iter().rev().cloned().collect::<Vec<_>>().join("`, `"))
        }
        Some(ContextValue::Strings(texts)) => Some(texts.join("`, `")),
        _ => None,
    }
}

/// The first line of what to say, and a fact beside it.
fn message(
    fault: &clap::Error,
    command: Option<&Command>,
    words: &str,
) -> (String, Option<String>) {
    let text = |kind| text(fault, kind);
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    // `--memory <BYTES>`: the flag is what stands first.
    let flag = argument.split([' ', '=', '[']).next().unwrap_or_default();
    let mut fact = None;
    let message = match fault.kind() {
        ErrorKind::UnknownArgument if argument.starts_with("--") => {
            format!("unknown flag: {argument}")
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let letter = argument.trim_start_matches('-');
            format!("unknown shorthand flag: '{letter}' in {argument}")
        }
        ErrorKind::UnknownArgument => {
            fact = Some(format!("one too many: `{argument}`"));
            format!("`{words}` {}", arity(command))
        }
        ErrorKind::InvalidSubcommand => {
            format!(
                "unknown command `{}`",
                text(ContextKind::InvalidSubcommand).unwrap_or_default()
            )
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("flag needs an argument: {flag}"),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if flag.starts_with('-') => {
            let flag = both_names(command, flag);
            format!("invalid argument \"{value}\" for \"{flag}\" flag")
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            format!("invalid argument \"{value}\" for {argument}")
        }
        ErrorKind::MissingRequiredArgument => {
            fact = Some(format!("missing: `{argument}`"));
            format!("`{words}` {}", arity(command))
        }
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg).unwrap_or_default();
            format!("`{argument}` cannot be used together with `{other}`")
        }
        _ => first_line(fault),
    };
    (message, fact)
}

/// Whether what is not known is a flag.
pub(super) fn is_flag(fault: &clap::Error) -> bool {
    matches!(fault.get(ContextKind::InvalidArg), Some(ContextValue::String(text)) if text.starts_with('-'))
}

/// How many arguments a command takes, as Docker says it.
fn arity(command: Option<&Command>) -> String {
    let positionals = || command.into_iter().flat_map(Command::get_positionals);
    let least = positionals().filter(|arg| arg.is_required_set()).count();
    let many = positionals().any(|arg| matches!(arg.get_action(), clap::ArgAction::Append));
    let most = (!many).then(|| positionals().count());
    let arguments = |count: usize| match count {
        1 => "1 argument".to_owned(),
        _ => format!("{count} arguments"),
    };
    match (least, most) {
        (_, Some(0)) => "accepts no arguments".to_owned(),
        (least, None) => format!("requires at least {}", arguments(least)),
        (least, Some(most)) if least == most => format!("requires {}", arguments(least)),
        (0, Some(most)) => format!("requires at most {}", arguments(most)),
        (least, Some(most)) => {
            format!("requires at least {least} and at most {}", arguments(most))
        }
    }
}

/// A flag under both its names: `-m, --memory`.
fn both_names(command: Option<&Command>, flag: &str) -> String {
    let named = |arg: &&clap::Arg| {
        let long = arg.get_long().map(|name| format!("--{name}"));
        let short = arg.get_short().map(|name| format!("-{name}"));
        [long, short].iter().flatten().any(|name| name == flag)
    };
    let mut all = command.into_iter().flat_map(Command::get_arguments);
    let known = all.find(named);
    match known.map(|arg| (arg.get_short(), arg.get_long())) {
        Some((Some(short), Some(long))) => format!("-{short}, --{long}"),
        _ => flag.to_owned(),
    }
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
        let mut command = super::super::command("smidge");
        let spelled = super::super::spelling::spelled(&command, argv);
        let fault = command.try_get_matches_from_mut(spelled.argv).unwrap_err();
        let error = super::error(&fault, &command, "smidge", &spelled.path);
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
            error: unknown flag: --nmae
            hint: did you mean `--name`?
            hint: what there is: `smidge run --help`
        "#]],
        );
        check(
            "smidge run",
            expect![[r#"
            error: `smidge run` requires at least 1 argument
              missing: `<IMAGE>`
            hint: what there is: `smidge run --help`
        "#]],
        );
        check(
            "smidge build --progress fast .",
            expect![[r#"
                error: invalid argument "fast" for "--progress" flag
                  possible values: `auto`, `tty`, `plain`, `none`, `json`
                hint: what there is: `smidge build --help`
            "#]],
        );
        check(
            "smidge run --name",
            expect![[r#"
            error: flag needs an argument: --name
            hint: what there is: `smidge run --help`
        "#]],
        );
    }

    #[test]
    fn dockers_words_are_there_for_those_who_look_for_them() {
        check(
            "smidge run --memory big app",
            expect![[r#"
                error: invalid argument "big" for "-m, --memory" flag
                  `big` is no size: write `512m`, or `1.5g`
                hint: what there is: `smidge run --help`
            "#]],
        );
        check(
            "smidge ps all",
            expect![[r#"
                error: `smidge ps` accepts no arguments
                  one too many: `all`
                hint: what there is: `smidge ps --help`
            "#]],
        );
        check(
            "smidge port a b c -x",
            expect![[r#"
                error: `smidge port` requires at least 1 and at most 2 arguments
                  one too many: `c`
                hint: what there is: `smidge port --help`
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
                error: invalid argument "x" for "-t, --timeout" flag
                  expected a whole number
                hint: what there is: `smidge stop --help`
            "#]],
        );
        check(
            "smidge run --mac-address zz app",
            expect![[r#"
                error: invalid argument "zz" for "--mac-address" flag
                  expected six bytes, as in 02:42:ac:11:00:02
                hint: what there is: `smidge run --help`
            "#]],
        );
    }
}
