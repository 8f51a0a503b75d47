//! `RUN` with its mounts and heredocs.

use super::action::{Action, CommandLine, From, Inline, MountKind, RunAction, StepMount};
use super::stage::Planner;
use super::state::clean_path;
use crate::diagnostic::Diagnostic;
use crate::instruction::{Command, Field, Heredoc, Mount, Run};
use crate::line::Line;
use crate::mount::{Settings, Type};
use crate::parse::strip_tabs;
use crate::reader::marker;
use crate::span::Word;

/// Where scripts of heredocs are mounted, as in BuildKit.
const SCRIPTS: &str = "/dev/pipes/";

impl Planner<'_> {
    pub(super) fn run(&mut self, run: &Run) -> Option<(Action, String)> {
        let (command, script) = match (&run.command, run.heredocs.as_slice()) {
            (Command::Shell(text), heredocs @ [first, ..]) => {
                self.heredoc_command(text, first, heredocs)
            }
            (command, _) => (self.command_line(command), None),
        };
        let mounts: Vec<_> = run.mounts.iter().map(|mount| self.mount(mount)).collect();
        let devices: Vec<_> = run
            .devices
            .iter()
            .map(|device| self.expand(device))
            .collect();
        let history = self.run_history(&command);
        let action = RunAction {
            command,
            script,
            mounts: mounts.into_iter().collect::<Option<_>>()?,
            network: run.network,
            security: run.security,
            devices: devices.into_iter().collect::<Option<_>>()?,
        };
        Some((Action::Run(Box::new(action)), history))
    }

    /// A heredoc that is the whole command is itself the script; otherwise the shell gets the
    /// command with its heredocs as they were written.
    fn heredoc_command(
        &mut self,
        text: &Word,
        first: &Heredoc,
        all: &[Heredoc],
    ) -> (CommandLine, Option<Inline>) {
        let line = Line::elsewhere(&text.value, text.span);
        if marker(line.all()).is_none() {
            let mut script = text.value.clone();
            for heredoc in all {
                script.push('\n');
                script.push_str(&heredoc.content);
                script.push_str(&heredoc.name);
            }
            return (self.shell_line(script, text.span), None);
        }
        let content = match first.strip_tabs {
            true => strip_tabs(&first.content),
            false => first.content.clone(),
        };
        if !content.starts_with("#!") {
            return (self.shell_line(content, first.span), None);
        }
        let path = format!("{SCRIPTS}{}", first.name);
        let script = Inline {
            name: first.name.clone(),
            content,
            span: first.span,
        };
        (self.shell_line(path, first.span), Some(script))
    }

    /// Writes `RUN |2 A=1 B=2 /bin/sh -c …`: the build arguments are part of the entry.
    fn run_history(&self, command: &CommandLine) -> String {
        let state = &self.state;
        let arguments = state.arguments.iter().map(|(name, declared)| {
            (
                name.as_str(),
                state.variables.get(name).unwrap_or(declared).as_str(),
            )
        });
        let mut words = vec!["RUN".to_owned()];
        if !state.arguments.is_empty() {
            words.push(format!("|{}", state.arguments.len()));
            words.extend(arguments.map(|(name, value)| format!("{name}={value}")));
        }
        words.extend(command.argv.iter().cloned());
        words.push("# buildkit".to_owned());
        words.join(" ")
    }

    fn mount(&mut self, mount: &Mount) -> Option<StepMount> {
        let mut fields = Vec::new();
        for field in &mount.fields {
            let value = match &field.value {
                Some(value) => Some(self.expand(&Word::new(value.clone(), mount.span))?),
                None => None,
            };
            fields.push(Field {
                key: field.key.clone(),
                value,
            });
        }
        let settings = match Settings::read(&fields) {
            Ok(settings) => settings,
            Err(error) => return self.fail(mount.span, error.to_string()),
        };
        let target = settings
            .target
            .as_ref()
            .map(|target| clean_path(&self.state.workdir, target));
        if target.as_deref() == Some("/") {
            let error = Diagnostic::error(mount.span, "invalid mount target `/`");
            self.report(error.with_label("a mount cannot hide the whole file system"));
            return None;
        }
        let read_only = !matches!(settings.kind, Type::Cache | Type::Tmpfs);
        let read_only = settings.read_only.unwrap_or(read_only);
        let from = match &settings.from {
            Some(name) => Some(self.from(name, mount.span)?),
            None => None,
        };
        let (kind, target) = mount_kind(settings, from, target);
        Some(StepMount {
            span: mount.span,
            kind,
            target,
            read_only,
        })
    }
}

/// Fills in what the fields leave open; a secret that is a variable needs no place.
fn mount_kind(
    settings: Settings,
    from: Option<From>,
    target: Option<String>,
) -> (MountKind, Option<String>) {
    let kind = match settings.kind {
        Type::Bind => {
            let from = from.unwrap_or(From::Context);
            MountKind::Bind {
                from,
                source: settings.source,
            }
        }
        Type::Cache => cache(settings, from, target.as_deref()),
        Type::Tmpfs => MountKind::Tmpfs {
            size: settings.size,
        },
        Type::Secret => return secret(settings, target),
        Type::Ssh => {
            let Settings {
                source,
                id,
                mode,
                uid,
                gid,
                required,
                ..
            } = settings;
            let id = source.or(id).unwrap_or_else(|| "default".to_owned());
            MountKind::Ssh {
                id,
                required,
                mode,
                uid,
                gid,
            }
        }
    };
    (kind, target)
}

fn cache(settings: Settings, from: Option<From>, target: Option<&str>) -> MountKind {
    let Settings {
        source,
        id,
        sharing,
        mode,
        uid,
        gid,
        ..
    } = settings;
    let id = id.unwrap_or_else(|| target.unwrap_or_default().to_owned());
    let sharing = sharing.unwrap_or_default();
    MountKind::Cache {
        id,
        from,
        source,
        sharing,
        mode,
        uid,
        gid,
    }
}

fn secret(settings: Settings, target: Option<String>) -> (MountKind, Option<String>) {
    let Settings {
        source,
        id,
        env,
        mode,
        uid,
        gid,
        required,
        ..
    } = settings;
    let id = source
        .or(id)
        .or_else(|| target.as_deref().map(base_name))
        .unwrap_or_default();
    let file = format!("/run/secrets/{}", base_name(&id));
    let target = target.or_else(|| env.is_none().then_some(file));
    (
        MountKind::Secret {
            id,
            env,
            required,
            mode,
            uid,
            gid,
        },
        target,
    )
}

fn base_name(path: &str) -> String {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(path)
        .to_owned()
}
