//! Manifests, indexes and configs: nothing of what is read is lost when it is written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smidge_image::{ImageConfig, Index, Manifest, validate};

fuzz_target!(|bytes: &[u8]| {
    let manifest = round_trip::<Manifest>(bytes);
    let config = round_trip::<ImageConfig>(bytes);
    round_trip::<Index>(bytes);
    if let (Some(manifest), Some(config)) = (manifest, config) {
        let _ = validate(&manifest, &config);
    }
});

fn round_trip<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
) -> Option<T> {
    let document: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&document).expect("documents have text keys");
    let again: T = serde_json::from_slice(&written).expect("what was written is read");
    assert_eq!(again, document);
    Some(document)
}
