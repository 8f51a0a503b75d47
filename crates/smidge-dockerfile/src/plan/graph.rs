//! The stages, what each starts from and which of them a target needs.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Base;
use super::action::From;
use super::option::{PlanOptions, Platform};
use crate::diagnostic::{Diagnostic, Rule};
use crate::expand::{Budget, Expander, Expansion};
use crate::instruction::{Dockerfile, Instruction, Kind, StageSource};
use crate::parse;
use crate::span::{Span, Word};
use crate::suggest::suggest;

/// With more names than this nobody looks for the nearest one.
pub(super) const MOST_CANDIDATES: usize = 500;

/// What a trigger costs beside its text, in bytes of output.
const TRIGGER: usize = 512;

/// All stages and the variables that stand above them.
pub(super) struct Graph<'d> {
    pub(super) nodes: Vec<Node<'d>>,
    /// Values of the global arguments and of the predefined ones.
    pub(super) globals: HashMap<String, String>,
    /// Global arguments, be they without a value.
    declared: HashSet<String>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// The place of each stage in the plan, where it is needed.
    pub(super) positions: Vec<usize>,
    /// Stages by name, in order.
    names: HashMap<&'d str, Vec<usize>>,
    contexts: &'d BTreeSet<String>,
}

/// What stages are sorted by.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'d> {
    pub(super) dockerfile: &'d Dockerfile,
    pub(super) options: &'d PlanOptions,
    pub(super) budget: &'d Budget,
}

impl Inputs<'_> {
    fn escape(self) -> char {
        self.dockerfile.directives.escape
    }
}

/// A stage before its steps are known.
pub(super) struct Node<'d> {
    pub(super) source: &'d StageSource,
    /// A stage is named by its number in the Dockerfile.
    pub(super) base: Base,
    pub(super) platform: Option<Platform>,
    /// What the base's `ONBUILD` adds.
    pub(super) triggers: Vec<Instruction>,
    pub(super) needed: bool,
}

impl Node<'_> {
    fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        self.triggers.iter().chain(&self.source.instructions)
    }
}

impl<'d> Graph<'d> {
    pub(super) fn new(inputs: Inputs<'d>) -> Self {
        let Inputs {
            dockerfile,
            options,
            ..
        } = inputs;
        let mut graph = Self {
            nodes: Vec::new(),
            globals: HashMap::new(),
            declared: HashSet::new(),
            diagnostics: Vec::new(),
            positions: Vec::new(),
            names: HashMap::new(),
            contexts: &options.contexts,
        };
        let target = graph.target(dockerfile, options);
        graph.declare_globals(inputs, target);
        for source in &dockerfile.stages {
            let node = graph.node(source, inputs);
            if let Some(name) = &source.from.name {
                graph
                    .names
                    .entry(&name.value)
                    .or_default()
                    .push(graph.nodes.len());
            }
            graph.nodes.push(node);
        }
        graph.mark(target, options.all_stages);
        let mut place = 0;
        for node in &graph.nodes {
            graph.positions.push(place);
            place += usize::from(node.needed);
        }
        graph
    }

    fn target(&mut self, dockerfile: &Dockerfile, options: &PlanOptions) -> Option<usize> {
        let stages = &dockerfile.stages;
        let last = stages.len().checked_sub(1);
        let Some(wanted) = options
            .target
            .as_deref()
            .filter(|target| !target.is_empty())
        else {
            return last;
        };
        let lower = wanted.to_lowercase();
        let names = || stages.iter().filter_map(|stage| stage.from.name.as_ref());
        let named = stages.iter().rposition(|stage| {
            stage
                .from
                .name
                .as_ref()
                .is_some_and(|name| name.value == lower)
        });
        let numbered = || wanted.parse().ok().filter(|&index| index < stages.len());
        named.or_else(numbered).or_else(|| {
            let message = format!("target stage `{wanted}` could not be found");
            let error = Diagnostic::error(Span::default(), message);
            let near = suggest(wanted, names().map(|name| name.value.as_str()));
            let help = near.map(|name| format!("did you mean `{name}`?"));
            self.diagnostics.push(Diagnostic { help, ..error });
            None
        })
    }

