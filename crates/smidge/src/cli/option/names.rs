//! Options that say how a container calls itself and others.

use smidge_engine::container::{CreateRequest, Names};

/// How the container calls itself and others.
#[derive(clap::Args)]
#[command(next_help_heading = "Names")]
pub(super) struct NamesArgs {
    /// The container's host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// The domain of its host name
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Add a line to its /etc/hosts; repeatable
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Ask this server for names; repeatable
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// Look for names in this domain, or in none with `.`; repeatable
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    dns_search: Vec<String>,
    /// Set an option of resolv.conf(5); repeatable
    #[arg(long, value_name = "OPTION", alias = "dns-opt")]
    dns_option: Vec<String>,
}

/// `--dns-search`: a domain, or `.`; what a resolver would take for several words is none.
fn domain(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match text == "." || (text.contains(char::is_alphabetic) && text.chars().all(is_part)) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text} is not a valid domain")),
    }
}

impl NamesArgs {
    /// Tells the engine.
    pub(super) fn apply(&self, request: &mut CreateRequest) {
        request.names = Names {
            hostname: self.hostname.clone(),
            domainname: self.domainname.clone(),
            hosts: self.add_host.clone(),
            servers: self.dns.clone(),
            search: self.dns_search.clone(),
            options: self.dns_option.clone(),
        };
    }
}
