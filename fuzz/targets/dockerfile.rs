//! Dockerfiles: whatever is said about one points into it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smidge_dockerfile::{Diagnostic, Location, PlanOptions, parse, plan};

fuzz_target!(|text: &str| {
    let parsed = parse(text);
    check(text, &parsed.diagnostics);
    if !parsed.has_errors() {
        let options = PlanOptions {
            all_stages: true,
            ..PlanOptions::default()
        };
        match plan(&parsed.dockerfile, &options) {
            Ok(plan) => check(text, &plan.warnings),
            Err(diagnostics) => check(text, &diagnostics),
        }
    }
});

fn check(text: &str, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let span = diagnostic.span;
        assert!(text.get(span.start..span.end).is_some(), "{diagnostic:?}");
        assert!(
            Location::of(text, span.start) <= Location::of(text, span.end),
            "{diagnostic:?}"
        );
    }
}
