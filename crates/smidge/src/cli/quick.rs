//! The commands that are called most, parsed without the grammar of all the others: to build that takes
//! about as long as to start a container, and what it leaves in memory stays with the supervisor.

use std::ffi::OsString;

use clap::{Args, FromArgMatches as _};

use super::{Cli, Command, Top, help, spelling};

/// Reads a command line, if it is one of these and nothing is wrong with it: what to say otherwise takes
/// the whole grammar.
pub(super) fn parse(argv: &[OsString], called: &'static str) -> Option<Cli> {
    match name(argv)? {
        "run" => alone(argv, (called, "run"), |args| Command::Run(Box::new(args))),
        "create" => alone(argv, (called, "create"), |args| {
            Command::Create(Box::new(args))
        }),
        "start" => alone(argv, (called, "start"), Command::Start),
        "exec" => alone(argv, (called, "exec"), Command::Exec),
        "build" => alone(argv, (called, "build"), |args| {
            Command::Build(Box::new(args))
        }),
        "ps" => alone(argv, (called, "ps"), Command::Ps),
        _ => None,
    }
}

/// The command's name: what comes first, but for where the store and logins are.
fn name(argv: &[OsString]) -> Option<&str> {
    let mut words = argv.iter().skip(1).map(|word| word.to_str());
    loop {
        match words.next()?? {
            "--root" | "--config" => words.next()?,
            word if word.starts_with("--root=") || word.starts_with("--config=") => continue,
            word => return Some(word),
        };
    }
}

fn alone<A: Args>(
    argv: &[OsString],
    (called, name): (&'static str, &'static str),
    command: impl FnOnce(A) -> Command,
) -> Option<Cli> {
    let verb = help::one(A::augment_args(clap::Command::new(name)), called);
    let top = Top::augment_args(clap::Command::new(called)).args_override_self(true);
    let top = top.subcommand(verb);
    let spelled = spelling::spelled(&top, argv.to_vec());
    let mut matches = top.try_get_matches_from(spelled.argv).ok()?;
    let (_, mut of_verb) = matches.remove_subcommand()?;
    Some(Cli {
        command: command(A::from_arg_matches_mut(&mut of_verb).ok()?),
        top: Top::from_arg_matches_mut(&mut matches).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn commands_are_told_by_their_first_word() {
        for (line, expected) in [
            ("smidge run x", Some("run")),
            ("smidge --root run ps", Some("ps")),
            ("smidge --root=/x build .", Some("build")),
            ("smidge --root", None),
            ("smidge", None),
            ("smidge --help", Some("--help")),
        ] {
            assert_eq!(name(&words(line)), expected, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_left_to_the_whole_grammar() {
        for line in [
            "smidge run",
            "smidge run --help",
            "smidge run --no-such-option x",
            "smidge build a b",
            "smidge images",
        ] {
            assert!(parse(&words(line), "smidge").is_none(), "{line}");
        }
        for line in [
            "smidge run --rm -it x --rm=false -- y",
            "smidge --root /x run --rm=true x",
            "smidge build --no-cache=true -t a .",
            "smidge ps -a",
            "smidge exec -it c sh -c --help",
        ] {
            assert!(parse(&words(line), "smidge").is_some(), "{line}");
        }
        let cli = parse(&words("smidge --root /x ps"), "smidge").unwrap();
        assert_eq!(cli.top.root, Some("/x".into()));
    }
}
