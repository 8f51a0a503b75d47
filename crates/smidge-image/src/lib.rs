//! The OCI image model: everything there is to know about an image without touching the machine.
//!
//! **Does**: references, digests, documents (manifest, index, config), deterministic tar layers,
//! the canonical compressors, whiteouts, and [`Tree`], an image's files as one view.
//!
//! **Does not** (invariants): touch disk, network, clock or environment. Bytes come in through
//! `Read`, go out through `Write`; time and platform are arguments.
//!
//! Specifications: [OCI image-spec](https://github.com/opencontainers/image-spec/tree/v1.1.0),
//! [distribution reference grammar](https://pkg.go.dev/github.com/distribution/reference).
//!
//! ```
//! use smidge_image::{Digest, Reference};
//!
//! let reference: Reference = "alpine".parse()?;
//! assert_eq!(reference.to_string(), "docker.io/library/alpine:latest");
//! assert_eq!(reference.familiar(), "alpine:latest");
//! assert_eq!(
//!     Digest::of(b"").to_string(),
//!     "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
//! );
//! # Ok::<(), smidge_image::ReferenceError>(())
//! ```

mod chunk;
mod claim;
mod config;
mod decompress;
mod digest;
mod document;
mod gzip;
mod layer;
mod memory;
mod path;
mod platform;
mod reference;
mod tree;
mod validate;
mod whiteout;
mod zstd;

pub use claim::{Claim, ClaimKind};
pub use config::{Empty, Healthcheck, History, ImageConfig, RootFs, RunConfig};
pub use decompress::{Limited, decompress, sniff, zstd_window};
pub use digest::{DiffId, Digest, DigestError, Hasher, HashingReader, HashingWriter};
pub use document::{Descriptor, Index, LayerKind, Manifest, MediaType, annotation, media_type};
pub use gzip::{ENCODER, Effort, compress_gzip};
pub use layer::{Entry, EntryKind, LayerError, LayerWriter, read_layer};
pub use memory::MemoryTree;
pub use path::{LayerPath, PathError};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use tree::{Found, Identity, Node, NodeKind, ReadAt, Tree};
pub use validate::{ValidateError, validate, validate_manifest};
pub use whiteout::Whiteout;
pub use zstd::{ZSTD_ENCODER, compress_zstd};
