//! Every test: unit tests, and the end-to-end tests against the release binary.

use crate::packages;
use crate::tool::{self, Outcome};

/// Users that the end-to-end tests run containers as: one with subordinate ids, one without.
const USERS: [(&str, bool); 2] = [("smidge-ranges", true), ("smidge-single", false)];

/// Installs what the tests need, makes their users, and runs all tests whose names contain one
/// of `filters`, or all.
///
/// # Errors
/// What could not be installed, or that tests failed.
pub fn run(filters: &[&str]) -> Outcome {
    packages::ensure(packages::TESTS)?;
    ensure_users()?;
    let smidge = tool::smidge()?;
    // Tests press Ctrl-C, which programs that were started in the background would not hear.
    let mut cargo = tool::command("env");
    cargo.args(["--default-signal", env!("CARGO"), "test"]);
    cargo.args(["--locked", "--workspace", "--no-fail-fast", "--"]);
    let output = tool::read_tee(cargo.args(filters).env("SMIDGE_BIN", smidge));
    let (text, succeeded) = output?;
    let (passed, failed) = totals(&text);
    println!("{passed} passed, {failed} failed");
    match succeeded && failed == 0 {
        true => Ok(()),
        false => Err("tests failed".to_owned()),
    }
}

fn ensure_users() -> Outcome {
    if !tool::is_superuser() {
        eprintln!("not root: containers are tested as this user only");
        return Ok(());
    }
    for (user, ranges) in USERS {
        if tool::read("id", ["-u", user]).is_err() {
            tool::run(tool::command("useradd").args(["--create-home", "--shell=/bin/sh", user]))?;
        }
        set_ranges(user, ranges)?;
    }
    Ok(())
}

/// Gives a user subordinate ids, or takes them away: `useradd` may have given some by itself.
fn set_ranges(user: &str, wanted: bool) -> Outcome {
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let own = |line: &&str| line.split(':').next() == Some(user);
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !own(line))
            .map(str::to_owned)
            .collect();
        if wanted {
            match text.lines().find(own) {
                Some(line) => lines.push(line.to_owned()),
                None => lines.push(format!("{user}:1900000:65536")),
            }
        }
        let new = lines
            .iter()
            .fold(String::new(), |all, line| all + line + "\n");
        if new != text {
            std::fs::write(file, new).map_err(|error| format!("cannot write `{file}`: {error}"))?;
        }
    }
    Ok(())
}

/// Adds up the closing lines of the test harnesses.
fn totals(text: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        let number = |label: &str| {
            let before = line.split(label).next().unwrap_or_default();
            before
                .split_whitespace()
                .last()
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or(0)
        };
        sums.0 += number(" passed");
        sums.1 += number(" failed");
    }
    sums
}

#[cfg(test)]
mod tests {
    #[test]
    fn totals_are_added_up() {
        let text = "test result: ok. 5 passed; 1 failed; 0 ignored\nnoise\ntest result: ok. 2 passed; 0 failed";
        assert_eq!(super::totals(text), (7, 1));
    }
}
