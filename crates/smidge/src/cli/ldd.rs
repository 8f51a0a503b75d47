//! `smidge ldd`.

use std::path::PathBuf;

use serde_json::json;
use smidge_engine::Note;
use smidge_engine::ldd::{LddReport, LddRequest, Linkage};

use super::session::{Outcome, Session};
use crate::render::listing;

/// Show which shared libraries programs need, without executing them
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge ldd /bin/ls
  smidge ldd --tree /bin/ls               who needs what
  smidge ldd --root ./rootfs /usr/bin/app look inside a root file system")]
pub(super) struct Args {
    /// The file; repeatable
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show who needs what
    #[arg(long, conflicts_with = "json")]
    tree: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Look inside this root file system
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let names: Vec<String> = args.files.iter().map(|f| f.display().to_string()).collect();
    let mut files = args.files.iter();
    let mut reports = Vec::new();
    let several = args.files.len() > 1;
    let outcome = super::session::each(&names, |name| {
        let file = files.next().cloned().unwrap_or_default();
        let report = engine.ldd(&LddRequest {
            file,
            root: args.root.clone(),
        })?;
        for note in &report.notes {
            session.note(&Note::new(note.clone()));
        }
        if !args.json {
            let head = if several {
                format!("{name}:\n")
            } else {
                String::new()
            };
            let body = if args.tree {
                tree(&report)
            } else {
                list(&report)
            };
            listing::write(&mut session.out(), &format!("{head}{body}"))?;
        }
        reports.push(report);
        Ok(())
    });
    if args.json {
        let value = if several {
            json!(reports)
        } else {
            json!(reports.first())
        };
        listing::write(&mut session.out(), &format!("{value}\n"))?;
    }
    outcome?;
    Ok(exit_code(&reports))
}

/// As ldd: 1 for a file that is no dynamic executable.
fn exit_code(reports: &[LddReport]) -> u8 {
    u8::from(
        reports
            .iter()
            .any(|report| report.linkage == Linkage::NotDynamic),
    )
}

/// In ldd's shape, without the load addresses that nothing was loaded at.
fn list(report: &LddReport) -> String {
    let mut text: String = report
        .missing_versions
        .iter()
        .map(|missing| format!("{}: {missing}\n", report.file))
        .collect();
    match report.linkage {
        Linkage::NotDynamic => return "\tnot a dynamic executable\n".to_owned(),
        Linkage::Static => return "\tstatically linked\n".to_owned(),
        Linkage::Dynamic => {}
    }
    let loader = report.loader.as_ref();
    for library in &report.libraries {
        text.push_str(&match &library.path {
            Some(path) if *path == library.name => format!("\t{path}\n"),
            Some(path) => format!("\t{} => {path}\n", library.name),
            None => format!("\t{} => not found\n", library.name),
        });
    }
    if let Some(loader) = loader {
        text.push_str(&match &loader.path {
            Some(path) if *path == loader.name => format!("\t{path}\n"),
            Some(path) => format!("\t{} => {path}\n", loader.name),
            None => format!("\t{} => not found\n", loader.name),
        });
    }
    text
}

/// The program, and below everything what it needs.
fn tree(report: &LddReport) -> String {
    let mut text = format!("{}\n", report.file);
    match report.linkage {
        Linkage::NotDynamic => text.push_str("    not a dynamic executable\n"),
        Linkage::Static => text.push_str("    statically linked\n"),
        Linkage::Dynamic => {
            let mut shown = vec![false; report.libraries.len()];
            for index in &report.direct {
                branch(report, *index, 1, &mut shown, &mut text);
            }
        }
    }
    text
}

fn branch(report: &LddReport, index: usize, depth: usize, shown: &mut [bool], text: &mut String) {
    let Some(library) = report.libraries.get(index) else {
        return;
    };
    let path = library.path.as_deref().unwrap_or("not found");
    let indent = "    ".repeat(depth);
    let seen = std::mem::replace(&mut shown[index], true);
    let more = if seen && !library.needs.is_empty() {
        " (above)"
    } else {
        ""
    };
    text.push_str(&format!("{indent}{} => {path}{more}\n", library.name));
    if !seen {
        for next in &library.needs {
            branch(report, *next, depth + 1, shown, text);
        }
    }
}
