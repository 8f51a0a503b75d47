//! What is wrong with a layer.

use std::io;

use crate::PathError;

/// Why an archive is not a layer. Offsets count bytes of the uncompressed archive.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The bytes could not be had.
    #[error("cannot read the layer at byte {offset}")]
    Read {
        /// How far reading came.
        offset: u64,
        /// Why not.
        source: io::Error,
    },
    /// The archive stops in the middle of something.
    #[error("the layer is truncated: it ends at byte {offset}")]
    Truncated {
        /// Where it ends.
        offset: u64,
    },
    /// A block that should be a header is none.
    #[error("the layer is not a tar archive: the block at byte {offset} is not a header")]
    NotHeader {
        /// Where the block starts.
        offset: u64,
    },
    /// A header field, or a record of an extended header, makes no sense.
    #[error("malformed `{field}` in the tar header at byte {offset}")]
    Field {
        /// The field's name in POSIX, or the record's keyword.
        field: String,
        /// Where the header starts.
        offset: u64,
    },
    /// A long name or extended header, or a file's map of holes, is beyond all reason.
    #[error("the extended header at byte {offset} is larger than {limit} bytes")]
    HeaderTooLarge {
        /// Where the header starts.
        offset: u64,
        /// The most that is accepted, in bytes.
        limit: u64,
    },
    /// A name that cannot be inside an image.
    #[error("the entry at byte {offset} cannot be in a layer")]
    Path {
        /// Where the entry's header starts.
        offset: u64,
        /// What is wrong with its path, or with the target of a hard link.
        source: PathError,
    },
    /// A whiteout that would remove the directory it is in, or the one above.
    #[error("`{path}` is not a whiteout: it removes no name")]
    Whiteout {
        /// The entry's path.
        path: String,
    },
    /// A kind of entry that no layer has.
    #[error("`{path}` has the unsupported tar entry type `{}`", .kind.escape_ascii())]
    Unsupported {
        /// The entry's path.
        path: String,
        /// The header's `typeflag`.
        kind: u8,
    },
}

impl From<LayerError> for io::Error {
    fn from(error: LayerError) -> Self {
        let kind = match &error {
            LayerError::Read { source, .. } => source.kind(),
            LayerError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
