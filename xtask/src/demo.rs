//! From two programs to two running containers: the README's first command.

use std::path::Path;

use crate::packages;
use crate::tool::{self, Outcome};

/// Builds smidge and the example servers, runs them as containers, fetches their pages, prints
/// the sizes, and removes the containers.
///
/// # Errors
/// The first step that fails, after the containers are removed.
pub fn run() -> Outcome {
    packages::ensure(packages::DEMO)?;
    let smidge = tool::smidge()?;
    let demo = Demo { smidge: &smidge };
    demo.remove_containers();
    let outcome = demo.play();
    demo.remove_containers();
    outcome
}

struct Demo<'a> {
    smidge: &'a Path,
}

const CONTAINERS: [&str; 2] = ["demo-helloworld", "demo-argserver"];

impl Demo<'_> {
    fn play(&self) -> Outcome {
        self.say(&[
            "build",
            "--small",
            "-t",
            "helloworld",
            "examples/helloworld",
        ])?;
        self.say(&[
            "build",
            "--small",
            "-t",
            "argserver",
            "--as",
            "cargo",
            "examples/argserver",
            "--",
            "a",
            "b",
            "c",
            "d",
        ])?;
        self.say(&["build", "-t", "tiny", "examples/tiny"])?;
        self.say(&[
            "run",
            "-d",
            "-p",
            "8080:8080",
            "--name",
            CONTAINERS[0],
            "helloworld",
        ])?;
        self.fetch("http://localhost:8080/")?;
        self.say(&[
            "run",
            "-d",
            "-p",
            "8081:8080",
            "--name",
            CONTAINERS[1],
            "argserver",
        ])?;
        self.fetch("http://localhost:8081/args")?;
        self.say(&["ps"])?;
        self.say(&["images"])
    }

    fn say(&self, args: &[&str]) -> Outcome {
        println!("\n$ smidge {}", args.join(" "));
        tool::run(tool::command(self.smidge).args(args))
    }

    fn fetch(&self, url: &str) -> Outcome {
        println!("\n$ curl {url}");
        tool::run(tool::command("curl").args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "10",
            url,
        ]))
    }

    fn remove_containers(&self) {
        // Absent containers are what we want; anything else shows when the name is taken.
        let _ = tool::command(self.smidge)
            .args(["rm", "-f"])
            .args(CONTAINERS)
            .output();
    }
}
