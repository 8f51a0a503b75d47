//! Instructions that change the image's config.

use super::action::{Action, CommandLine, HealthAction};
use super::stage::Planner;
use super::state::clean_path;
use super::{history, port};
use crate::diagnostic::{Diagnostic, Rule};
use crate::instruction::{Argument, Command, Healthcheck, Pair};
use crate::span::{Span, Word};

/// Longer paths cannot be opened (PATH_MAX, limits.h).
const LONGEST_PATH: usize = 4096;

impl Planner<'_> {
    /// `ENV`: every value sees the variables as they were before the instruction.
    pub(super) fn env(&mut self, pairs: &[Pair]) -> Option<(Action, String)> {
        let pairs = self.expand_pairs(pairs)?;
        for (name, value) in &pairs {
            self.state.set(name.clone(), value.clone(), false);
        }
        let history = history::pairs("ENV", &pairs);
        Some((Action::Env(pairs), history))
    }

    pub(super) fn label(&mut self, pairs: &[Pair]) -> Option<(Action, String)> {
        let pairs = self.expand_pairs(pairs)?;
        let history = history::pairs("LABEL", &pairs);
        Some((Action::Label(pairs), history))
    }

    fn expand_pairs(&mut self, pairs: &[Pair]) -> Option<Vec<(String, String)>> {
        let expanded: Vec<_> = pairs
            .iter()
            .map(|pair| (self.expand(&pair.key), self.expand(&pair.value)))
            .collect();
        expanded
            .into_iter()
            .map(|(key, value)| key.zip(value))
            .collect()
    }

    /// `ARG`: a build argument comes first, then the default, then the global of that name.
    pub(super) fn arg(&mut self, arguments: &[Argument]) -> Option<(Action, String)> {
        let mut declared = Vec::new();
        let mut texts = Vec::new();
        for argument in arguments {
            let name = &argument.name.value;
            let value = match (self.context.options.build_args.get(name), &argument.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.context.graph.globals.get(name).cloned(),
            };
            if let Some(value) = &value {
                self.state.set(name.clone(), value.clone(), true);
            }
            self.state.declare(name, value.as_deref());
            texts.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            declared.push((name.clone(), value));
        }
        Some((Action::Arg(declared), format!("ARG {}", texts.join(" "))))
    }

    pub(super) fn expose(&mut self, words: &[Word]) -> Option<(Action, String)> {
        let mut ports = Vec::new();
        let mut complete = true;
        for word in words {
            let escape = self.context.dockerfile.directives.escape;
            let Some(expansion) = self.expansion(word, escape, true) else {
                complete = false;
                continue;
            };
            for text in expansion.words {
                match port::parse(&text) {
                    Ok(found) => {
                        self.check_port(&found, &text, word.span);
                        ports.extend(found.ports);
                    }
                    Err(error) => {
                        self.report(Diagnostic::error(word.span, error.to_string()));
                        complete = false;
                    }
                }
            }
        }
        ports.sort();
        ports.dedup();
        let history = history::ports(&ports);
        complete.then_some((Action::Expose(ports), history))
    }

    fn check_port(&mut self, found: &port::Specification, text: &str, span: Span) {
        if found.mapped {
            let message =
                format!("`EXPOSE {text}`: an address or host port has no meaning in an image");
            self.report(Diagnostic::warning(
                Rule::ExposeInvalidFormat,
                span,
                message,
            ));
        }
        if found.cased {
            let message = format!("protocol in `EXPOSE {text}` should be lowercase");
            self.report(Diagnostic::warning(Rule::ExposeProtoCasing, span, message));
        }
    }

    /// `CMD` and `ENTRYPOINT`: no variables are expanded, the shell will do that.
    pub(super) fn start(&mut self, command: &Command, keyword: &str) -> CommandLine {
        // What was meant as an array has been reported as that.
        if let Command::Shell(text) = command
            && self.state.shell.is_empty()
            && !text.value.starts_with('[')
        {
            let message = format!(
                "JSON arguments recommended for `{keyword}` to prevent unintended behavior related \
                 to OS signals"
            );
            let warning = Diagnostic::warning(Rule::JSONArgsRecommended, text.span, message);
            self.report(warning.with_label("a shell runs this"));
        }
        self.command_line(command)
    }

    pub(super) fn command_line(&self, command: &Command) -> CommandLine {
        match command {
            Command::Exec(words) => CommandLine {
                argv: words.value.iter().map(|word| word.value.clone()).collect(),
                shell_form: false,
                arguments: words.value.iter().map(|word| word.span).collect(),
            },
            Command::Shell(text) => self.shell_line(text.value.clone(), text.span),
        }
    }

    /// Hands a text to the shell.
    pub(super) fn shell_line(&self, text: String, span: Span) -> CommandLine {
        let mut argv = self.state.shell_or_default();
        argv.push(text);
        CommandLine {
            argv,
            shell_form: true,
            arguments: vec![span],
        }
    }

    pub(super) fn healthcheck(&mut self, check: &Healthcheck) -> (Action, String) {
        let action = match check {
            Healthcheck::None => HealthAction {
                test: vec!["NONE".to_owned()],
                timing: Default::default(),
            },
            Healthcheck::Check { command, timing } => {
                let (kind, words) = match command {
                    Command::Exec(words) => ("CMD", words.value.as_slice()),
                    Command::Shell(text) => ("CMD-SHELL", std::slice::from_ref(text)),
                };
                let mut test = vec![kind.to_owned()];
                test.extend(words.iter().map(|word| word.value.clone()));
                HealthAction {
                    test,
                    timing: *timing,
                }
            }
        };
        let history = history::health(&action);
        (Action::Healthcheck(action), history)
    }

    pub(super) fn shell(&mut self, words: &[Word]) -> (Action, String) {
        self.state.shell = words.iter().map(|word| word.value.clone()).collect();
        let history = format!("SHELL {}", history::bracketed(&self.state.shell));
        (Action::Shell(self.state.shell.clone()), history)
    }

    pub(super) fn stop_signal(&mut self, word: &Word) -> Option<(Action, String)> {
        let signal = self.expand(word)?;
        if !is_signal(&signal) {
            return self.fail(word.span, format!("invalid signal `{signal}`"));
        }
        let history = format!("STOPSIGNAL {signal}");
        Some((Action::StopSignal(signal), history))
    }

    pub(super) fn user(&mut self, word: &Word) -> Option<(Action, String)> {
        let user = self.expand(word)?;
        self.state.user.clone_from(&user);
        let history = format!("USER {user}");
        Some((Action::User(user), history))
    }

    pub(super) fn volume(&mut self, words: &[Word]) -> Option<(Action, String)> {
        let mut volumes = Vec::new();
        for word in words {
            let volume = self.expand(word)?;
            if volume.is_empty() {
                return self.fail(word.span, "a volume can not be an empty string");
            }
            volumes.push(volume);
        }
        let history = format!("VOLUME {}", history::bracketed(&volumes));
        Some((Action::Volume(volumes), history))
    }

    pub(super) fn workdir(&mut self, word: &Word) -> Option<(Action, String)> {
        let path = self.expand(word)?;
        if !self.state.workdir_set && !path.starts_with('/') {
            let message = format!(
                "relative `WORKDIR {path}` can have unexpected results if the base image changes"
            );
            self.report(Diagnostic::warning(
                Rule::WorkdirRelativePath,
                word.span,
                message,
            ));
        }
        self.state.workdir_set = true;
        let path = clean_path(&self.state.workdir, &path);
        if path.len() >= LONGEST_PATH {
            return self.fail(word.span, "the working directory's path is too long");
        }
        self.state.workdir.clone_from(&path);
        let history = format!("WORKDIR {path}");
        Some((Action::Workdir(path), history))
    }
}

/// Tells whether Docker takes a text as a signal: a number, or a name with or without `SIG`.
fn is_signal(text: &str) -> bool {
    const NAMES: &[&str] = &[
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
        "RTMIN", "RTMAX",
    ];
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, most: u32| {
        let offset = name
            .strip_prefix(prefix)
            .and_then(|offset| offset.parse().ok());
        offset.is_some_and(|offset: u32| (1..=most).contains(&offset))
    };
    NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known() {
        for signal in [
            "9",
            "TERM",
            "SIGTERM",
            "sigquit",
            "RTMIN+3",
            "SIGRTMAX-14",
            "64",
        ] {
            assert!(is_signal(signal), "{signal}");
        }
        for signal in [
            "",
            "0",
            "65",
            "SIG",
            "SIGSIGTERM",
            "TERMS",
            "RTMIN+16",
            "-9",
            "RTMIN+",
        ] {
            assert!(!is_signal(signal), "{signal}");
        }
    }
}
