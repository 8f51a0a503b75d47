//! `smidge logs`.

use smidge_engine::container::{LogRequest, Stream};

use super::session::{Outcome, Session};

/// Show what a container's program wrote
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smidge logs web                         all of it
  smidge logs -f --tail 10 web            the last 10 lines, and what comes
  smidge logs --since 10m -t web          of the last 10 minutes, with times")]
pub(super) struct Args {
    /// Name or id of the container
    container: String,
    /// Go on until the program ends
    #[arg(short, long)]
    follow: bool,
    /// Show this many lines from the end
    #[arg(
        short = 'n',
        long,
        value_name = "LINES",
        default_value = "all",
        allow_hyphen_values = true
    )]
    tail: Tail,
    /// Show the labels and variables that `--log-opt labels=` and `env=` have named, too
    #[arg(long)]
    details: bool,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Show lines from a time on: 2026-11-21T09:30:00Z, or how long ago: 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show lines before a time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// `--tail`: a number, or `all`.
#[derive(Clone, Copy)]
struct Tail(Option<usize>);

impl std::str::FromStr for Tail {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Docker takes a negative number for all.
        if text == "all" || text.parse::<i64>().is_ok_and(|number| number < 0) {
            return Ok(Self(None));
        }
        text.parse()
            .map(|lines| Self(Some(lines)))
            .map_err(|_| "expected a number or `all`")
    }
}

pub(super) fn run(session: &Session, args: &Args) -> Outcome {
    let request = LogRequest {
        follow: args.follow,
        tail: args.tail.0,
        since: args.since.clone(),
        until: args.until.clone(),
    };
    let (mut out, mut err) = (session.out(), std::io::stderr().lock());
    let engine = session.engine()?;
    let details = match args.details {
        true => format!("{} ", engine.log_details(&args.container)?),
        false => String::new(),
    };
    engine.logs(&args.container, &request, &mut |entry| {
        let time = if args.timestamps {
            format!("{} ", entry.time)
        } else {
            String::new()
        };
        let sink: &mut dyn std::io::Write = match entry.stream {
            Stream::Stdout => &mut out,
            Stream::Stderr => &mut err,
        };
        write!(sink, "{time}{details}{}", entry.text)?;
        sink.flush()
    })?;
    Ok(0)
}
