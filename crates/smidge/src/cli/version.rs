//! `smidge version`.

use serde_json::{Value, json};

use super::session::{Outcome, Session};
use crate::render::listing;

/// Show the version
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge version
  smidge version -f '{{.Client.Version}}'")]
pub(super) struct Args {
    /// A Go template, or `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let facts = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": std::env::consts::OS,
        "Arch": session.host.architecture(),
    });
    // Client and engine are one; scripts ask for either.
    let value = json!({"Client": facts, "Server": facts});
    listing::print_value(&mut session.out(), args.format.as_deref(), value, shown)?;
    Ok(0)
}

fn shown(value: &Value) -> String {
    let fact = |name: &str| {
        value["Client"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    format!(
        "smidge\n Version:    {}\n OS/Arch:    {}/{}\n Daemon:     none needed\n",
        fact("Version"),
        fact("Os"),
        fact("Arch")
    )
}
