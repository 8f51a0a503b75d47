//! The fields of `RUN --mount`.

use crate::instruction::Field;
use crate::plan::Sharing;
use crate::suggest::suggest;

const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "size",
    "env",
];

/// The type of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Type {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

impl Type {
    const ALL: &[(&'static str, Self)] = &[
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }
}

/// What the fields of a mount say; empty texts say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) kind: Type,
    pub(crate) from: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) read_only: Option<bool>,
    pub(crate) required: bool,
    pub(crate) id: Option<String>,
    pub(crate) sharing: Option<Sharing>,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) env: Option<String>,
}

/// What is wrong with a mount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MountError {
    #[error("invalid mount field `{0}`: must be `key=value`")]
    NoValue(String),
    #[error("unexpected mount key `{key}`{}", did_you_mean(.suggestion.as_deref()))]
    UnknownKey {
        key: String,
        suggestion: Option<String>,
    },
    #[error("unsupported mount type `{kind}`{}", did_you_mean(.suggestion.as_deref()))]
    UnknownType {
        kind: String,
        suggestion: Option<String>,
    },
    #[error("invalid value `{value}` for mount key `{key}`")]
    InvalidValue { key: String, value: String },
    #[error("`{key}` is not allowed for mounts of type `{kind}`")]
    NotAllowed {
        key: &'static str,
        kind: &'static str,
    },
    #[error("a secret mount needs an `id`, `source` or `target`")]
    NamelessSecret,
    #[error("a secret mount cannot have both `source` and `id`")]
    TwiceNamedSecret,
    #[error("a mount of type `{0}` needs a `target`")]
    NoTarget(&'static str),
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion
        .map(|name| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
}

impl Settings {
    /// Reads the fields, which are expanded or hold no variables.
    pub(crate) fn read(fields: &[Field]) -> Result<Self, MountError> {
        let mut settings = Self::default();
        for field in fields {
            settings.set(field)?;
        }
        settings.check()?;
        Ok(settings)
    }

    fn set(&mut self, field: &Field) -> Result<(), MountError> {
        let key = field.key.as_str();
        let Some(value) = field.value.as_deref() else {
            return self.set_bare(key);
        };
        let invalid = || MountError::InvalidValue {
            key: key.into(),
            value: value.into(),
        };
        let id = |value: &str| value.parse().map(Some).map_err(|_| invalid());
        match key {
            "type" => self.kind = kind(value)?,
            "from" => self.from = non_empty(value),
            "source" | "src" => self.source = non_empty(value),
            "target" | "dst" | "destination" => self.target = non_empty(value),
            "readonly" | "ro" => self.read_only = Some(truth(value).ok_or_else(invalid)?),
            "readwrite" | "rw" => self.read_only = Some(!truth(value).ok_or_else(invalid)?),
            "required" => self.required = truth(value).ok_or_else(invalid)?,
            "id" => self.id = non_empty(value),
            "sharing" => self.sharing = Some(sharing(value).ok_or_else(invalid)?),
            "mode" => self.mode = Some(mode(value).ok_or_else(invalid)?),
            "uid" => self.uid = id(value)?,
            "gid" => self.gid = id(value)?,
            "size" => self.size = Some(bytes(value).ok_or_else(invalid)?),
            "env" => self.env = non_empty(value),
            _ => return Err(unknown_key(key)),
        }
        Ok(())
    }

    fn set_bare(&mut self, key: &str) -> Result<(), MountError> {
        match key {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => self.required = true,
            known if KEYS.contains(&known) => return Err(MountError::NoValue(key.into())),
            _ => return Err(unknown_key(key)),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), MountError> {
        let kind = self.kind;
        let owned = matches!(kind, Type::Cache | Type::Secret | Type::Ssh);
        let entrusted = matches!(kind, Type::Secret | Type::Ssh);
        let rules = [
            ("mode", self.mode.is_some(), owned),
            ("uid", self.uid.is_some(), owned),
            ("gid", self.gid.is_some(), owned),
            ("required", self.required, entrusted),
            ("sharing", self.sharing.is_some(), kind == Type::Cache),
            ("size", self.size.is_some(), kind == Type::Tmpfs),
            ("env", self.env.is_some(), kind == Type::Secret),
            (
                "from",
                self.from.is_some(),
                matches!(kind, Type::Bind | Type::Cache),
            ),
        ];
        if let Some(&(key, ..)) = rules.iter().find(|(_, given, allowed)| *given && !allowed) {
            return Err(MountError::NotAllowed {
                key,
                kind: kind.name(),
            });
        }
        match kind {
            Type::Secret if self.source.is_some() && self.id.is_some() => {
                Err(MountError::TwiceNamedSecret)
            }
            Type::Secret
                if [&self.source, &self.id, &self.target]
                    .iter()
                    .all(|s| s.is_none()) =>
            {
                Err(MountError::NamelessSecret)
            }
            Type::Bind | Type::Cache | Type::Tmpfs if self.target.is_none() => {
                Err(MountError::NoTarget(kind.name()))
            }
            _ => Ok(()),
        }
    }
}

fn unknown_key(key: &str) -> MountError {
    let suggestion = suggest(key, KEYS.iter().copied()).map(str::to_owned);
    MountError::UnknownKey {
        key: key.into(),
        suggestion,
    }
}

fn kind(value: &str) -> Result<Type, MountError> {
    let lower = value.to_ascii_lowercase();
    let found = Type::ALL.iter().find(|(name, _)| *name == lower);
    found.map(|&(_, kind)| kind).ok_or_else(|| {
        let names = || Type::ALL.iter().map(|(name, _)| *name);
        let begun = |name: &&str| lower.len() > 1 && name.starts_with(&lower);
        let suggestion = suggest(value, names()).or_else(|| names().find(begun));
        MountError::UnknownType {
            kind: value.into(),
            suggestion: suggestion.map(str::to_owned),
        }
    })
}

fn non_empty(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// The spellings that Go's `strconv.ParseBool` takes.
fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn sharing(value: &str) -> Option<Sharing> {
    match value.to_ascii_lowercase().as_str() {
        "shared" => Some(Sharing::Shared),
        "private" => Some(Sharing::Private),
        "locked" => Some(Sharing::Locked),
        _ => None,
    }
}

fn mode(value: &str) -> Option<u32> {
    u32::from_str_radix(value, 8)
        .ok()
        .filter(|_| !value.starts_with('+'))
}

/// Reads a size such as `64m`: the units are powers of 1024.
fn bytes(value: &str) -> Option<u64> {
    let digits = value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}
