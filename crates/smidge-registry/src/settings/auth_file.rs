//! Docker's `config.json` and Podman's `auth.json` (containers-auth.json(5)).

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use super::file::{self, fault};
use super::rule::{self, HUB};
use crate::{Credentials, Result, Secret};

/// What Docker calls its Hub where it keeps logins.
pub(super) const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The user name that says that the password is an identity token (docker-credential-helpers).
pub(super) const TOKEN_USER: &str = "<token>";

/// An auth file as it is; other tools' keys are kept.
#[derive(Clone)]
pub(super) struct AuthFile {
    pub(super) path: PathBuf,
    pub(super) root: Map<String, Value>,
}

/// What a file has under one key of `auths`.
pub(super) enum Entry {
    /// A note that a credential store has the login, or nothing.
    Empty,
    /// The login.
    Login(Credentials),
}

impl AuthFile {
    /// Reads a file; `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let Some(text) = file::read(path)? else {
            return Ok(None);
        };
        let root = parse(&text).map_err(|why| fault(path, why))?;
        let path = path.to_owned();
        Ok(Some(Self { path, root }))
    }

    /// A file that is not there yet.
    pub(super) fn empty(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            root: Map::new(),
        }
    }

    /// The helper that `credHelpers` has for a key.
    pub(super) fn helper(&self, key: &str) -> Result<Option<&str>> {
        let found = self.find("credHelpers", key)?;
        match found {
            None => Ok(None),
            Some((raw, value)) => match value.as_str() {
                Some("") => Ok(None),
                Some(name) => Ok(Some(name)),
                None => Err(self.fault(format!("`credHelpers`: `{raw}` must be a text"))),
            },
        }
    }

    /// The user name beside an identity token, if it is kept: Docker writes it without a password.
    pub(super) fn user(&self, key: &str) -> Result<Option<String>> {
        let entry = self.find("auths", key)?;
        let text = |name: &str| Some(entry?.1.get(name)?.as_str()?.trim().to_owned());
        let pair = text("auth").and_then(|auth| STANDARD.decode(auth).ok());
        let pair = pair.and_then(|pair| String::from_utf8(pair).ok());
        let user = pair.and_then(|pair| Some(pair.split_once(':')?.0.to_owned()));
        let user = user.or_else(|| text("username"));
        Ok(user.filter(|user| !user.is_empty() && user != TOKEN_USER))
    }

    /// The helper that keeps all logins which no other one keeps.
    pub(super) fn store(&self) -> Result<Option<&str>> {
        match self.root.get("credsStore") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) if name.is_empty() => Ok(None),
            Some(Value::String(name)) => Ok(Some(name)),
            Some(_) => Err(self.fault("`credsStore` must be a text")),
        }
    }

    /// What is under a key of `auths`, and the key as it is written there.
    pub(super) fn entry(&self, key: &str) -> Result<Option<(&str, Entry)>> {
        let Some((raw, value)) = self.find("auths", key)? else {
            return Ok(None);
        };
        let entry = decode(value).map_err(|why| self.fault(format!("`auths`: `{raw}`: {why}")))?;
        Ok(Some((raw, entry)))
    }

    /// Whether `auths` has anything under a key.
    pub(super) fn has(&self, key: &str) -> Result<bool> {
        let auths = self.table("auths")?;
        Ok(auths.is_some_and(|auths| auths.keys().any(|raw| meaning(raw) == key)))
    }

    /// Puts an entry into `auths`, in place of all that mean the same key.
    pub(super) fn put(&mut self, key: &str, entry: Value) -> Result<()> {
        let ours = written(key);
        self.table("auths")?;
        let auths = self.root.entry("auths").or_insert(Value::Null);
        if auths.is_null() {
            *auths = Value::Object(Map::new());
        }
        if let Value::Object(auths) = auths {
            auths.retain(|raw, _| raw == ours || meaning(raw) != key);
            auths.insert(ours.to_owned(), entry);
        }
        Ok(())
    }

    /// Removes all entries of `auths` that mean a key; whether one of them was a login.
    pub(super) fn remove(&mut self, key: &str) -> Result<bool> {
        self.table("auths")?;
        let mut found = false;
        if let Some(Value::Object(auths)) = self.root.get_mut("auths") {
            auths.retain(|raw, value| {
                let stays = meaning(raw) != key;
                found |= !stays && !matches!(decode(value), Ok(Entry::Empty));
                stays
            });
        }
        Ok(found)
    }

    /// The file's text, as Docker lays it out.
    pub(super) fn text(&self) -> Result<String> {
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(b"\t");
        let mut serializer = Serializer::with_formatter(&mut bytes, formatter);
        let done = self.root.serialize(&mut serializer);
        done.map_err(|error| self.fault(error.to_string()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A table of the file, by name.
    pub(super) fn table(&self, name: &str) -> Result<Option<&Map<String, Value>>> {
        match self.root.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(table)) => Ok(Some(table)),
            Some(_) => Err(self.fault(format!("`{name}` must be an object"))),
        }
    }

    /// An error about this file.
    pub(super) fn fault(&self, why: impl Into<String>) -> crate::Error {
        fault(&self.path, why)
    }

    /// The entry of a table whose key means `key`. Of several the one that is written as we write it.
    fn find(&self, table: &str, key: &str) -> Result<Option<(&str, &Value)>> {
        let Some(table) = self.table(table)? else {
            return Ok(None);
        };
        let ours = written(key);
        let all = table.iter().filter(|(raw, _)| meaning(raw) == key);
        let found = all.max_by_key(|(raw, _)| (*raw == ours, *raw == key));
        Ok(found.map(|(raw, value)| (raw.as_str(), value)))
    }
}

