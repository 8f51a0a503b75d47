//! Instructions that set something in the image's config.

use std::time::Duration;

use smidge_dockerfile::instruction::Timing;
use smidge_dockerfile::plan::{Action, HealthAction, Port};
use smidge_image::{Empty, Healthcheck, RunConfig};

use crate::build::config::assign;

/// Sets what an instruction says in the config.
pub(super) fn set(config: &mut RunConfig, action: &Action) {
    match action {
        Action::Env(pairs) => {
            pairs
                .iter()
                .for_each(|(name, value)| assign(&mut config.env, name, value));
        }
        Action::Label(pairs) => config.labels.extend(pairs.iter().cloned()),
        Action::User(user) => config.user.clone_from(user),
        Action::Expose(ports) => {
            let key = |port: &Port| format!("{}/{}", port.number, port.protocol);
            config
                .exposed_ports
                .extend(ports.iter().map(|port| (key(port), Empty {})));
        }
        Action::Volume(paths) => {
            config
                .volumes
                .extend(paths.iter().map(|path| (path.clone(), Empty {})));
        }
        Action::StopSignal(signal) => config.stop_signal = Some(signal.clone()),
        Action::Shell(shell) => config.shell = Some(shell.clone()),
        Action::Healthcheck(check) => config.healthcheck = Some(healthcheck(check)),
        Action::OnBuild(trigger) => {
            config
                .on_build
                .get_or_insert_default()
                .push(trigger.clone());
        }
        // Seen by the plan alone, or done elsewhere.
        Action::Arg(_)
        | Action::Copy(_)
        | Action::Add(_)
        | Action::Run(_)
        | Action::Workdir(_)
        | Action::Entrypoint(_)
        | Action::Cmd(_)
        | Action::Maintainer(_) => {}
    }
}

fn healthcheck(action: &HealthAction) -> Healthcheck {
    let Timing {
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = action.timing;
    let nanoseconds = |duration: Option<Duration>| {
        duration.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    };
    Healthcheck {
        test: Some(action.test.clone()),
        interval: nanoseconds(interval),
        timeout: nanoseconds(timeout),
        start_period: nanoseconds(start_period),
        start_interval: nanoseconds(start_interval),
        retries: retries.map_or(0, i64::from),
    }
}
