//! What is shown while images travel: bars on a terminal, lines elsewhere, JSON where asked.

use std::num::NonZero;

use serde_json::Value;

use crate::context::{Context, Ran, have, smidge_binary};
use crate::craft::{self, Crafted};
use crate::proxy::{Fault, Proxy};
use crate::registry::Registry;

const BLOBS: (&str, &str) = ("GET", "/blobs/");

/// A registry whose blobs come slowly.
struct Slow {
    _registry: Registry,
    proxy: Proxy,
    image: Crafted,
    digest: String,
}

impl Slow {
    fn new() -> Option<Self> {
        let registry = Registry::plain()?;
        let image = craft::hello();
        let digest = registry.put("hello", "latest", &image);
        let proxy = Proxy::before(&registry);
        proxy.fault(BLOBS, usize::MAX, Fault::Trickle(1 << 10));
        Some(Self {
            _registry: registry,
            proxy,
            image,
            digest,
        })
    }

    fn name(&self) -> String {
        format!("{}/hello", self.proxy.host())
    }

    /// The layers' ids as they are shown.
    fn ids(&self) -> Vec<&str> {
        let layers = self.image.layers.iter();
        layers.map(|layer| &layer.digest[7..19]).collect()
    }
}

/// Runs smidge on a terminal of some size, and gives what went to it.
fn on_terminal(context: &Context, (columns, rows): (u16, u16), settings: &str, line: &str) -> Ran {
    let mut script = context.program("script");
    let smidge = smidge_binary().display();
    let command = format!("stty cols {columns} rows {rows}; {settings} exec {smidge} {line}");
    script.args(["-q", "-e", "-c", &command, "/dev/null"]);
    script.env("TERM", "xterm-256color");
    context.finish(script)
}

/// What a terminal shows after each part that was drawn.
fn screens(ran: &Ran, (columns, rows): (u16, u16)) -> Vec<String> {
    let [rows, columns] = [rows, columns].map(|size| NonZero::new(size).unwrap());
    let mut terminal = vt100::Parser::new(rows, columns, 0);
    let drawn = ran.bytes().split_inclusive(|byte| *byte == b'J');
    drawn
        .map(|part| {
            terminal.process(part);
            terminal.screen().contents()
        })
        .collect()
}

#[test]
fn a_terminal_shows_bars_and_keeps_none_of_them() {
    let Some(slow) = Slow::new() else {
        return;
    };
    if !have("script") {
        return;
    }
    let name = slow.name();
    for size in [(100, 24), (60, 24), (40, 3), (200, 50)] {
        let context = Context::new();
        let ran = on_terminal(&context, size, "", &format!("pull {name}"));
        ran.exits(0);
        let screens = screens(&ran, size);
        let last = screens.last().unwrap();
        let expected = format!(
            "latest: Pulling from hello\nDigest: {}\n\
             Status: Downloaded newer image for {name}:latest\n{name}:latest",
            slow.digest
        );
        // A narrow terminal wraps these lines, which are whole all the same; a low one has scrolled.
        let joined = |text: &str| text.replace('\n', "");
        assert!(
            joined(&expected).ends_with(&joined(last)),
            "{size:?}:\n{last}"
        );
        let shown = |text: &str| screens.iter().any(|screen| screen.contains(text));
        assert!(shown("total "), "{size:?}");
        if size.1 > 3 {
            slow.ids()
                .iter()
                .for_each(|id| assert!(shown(&format!("{id}: Pulling "))));
        }
        assert_eq!(shown("["), size.0 >= 100, "{size:?}");
        assert!(!ran.stdout().split("\u{1b}[").skip(1).any(|s| {
            s.find(char::is_alphabetic)
                .is_some_and(|at| s[at..].starts_with('m'))
        }));
    }
}

