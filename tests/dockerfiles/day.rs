//! `docs/a-day.md`, done: its commands in order, but for those that make the base image.

use std::path::Path;

use crate::builder::Smidge;
use crate::context::{Context, identities, repository, smidge_binary};
use crate::{Outcome, Report, apt};

/// The commands of the page that make the base image.
const BASE: &str = "debootstrap";

/// Spends the day as root and as an ordinary user with ids to give to the images' users.
pub(crate) fn run(report: &mut Report) {
    if !report.wants("a day") {
        return;
    }
    println!("\na day with containers");
    let archive = match apt::debian() {
        Ok(archive) => archive,
        Err(why) => return report.row("a day", &Outcome::Skipped(why), &[]),
    };
    let many_ids = |name: &str| name != "smidge-single";
    for identity in identities().into_iter().filter(|who| many_ids(who.name)) {
        let title = format!("a day as {}", identity.name);
        let outcome = spend(&archive, Context::of(identity));
        report.row(&title, &outcome, &[]);
    }
}

fn spend(archive: &Path, context: Context) -> Outcome {
    let port = smidge_tests::free_ports(1).to_string();
    let script = script().replace("8080", &port);
    let path = context.write("day.sh", script);
    let smidge = Smidge::with(context, archive, "debian");
    let ran = smidge.script(&path, smidge_binary().parent().unwrap());
    let mut wrong = Vec::new();
    if ran.code() != 0 {
        wrong.push(format!("exit status {}\n{}", ran.code(), ran.stderr()));
    }
    for (what, often) in [
        ("Small is beautiful", 2),
        ("<h1>Small is beautiful</h1>", 1),
    ] {
        let found = ran.stdout().lines().filter(|line| *line == what).count();
        if found != often {
            wrong.push(format!(
                "`{what}` was printed {found} times: {}",
                ran.stdout()
            ));
        }
    }
    match wrong.is_empty() {
        true => Outcome::Passed,
        false => Outcome::Failed(wrong),
    }
}

/// The page's blocks of commands.
fn script() -> String {
    let page = std::fs::read_to_string(repository().join("docs/a-day.md")).unwrap();
    let blocks = page.split("```sh\n").skip(1);
    let blocks = blocks.map(|block| block.split_once("```").unwrap().0);
    let wanted: Vec<&str> = blocks.filter(|block| !block.contains(BASE)).collect();
    format!("set -eux\n{}", wanted.concat())
}
