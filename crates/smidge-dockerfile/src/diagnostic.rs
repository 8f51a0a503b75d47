//! What is wrong with a Dockerfile, and what is merely unwise.

use std::fmt;

use crate::span::Span;

/// Whether a build can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The Dockerfile builds, but probably not what its author wants.
    Warning,
    /// The Dockerfile cannot be built.
    Error,
}

/// One finding, with the place where a caret should point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// Whether the build can go on.
    pub severity: Severity,
    /// The build check that this is, with the name that Docker gives it.
    pub rule: Option<Rule>,
    /// One lowercase sentence without a full stop.
    pub message: String,
    /// Where it is.
    pub span: Span,
    /// Text to stand beside the caret.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Makes an error.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            rule: None,
            message: message.into(),
            span,
            label: None,
            help: None,
        }
    }

    /// Makes a warning that belongs to a build check.
    pub fn warning(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            rule: Some(rule),
            ..Self::error(span, message)
        }
    }

    /// Adds the text beside the caret.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Tells whether the build cannot go on.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A build check, named as Docker names it.
        ///
        /// See <https://docs.docker.com/reference/build-checks/>.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rule { $($(#[doc = $doc])+ $name,)+ }

        impl Rule {
            /// Every check, in alphabetical order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the name that `# check=skip=…` uses.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

rules! {
    /// All instructions should be upper case, or all lower case.
    ConsistentInstructionCasing,
    /// Two stages have the same name.
    DuplicateStageName,
    /// A port does not follow `port[/protocol]`.
    ExposeInvalidFormat,
    /// A protocol in `EXPOSE` is not lower case.
    ExposeProtoCasing,
    /// `AS` and `FROM` differ in case.
    FromAsCasing,
    /// `FROM --platform` names a constant.
    FromPlatformFlagConstDisallowed,
    /// A comment over a stage or argument does not describe it.
    InvalidDefinitionDescription,
    /// A base image has no valid name unless a build argument is given.
    InvalidDefaultArgInFrom,
    /// `CMD` or `ENTRYPOINT` in shell form: signals do not reach the program.
    JSONArgsRecommended,
    /// `ENV key value` in place of `ENV key=value`.
    LegacyKeyValueFormat,
    /// `MAINTAINER` in place of a label.
    MaintainerDeprecated,
    /// An instruction of which only the last one counts stands there twice.
    MultipleInstructionsDisallowed,
    /// An empty line inside a continued instruction.
    NoEmptyContinuation,
    /// `FROM --platform=$TARGETPLATFORM`, which is the default.
    RedundantTargetPlatform,
    /// A stage has the name of a thing that is not a stage.
    ReservedStageName,
    /// A secret in `ARG` or `ENV` stays in the image.
    SecretsUsedInArgOrEnv,
    /// A stage name is not lower case.
    StageNameCasing,
    /// `FROM` uses an argument that is not declared before the first stage.
    UndefinedArgInFrom,
    /// A variable is used that nothing defines.
    UndefinedVar,
    /// A relative `WORKDIR` depends on the base image.
    WorkdirRelativePath,
}

impl Rule {
    /// Tells whether the check is made only when `# check=experimental=…` asks for it.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
