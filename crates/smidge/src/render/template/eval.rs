//! A tree and data to text.

use serde_json::{Map, Value};

use super::parse::{Base, Branch, Command, Node, Pipeline, Term};
use super::{Data, TemplateError, function};

/// Objects whose keys are the user's own: a missing one is no mistake in the template.
const FREE_MAPS: [&str; 13] = [
    "Attributes",
    "DriverOpts",
    "Labels",
    "Annotations",
    "ExposedPorts",
    "Ports",
    "PortBindings",
    "Volumes",
    "Networks",
    "Options",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
];

/// Strings and structures that Docker has, and leaves out of the JSON where they are empty.
const OMITTED: [&str; 9] = [
    "Annotations",
    "DeviceCgroupRules",
    "Driver",
    "Health",
    "Mounts",
    "Name",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
];

/// Lists, which Go shows as `[]` where there is none.
const LISTS: [&str; 23] = [
    "Aliases",
    "Args",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Dns",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "Layers",
    "Links",
    "Mounts",
    "OnBuild",
    "RepoDigests",
    "RepoTags",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "Shell",
];

/// What Go shows as `<nil>` where there is none.
const NOTHING: [&str; 8] = [
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "MemorySwappiness",
    "PidsLimit",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
];

/// A value, or `None` for what Go prints as `<no value>`.
pub(super) type Datum = Option<Value>;

/// Applies a tree.
pub(super) fn render(nodes: &[Node], data: &Data) -> Result<String, TemplateError> {
    let mut evaluator = Evaluator {
        data,
        variables: Vec::new(),
        out: String::new(),
    };
    evaluator.nodes(nodes, &Some(data.value.clone()))?;
    Ok(evaluator.out)
}

/// What a list of nodes asks of the `range` around it.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Evaluator<'d> {
    data: &'d Data,
    variables: Vec<(String, Datum)>,
    out: String,
}

impl Evaluator<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Datum) -> Result<Flow, TemplateError> {
        let depth = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(depth);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Datum) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    match value {
                        None | Some(Value::Null) => self.out.push_str(absent(pipeline)),
                        value => self.out.push_str(&text(&value)),
                    }
                }
            }
            Node::If(branch) => return self.condition(branch, dot, false),
            Node::With(branch) => return self.condition(branch, dot, true),
            Node::Range(branch) => return self.range(branch, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn condition(
        &mut self,
        branch: &Branch,
        dot: &Datum,
        with: bool,
    ) -> Result<Flow, TemplateError> {
        let depth = self.variables.len();
        let subject = self.pipeline(&branch.subject, dot)?;
        let flow = match truth(&subject) {
            true => self.nodes(&branch.body, if with { &subject } else { dot })?,
            false => self.nodes(&branch.otherwise, dot)?,
        };
        self.variables.truncate(depth);
        Ok(flow)
    }

    fn range(&mut self, branch: &Branch, dot: &Datum) -> Result<Flow, TemplateError> {
        let depth = self.variables.len();
        let subject = self.commands(&branch.subject.commands, dot)?;
        let items = items(subject.as_ref()).ok_or_else(|| {
            let span = branch
                .subject
                .commands
                .first()
                .map_or((0, 0), |command| command.span);
            TemplateError::new(span, "`range` needs a list or an object")
        })?;
        if items.is_empty() {
            return self.nodes(&branch.otherwise, dot);
        }
        for (key, value) in items {
            match &branch.subject.variables[..] {
                [only] => self.variables.push((only.clone(), Some(value.clone()))),
                [first, second] => {
                    self.variables.push((first.clone(), Some(key)));
                    self.variables.push((second.clone(), Some(value.clone())));
                }
                _ => {}
            }
            let flow = self.nodes(&branch.body, &Some(value))?;
            self.variables.truncate(depth);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Datum) -> Result<Datum, TemplateError> {
        let value = self.commands(&pipeline.commands, dot)?;
        for name in &pipeline.variables {
            let known = self
                .variables
                .iter_mut()
                .rev()
                .find(|(known, _)| known == name);
            match known {
                Some((_, slot)) if !pipeline.declares => slot.clone_from(&value),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn commands(&mut self, commands: &[Command], dot: &Datum) -> Result<Datum, TemplateError> {
        let mut piped = None;
        for command in commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        Ok(piped.flatten())
    }

    /// Evaluates a command; `piped` is what the command before it left, its last argument.
    fn command(
        &mut self,
        command: &Command,
        piped: Option<Datum>,
        dot: &Datum,
    ) -> Result<Datum, TemplateError> {
        let Some((first, rest)) = command.terms.split_first() else {
            return Ok(None);
        };
        if let Base::Function(name) = &first.base {
            if matches!(name.as_str(), "and" | "or") {
                return self.short_circuit(name == "and", rest, piped, dot);
            }
            let mut arguments = Vec::with_capacity(rest.len() + 1);
            for term in rest {
                arguments.push(self.term(term, dot)?);
            }
            arguments.extend(piped);
            return function::call(name, &arguments)
                .map_err(|message| TemplateError::new(first.span, message));
        }
        if rest.is_empty() && piped.is_none() {
            return self.term(first, dot);
        }
        if matches!(first.base, Base::Dot | Base::Variable(_)) && first.fields == ["Label"] {
            let name = match rest.first() {
                Some(term) => self.term(term, dot)?,
                None => piped.flatten(),
            };
            let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
            let label = match self.data.is_head {
                true => name
                    .rsplit('.')
                    .next()
                    .unwrap_or(name)
                    .replace(['-', '_'], " "),
                false => self.data.labels.get(name).cloned().unwrap_or_default(),
            };
            return Ok(Some(Value::from(label)));
        }
        Err(TemplateError::new(
            first.span,
            "this is not a function: it takes no arguments",
        ))
    }

    fn short_circuit(
        &mut self,
        all: bool,
        terms: &[Term],
        piped: Option<Datum>,
        dot: &Datum,
    ) -> Result<Datum, TemplateError> {
        let mut value = None;
        for term in terms {
            value = self.term(term, dot)?;
            if truth(&value) != all {
                return Ok(value);
            }
        }
        Ok(piped.unwrap_or(value))
    }

    fn term(&mut self, term: &Term, dot: &Datum) -> Result<Datum, TemplateError> {
        let made;
        let mut value = match &term.base {
            Base::Dot => dot.as_ref(),
            Base::Literal(value) => Some(value),
            Base::Variable(name) if name.is_empty() => Some(&self.data.value),
            Base::Variable(name) => match self.variables.iter().rev().find(|(n, _)| n == name) {
                Some((_, value)) => value.as_ref(),
                None => {
                    return Err(TemplateError::new(
                        term.span,
                        format!("unknown variable `${name}`"),
                    ));
                }
            },
            Base::Group(pipeline) => {
                made = self.pipeline(pipeline, dot)?;
                made.as_ref()
            }
            Base::Function(name) => {
                made = function::call(name, &[])
                    .map_err(|message| TemplateError::new(term.span, message))?;
                made.as_ref()
            }
        };
        let mut parent: &str = "";
        for name in &term.fields {
            value = field(value, name, parent)
                .map_err(|message| TemplateError::new(term.span, message))?;
            parent = name;
        }
        // Only now: what a field is taken of may be large.
        Ok(value.cloned())
    }
}

/// One field of a value whose own name is `parent`.
fn field<'v>(
    value: Option<&'v Value>,
    name: &str,
    parent: &str,
) -> Result<Option<&'v Value>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => match object.get(name) {
            Some(value) => Ok(Some(value)),
            None if FREE_MAPS.contains(&parent) || is_omitted(object, name) => Ok(None),
            None => Err(unknown_field(object, name)),
        },
        Some(other) => Err(format!("no field `{name}` in {}", kind(other))),
    }
}