#[test]
fn an_error_stands_alone_on_the_terminal() {
    let Some(slow) = Slow::new() else {
        return;
    };
    if !have("script") {
        return;
    }
    slow.proxy.heal();
    let noise = slow.image.layers[1].digest.clone();
    slow.proxy
        .fault(("GET", noise.leak()), usize::MAX, Fault::Corrupt(1_000_000));
    slow.proxy.fault(BLOBS, usize::MAX, Fault::Trickle(1 << 10));
    let (context, size) = (Context::new(), (120, 24));
    let ran = on_terminal(
        &context,
        size,
        "NO_COLOR=1",
        &format!("pull {}", slow.name()),
    );
    ran.exits(1);
    let screens = screens(&ran, size);
    let last = screens.last().unwrap();
    assert!(!last.contains("Pulling ["), "{last}");
    let lines: Vec<&str> = last.lines().collect();
    assert_eq!(lines[0], "latest: Pulling from hello");
    assert!(lines[1].starts_with("error: layer 2 of "), "{last}");
}

#[test]
fn where_there_is_no_terminal_there_are_lines() {
    let Some(slow) = Slow::new() else {
        return;
    };
    let name = slow.name();
    let mut ids = slow.ids();
    ids.sort_unstable();
    let lines = |text: &str, end: &str| {
        let mut ids: Vec<String> = text
            .lines()
            .filter_map(|line| {
                Some(
                    line.trim()
                        .split_once(": ")
                        .filter(|(_, rest)| rest.starts_with(end))?
                        .0
                        .to_owned(),
                )
            })
            .collect();
        ids.sort_unstable();
        ids
    };
    let piped = |context: &Context| context.line(&format!("pull {name}"));
    let asked = |context: &Context| context.line(&format!("pull --progress plain {name}"));
    for pull in [&piped as &dyn Fn(&Context) -> Ran, &asked] {
        let pulled = pull(&Context::new());
        pulled.ok();
        let said = pulled.stderr();
        assert_eq!(lines(&said, "Pulling ("), ids, "{said}");
        assert_eq!(lines(&said, "Pull complete"), ids, "{said}");
        assert_eq!(said.lines().count(), 2 * ids.len(), "{said}");
        assert!(!said.contains('\u{1b}') && !said.contains('\r'), "{said:?}");
    }
    if have("script") {
        let context = Context::new();
        let ran = on_terminal(&context, (80, 24), "TERM=dumb", &format!("pull {name}"));
        let said = ran.ok();
        assert_eq!(lines(&said, "Pull complete"), ids, "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
    for options in ["-q", "--progress none"] {
        let pulled = Context::new().line(&format!("pull {options} {name}"));
        pulled.ok();
        assert_eq!(pulled.stderr(), "", "{options}");
    }
}

#[test]
fn json_is_one_object_a_line() {
    let Some(slow) = Slow::new() else {
        return;
    };
    let context = Context::new();
    let name = slow.name();
    let pulled = context.line(&format!("pull --progress json {name}"));
    pulled.ok();
    let said = pulled.stderr();
    let messages: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for layer in &slow.image.layers {
        let own: Vec<&Value> = messages
            .iter()
            .filter(|message| message["id"] == layer.digest[7..19])
            .collect();
        assert_eq!(own[0]["status"], "Pulling fs layer");
        assert_eq!(own.last().unwrap()["status"], "Pull complete");
        let counted: Vec<u64> = own
            .iter()
            .filter(|message| message["status"] == "Downloading")
            .map(|message| message["progressDetail"]["current"].as_u64().unwrap())
            .collect();
        assert!(!counted.is_empty() && counted.is_sorted(), "{counted:?}");
        assert!(
            counted
                .iter()
                .all(|count| *count <= layer.bytes.len() as u64)
        );
    }
    // The same of a push; what is there already says so.
    let pushed = context.line(&format!("push --progress json {name}:latest"));
    pushed.ok();
    for line in pushed.stderr().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        assert!(message["status"].is_string(), "{line}");
    }
}

#[test]
fn a_closed_standard_error_stops_nothing() {
    let Some(slow) = Slow::new() else {
        return;
    };
    let context = Context::new();
    let mut shell = context.program("sh");
    let script = "\"$0\" pull --progress plain \"$1\" 2>&- && \"$0\" run --rm \"$1\"";
    shell
        .args(["-c", script])
        .arg(smidge_binary())
        .arg(slow.name());
    assert!(context.finish(shell).ok().ends_with("hello crafted"));
}
