//! `--change`: Dockerfile instructions that set an image's config.

use smidge_dockerfile::plan::{Action, PlanOptions};
use smidge_image::{Empty, RunConfig};

use crate::container::env::Environment;
use crate::{Error, Kind, Result, Snippet};

/// Applies instructions to a config. As in Docker, arguments that were meant for another entry point go with
/// it, unless a change names them.
pub(crate) fn apply(changes: &[String], config: &mut RunConfig) -> Result<()> {
    let before = config.cmd.take();
    apply_each(changes, config)?;
    if config.cmd.is_none() && !changes.iter().any(|change| names_entrypoint(change)) {
        config.cmd = before;
    }
    Ok(())
}

fn names_entrypoint(change: &str) -> bool {
    let word = change.split_whitespace().next().unwrap_or_default();
    word.eq_ignore_ascii_case("ENTRYPOINT")
}

fn apply_each(changes: &[String], config: &mut RunConfig) -> Result<()> {
    const HEAD: &str = "FROM scratch\n";
    for change in changes {
        let invalid = |why: String, start: usize, end: usize| {
            let place = Snippet::new("--change", change, start, end);
            Error::new(Kind::Input, why).with_snippet(place)
        };
        let text = format!("{HEAD}{change}\n");
        let refused = |diagnostic: &smidge_dockerfile::Diagnostic| {
            let (start, end) = (diagnostic.span.start, diagnostic.span.end);
            let at = |at: usize| at.saturating_sub(HEAD.len());
            invalid(diagnostic.message.clone(), at(start), at(end))
        };
        let parsed = smidge_dockerfile::parse(&text);
        if let Some(diagnostic) = parsed.diagnostics.iter().find(|d| d.is_error()) {
            return Err(refused(diagnostic));
        }
        let plan = smidge_dockerfile::plan(&parsed.dockerfile, &PlanOptions::default());
        let plan = plan.map_err(|diagnostics| match diagnostics.first() {
            Some(diagnostic) => refused(diagnostic),
            None => Error::new(Kind::Input, format!("invalid change `{change}`")),
        })?;
        let steps = plan.stages.into_iter().flat_map(|stage| stage.steps);
        for action in steps.map(|step| step.action) {
            set(action, config).map_err(|why| invalid(why, 0, change.len()))?;
        }
    }
    Ok(())
}

fn set(action: Action, config: &mut RunConfig) -> std::result::Result<(), String> {
    match action {
        Action::Env(pairs) => {
            let known = std::mem::take(&mut config.env).into_iter();
            let set = pairs.iter().map(|(name, value)| format!("{name}={value}"));
            config.env = known.chain(set).collect::<Environment>().into_pairs();
        }
        Action::Label(pairs) => config.labels.extend(pairs),
        Action::Workdir(path) => config.working_dir = path,
        Action::User(user) => config.user = user,
        Action::Expose(ports) => config.exposed_ports.extend(
            ports
                .into_iter()
                .map(|port| (format!("{}/{}", port.number, port.protocol), Empty {})),
        ),
        Action::Volume(paths) => config
            .volumes
            .extend(paths.into_iter().map(|p| (p, Empty {}))),
        Action::StopSignal(signal) => config.stop_signal = Some(signal),
        Action::Entrypoint(line) => config.entrypoint = Some(line.argv),
        Action::Cmd(line) => config.cmd = Some(line.argv),
        Action::OnBuild(text) => config.on_build.get_or_insert_default().push(text),
        _ => {
            return Err(
                "only CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME \
                        and WORKDIR can be changed"
                    .to_owned(),
            );
        }
    }
    Ok(())
}
