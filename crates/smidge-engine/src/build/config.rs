//! What options say about how an image is run, over what its source says.

use smidge_image::{Empty, RunConfig};

use super::request::ConfigOptions;
use crate::{Error, Host, Kind, Result};

/// Sets what the options say. As in a Dockerfile, a new entrypoint drops the old command.
pub(super) fn apply(config: &mut RunConfig, options: &ConfigOptions, host: &Host) -> Result<()> {
    if let Some(entrypoint) = &options.entrypoint {
        config.entrypoint = words("--entrypoint", entrypoint)?;
        config.cmd = None;
    }
    if let Some(cmd) = &options.cmd {
        config.cmd = words("--cmd", cmd)?;
    }
    for variable in &options.env {
        set_variable(&mut config.env, variable, host)?;
    }
    for label in &options.labels {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        if key.is_empty() {
            return Err(malformed("--label", label, "KEY=value"));
        }
        config.labels.insert(key.to_owned(), value.to_owned());
    }
    for port in &options.expose {
        config
            .exposed_ports
            .extend(ports(port)?.into_iter().map(|port| (port, Empty {})));
    }
    for volume in &options.volumes {
        if !volume.starts_with('/') {
            return Err(malformed("--volume", volume, "an absolute path"));
        }
        config.volumes.insert(volume.clone(), Empty {});
    }
    if let Some(directory) = &options.workdir {
        if !directory.starts_with('/') {
            return Err(malformed("--workdir", directory, "an absolute path"));
        }
        config.working_dir.clone_from(directory);
    }
    if let Some(user) = &options.user {
        config.user.clone_from(user);
    }
    if options.stop_signal.is_some() {
        config.stop_signal.clone_from(&options.stop_signal);
    }
    Ok(())
}

/// Sets a variable in place of an earlier value, or after the others.
pub(super) fn assign(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env
        .iter_mut()
        .find(|old| old.split_once('=').is_some_and(|(old, _)| old == name))
    {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn set_variable(env: &mut Vec<String>, variable: &str, host: &Host) -> Result<()> {
    let (name, value) = match variable.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (variable, host.env.get(variable).map(String::as_str)),
    };
    if name.is_empty() {
        return Err(malformed("--env", variable, "NAME=value"));
    }
    if let Some(value) = value {
        assign(env, name, value);
    }
    Ok(())
}

/// A command line: a JSON array, or words as a shell splits them, with quotes and backslashes.
/// Nothing at all means none.
fn words(option: &str, text: &str) -> Result<Option<Vec<String>>> {
    let text = text.trim();
    let words = if text.starts_with('[') {
        serde_json::from_slice(text.as_bytes())
            .map_err(|_| malformed(option, text, "a JSON array of strings"))?
    } else {
        split(text).ok_or_else(|| malformed(option, text, "a closing quote"))?
    };
    Ok(Some(words).filter(|words| !words.is_empty()))
}

/// Splits a text into words; `None` if a quote stays open.
fn split(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Ports as `8080`, `53/udp` or `8000-8010/tcp`, each with its protocol.
fn ports(text: &str) -> Result<Vec<String>> {
    let error = || malformed("--expose", text, "PORT, PORT/udp or FIRST-LAST");
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(error());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first..=last)
            .map(|port| format!("{port}/{protocol}"))
            .collect()),
        _ => Err(error()),
    }
}

fn malformed(option: &str, value: &str, expected: &str) -> Error {
    Error::new(
        Kind::Input,
        format!("`{option}` cannot be `{value}`: expected {expected}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(options: &ConfigOptions) -> std::result::Result<RunConfig, String> {
        let mut host = crate::host::test_host("/".as_ref());
        host.env.insert("TERM".into(), "dumb".into());
        let mut config = RunConfig {
            cmd: Some(vec!["old".into()]),
            ..RunConfig::default()
        };
        apply(&mut config, options, &host).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn command_lines_are_json_or_words() {
        let cases = [
            (r#"["/a", "b c"]"#, Some(vec!["/a", "b c"])),
            ("/a  b", Some(vec!["/a", "b"])),
            (
                r#"/a 'b  "c' "d\"" e\ f "" g'h'"#,
                Some(vec!["/a", "b  \"c", "d\"", "e f", "", "gh"]),
            ),
            ("", None),
            ("[]", None),
        ];
        for (text, expected) in cases {
            let options = ConfigOptions {
                entrypoint: Some(text.into()),
                ..Default::default()
            };
            let config = applied(&options).unwrap();
            let expected = expected.map(|words| words.into_iter().map(str::to_owned).collect());
            assert_eq!(config.entrypoint, expected, "{text}");
            assert_eq!(config.cmd, None, "a new entrypoint drops the command");
        }
        for bad in ["[1]", "[", "'a", "a\\"] {
            let options = ConfigOptions {
                cmd: Some(bad.into()),
                ..Default::default()
            };
            let message = applied(&options).unwrap_err();
            assert!(
                message.starts_with(&format!("`--cmd` cannot be `{bad}`: ")),
                "{message}"
            );
        }
    }

    #[test]
    fn options_are_set_over_what_was_there() {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let options = ConfigOptions {
            env: owned(&["A=1", "TERM", "A=2=3", "NOT_SET", "EMPTY="]),
            labels: owned(&["a=b=c", "bare"]),
            user: Some("1:2".into()),
            workdir: Some("/w".into()),
            expose: owned(&["80", "53/UDP", "8000-8002"]),
            volumes: owned(&["/data"]),
            stop_signal: Some("SIGINT".into()),
            ..Default::default()
        };
        let config = applied(&options).unwrap();
        assert_eq!(config.env, ["A=2=3", "TERM=dumb", "EMPTY="]);
        assert_eq!(config.labels["a"], "b=c");
        assert_eq!(config.labels["bare"], "");
        let ports: Vec<_> = config.exposed_ports.keys().collect();
        assert_eq!(
            ports,
            ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
        );
        assert_eq!(config.cmd, Some(owned(&["old"])));
    }

    #[test]
    fn nonsense_is_refused() {
        let cases = [
            ConfigOptions {
                env: vec!["=1".into()],
                ..Default::default()
            },
            ConfigOptions {
                labels: vec!["=".into()],
                ..Default::default()
            },
            ConfigOptions {
                expose: vec!["0".into()],
                ..Default::default()
            },
            ConfigOptions {
                expose: vec!["2-1".into()],
                ..Default::default()
            },
            ConfigOptions {
                expose: vec!["1/ip".into()],
                ..Default::default()
            },
            ConfigOptions {
                volumes: vec!["x".into()],
                ..Default::default()
            },
            ConfigOptions {
                workdir: Some("x".into()),
                ..Default::default()
            },
        ];
        for options in cases {
            assert!(applied(&options).is_err(), "{options:?}");
        }
    }
}