    /// Sets the predefined arguments and those above the first stage.
    fn declare_globals(&mut self, inputs: Inputs<'_>, target: Option<usize>) {
        let Inputs {
            dockerfile,
            options,
            ..
        } = inputs;
        let stage = target.and_then(|index| dockerfile.stages.get(index));
        let stage = stage.and_then(|stage| stage.from.name.as_ref());
        let stage = stage.map_or("default", |name| name.value.as_str());
        self.globals
            .insert("TARGETSTAGE".to_owned(), stage.to_owned());
        for (prefix, platform) in [
            ("TARGET", &options.platform),
            ("BUILD", &options.build_platform),
        ] {
            let variant = platform.variant.clone().unwrap_or_default();
            for (name, value) in [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("OSVERSION", String::new()),
                ("ARCH", platform.architecture.clone()),
                ("VARIANT", variant),
            ] {
                self.globals.insert(format!("{prefix}{name}"), value);
            }
        }
        let defaults = self.globals.clone();
        self.declare_file_globals(inputs);
        self.check_defaults(inputs, defaults);
    }

    fn declare_file_globals(&mut self, inputs: Inputs<'_>) {
        for instruction in &inputs.dockerfile.global_args {
            let Kind::Arg(arguments) = &instruction.kind else {
                continue;
            };
            for argument in arguments {
                let value = match inputs.options.build_args.get(&argument.name.value) {
                    Some(value) => Some(value.clone()),
                    None => argument.default.as_ref().and_then(|default| {
                        let expansion = self.expand(default, inputs)?;
                        Some(expansion.text)
                    }),
                };
                self.declared.insert(argument.name.value.clone());
                if let Some(value) = value {
                    self.globals.insert(argument.name.value.clone(), value);
                }
            }
        }
    }

    /// Warns of a base that is no image's name unless a build argument is given.
    fn check_defaults(&mut self, inputs: Inputs<'_>, mut variables: HashMap<String, String>) {
        let (escape, budget) = (inputs.escape(), inputs.budget);
        for instruction in &inputs.dockerfile.global_args {
            let Kind::Arg(arguments) = &instruction.kind else {
                continue;
            };
            for argument in arguments {
                let Some(default) = &argument.default else {
                    continue;
                };
                let expander = Expander {
                    escape,
                    quotes: true,
                    variables: &variables,
                    budget,
                };
                let Ok(expansion) = expander.expand(&default.value) else {
                    return;
                };
                variables.insert(argument.name.value.clone(), expansion.text);
            }
        }
        let images = inputs
            .dockerfile
            .stages
            .iter()
            .map(|stage| &stage.from.image);
        for image in images.filter(|image| image.value.contains('$')) {
            let expander = Expander {
                escape,
                quotes: true,
                variables: &variables,
                budget,
            };
            if let Ok(expansion) = expander.expand(&image.value)
                && !is_plausible(&expansion.text)
            {
                let message = format!(
                    "default value for `ARG` in `{}` results in an empty or invalid base image name",
                    image.value
                );
                let rule = Rule::InvalidDefaultArgInFrom;
                self.diagnostics
                    .push(Diagnostic::warning(rule, image.span, message));
            }
        }
    }

    fn expand(&mut self, word: &Word, inputs: Inputs<'_>) -> Option<Expansion> {
        let (escape, budget) = (inputs.escape(), inputs.budget);
        let expander = Expander {
            escape,
            quotes: true,
            variables: &self.globals,
            budget,
        };
        match expander.expand(&word.value) {
            Ok(expansion) => Some(expansion),
            Err(error) => {
                let message = format!("cannot expand `{}`", word.value);
                let error = Diagnostic::error(word.span, message).with_label(error.to_string());
                self.diagnostics.push(error);
                None
            }
        }
    }

