//! What can go wrong with a store.

use std::io;
use std::path::{Path, PathBuf};

use smidge_image::{Digest, LayerError, Reference, ReferenceError, ValidateError};

/// Why an operation on the store did not happen. The store is then as it was before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A blob that somebody else brings cannot be had.
    #[error(transparent)]
    Fetch(io::Error),
    /// There is an image of that name, for other platforms.
    #[error("`{name}` is not there for {wanted}{}", only(.available))]
    NoSuchPlatform {
        /// The image's name.
        name: String,
        /// The platform asked for.
        wanted: smidge_image::Platform,
        /// The platforms there are.
        available: Vec<smidge_image::Platform>,
    },
    /// Files cannot be copied as they were asked to be.
    #[error("{0}")]
    Copy(String),
    /// The system refused something.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried: `read`, `create`, …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The store can be read, but not written.
    #[error("the store `{}` is read-only", .root.display())]
    ReadOnly {
        /// The store.
        root: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Files cannot be removed, because they belong to ids of a user namespace.
    #[error("cannot remove `{}`: it holds files of other users", .path.display())]
    Undeletable {
        /// The directory; nothing refers to it any more.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The disk that holds the store is full.
    #[error("no space left on the disk of the store `{}`{}", .root.display(), needed_bytes(.needed))]
    NoSpace {
        /// The store.
        root: PathBuf,
        /// Bytes that what was being written takes up, where that is known.
        needed: Option<u64>,
        /// The system's reason.
        source: io::Error,
    },
    /// The directory holds something else.
    #[error("`{}` is not a smidge store: it holds `{found}`", .root.display())]
    NotStore {
        /// The directory.
        root: PathBuf,
        /// A file in it that no store has.
        found: String,
    },
    /// The store has a layout that this version does not know.
    #[error("the store `{}` has the layout version `{found}`: only `1.0.0` is known", .root.display())]
    LayoutVersion {
        /// The store.
        root: PathBuf,
        /// The version it states.
        found: String,
    },
    /// A blob is not what its name says.
    #[error(
        "`{what}` is corrupt: expected {expected} ({expected_size} bytes), received {received} ({received_size} bytes)"
    )]
    Corrupt {
        /// The blob's file, or the archive's member.
        what: String,
        /// The digest it should have.
        expected: Digest,
        /// The size it should have, in bytes.
        expected_size: u64,
        /// The digest of the bytes that were read.
        received: Digest,
        /// The number of bytes that were read.
        received_size: u64,
    },
    /// A blob that something refers to is not in the store.
    #[error("the store `{}` lacks the blob `{digest}`", .root.display())]
    MissingBlob {
        /// The store.
        root: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// A JSON document cannot be understood.
    #[error("`{what}` is not a valid {kind}")]
    Document {
        /// The document's file, blob or archive member.
        what: String,
        /// What it should be: `manifest`, `image config`, …
        kind: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A document is beyond all reason.
    #[error("`{what}` has {size} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// The document's file, blob or archive member.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The most that is accepted, in bytes.
        limit: u64,
    },
    /// Manifest and config do not describe one image.
    #[error("`{what}` is not an image that can be stored")]
    Invalid {
        /// The manifest's digest, or the archive's member.
        what: String,
        /// What is wrong with it.
        source: ValidateError,
    },
    /// Nothing that an index lists is stored.
    #[error("the index `{0}` lists nothing that is stored")]
    NoImages(Digest),
    /// A document is of a kind that this version does not know.
    #[error("`{what}` has the media type `{media_type}`: neither a manifest's nor an index's")]
    UnknownType {
        /// The document's digest.
        what: String,
        /// Its media type.
        media_type: String,
    },
    /// A document is not what it is said to be.
    #[error("`{what}` is said to be `{expected}`, but says itself that it is `{stated}`")]
    OtherType {
        /// The document's digest.
        what: String,
        /// The media type that came with it.
        expected: String,
        /// The media type that it states.
        stated: String,
    },
    /// No stored image has this name or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// Several images' ids start this way.
    #[error("`{prefix}` is ambiguous: it is the start of {}", list(.ids))]
    AmbiguousImage {
        /// What was given.
        prefix: String,
        /// Every id that it fits.
        ids: Vec<Digest>,
    },
    /// What was given is neither a name nor an id.
    #[error("`{text}` does not name an image")]
    Reference {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        source: ReferenceError,
    },
    /// An image with several names is to be removed by its id.
    #[error("cannot remove image `{}`: image is referenced in multiple repositories: {}", .id.short(), familiar(.names))]
    ManyNames {
        /// The image.
        id: Digest,
        /// All its names.
        names: Vec<Reference>,
    },
    /// A container needs the image.
    #[error("cannot remove image `{}`: it is used by the {} container `{container}`", .id.short(), if *.running { "running" } else { "stopped" })]
    ImageInUse {
        /// The image.
        id: Digest,
        /// A container that was made from it.
        container: String,
        /// Whether that container runs; if it does not, removal can be forced.
        running: bool,
    },
    /// A layer cannot be unpacked.
    #[error("layer `{layer}` cannot be unpacked")]
    Layer {
        /// The layer's diff id, blob or archive member.
        layer: String,
        /// What is wrong with it.
        source: LayerError,
    },
    /// An entry of a layer cannot be made.
    #[error("cannot unpack `{entry}` of layer `{layer}`: {why}")]
    Entry {
        /// The layer's diff id, blob or archive member.
        layer: String,
        /// The entry's path.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// A layer is not the one that its image names.
    #[error(
        "`{what}` is not the layer that the image config names: expected diff id {expected}, received {received}"
    )]
    DiffId {
        /// The blob or archive member.
        what: String,
        /// The digest that the config states.
        expected: Digest,
        /// The digest of what was unpacked.
        received: Digest,
    },
    /// A layer or an archive unpacks to more than the disk can hold.
    #[error(
        "`{what}` unpacks to more than the {available} bytes that are free on the disk of the store `{}`",
        .root.display()
    )]
    Bomb {
        /// The blob or archive member.
        what: String,
        /// The store.
        root: PathBuf,
        /// Bytes that are free.
        available: u64,
    },
    /// What is to be loaded is an archive of images, but holds none.
    #[error("the archive holds no image")]
    Empty,
    /// What is to be loaded does not hold the image that was asked for.
    #[error("there is no image `{name}` in it")]
    NotHeld {
        /// What was asked for.
        name: String,
        /// What there is: names, and digests of what has none.
        held: Vec<String>,
    },
    /// One image was asked for, and nobody said which.
    #[error("it holds {} images", .held.len())]
    ManyHeld {
        /// What there is: names, and digests of what has none.
        held: Vec<String>,
    },
    /// What is to be loaded is neither a docker-archive nor an OCI archive.
    #[error("not an image archive: it has neither `manifest.json` nor `index.json`{}", hint(.found))]
    NotArchive {
        /// The first member, if there is any.
        found: Option<String>,
    },
    /// A member of an archive cannot be accepted.
    #[error("archive member `{member}` {fault}")]
    Member {
        /// The member's name.
        member: String,
        /// What is wrong with it.
        fault: MemberFault,
    },
    /// The archive itself cannot be read.
    #[error("cannot read the archive")]
    Archive(#[source] LayerError),
    /// What is loaded or imported cannot be read.
    #[error("cannot read the input")]
    Input(#[source] io::Error),
    /// What is saved cannot be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// A container's name is taken.
    #[error("Conflict. The container name \"/{name}\" is already in use by container \"{by}\"")]
    NameInUse {
        /// The name.
        name: String,
        /// The id of the container that has it.
        by: String,
    },
    /// A network's name is taken.
    #[error("network with name {0} already exists")]
    NetworkExists(String),
    /// No network has this name.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// A text cannot be the name of what it is to name.
    #[error(
        "Invalid {kind} name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, two of them or more"
    )]
    BadName {
        /// `container`, `volume` or `network`.
        kind: &'static str,
        /// The text.
        name: String,
    },
    /// No container has this name or id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Several containers' ids start this way.
    #[error("`{prefix}` is ambiguous: it is the start of {}", .ids.join(", "))]
    AmbiguousContainer {
        /// What was given.
        prefix: String,
        /// Every id that it fits.
        ids: Vec<String>,
    },
}