/// The name that a key of a file stands for: `https://host/v1/` is `host`, Docker Hub has many.
pub(super) fn meaning(raw: &str) -> String {
    let stripped = raw
        .strip_prefix("https://")
        .or_else(|| raw.strip_prefix("http://"));
    let name = match stripped {
        Some(url) => rule::split(url).0,
        None => {
            let legacy = raw
                .strip_suffix("/v1/")
                .or_else(|| raw.strip_suffix("/v2/"));
            legacy.unwrap_or(raw).trim_end_matches('/')
        }
    };
    let (domain, path) = rule::split(name);
    match rule::name(domain, path) {
        hub if hub == "registry-1.docker.io" => HUB.to_owned(),
        other => other,
    }
}

/// The key under which a login is written.
pub(super) fn written(key: &str) -> &str {
    if key == HUB { HUB_KEY } else { key }
}

/// The keys that may have a repository's login, the longest first.
pub(super) fn keys(domain: &str, path: &str) -> Vec<String> {
    let domain = meaning(domain);
    let mut keys = Vec::new();
    let mut rest = path.trim_matches('/');
    while !rest.is_empty() {
        keys.push(format!("{domain}/{rest}"));
        rest = rest.rsplit_once('/').map_or("", |(above, _)| above);
    }
    keys.push(domain);
    keys
}

/// A login as `auths` has it; the user of an identity token without a password, as Docker writes it.
pub(super) fn encode(user: Option<&str>, credentials: &Credentials) -> Value {
    let mut entry = Map::new();
    match credentials {
        Credentials::Basic { username, password } => {
            let text = STANDARD.encode(format!("{username}:{}", password.expose()));
            entry.insert("auth".to_owned(), Value::String(text));
        }
        Credentials::IdentityToken(token) => {
            if let Some(user) = user {
                let text = STANDARD.encode(format!("{user}:"));
                entry.insert("auth".to_owned(), Value::String(text));
            }
            let text = token.expose().to_owned();
            entry.insert("identitytoken".to_owned(), Value::String(text));
        }
    }
    Value::Object(entry)
}

/// Credentials of a user name and a secret, as stores have them.
pub(super) fn credentials(username: &str, secret: &str) -> Credentials {
    if username == TOKEN_USER {
        return Credentials::IdentityToken(Secret::new(secret));
    }
    Credentials::Basic {
        username: username.to_owned(),
        password: Secret::new(secret),
    }
}

fn parse(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(root)) => Ok(root),
        Ok(_) => Err("line 1: it must hold an object: `{ … }`".to_owned()),
        Err(error) => {
            let text = error.to_string();
            let why = text.split(" at line ").next().unwrap_or_default();
            Err(format!("line {}: {why}", error.line()))
        }
    }
}

