//! Whatever the text is: no panic, an end in sight, and spans that fit the text.

use std::fs;
use std::path::Path;

use smidge_dockerfile::ignore::Patterns;
use smidge_dockerfile::plan::BaseConfig;
use smidge_dockerfile::{Diagnostic, Location, PlanOptions, Span, parse, plan, source_line};

/// Goes all the way through and checks what must hold for every text.
fn exercise(text: &str) {
    let parsed = parse(text);
    parsed
        .diagnostics
        .iter()
        .for_each(|found| check_diagnostic(text, found));
    let mut options = PlanOptions {
        all_stages: true,
        ..PlanOptions::default()
    };
    let config = BaseConfig {
        on_build: vec![text.to_owned()],
        ..BaseConfig::default()
    };
    for stage in &parsed.dockerfile.stages {
        check_span(text, stage.from.span);
        check_span(text, stage.from.image.span);
        for instruction in &stage.instructions {
            check_span(text, instruction.span);
        }
        if options.bases.len() < 2 {
            options
                .bases
                .insert(stage.from.image.value.clone(), config.clone());
        }
    }
    match plan(&parsed.dockerfile, &options) {
        Ok(plan) => plan
            .warnings
            .iter()
            .for_each(|found| check_diagnostic(text, found)),
        Err(found) => found.iter().for_each(|found| check_diagnostic(text, found)),
    }
}

fn check_diagnostic(text: &str, found: &Diagnostic) {
    check_span(text, found.span);
    assert!(
        !found.message.is_empty() && !found.message.ends_with('.'),
        "{found:?}"
    );
}

fn check_span(text: &str, span: Span) {
    assert!(
        span.start <= span.end && span.end <= text.len(),
        "{span:?} of {}",
        text.len()
    );
    assert!(
        text.is_char_boundary(span.start) && text.is_char_boundary(span.end),
        "{span:?}"
    );
}

/// A small generator (SplitMix64): the same texts in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn pick<'p>(&mut self, pieces: &[&'p str]) -> &'p str {
        pieces[self.below(pieces.len())]
    }
}

fn corpus() -> Vec<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut texts = Vec::new();
    for folder in ["cases", "bad"] {
        for case in fs::read_dir(tests.join(folder)).expect("the folder of cases") {
            let file = case.expect("a case").path().join("Dockerfile");
            let text = fs::read_to_string(file).expect("a Dockerfile");
            // The bombs take their time, and are tried where they are.
            texts.extend(Some(text).filter(|text| !text.contains("$a$a$a$a")));
        }
    }
    texts.sort();
    texts
}

#[test]
fn mutated_dockerfiles_are_survived() {
    let pieces = [
        "$",
        "${",
        "}",
        "\"",
        "'",
        "\\",
        "`",
        "\n",
        " ",
        "\t",
        "\r\n",
        "<<EOF",
        "<<-'a b'",
        "EOF\n",
        "[",
        "]",
        ",",
        "=",
        "--",
        "#",
        ":-",
        "ü",
        "\u{feff}",
        "\0",
        "😀",
        "/",
        "*",
        "FROM",
        "ONBUILD",
        "RUN --mount=",
        "ARG",
        "\u{2028}",
    ];
    let mut random = Random(1);
    for text in corpus() {
        for _ in 0..40 {
            let mut text: Vec<char> = text.chars().collect();
            for _ in 0..=random.below(6) {
                let at = random.below(text.len() + 1);
                match random.below(3) {
                    0 if at < text.len() => drop(text.remove(at)),
                    1 => text.truncate(at),
                    _ => drop(text.splice(at..at, random.pick(&pieces).chars())),
                }
            }
            exercise(&text.into_iter().collect::<String>());
        }
    }
}

#[test]
fn random_bytes_are_survived() {
    let mut random = Random(2);
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..random.below(300))
            .map(|_| random.next() as u8)
            .collect();
        let text = String::from_utf8_lossy(&bytes);
        exercise(&text);
        exercise(&format!("FROM x\nRUN {text}\nENV a={text}\nCOPY {text}"));
        if let Ok(patterns) = Patterns::parse(&text) {
            patterns.ignored("a/b/ü");
            patterns.may_include_below("a/b");
        }
    }
}

#[test]
fn huge_dockerfiles_come_to_an_end() {
    let many = 20_000;
    let long = "x".repeat(1 << 20);
    let texts = [
        format!("FROM {long}\n"),
        format!("{long}\n"),
        format!("FROM a\nRUN {long}\n"),
        format!("FROM a\nENV a={}\n", "$b".repeat(200_000)),
        format!("FROM a\nENV a={}\n", "${b:-".repeat(200_000)),
        format!("FROM a\nRUN {}\n", "[".repeat(1 << 20)),
        format!("FROM a\nCMD {}\n", "[\"a\",".repeat(100_000)),
        format!("FROM a\nCOPY {}\n", "<<a ".repeat(100_000)),
        format!(
            "FROM a\nCOPY {} /b/\n{}",
            "<<a ".repeat(many),
            "a\n".repeat(many)
        ),
        format!(
            "FROM a\nRUN {} x\n",
            "--mount=type=cache,target=/x ".repeat(many)
        ),
        format!("FROM a\nRUN --mount={} x\n", "a,".repeat(100_000)),
        format!("FROM a\nADD {} /b\n", "--q ".repeat(100_000)),
        format!("FROM a\nRUN a {}\n", "\\\n".repeat(200_000)),
        "RUN <<X\n".repeat(50_000),
        "FROM a\n".repeat(many),
        "FROM a AS a\n".repeat(many),
        format!(
            "FROM a AS b\n{}{}",
            "ONBUILD RUN x\n".repeat(1000),
            "FROM b\n".repeat(1000)
        ),
        format!("FROM a\n{}", "ONBUILD ".repeat(100_000)),
        (0..many).fold("FROM a\n".to_owned(), |text, at| {
            format!("{text}ENV a{at}=1\nRUN x\n")
        }),
        (0..1500).fold("FROM a\n".to_owned(), |text, at| {
            format!("{text}ARG a{at}=1\nRUN x\n")
        }),
        (0..4000).fold("FROM s0\n".to_owned(), |text, at| {
            format!("{text}ENV v{at}={at}\nFROM s{at} AS s{}\n", at + 1)
        }),
        format!(
            "FROM a\n{}",
            "WORKDIR aaaaaaaaaaaaaaaaaaaaaaaa\n".repeat(many)
        ),
        "# a\n".repeat(200_000),
        "XYZ\n".repeat(50_000),
    ];
    for text in &texts {
        let parsed = parse(text);
        let options = PlanOptions {
            all_stages: true,
            ..PlanOptions::default()
        };
        let _ = plan(&parsed.dockerfile, &options);
    }
}

#[test]
fn places_are_found_in_any_text() {
    for text in ["", "\n", "a\nü\r\n\u{feff}b", "\u{feff}FROM a\n"] {
        for offset in 0..text.len() + 3 {
            let Location { line, column } = Location::of(text, offset);
            assert!(line >= 1 && column >= 1);
            assert!(!source_line(text, offset).contains('\n'));
        }
    }
    assert_eq!(Location::of("a\nüx", 4), Location { line: 2, column: 2 });
    assert_eq!(
        Location::of("\u{feff}ab", 4),
        Location { line: 1, column: 2 }
    );
}
