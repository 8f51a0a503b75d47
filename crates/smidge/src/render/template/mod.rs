//! The part of Go's `text/template` that people write in `--format`.
//!
//! Fields, pipelines, variables, `if`/`else`/`with`/`range`, trim markers and the functions Docker
//! offers, evaluated over JSON values. Language: <https://pkg.go.dev/text/template>; functions:
//! <https://docs.docker.com/engine/cli/formatting/>.

mod eval;
mod function;
mod lex;
mod parse;
mod printf;

use std::collections::BTreeMap;

use serde_json::Value;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
}

/// What a template is applied to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    /// What `.` is.
    pub(crate) value: Value,
    /// What `.Label "name"` looks up.
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether this is a table's head: a label is then shown by its name.
    pub(crate) is_head: bool,
}

/// Why a template cannot be parsed or applied, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError {
    /// The bytes of the template at fault.
    pub(crate) span: (usize, usize),
    /// The fault.
    pub(crate) message: String,
}

impl TemplateError {
    fn new(span: (usize, usize), message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
        }
    }
}

impl Template {
    /// Parses a template.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self {
            nodes: parse::nodes(text)?,
        })
    }

    /// Applies the template to data.
    pub(crate) fn render(&self, data: &Data) -> Result<String, TemplateError> {
        eval::render(&self.nodes, data)
    }
}

#[cfg(test)]
mod tests;