/// Nothing of the value may get into the error.
fn decode(value: &Value) -> Result<Entry, String> {
    let Value::Object(entry) = value else {
        return match value {
            Value::Null => Ok(Entry::Empty),
            _ => Err("it must be an object".to_owned()),
        };
    };
    let text = |key: &str| match entry.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("`{key}` must be a text")),
    };
    let token = text("identitytoken")?;
    if !token.is_empty() {
        return Ok(Entry::Login(Credentials::IdentityToken(Secret::new(token))));
    }
    let auth = text("auth")?;
    if auth.is_empty() {
        let (username, password) = (text("username")?, text("password")?);
        if username.is_empty() {
            return Ok(Entry::Empty);
        }
        return Ok(Entry::Login(credentials(username, password)));
    }
    let bytes = STANDARD
        .decode(auth.trim())
        .map_err(|_| "`auth` is not base64".to_owned())?;
    let pair = String::from_utf8(bytes).map_err(|_| "`auth` holds no text".to_owned())?;
    let Some((username, password)) = pair.split_once(':') else {
        return Err("`auth` does not hold `user:password`".to_owned());
    };
    if username.is_empty() {
        return Ok(Entry::Empty);
    }
    // Docker has written zero bytes after the password.
    let password = password.trim_end_matches('\0');
    Ok(Entry::Login(credentials(username, password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> AuthFile {
        AuthFile {
            path: PathBuf::from("/auth.json"),
            root: parse(text).unwrap(),
        }
    }

    fn login(text: &str, key: &str) -> String {
        match file(text).entry(key) {
            Ok(None) => "none".to_owned(),
            Ok(Some((raw, Entry::Empty))) => format!("{raw}: empty"),
            Ok(Some((raw, Entry::Login(Credentials::Basic { username, password })))) => {
                format!("{raw}: {username} {}", password.expose())
            }
            Ok(Some((raw, Entry::Login(Credentials::IdentityToken(token))))) => {
                format!("{raw}: token {}", token.expose())
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn keys_have_many_forms() {
        for (raw, expected) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("https://registry-1.docker.io/v2/", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("docker.io/library", "docker.io/library"),
            ("https://a.io", "a.io"),
            ("http://a.io:5000/v1/", "a.io:5000"),
            ("https://a.io/any/path", "a.io"),
            ("a.io/", "a.io"),
            ("a.io/v2/", "a.io"),
            ("A.io/x/y", "a.io/x/y"),
        ] {
            assert_eq!(meaning(raw), expected, "{raw}");
        }
        assert_eq!(keys("a.io", "x/y"), ["a.io/x/y", "a.io/x", "a.io"]);
        assert_eq!(keys("https://A.io/", ""), ["a.io"]);
        assert_eq!(written("docker.io"), HUB_KEY);
    }

    #[test]
    fn logins_are_decoded() {
        // me:secret, me:a:b, me:secret\0, <token>:tok, "", me
        for (entry, expected) in [
            (r#"{"auth":"bWU6c2VjcmV0"}"#, "a.io: me secret"),
            (r#"{"auth":"bWU6YTpi"}"#, "a.io: me a:b"),
            (r#"{"auth":"bWU6c2VjcmV0AA=="}"#, "a.io: me secret"),
            (r#"{"auth":"PHRva2VuPjp0b2s="}"#, "a.io: token tok"),
            (
                r#"{"auth":"bWU6","identitytoken":"idt"}"#,
                "a.io: token idt",
            ),
            (r#"{"username":"me","password":"pw"}"#, "a.io: me pw"),
            (r#"{"email":"me@a.io"}"#, "a.io: empty"),
            (r#"{"auth":null}"#, "a.io: empty"),
            (r#"{"auth":"Og=="}"#, "a.io: empty"),
            ("{}", "a.io: empty"),
            ("null", "a.io: empty"),
        ] {
            assert_eq!(
                login(&format!(r#"{{"auths":{{"a.io":{entry}}}}}"#), "a.io"),
                expected
            );
        }
        assert_eq!(login(r#"{"auths":null}"#, "a.io"), "none");
        assert_eq!(login(r#"{"auths":{}}"#, "a.io"), "none");
        assert_eq!(login("", "a.io"), "none");
    }

    #[test]
    fn of_several_forms_the_one_that_we_write_counts() {
        let text = r#"{"auths":{"https://a.io":{"username":"old"},"a.io":{"username":"new"},"http://a.io/v1/":{}}}"#;
        assert_eq!(login(text, "a.io"), "a.io: new ");
        let hub = r#"{"auths":{"docker.io":{"username":"podman"},"https://index.docker.io/v1/":{"username":"docker"}}}"#;
        assert_eq!(
            login(hub, "docker.io"),
            "https://index.docker.io/v1/: docker "
        );
    }

    #[test]
    fn faults_say_where_and_show_no_secret() {
        for (text, why) in [
            (r#"{"auths":[]}"#, "`auths` must be an object"),
            (
                r#"{"auths":{"a.io":"hunter2"}}"#,
                "`auths`: `a.io`: it must be an object",
            ),
            (
                r#"{"auths":{"a.io":{"auth":"hunter2!"}}}"#,
                "`auths`: `a.io`: `auth` is not base64",
            ),
            (
                r#"{"auths":{"a.io":{"auth":"aHVudGVyMg=="}}}"#,
                "`auths`: `a.io`: `auth` does not hold `user:password`",
            ),
            (
                r#"{"auths":{"a.io":{"auth":"/w=="}}}"#,
                "`auths`: `a.io`: `auth` holds no text",
            ),
            (
                r#"{"auths":{"a.io":{"auth":5}}}"#,
                "`auths`: `a.io`: `auth` must be a text",
            ),
            (
                r#"{"auths":{"a.io":{"identitytoken":{}}}}"#,
                "`auths`: `a.io`: `identitytoken` must be a text",
            ),
        ] {
            assert_eq!(login(text, "a.io"), format!("`/auth.json`: {why}"));
            assert_eq!(login(text, "b.io") == "none", !text.contains('['), "{text}");
        }
        for (text, why) in [
            ("{\n\"auths\": {", "line 2: EOF while parsing an object"),
            ("\n\n[]", "line 1: it must hold an object: `{ … }`"),
            ("{\"a\": hunter2}", "line 1: expected value"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why);
        }
        assert!(
            file(r#"{"credHelpers":{"a.io":1}}"#)
                .helper("a.io")
                .is_err()
        );
        assert!(file(r#"{"credHelpers":1}"#).helper("a.io").is_err());
        assert!(file(r#"{"credsStore":{}}"#).store().is_err());
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for (username, secret) in [("me", "a:b"), (TOKEN_USER, "tok"), ("é", "")] {
            let credentials = credentials(username, secret);
            let Ok(Entry::Login(back)) = decode(&encode(Some("me"), &credentials)) else {
                panic!("{username}");
            };
            assert_eq!(back, credentials);
        }
    }
}