/// What is wrong with a member of an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberFault {
    /// It is needed and not there.
    #[error("is missing")]
    Missing,
    /// It comes twice.
    #[error("occurs twice")]
    Duplicate,
    /// Image archives hold files, directories and links only.
    #[error("is neither a file, a directory nor a link")]
    Kind,
    /// A link that leads to nothing in the archive, or in circles.
    #[error("is a link that leads nowhere in the archive")]
    Link,
    /// A path that leads out of the archive.
    #[error("leads out of the archive")]
    Escape,
    /// The archive is from before Docker 1.10.
    #[error(
        "stands alone: archives without `manifest.json`, written before Docker 1.10, are not supported"
    )]
    Legacy,
    /// There are more members than any image has.
    #[error("is one too many: more than {0} members are not accepted")]
    TooMany(usize),
    /// There is no image for the platform that is wanted.
    #[error("holds no image for `{0}`")]
    Platform(String),
    /// A document of a kind that this version does not know.
    #[error("has the unknown media type `{0}`")]
    MediaType(String),
    /// A name in it is no image name.
    #[error("names an image `{0}`, which is not a valid name")]
    Name(String),
}

impl Error {
    /// Frames a system error, and tells a full disk and a read-only store from the rest.
    pub(crate) fn io(root: &Path, action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            _ if Self::is_carried(&source) => Self::carried(source, Self::Input),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace {
                root: root.to_owned(),
                needed: None,
                source,
            },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly {
                root: root.to_owned(),
                source,
            },
            io::ErrorKind::PermissionDenied if action != READ => Self::ReadOnly {
                root: root.to_owned(),
                source,
            },
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }

    fn is_carried(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }

    /// Unwraps an error of this crate that came through `Read` or `Write`; frames any other.
    pub(crate) fn carried(error: io::Error, frame: impl FnOnce(io::Error) -> Self) -> Self {
        error.downcast::<Self>().unwrap_or_else(frame)
    }

    /// A member of an archive and its fault.
    pub(crate) fn member(member: impl Into<String>, fault: MemberFault) -> Self {
        Self::Member {
            member: member.into(),
            fault,
        }
    }
}

/// The one action that fails without the store being read-only.
pub(crate) const READ: &str = "read";

fn needed_bytes(needed: &Option<u64>) -> String {
    needed.map_or_else(String::new, |bytes| format!(": {bytes} bytes are needed"))
}

fn only(platforms: &[smidge_image::Platform]) -> String {
    let texts: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    match texts.is_empty() {
        true => String::new(),
        false => format!(", only for {}", texts.join(", ")),
    }
}

fn list(ids: &[Digest]) -> String {
    ids.iter().map(Digest::short).collect::<Vec<_>>().join(", ")
}

fn familiar(names: &[Reference]) -> String {
    names
        .iter()
        .map(Reference::familiar)
        .collect::<Vec<_>>()
        .join(", ")
}

fn hint(found: &Option<String>) -> String {
    found
        .as_ref()
        .map_or_else(String::new, |member| format!(", but `{member}`"))
}
