//! One stage: its instructions are gone through in order, each seeing what those above it did.

use super::action::Action;
use super::graph::{Graph, MOST_CANDIDATES, Node, variable_span};
use super::option::PlanOptions;
use super::state::State;
use super::{Base, Stage, Step};
use crate::diagnostic::{Diagnostic, Rule};
use crate::expand::{Budget, ExpandError, Expander, Expansion};
use crate::instruction::{Dockerfile, Instruction, Kind};
use crate::span::{Span, Word};
use crate::suggest::suggest;

/// What a stage is planned from.
#[derive(Clone, Copy)]
pub(super) struct Context<'p> {
    pub(super) dockerfile: &'p Dockerfile,
    pub(super) options: &'p PlanOptions,
    pub(super) graph: &'p Graph<'p>,
    pub(super) budget: &'p Budget,
    /// The stage's number in the Dockerfile.
    pub(super) index: usize,
}

/// Plans a stage; gives it and the state at its end.
pub(super) fn run(
    context: Context<'_>,
    node: &Node<'_>,
    states: &[Option<State>],
    diagnostics: &mut Vec<Diagnostic>,
) -> (Stage, State) {
    let from = &node.source.from;
    let state = State::initial(&node.base, context.options, states, context.budget);
    let mut planner = Planner {
        context,
        state: state.unwrap_or_else(|error| {
            diagnostics.push(Diagnostic::error(from.span, error.to_string()));
            State::default()
        }),
        steps: Vec::new(),
        diagnostics,
        exhausted: false,
    };
    let own = node.source.instructions.iter();
    let all = node.triggers.iter().map(|trigger| (trigger, true));
    for (instruction, trigger) in all.chain(own.map(|instruction| (instruction, false))) {
        if !planner.exhausted {
            planner.plan(instruction, trigger);
        }
    }
    let (steps, state) = (planner.steps, planner.state);
    let stage = Stage {
        name: from.name.as_ref().map(|name| name.value.clone()),
        index: context.index,
        base: match &node.base {
            Base::Stage(index) => Base::Stage(context.graph.positions[*index]),
            other => other.clone(),
        },
        platform: node.platform.clone(),
        steps,
        span: from.span,
        base_span: from.image.span,
        environment: state.log.clone(),
    };
    (stage, state)
}

/// A stage in the making.
pub(super) struct Planner<'p> {
    pub(super) context: Context<'p>,
    pub(super) state: State,
    pub(super) steps: Vec<Step>,
    pub(super) diagnostics: &'p mut Vec<Diagnostic>,
    /// Whether the budget is spent: one report of that is enough.
    exhausted: bool,
}

impl Planner<'_> {
    fn plan(&mut self, instruction: &Instruction, trigger: bool) {
        let before = self.state.clone_place();
        let variables = self.state.log.len();
        let Some((action, history)) = self.action(instruction) else {
            return;
        };
        if self.spend(history.len(), instruction.span).is_none() {
            return;
        }
        let (workdir, user, shell) = before;
        self.steps.push(Step {
            action,
            history,
            span: instruction.span,
            trigger,
            workdir,
            user,
            shell,
            environment: variables,
        });
    }

    fn action(&mut self, instruction: &Instruction) -> Option<(Action, String)> {
        match &instruction.kind {
            Kind::Add(add) => self.add(add),
            Kind::Arg(arguments) => self.arg(arguments),
            Kind::Cmd(command) => {
                let line = self.start(command, "CMD");
                let history = format!("CMD {}", super::history::quoted(&line.argv));
                Some((Action::Cmd(line), history))
            }
            Kind::Copy(copy) => self.copy(copy),
            Kind::Entrypoint(command) => {
                let line = self.start(command, "ENTRYPOINT");
                let history = format!("ENTRYPOINT {}", super::history::quoted(&line.argv));
                Some((Action::Entrypoint(line), history))
            }
            Kind::Env(pairs) => self.env(pairs),
            Kind::Expose(ports) => self.expose(ports),
            Kind::Healthcheck(check) => Some(self.healthcheck(check)),
            Kind::Label(pairs) => self.label(pairs),
            Kind::Maintainer(name) => {
                let history = format!("MAINTAINER {}", name.value);
                Some((Action::Maintainer(name.value.clone()), history))
            }
            Kind::OnBuild(trigger, _) => {
                self.state.triggers.push(trigger.value.clone());
                Some((Action::OnBuild(trigger.value.clone()), String::new()))
            }
            Kind::Run(run) => self.run(run),
            Kind::Shell(words) => Some(self.shell(words)),
            Kind::StopSignal(signal) => self.stop_signal(signal),
            Kind::User(user) => self.user(user),
            Kind::Volume(volumes) => self.volume(volumes),
            Kind::Workdir(path) => self.workdir(path),
        }
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub(super) fn fail<T>(&mut self, span: Span, message: impl Into<String>) -> Option<T> {
        self.report(Diagnostic::error(span, message));
        None
    }

    /// Pays for text that an instruction makes; when all is spent, planning ends.
    pub(super) fn spend(&mut self, bytes: usize, span: Span) -> Option<()> {
        let Err(error) = self.context.budget.spend(bytes) else {
            return Some(());
        };
        self.exhausted = true;
        self.fail(span, error.to_string())
    }

    /// Expands a word; what is wrong is reported.
    pub(super) fn expand(&mut self, word: &Word) -> Option<String> {
        Some(
            self.expansion(word, self.context.dockerfile.directives.escape, true)?
                .text,
        )
    }

    /// Expands a word that stays in its place.
    pub(super) fn expand_word(&mut self, word: &Word) -> Option<Word> {
        Some(Word::new(self.expand(word)?, word.span))
    }

    pub(super) fn expansion(
        &mut self,
        word: &Word,
        escape: char,
        quotes: bool,
    ) -> Option<Expansion> {
        let variables = &self.state.variables;
        let expander = Expander {
            escape,
            quotes,
            variables,
            budget: self.context.budget,
        };
        match expander.expand(&word.value) {
            Ok(expansion) => {
                self.warn_of_undefined(word, &expansion);
                Some(expansion)
            }
            Err(error) => {
                self.exhausted |= error == ExpandError::TooLarge;
                let shown: String = word.value.chars().take(64).collect();
                let message = format!("cannot expand `{shown}`");
                self.report(Diagnostic::error(word.span, message).with_label(error.to_string()));
                None
            }
        }
    }

    fn warn_of_undefined(&mut self, word: &Word, expansion: &Expansion) {
        for name in &expansion.unmatched {
            // A base that is not known may define it.
            if !self.state.complete || self.state.is_declared(name) {
                continue;
            }
            let message = format!("usage of undefined variable `${name}`");
            let span = variable_span(word, name);
            let warning = Diagnostic::warning(Rule::UndefinedVar, span, message);
            let near = suggest(name, self.state.names().take(MOST_CANDIDATES));
            let label = near.map(|name| format!("did you mean `${name}`?"));
            self.report(Diagnostic { label, ..warning });
        }
    }
}

impl State {
    /// Returns what a step sees beside variables: directory, user, shell.
    fn clone_place(&self) -> (String, String, Vec<String>) {
        (
            self.workdir.clone(),
            self.user.clone(),
            self.shell_or_default(),
        )
    }
}