/// Whether an object would have a field if there were something in it.
fn is_omitted(object: &Map<String, Value>, name: &str) -> bool {
    // A container's state, its settings, and what is mounted in it.
    let has_such = ["Paused", "NetworkMode", "Destination"]
        .iter()
        .any(|key| object.contains_key(*key));
    // A container's sizes are told on request.
    let is_size = ["SizeRootFs", "SizeRw"].contains(&name) && object.contains_key("RestartCount");
    is_size || (has_such && OMITTED.contains(&name))
}

fn unknown_field(object: &Map<String, Value>, name: &str) -> String {
    let alike = object.keys().find(|key| key.eq_ignore_ascii_case(name));
    match alike {
        Some(key) => format!("no field `{name}`; did you mean `{key}`?"),
        None => {
            let known: Vec<String> = object.keys().map(|key| format!("`{key}`")).collect();
            format!("no field `{name}`; there are {}", known.join(", "))
        }
    }
}

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The keys and values that `range` walks over; `None` for what cannot be walked.
fn items(value: Option<&Value>) -> Option<Vec<(Value, Value)>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(list)) => Some(
            list.iter()
                .enumerate()
                .map(|(i, v)| (Value::from(i), v.clone()))
                .collect(),
        ),
        Some(Value::Object(object)) => Some(
            sorted(object)
                .into_iter()
                .map(|(k, v)| (Value::from(k.as_str()), v.clone()))
                .collect(),
        ),
        Some(Value::Number(number)) => {
            let count = number.as_u64().filter(|count| *count <= 1 << 20)?;
            Some(
                (0..count)
                    .map(|i| (Value::from(i), Value::from(i)))
                    .collect(),
            )
        }
        Some(_) => None,
    }
}

fn sorted(object: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

/// Go's truth: not empty, not zero.
pub(super) fn truth(value: &Datum) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(object)) => !object.is_empty(),
    }
}

/// What Go shows where there is no value. That depends on the field's type, which JSON does not
/// tell, but its name does.
fn absent(pipeline: &Pipeline) -> &'static str {
    let term = match &pipeline.commands[..] {
        [command] if command.terms.len() == 1 => &command.terms[0],
        _ => return "<no value>",
    };
    match term.fields.last().map(String::as_str) {
        Some(name) if LISTS.contains(&name) => "[]",
        Some(name) if FREE_MAPS.contains(&name) => "map[]",
        Some(name) if NOTHING.contains(&name) => "<nil>",
        Some("Driver" | "Name" | "StopSignal" | "User" | "WorkingDir") => "",
        _ => "<no value>",
    }
}

/// A value as Go's `%v` shows it.
pub(super) fn text(value: &Datum) -> String {
    match value {
        None | Some(Value::Null) => "<no value>".to_owned(),
        Some(value) => nested(value),
    }
}

fn nested(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let items: Vec<_> = list.iter().map(item).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(object) => {
            let entries = sorted(object)
                .into_iter()
                .map(|(k, v)| format!("{k}:{}", item(v)));
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
    }
}

/// A value in a list or a map. Objects there are structs in Docker: Go shows their fields without
/// names.
fn item(value: &Value) -> String {
    match value {
        Value::Null => "[]".to_owned(),
        Value::Object(fields) => {
            let fields: Vec<_> = fields.values().map(item).collect();
            format!("{{{}}}", fields.join(" "))
        }
        other => nested(other),
    }
}
