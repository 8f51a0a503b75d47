//! What `--help` shows beside what the parser knows.

use clap::Command;

/// The subcommands, in the order in which a newcomer meets them.
pub(super) const GROUPS: [(&str, &[&str]); 6] = [
    ("Make and run", &["build", "run"]),
    (
        "Containers",
        &[
            "create", "ps", "logs", "exec", "debug", "top", "attach", "start", "stop", "restart",
            "kill", "pause", "unpause", "update", "stats", "wait", "cp", "diff", "commit",
            "export", "rename", "port", "rm",
        ],
    ),
    (
        "Images",
        &["images", "history", "tag", "rmi", "save", "load", "import"],
    ),
    (
        "Registries",
        &[
            "pull", "push", "copy", "login", "logout", "ls", "digest", "manifest", "config",
            "registry",
        ],
    ),
    (
        "Look and tidy",
        &[
            "inspect", "events", "ldd", "prune", "info", "version", "runtime",
        ],
    ),
    (
        "Docker's grouped forms",
        &[
            "image",
            "container",
            "volume",
            "network",
            "system",
            "builder",
        ],
    ),
];

/// Gives commands the help that the parser does not make by itself.
pub(super) fn finish(command: Command) -> Command {
    let called = command.get_name().to_owned();
    let text = top(&command, &called);
    let command = command.mut_subcommands(|subcommand| one(subcommand, &called));
    command.args_override_self(true).override_help(text)
}

/// A command's help: what it is about in full, its options one below the other, examples under the name
/// that smidge was called by. As in Docker, a later option wins over an earlier one.
pub(super) fn one(command: Command, called: &str) -> Command {
    let command = command.args_override_self(true);
    let is_group = command.has_subcommands() && command.get_positionals().next().is_none();
    if is_group {
        let text = group(&command, called);
        let command = command.mut_subcommands(|subcommand| one(subcommand, called));
        return command.override_help(text);
    }
    let examples = command.get_after_help().map(ToString::to_string);
    let about = command.get_long_about().map(ToString::to_string);
    let command = match examples {
        Some(text) => command.after_help(text.replace("smidge ", &format!("{called} "))),
        None => command,
    };
    let command = match about {
        Some(about) => command.about(about).long_about(None),
        None => command,
    };
    command.mut_subcommands(|subcommand| one(subcommand, called))
}

fn top(command: &Command, called: &str) -> String {
    let mut text = format!(
        "{}\n\nUsage: {called} [--root DIR] COMMAND [OPTIONS]\n",
        about(command)
    );
    for (title, names) in GROUPS {
        text.push_str(&format!("\n{title}:\n"));
        text.extend(
            names
                .iter()
                .filter_map(|name| Some(line(command.find_subcommand(name)?, USUAL_WIDTH))),
        );
    }
    text.push_str(&format!(
        "
Options:
      --root DIR  Where images and containers are kept [default: $SMIDGE_ROOT,
                  else /var/lib/smidge for root and ~/.local/share/smidge for others]
      --config DIR
                  Where logins are [default: $DOCKER_CONFIG, else ~/.docker]
  -h, --help      Print help; `{called} COMMAND --help` for a command's own
  -V, --version   Print the version

Examples:
  {called} build -t hello .               compile this directory's program and pack it
  {called} run --rm -p 8080:8080 hello    run it, reachable at port 8080
  {called} images                         see how small it is
"
    ));
    text
}

fn group(command: &Command, called: &str) -> String {
    let name = command.get_name();
    let names = command.get_subcommands().map(Command::get_name);
    let longest = names.map(|name| name.len() + 1).max();
    let width = longest.unwrap_or(0).max(USUAL_WIDTH);
    let lines = command.get_subcommands().map(|one| line(one, width));
    let lines: String = lines.collect();
    format!(
        "{}\n\nUsage: {called} {name} COMMAND [OPTIONS]\n\nCommands:\n{lines}\n\
         `{called} {name} COMMAND --help` tells more.\n",
        command
            .get_long_about()
            .map_or_else(|| about(command), ToString::to_string)
    )
}

fn about(command: &Command) -> String {
    command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// How wide the names of subcommands are, as a rule.
const USUAL_WIDTH: usize = 10;

/// A subcommand in a list.
fn line(command: &Command, width: usize) -> String {
    format!("  {:<width$} {}\n", command.get_name(), about(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_is_in_one_group() {
        let command = super::super::command("smidge");
        let mut shown: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        let mut known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        shown.sort_unstable();
        known.sort_unstable();
        assert_eq!(shown, known);
    }
}
