//! How big an image is: on disk, to transfer, and its program alone.

use std::io;

use smidge_image::{Effort, compress_gzip};
use smidge_store::{Compression, Image, Store};

use super::draft::{Draft, Joining, StepLayer};
use super::layer::{Layer, RootFs};
use super::response::{Sizes, Transfer};
use crate::{Progress, Result};

/// Up to here, compressing takes no time that anybody notices.
const SMALL: u64 = 256 << 10;

/// Measures an image. What it weighs in transit is known for sure when it is small or when its
/// program was just compiled, because then the layers are compressed here and now (and kept, so
/// that pushing it does not compress again); otherwise it is judged by samples.
pub(super) fn measure(
    image: &Image,
    draft: &Draft,
    rootfs: &RootFs,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Sizes> {
    let disk = image.size();
    let transfer = if draft.compiled || disk <= SMALL {
        let task = progress.task("compressing", None);
        let size = store.transfer(image, Compression::Gzip)?.size();
        task.finish();
        Transfer::Exact(size)
    } else {
        let layers: Vec<u64> = image.manifest.layers.iter().map(|l| l.size).collect();
        let documents = disk.saturating_sub(layers.iter().sum());
        let (base, added): (u64, u64) = match (&draft.joining, layers.split_last()) {
            (Joining::Apart, _) | (_, None) => {
                let base = draft.base.iter().flat_map(|base| &base.layers);
                let steps = draft.steps.iter().filter_map(|step| step.layer.as_ref());
                (base.map(|(l, _)| l.size).sum(), steps.map(judge).sum())
            }
            // The one layer that was made of others is the last.
            (_, Some((joined, below))) => (below.iter().sum(), judged(*joined)),
        };
        Transfer::About(documents.saturating_add(base).saturating_add(added))
    };
    let program = draft
        .program()
        .and_then(|path| rootfs.file(&path).ok().flatten());
    Ok(Sizes {
        disk,
        transfer,
        program: program.map(|member| member.entry.size()),
    })
}

/// Judges what a layer compresses to.
fn judge(layer: &StepLayer) -> u64 {
    match layer {
        StepLayer::Files(files) => estimate(files),
        StepLayer::Stored(stored) => judged(stored.size),
    }
}

/// What programs and systems are made of comes down to this, more or less.
fn judged(size: u64) -> u64 {
    size / 5 * 2
}

/// Judges what a layer compresses to by three samples of its largest file.
fn estimate(layer: &Layer) -> u64 {
    const SAMPLE: usize = 8 << 10;
    // Headers compress to little; half a block each is near enough.
    let headers = 256 * layer.members().count() as u64;
    let contents = layer.members().filter_map(|member| member.content.as_ref());
    let Some(largest) = contents.max_by_key(|content| content.size()) else {
        return headers;
    };
    let mut samples = Vec::new();
    if let Ok(file) = largest.open() {
        for part in [1, 4, 7] {
            let mut sample = vec![0; SAMPLE];
            if file
                .read_exact_at(largest.size() / 8 * part, &mut sample)
                .is_ok()
            {
                samples.append(&mut sample);
            }
        }
    }
    let mut packed = Vec::new();
    let packing = compress_gzip(
        &mut io::Cursor::new(&samples),
        &mut packed,
        Effort::Canonical,
        1,
    );
    if packing.is_err() || samples.is_empty() {
        return headers + layer.size();
    }
    let ratio = packed.len() as u128 * 1000 / samples.len() as u128;
    headers + u64::try_from(u128::from(layer.size()) * ratio / 1000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::content::Content;
    use super::super::layer::Member;
    use super::*;

    #[test]
    fn estimates_are_near_the_truth() {
        let text: Vec<u8> = (0_u32..200_000)
            .flat_map(|n| format!("{} line\n", n / 3).into_bytes())
            .collect();
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        });
        let noise: Vec<u8> = noise.take(1 << 20).collect();
        for (name, bytes) in [
            ("text", text),
            ("noise", noise),
            ("zeros", vec![0; 1 << 20]),
        ] {
            let mut exact = Vec::new();
            compress_gzip(&mut bytes.as_slice(), &mut exact, Effort::Canonical, 1).unwrap();
            let path = smidge_image::LayerPath::parse(b"x").unwrap();
            let mut layer = Layer::default();
            layer.insert(Member::file(
                path,
                0o644,
                Content::memory(bytes.clone()),
                "",
            ));
            let (estimate, exact) = (estimate(&layer), exact.len() as u64);
            let slack = exact / 2 + bytes.len() as u64 / 64;
            assert!(
                estimate.abs_diff(exact) <= slack,
                "{name}: {estimate}, not {exact}"
            );
        }
    }
}
