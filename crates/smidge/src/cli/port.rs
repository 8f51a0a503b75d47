//! `smidge port`.

use std::fmt::Write as _;

use super::session::{Outcome, Session};
use crate::render::listing;

/// Show where a container's ports are published
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge port web                         all of them
  smidge port web 8080/tcp                where this one is")]
pub(super) struct Args {
    /// Name or id of the container
    container: String,
    /// A port inside
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let engine = session.engine()?;
    let mut text = String::new();
    for published in engine.published_ports(&args.container, args.port.as_deref())? {
        let address = std::net::SocketAddr::new(published.host_ip, published.host_port);
        if args.port.is_none() {
            let _ = write!(
                text,
                "{}/{} -> ",
                published.container_port, published.protocol
            );
        }
        let _ = writeln!(text, "{address}");
    }
    listing::write(&mut session.out(), &text)?;
    Ok(0)
}
