//! Linux capabilities as bits of a `u64` (`capabilities(7)`).

/// What a container's root may do, as Docker has it by default.
pub const DEFAULT: u64 = 0;
