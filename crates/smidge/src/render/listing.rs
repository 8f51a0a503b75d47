//! Lists of things under `--format`: tables, Go templates, JSON.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};

use serde_json::{Map, Value};
use smidge_engine::{Error, Kind, Snippet};

use super::control::neutral;
use super::table;
use super::template::{Data, Template, TemplateError};

/// What is said when standard output cannot be written, here and by the store.
pub(crate) const UNWRITABLE: &str = "cannot write the output";

/// What a list can show of each thing: field names, column headers, and the default table.
pub(crate) struct Columns {
    /// Field and header, in order.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// The template of the table that is shown without `--format`.
    pub(crate) table: &'static str,
}

/// One thing in a list.
pub(crate) type Row = Data;

/// Makes a row of fields.
pub(crate) fn row<const N: usize>(fields: [(&str, Value); N]) -> Row {
    let value: Map<String, Value> = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Row {
        value: Value::Object(value),
        ..Row::default()
    }
}

/// Prints rows as `--format` asks for.
pub(crate) fn print(
    out: &mut dyn Write,
    columns: &Columns,
    format: Option<&str>,
    rows: &[Row],
) -> Result<(), Error> {
    let text = match format {
        Some("json") => lines(rows, "{{json .}}")?,
        None | Some("" | "table") => tabulated(columns, columns.table, rows)?,
        Some(format) => match format.strip_prefix("table ") {
            Some(template) => tabulated(columns, template.trim_start(), rows)?,
            None => lines(rows, format)?,
        },
    };
    write(out, &text)
}

/// Prints one value as `--format` asks for: `json`, a template, or what `otherwise` makes of it.
pub(crate) fn print_value(
    out: &mut dyn Write,
    format: Option<&str>,
    value: Value,
    otherwise: impl FnOnce(&Value) -> String,
) -> Result<(), Error> {
    let text = match format {
        None => otherwise(&value),
        Some("json") => format!("{value}\n"),
        Some(format) => lines(
            &[Row {
                value,
                ..Row::default()
            }],
            format,
        )?,
    };
    write(out, &text)
}

/// Applies a template to each row, a line each.
pub(crate) fn lines(rows: &[Row], format: &str) -> Result<String, Error> {
    lines_of(rows, &unescaped(format))
}

/// The same for a template whose `\n` and `\t` are its own, as those of `inspect` are in Docker.
pub(crate) fn lines_of(rows: &[Row], format: &str) -> Result<String, Error> {
    let template = parse(format)?;
    let mut text = String::new();
    for row in rows {
        text.push_str(&template.render(row).map_err(|fault| error(format, fault))?);
        text.push('\n');
    }
    Ok(text)
}

fn tabulated(columns: &Columns, format: &str, rows: &[Row]) -> Result<String, Error> {
    let format = unescaped(format);
    let template = parse(&format)?;
    let headers: Map<String, Value> = columns
        .headers
        .iter()
        .map(|(field, header)| ((*field).to_owned(), Value::from(*header)))
        .collect();
    let headers = Row {
        value: Value::Object(headers),
        is_head: true,
        ..Row::default()
    };
    // Conditions and functions that suit the things need not suit their headers.
    let mut text = template.render(&headers).unwrap_or_default();
    text.push('\n');
    for row in rows {
        let line = template
            .render(row)
            .map_err(|fault| error(&format, fault))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(table::align(&neutral(&text)))
}

/// Shells pass `\t` on as two characters; Docker takes it for a tab all the same.
fn unescaped(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

fn parse(format: &str) -> Result<Template, Error> {
    Template::parse(format).map_err(|fault| error(format, fault))
}

fn error(format: &str, fault: TemplateError) -> Error {
    let (start, end) = fault.span;
    Error::new(
        Kind::Input,
        format!("template parsing error: {}", fault.message),
    )
    .with_snippet(Snippet::new("--format", format, start, end))
}

/// Writes to standard output; a reader that has gone away is told apart by its cause. Programs get
/// texts as they are, terminals without control characters.
pub(crate) fn write(out: &mut dyn Write, text: &str) -> Result<(), Error> {
    let text = if io::stdout().is_terminal() {
        Cow::Owned(neutral(text))
    } else {
        Cow::Borrowed(text)
    };
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(unwritable)
}

/// The error of an output that cannot be written.
pub(crate) fn unwritable(source: io::Error) -> Error {
    Error::new(Kind::Host, UNWRITABLE).caused_by(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = Columns {
        headers: &[
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("Size", "SIZE"),
        ],
        table: "{{.Repository}}\t{{.Tag}}\t{{.Size}}",
    };

    fn shown(format: Option<&str>) -> String {
        let rows = [
            row([
                ("Repository", "app".into()),
                ("Tag", "latest".into()),
                ("Size", "1.2kB".into()),
            ]),
            row([
                ("Repository", "b".into()),
                ("Tag", "1".into()),
                ("Size", "0B".into()),
            ]),
        ];
        let mut out = Vec::new();
        match print(&mut out, &COLUMNS, format, &rows) {
            Ok(()) => String::from_utf8(out).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn formats_are_dockers() {
        let table = "REPOSITORY   TAG       SIZE\napp          latest    1.2kB\nb            1         0B\n";
        assert_eq!(shown(None), table);
        assert_eq!(shown(Some("table")), table);
        assert_eq!(shown(Some("{{.Repository}}:{{.Tag}}")), "app:latest\nb:1\n");
        assert_eq!(
            shown(Some(r"{{.Tag}}\t{{.Size}}")),
            "latest\t1.2kB\n1\t0B\n"
        );
        assert_eq!(
            shown(Some(r"table {{.Tag}}\t{{.Size}}")),
            "TAG       SIZE\nlatest    1.2kB\n1         0B\n"
        );
        assert_eq!(
            shown(Some(r#"table {{.Tag}}\t{{.Label "com.example.my-tier"}}"#)),
            "TAG       my tier\nlatest    \n1         \n"
        );
        assert_eq!(
            shown(Some("json")),
            concat!(
                r#"{"Repository":"app","Tag":"latest","Size":"1.2kB"}"#,
                "\n",
                r#"{"Repository":"b","Tag":"1","Size":"0B"}"#,
                "\n",
            )
        );
        assert_eq!(
            shown(Some("table {{.Tag}}\u{1b}[2J")).lines().next(),
            Some("TAG\u{fffd}[2J")
        );
        assert!(shown(Some("{{.Nope}}")).starts_with("template parsing error: no field `Nope`"));
        assert!(shown(Some("{{")).contains("never closed"));
    }
}
