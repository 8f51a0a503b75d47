//! `docs/commands/`: a page a command, made of what `--help` shows, and so also its snapshot.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Command;

use super::super::{command, help};

/// Columns of the help on a page.
const WIDTH: usize = 100;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands")
}

fn shown(command: &Command) -> String {
    let help = command.clone().term_width(WIDTH).render_help().to_string();
    help.trim_end().to_owned()
}

/// A block of help, word for word.
fn fenced(text: &str) -> String {
    format!("```text\n{}\n```\n", text.trim_end())
}

/// Whether a line of help is a heading, `Options:` say.
fn is_heading(line: &str) -> bool {
    line.ends_with(':') && !line.starts_with(' ')
}

/// A command's help as sections: what it is about, its usage, and a block a heading.
fn sections(command: &Command, level: &str) -> String {
    let text = shown(command);
    let (about, rest) = text.split_once("\n\nUsage: ").unwrap();
    let mut page = format!("{about}\n\n");
    let mut block = format!("Usage: {}\n", rest.lines().next().unwrap());
    for line in rest.lines().skip(1) {
        if is_heading(line) {
            page.push_str(&fenced(&block));
            let _ = write!(page, "\n{level} {}\n\n", line.trim_end_matches(':'));
            block.clear();
        } else {
            block.push_str(line);
            block.push('\n');
        }
    }
    page + &fenced(&block)
}

/// What tells whether two names are one command: all of its help but how it is called.
fn essence(command: &Command) -> (String, String) {
    let text = shown(command);
    let (about, rest) = text.split_once("\n\nUsage: ").unwrap();
    let options = rest.split_once('\n').unwrap_or_default().1;
    (about.to_owned(), options.to_owned())
}

/// A subcommand's section: its help, or which command it is another name of.
fn section(top: &Command, subcommand: &Command, path: &str) -> String {
    let same = |known: &&Command| !known.has_subcommands() && essence(known) == essence(subcommand);
    let text = match top.get_subcommands().find(same) {
        Some(known) => {
            let name = known.get_name();
            format!("The same as [`smidge {name}`]({name}.md).\n")
        }
        None => sections(subcommand, "###"),
    };
    format!("\n## {path}\n\n{text}")
}

fn page(top: &Command, command: &Command) -> String {
    let path = format!("smidge {}", command.get_name());
    let mut page = format!("# {path}\n\n{}", sections(command, "##"));
    for subcommand in command.get_subcommands() {
        let path = format!("{path} {}", subcommand.get_name());
        page.push_str(&section(top, subcommand, &path));
    }
    page + "\n[All commands](README.md)\n"
}

fn index(top: &Command) -> String {
    let mut page = "# Commands\n\nMade of what `smidge COMMAND --help` shows.\n".to_owned();
    for (title, names) in help::GROUPS {
        let _ = write!(page, "\n## {title}\n\n");
        for name in names {
            let about = top.find_subcommand(name).unwrap().get_about().unwrap();
            let about = about.to_string();
            let first = about.lines().next().unwrap();
            let _ = writeln!(page, "- [`{name}`]({name}.md): {first}");
        }
    }
    page
}

#[test]
fn every_command_has_a_page_that_says_what_its_help_says() {
    let mut top = command("smidge");
    top.build();
    expect_test::expect_file![directory().join("README.md")].assert_eq(&index(&top));
    for command in top.get_subcommands() {
        let path = directory().join(format!("{}.md", command.get_name()));
        expect_test::expect_file![path].assert_eq(&page(&top, command));
    }
}

#[test]
fn no_page_is_of_a_command_that_is_gone() {
    let top = command("smidge");
    let known: BTreeSet<String> = top
        .get_subcommands()
        .map(|command| format!("{}.md", command.get_name()))
        .chain(["README.md".to_owned()])
        .collect();
    let files = std::fs::read_dir(directory()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.collect::<BTreeSet<_>>(), known);
}
