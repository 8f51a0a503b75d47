//! The store: images, checked-out layers, containers' records and volumes, as files.
//!
//! **Does**: keep blobs and names ([`Store`]), unpack layers into the lower directories of overlays
//! ([`Store::checkout`]), show an image or a directory as a [`Tree`](smidge_image::Tree), keep
//! containers' records, move images in and out (docker-archive, OCI archive, OCI layout, plain tar).
//!
//! **Does not** (invariants): know registries or processes; start anything; hold a lock longer than it
//! takes to rewrite one small file; return a byte of a blob's end before its digest is verified.
//!
//! # On disk
//! ```text
//! <root>/
//!   oci-layout, index.json     an OCI image layout: skopeo and umoci read it in place
//!                              (images, indexes for several platforms, artifacts, by their names)
//!   blobs/sha256/<hex>         manifests, configs, layers
//!   layers/<diff-id-hex>/      layers unpacked, as overlayfs wants its lower directories
//!   layers/<diff-id-hex>.beside
//!                              what cannot be seen in them: whose links are, what is only implied
//!   layers/<diff-id-hex>.<hex>/
//!                              the directories that a stack of layers implies, as they are below
//!   containers/<id>/           config.json and what the sandbox puts beside it
//!   containers/names/<name>    the same file as containers/<id>/name: a name is taken by one
//!   volumes/<name>/_data/      and volume.json: when it was made, and its labels
//!   networks/<name>/           network.json; leases/<address>: which container has it; who is on it
//!   cache/transfer/<encoder>/  <diff-id-hex> → <hex>: layers as they travel
//!   cache/build/, cache/mounts/
//!                              what builds leave for builds to come
//!   events/<day>.jsonl         what happened in the last days
//!   tmp/                       what is being made, locked by its maker
//!   lock                       flock(2)ed while index.json is rewritten, or a container named
//!   gc.lock                    shared by those who add blobs, exclusive for who removes them
//!   gc.turn                    exclusive for who tries to get that
//! ```
//! Changing this is a format break. Every write is temporary file, fsync, rename: a crash leaves a
//! store that opens and, at most, garbage that [`Store::prune`] removes.
//!
//! Specification: [OCI image layout](https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md).
//!
//! ```
//! use smidge_image::{Descriptor, ImageConfig, Manifest, Platform, media_type};
//! use smidge_store::Store;
//!
//! let directory = tempfile::tempdir()?;
//! let store = Store::open(&directory.path().join("store"))?;
//! let config = ImageConfig::new(&Platform::linux("amd64")).to_bytes();
//! store.put(&config)?;
//! let manifest = Manifest::new(Descriptor::of(media_type::CONFIG, &config), Vec::new());
//! store.add_image(&manifest.to_bytes(), &["empty".parse()?])?;
//! assert_eq!(store.image("empty")?.names[0].familiar(), "empty:latest");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ahead;
mod archive;
mod arrival;
mod artifact;
mod attribute;
mod beside;
mod blob;
mod cache;
mod catalog;
mod change;
mod check;
mod checkout;
mod container;
pub mod copy;
mod document;
mod erase;
mod error;
mod extract;
mod flat;
mod follow;
mod found;
mod garbage;
mod image;
mod implied;
mod index;
mod intake;
mod layered;
mod name;
mod network;
mod owned;
mod partial;
mod platform;
mod regular;
mod removal;
mod snapshot;
mod sparse;
mod squash;
mod store;
mod subnet;
mod temp;
mod transfer;
mod tree;
mod unpack;
mod upper;
mod usage;
mod volume;
mod within;

pub use archive::{Choice, Selection};
pub use artifact::{Completeness, Entry};
pub use blob::{BlobWriter, VerifiedReader};
pub use cache::{CacheKind, CacheMount, CacheRecord, CachedStep, Sharing};
pub use change::{Change, changes};
pub use check::Problem;
pub use checkout::Ownership;
pub use container::Container;
pub use error::{Error, MemberFault};
pub use garbage::{Pruned, Usage};
pub use image::Image;
pub use intake::{Fetch, Intake};
pub use layered::LayeredTree;
pub use network::{Applicant, Lease, Network, NetworkRecord, Refusal};
pub use owned::Owned;
pub use platform::Variant;
pub use removal::{InUse, Removed, Use};
pub use snapshot::{Snapshot, SnapshotOptions, Times};
pub use squash::Squash;
pub use store::{Lock, Store};
pub use subnet::{Block, Subnet};
pub use temp::Workspace;
pub use transfer::{Compression, IndexTransfer, Transfer, TransferLayer};
pub use tree::{DirTree, FileAt};
pub use usage::{disk_usage, file_usage};
pub use volume::{Volume, VolumeRecord};
