use super::*;

mod pages;

#[test]
fn the_grammar_is_sound() {
    command("smidge").debug_assert();
    command("docker").debug_assert();
}

/// Every command's help, with its path.
fn helps(command: &clap::Command, path: &str) -> Vec<(String, String)> {
    let mut all = vec![(
        path.to_owned(),
        command.clone().term_width(100).render_help().to_string(),
    )];
    for subcommand in command.get_subcommands() {
        all.extend(helps(
            subcommand,
            &format!("{path} {}", subcommand.get_name()),
        ));
    }
    all
}

#[test]
fn every_command_shows_examples_that_parse() {
    let mut command = command("smidge");
    command.build();
    for (path, help) in helps(&command, "smidge") {
        let grouped = [
            "smidge image",
            "smidge container",
            "smidge system",
            "smidge manifest ",
            "smidge builder",
        ];
        let is_group = help.contains("COMMAND --help` tells more");
        if is_group || grouped.iter().any(|group| path.starts_with(group)) {
            continue;
        }
        let examples = help.split_once("Examples:").map(|(_, examples)| examples);
        let examples = examples.unwrap_or_else(|| panic!("`{path}` has no examples"));
        let lines = examples
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("smidge "));
        for line in lines {
            let (example, _) = line.split_once("   ").unwrap_or((line, ""));
            let words = example.split(" | ").next().unwrap_or(example);
            assert!(!words.contains("--no-such"), "{words}");
            let argv = shell_words(words);
            let spelled = spelling::spelled(&super::command("smidge"), argv);
            let parsed = super::command("smidge").try_get_matches_from(spelled.argv);
            assert!(parsed.is_ok(), "{path}: {example}: {}", parsed.unwrap_err());
        }
    }
}

/// Splits at spaces outside of single quotes.
fn shell_words(line: &str) -> Vec<OsString> {
    let mut words = vec![String::new()];
    let (mut quoted, mut depth) = (false, 0);
    for character in line.chars() {
        match character {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ' ' if !quoted && depth == 0 => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
        .into_iter()
        .filter(|word| !word.is_empty())
        .map(OsString::from)
        .collect()
}

#[test]
fn the_other_name_is_used_throughout() {
    let mut command = command("docker");
    command.build();
    for (path, help) in helps(&command, "docker") {
        let foreign: Vec<&str> = help
            .lines()
            .filter(|line| line.contains("smidge "))
            .collect();
        let about_itself =
            |line: &&&str| !line.contains("Manage smidge") && !line.contains("what smidge");
        let commands: Vec<_> = foreign
            .iter()
            .filter(about_itself)
            .filter(|l| l.starts_with("  smidge "))
            .collect();
        assert!(commands.is_empty(), "{path}: {commands:?}");
    }
}

#[test]
fn only_an_output_that_nobody_reads_ends_quietly() {
    let failure = |message: &str| {
        let error = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        Failure::from(Error::new(smidge_engine::Kind::Host, message).caused_by(error))
    };
    assert!(failure("cannot write the output").is_broken_pipe());
    assert!(!failure("cannot push `a`: the registry cannot be reached").is_broken_pipe());
}

/// A command line of `docker`'s, read; what is wrong with it otherwise.
fn read(line: &str) -> Result<Cli, clap::Error> {
    let spelled = spelling::spelled(&super::command("docker"), shell_words(line));
    let matches = super::command("docker").try_get_matches_from(spelled.argv);
    matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches))
}

#[test]
fn dockers_builds_are_understood() {
    for line in [
        "docker build -",
        "docker build -f - .",
        "docker build -t a -t b --rm --force-rm=true --load --provenance=false --sbom=false .",
        "docker build --no-cache --no-cache-filter a,b --pull --target x .",
        "docker build --secret id=a,src=b --secret id=c,env=D --ssh default --ssh k=/s .",
        "docker build --ulimit nofile=1:2 --shm-size 1g --add-host a:1.2.3.4 --network=none .",
        "docker build --build-context a=docker-image://b .",
        "docker build --allow network.host --check .",
        "docker build --call=check --iidfile i --metadata-file m --progress=rawjson .",
        "docker build --progress quiet https://example.com/a.git#main:dir",
        "docker build --debug-shell .",
        "docker build --debug-shell=/bin/bash .",
        "docker builder build -q .",
        "docker buildx build --platform linux/amd64,linux/arm64 .",
        "docker buildx du --filter type=mount",
        "docker builder prune -af --keep-storage 10GB --filter until=24h",
    ] {
        assert!(read(line).is_ok(), "{line}: {}", read(line).err().unwrap());
    }
    for line in [
        "docker build",
        "docker build --shm-size x .",
        "docker build --call=lint .",
        "docker build --progress fancy .",
        "docker builder prune --keep-storage",
    ] {
        assert!(read(line).is_err(), "{line}");
    }
}