    fn node(&mut self, source: &'d StageSource, inputs: Inputs<'_>) -> Node<'d> {
        let from = &source.from;
        let image = self.expand_in_from(&from.image, inputs);
        let base = match image {
            // The fault is reported already; the stage must be something.
            None => Base::Scratch,
            Some(name) if name.is_empty() => {
                let message = format!("base name `{}` should not be blank", from.image.value);
                self.diagnostics
                    .push(Diagnostic::error(from.image.span, message));
                Base::Scratch
            }
            Some(name) => self.base(&name),
        };
        let platform = self.platform(from, inputs);
        let triggers = self.triggers(&base, source, inputs);
        Node {
            source,
            base,
            platform,
            triggers,
            needed: false,
        }
    }

    fn expand_in_from(&mut self, word: &Word, inputs: Inputs<'_>) -> Option<String> {
        let expansion = self.expand(word, inputs)?;
        for name in expansion
            .unmatched
            .iter()
            .filter(|name| !self.declared.contains(*name))
        {
            let message = format!("`FROM` argument `{name}` is not declared");
            let warning =
                Diagnostic::warning(Rule::UndefinedArgInFrom, variable_span(word, name), message);
            let near = suggest(name, self.global_names());
            let label = near.map(|name| format!("did you mean `{name}`?"));
            self.diagnostics.push(Diagnostic { label, ..warning });
        }
        Some(expansion.text)
    }

    /// Lists the names of the globals in order, unless there are too many to look through.
    fn global_names(&self) -> Vec<&str> {
        if self.globals.len() > MOST_CANDIDATES {
            return Vec::new();
        }
        let mut names: Vec<_> = self.globals.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn base(&self, name: &str) -> Base {
        if name == "scratch" {
            Base::Scratch
        } else if let Some(context) = self.context(name) {
            Base::Context(context.to_owned())
        } else if let Some(&stage) = self
            .names
            .get(name.to_lowercase().as_str())
            .and_then(|stages| stages.last())
        {
            Base::Stage(stage)
        } else {
            Base::Image(name.to_owned())
        }
    }

    fn platform(
        &mut self,
        from: &crate::instruction::From,
        inputs: Inputs<'_>,
    ) -> Option<Platform> {
        let word = from.platform.as_ref()?;
        let text = self.expand_in_from(word, inputs)?;
        if text.is_empty() {
            let message = format!("empty platform value from `{}`", word.value);
            self.diagnostics.push(Diagnostic::error(word.span, message));
            return None;
        }
        let Some(platform) = Platform::parse(&text, &inputs.options.build_platform) else {
            let message = format!("invalid platform `{text}`");
            let error = Diagnostic::error(word.span, message);
            self.diagnostics
                .push(error.with_label("write it as `linux/amd64`"));
            return None;
        };
        if matches!(word.value.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            let message = format!("setting platform to `{}` is redundant", word.value);
            let warning = Diagnostic::warning(Rule::RedundantTargetPlatform, word.span, message);
            self.diagnostics
                .push(warning.with_label("this is the default"));
        }
        let name = from.name.as_ref().map_or("", |name| name.value.as_str());
        let told = name.contains(&platform.os) || name.contains(&platform.architecture);
        if !word.value.contains('$') && !told {
            let message = format!("`FROM --platform` should not use the constant `{text}`");
            let rule = Rule::FromPlatformFlagConstDisallowed;
            self.diagnostics
                .push(Diagnostic::warning(rule, word.span, message));
        }
        Some(platform)
    }

    /// Returns the instructions that the base leaves to those who build on it.
    fn triggers(
        &mut self,
        base: &Base,
        source: &StageSource,
        inputs: Inputs<'_>,
    ) -> Vec<Instruction> {
        let span = source.from.span;
        let texts: Vec<String> = match base {
            Base::Image(name) | Base::Context(name) => inputs
                .options
                .bases
                .get(name)
                .map(|config| config.on_build.clone())
                .unwrap_or_default(),
            Base::Stage(index) => self.nodes[*index]
                .source
                .instructions
                .iter()
                .filter_map(|instruction| match &instruction.kind {
                    Kind::OnBuild(text, _) => Some(text.value.clone()),
                    _ => None,
                })
                .collect(),
            Base::Scratch => Vec::new(),
        };
        // Each stage repeats them all: that must not grow without bound.
        if let Err(error) = inputs
            .budget
            .spend(texts.iter().map(|text| TRIGGER + text.len()).sum())
        {
            self.diagnostics
                .push(Diagnostic::error(span, error.to_string()));
            return Vec::new();
        }
        let read =
            |text: &String| parse::trigger(text, span, inputs.escape(), &mut self.diagnostics);
        texts.iter().filter_map(read).collect()
    }

    /// Marks the target and what it needs. A stage needs only stages above it.
    fn mark(&mut self, target: Option<usize>, all: bool) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.needed = all || Some(index) == target;
        }
        for index in (0..self.nodes.len()).rev() {
            let mut needs = Vec::new();
            if let Base::Stage(base) = self.nodes[index].base {
                needs.push(base);
            }
            let mut faults = Vec::new();
            for (name, span) in self.nodes[index].instructions().flat_map(references) {
                match self.source(name, span, index) {
                    Ok(From::Stage(stage)) => needs.push(stage),
                    Ok(_) => {}
                    Err(fault) => faults.push(fault),
                }
            }
            self.diagnostics.append(&mut faults);
            if self.nodes[index].needed {
                for stage in needs {
                    self.nodes[stage].needed = true;
                }
            }
        }
    }

    /// Finds the build context of a name. As in Docker, `busybox`, `busybox:latest` and
    /// `docker.io/library/busybox` are one name.
    fn context(&self, name: &str) -> Option<&str> {
        let same = |known: &&String| familiar(known) == familiar(name);
        let found = self.contexts.get(name);
        let found = found.or_else(|| self.contexts.iter().find(same));
        found.map(String::as_str)
    }

    /// Finds what `--from` names, seen from a stage.
    pub(super) fn source(&self, name: &str, span: Span, index: usize) -> Result<From, Diagnostic> {
        if let Some(context) = self.context(name) {
            return Ok(From::Named(context.to_owned()));
        }
        let later = |what: &str| {
            let message = format!("cannot copy from {what}");
            Diagnostic::error(span, message).with_label("it is not built yet at this point")
        };
        if let Ok(number) = name.parse::<usize>() {
            return match number {
                number if number < index => Ok(From::Stage(number)),
                number if number == index => Err(later("the stage itself")),
                number if number < self.nodes.len() => {
                    Err(later(&format!("stage {number}, which stands further down")))
                }
                _ => Err(Diagnostic::error(span, format!("there is no stage {name}"))),
            };
        }
        let stages = self
            .names
            .get(name.to_lowercase().as_str())
            .map_or(&[][..], Vec::as_slice);
        match stages.partition_point(|&stage| stage < index) {
            0 => match stages.first() {
                None => Ok(From::Image(name.to_owned())),
                Some(&stage) if stage == index => Err(later("the stage itself")),
                Some(_) => Err(later(&format!("stage `{name}`, which stands further down"))),
            },
            count => Ok(From::Stage(stages[count - 1])),
        }
    }
}

