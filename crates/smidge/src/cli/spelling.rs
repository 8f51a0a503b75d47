//! Docker's spelling of command lines, made the parser's.
//!
//! Three things differ: a flag may be given a truth value (`--rm=true`); an option that needs a value takes
//! the next argument, whatever it starts with (`--cpus -1`); and the options of `run` and others end at the
//! image or container, so that everything after it belongs to the container even if it starts with `-`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, Command};

/// A command line that the parser understands.
pub(super) struct Spelled {
    /// The arguments.
    pub(super) argv: Vec<OsString>,
    /// The subcommands on the way: `["image", "ls"]`.
    pub(super) path: Vec<String>,
}

/// Rewrites a command line for the parser.
pub(super) fn spelled(command: &Command, argv: Vec<OsString>) -> Spelled {
    let mut rest = asking_for_help(argv).into_iter();
    let mut result = Spelled {
        argv: rest.next().into_iter().collect(),
        path: Vec::new(),
    };
    let mut current = command;
    while let Some(token) = rest.next() {
        let text = token.to_str().unwrap_or("").to_owned();
        if is_unset(current, &text, rest.as_slice().first()) {
            if !text.ends_with('=') {
                rest.next();
            }
            continue;
        }
        let expects_value = match text.strip_prefix('-') {
            Some("-") => {
                result.argv.push(token);
                break;
            }
            Some("") | None => {
                if let Some(subcommand) = current.find_subcommand(&text) {
                    result.path.push(subcommand.get_name().to_owned());
                    result.argv.push(token);
                    current = subcommand;
                    continue;
                }
                let takes_words = takes_words(current);
                if takes_words {
                    result.argv.push(OsString::from("--"));
                }
                result.argv.push(token);
                // What follows the name of no command is none of another one.
                if takes_words || is_group(current) {
                    break;
                }
                continue;
            }
            Some(long) if long.starts_with('-') => match long_option(current, &long[1..]) {
                Spelling::Rewritten(flag) => {
                    result.argv.extend(flag.map(OsString::from));
                    continue;
                }
                Spelling::Kept { expects_value } => expects_value,
            },
            Some(cluster) => match short_options(current, cluster) {
                Spelling::Rewritten(flag) => {
                    result.argv.extend(flag.map(OsString::from));
                    continue;
                }
                Spelling::Kept { expects_value } => expects_value,
            },
        };
        match expects_value.then(|| rest.next()).flatten() {
            Some(value) if value.as_encoded_bytes().starts_with(b"-") => {
                result.argv.push(joined(token, &value));
            }
            value => result.argv.extend([token].into_iter().chain(value)),
        }
    }
    result.argv.extend(rest);
    result
}

/// Whether what follows its first argument is a program's.
fn takes_words(command: &Command) -> bool {
    let name = command.get_name();
    ["run", "create", "exec", "top", "debug"].contains(&name)
}

/// Whether it is there for its subcommands alone.
fn is_group(command: &Command) -> bool {
    command.has_subcommands() && command.get_positionals().next().is_none()
}

/// Options that mean the usual when they are empty, as where a script has no value for them, but whose values
/// are read by the parser.
const UNSET_IF_EMPTY: [&str; 10] = [
    "cgroupns",
    "cidfile",
    "ip",
    "ip6",
    "isolation",
    "mac-address",
    "platform",
    "runtime",
    "stop-signal",
    "volume-driver",
];

/// Whether an argument, with what follows it, sets such an option to nothing.
fn is_unset(command: &Command, text: &str, next: Option<&OsString>) -> bool {
    let Some(option) = text.strip_prefix("--") else {
        return false;
    };
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(OsStr::new(value))),
        None => (option, next.map(OsString::as_os_str)),
    };
    let is_known = |arg: &Arg| arg.get_long() == Some(name) && takes_next(arg);
    value.is_some_and(OsStr::is_empty)
        && UNSET_IF_EMPTY.contains(&name)
        && command.get_arguments().any(is_known)
}

/// `help COMMAND` for `COMMAND --help`, and `-v` for `--version`.
fn asking_for_help(mut argv: Vec<OsString>) -> Vec<OsString> {
    let first = argv.get(1).and_then(|word| word.to_str());
    match first {
        Some("help") => {
            argv.remove(1);
            argv.push("--help".into());
        }
        Some("-v") if argv.len() == 2 => argv[1] = "--version".into(),
        _ => {}
    }
    argv
}

