//! `--compress`, of every command that sends layers.

use clap::ValueEnum;
use smidge_engine::registry::Compression;

/// How layers are compressed.
#[derive(clap::Args)]
pub(super) struct CompressionArgs {
    /// Compress layers that are not: gzip (the default), zstd, none, smallest or zstd-smallest
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    compress: Compress,
}

/// `--compress`.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Compress {
    #[default]
    Gzip,
    Zstd,
    None,
    Smallest,
    ZstdSmallest,
}

impl CompressionArgs {
    /// The same, for the engine.
    pub(super) fn compression(&self) -> Compression {
        match self.compress {
            Compress::Gzip => Compression::Gzip,
            Compress::Zstd => Compression::Zstd,
            Compress::None => Compression::None,
            Compress::Smallest => Compression::SmallestGzip,
            Compress::ZstdSmallest => Compression::SmallestZstd,
        }
    }
}