/// Lists the stages, images and contexts that an instruction takes files from.
fn references(instruction: &Instruction) -> Vec<(&str, Span)> {
    match &instruction.kind {
        Kind::Copy(copy) => copy
            .from
            .iter()
            .map(|from| (from.value.as_str(), from.span))
            .collect(),
        Kind::Run(run) => run
            .mounts
            .iter()
            .flat_map(|mount| mount.fields.iter().map(move |field| (field, mount.span)))
            .filter(|(field, _)| field.key == "from")
            .filter_map(|(field, span)| Some((field.value.as_deref()?, span)))
            .filter(|(name, _)| !name.is_empty())
            .collect(),
        _ => Vec::new(),
    }
}

/// Finds a variable in a word, for the caret; the whole word if it is not written plainly.
pub(super) fn variable_span(word: &Word, name: &str) -> Span {
    let exact = word.span.len() == word.value.len();
    let found = ["$", "${"].iter().find_map(|start| {
        let written = format!("{start}{name}");
        let at = word.value.find(&written)?;
        let behind = word.value[at + written.len()..].chars().next();
        let ends = !behind.is_some_and(|c| c.is_alphanumeric() || c == '_');
        ends.then(|| Span::new(word.span.start + at, word.span.start + at + written.len()))
    });
    found.filter(|_| exact).unwrap_or(word.span)
}

/// Takes off an image's name what need not be said.
fn familiar(name: &str) -> &str {
    let mut name = name.strip_suffix(":latest").unwrap_or(name);
    for registry in ["index.docker.io/", "docker.io/", "library/"] {
        name = name.strip_prefix(registry).unwrap_or(name);
    }
    name
}

/// Tells whether a text may name an image. The grammar itself belongs to who looks images up.
fn is_plausible(name: &str) -> bool {
    let (name, digest) = name.split_once('@').unwrap_or((name, "sha256:x"));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (name, "latest"),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let component = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
            && part.ends_with(|c: char| c.is_ascii_alphanumeric() || c == ']')
            && part
                .chars()
                .all(|c| allowed(c) || matches!(c, ':' | '[' | ']'))
    };
    let (host, rest) = path.split_once('/').unwrap_or(("", path));
    let lower = |part: &str| !part.bytes().any(|b| b.is_ascii_uppercase());
    path.split('/').all(component)
        && lower(rest)
        && (lower(host) || host.contains(['.', ':']))
        && !tag.is_empty()
        && tag.chars().all(allowed)
        && digest.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_recognised() {
        for name in [
            "alpine",
            "a/b:1",
            "h.io:5000/a/b@sha256:1",
            "LOCAL.host/a",
            "localhost/x_y",
        ] {
            assert!(is_plausible(name), "{name}");
        }
        for name in [
            "", ":1", "a:", "a//b", "/a", "a/", "A", "a b", "a:b/", "a@x",
        ] {
            assert!(!is_plausible(name), "{name}");
        }
    }
}