/// What becomes of an option.
enum Spelling {
    /// It stays; its value may be the next argument.
    Kept { expects_value: bool },
    /// It was a flag with a truth value: it stands there without, or not at all.
    Rewritten(Option<String>),
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// Whether its value is the next argument, if it has none yet: one that may do without takes it after
/// `=` alone.
fn takes_next(arg: &Arg) -> bool {
    let may_do_without = |count: clap::builder::ValueRange| count.min_values() == 0;
    takes_value(arg) && !arg.get_num_args().is_some_and(may_do_without)
}

fn long_option(command: &Command, text: &str) -> Spelling {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let known = command.get_arguments().find(|arg| {
        arg.get_long() == Some(name)
            || arg
                .get_all_aliases()
                .is_some_and(|aliases| aliases.contains(&name))
    });
    match (known, value) {
        (Some(arg), None) => Spelling::Kept {
            expects_value: takes_next(arg),
        },
        (Some(arg), Some(value)) if !takes_value(arg) => flag(format!("--{name}"), value),
        _ => Spelling::Kept {
            expects_value: false,
        },
    }
}

fn short_options(command: &Command, cluster: &str) -> Spelling {
    for (at, letter) in cluster.char_indices() {
        let after = &cluster[at + letter.len_utf8()..];
        let known = command.get_arguments().find(|arg| {
            arg.get_short() == Some(letter)
                || arg
                    .get_all_short_aliases()
                    .is_some_and(|aliases| aliases.contains(&letter))
        });
        match known {
            None => break,
            Some(arg) if takes_value(arg) => {
                return Spelling::Kept {
                    expects_value: after.is_empty() && takes_next(arg),
                };
            }
            Some(_) => {
                if let Some(value) = after.strip_prefix('=') {
                    let before = &cluster[..at];
                    return match flag(format!("-{before}{letter}"), value) {
                        Spelling::Rewritten(None) if !before.is_empty() => {
                            Spelling::Rewritten(Some(format!("-{before}")))
                        }
                        spelling => spelling,
                    };
                }
            }
        }
    }
    Spelling::Kept {
        expects_value: false,
    }
}

/// An option and its value as one argument: apart, the parser would take the value for another option.
fn joined(mut option: OsString, value: &OsStr) -> OsString {
    if option.as_encoded_bytes().starts_with(b"--") {
        option.push("=");
    }
    option.push(value);
    option
}

/// A flag with a truth value, as Go reads those.
fn flag(flag: String, value: &str) -> Spelling {
    match value {
        "true" | "TRUE" | "True" | "t" | "T" | "1" => Spelling::Rewritten(Some(flag)),
        "false" | "FALSE" | "False" | "f" | "F" | "0" => Spelling::Rewritten(None),
        _ => Spelling::Kept {
            expects_value: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let argv = line.split(' ').map(OsString::from).collect();
        let spelled = spelled(&super::super::command("smidge"), argv);
        spelled
            .argv
            .iter()
            .map(|a| a.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn options_of_run_end_at_the_image() {
        for (line, expected) in [
            (
                "smidge run app -d --name x",
                "smidge run -- app -d --name x",
            ),
            ("smidge run -d app", "smidge run -d -- app"),
            ("smidge run --name x app", "smidge run --name x -- app"),
            (
                "smidge run --platform= --stop-signal  --name= app",
                "smidge run --name= -- app",
            ),
            ("smidge help image ls", "smidge image ls --help"),
            ("smidge help", "smidge --help"),
            ("smidge -v", "smidge --version"),
            (
                "smidge run --cpus -1 -u -1 -d app",
                "smidge run --cpus=-1 -u-1 -d -- app",
            ),
            ("smidge run --name=x app", "smidge run --name=x -- app"),
            ("smidge run -itd app", "smidge run -itd -- app"),
            (
                "smidge run -p8081:8080 app",
                "smidge run -p8081:8080 -- app",
            ),
            (
                "smidge run -p 8081:8080 app -p 1",
                "smidge run -p 8081:8080 -- app -p 1",
            ),
            (
                "smidge run -itp 1:2 app sh",
                "smidge run -itp 1:2 -- app sh",
            ),
            ("smidge run -- app -- x", "smidge run -- app -- x"),
            ("smidge run app -- x", "smidge run -- app -- x"),
            (
                "smidge --root /r run app -d",
                "smidge --root /r run -- app -d",
            ),
            (
                "smidge container run app -d",
                "smidge container run -- app -d",
            ),
            ("smidge run --nope app", "smidge run --nope -- app"),
            (
                "smidge run --tls-verify app -d",
                "smidge run --tls-verify -- app -d",
            ),
            (
                "smidge run --tls-verify=false app",
                "smidge run --tls-verify=false -- app",
            ),
            ("smidge run - x", "smidge run -- - x"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn flags_may_have_a_truth_value() {
        for (line, expected) in [
            ("smidge run --rm=true app", "smidge run --rm -- app"),
            ("smidge run --rm=false app", "smidge run -- app"),
            ("smidge run -d=false app", "smidge run -- app"),
            ("smidge run -it=1 app", "smidge run -it -- app"),
            ("smidge run -it=0 app", "smidge run -i -- app"),
            ("smidge run --rm=maybe app", "smidge run --rm=maybe -- app"),
            ("smidge ps --all=true", "smidge ps --all"),
            ("smidge ps --format=x", "smidge ps --format=x"),
            ("smidge import - name", "smidge import - name"),
            ("smidge", "smidge"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }
}
