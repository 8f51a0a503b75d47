//! Layers: whatever can be read can be written, and is read again as the same.

#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use smidge_image::{Entry, LayerWriter, Limited, decompress, read_layer, sniff};

/// The most that is unpacked, in bytes.
const LIMIT: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let _ = decompress(sniff(bytes), bytes).and_then(|reader| read(Limited::new(reader, LIMIT)));
    let mut archive = bytes.to_vec();
    archive.chunks_exact_mut(512).for_each(seal);
    let Ok(entries) = read(archive.as_slice()) else {
        return;
    };
    if let Ok(again) = write(&entries) {
        assert_eq!(
            read(again.as_slice()).expect("what was written is read"),
            entries
        );
    }
});

/// Makes the checksum of what looks like a header right: no mutation ever would.
fn seal(block: &mut [u8]) {
    if &block[257..262] == b"ustar" {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn read(archive: impl Read) -> io::Result<Vec<(Entry, Vec<u8>)>> {
    let mut entries = Vec::new();
    read_layer(archive, |entry, content| {
        let mut bytes = Vec::new();
        if entry.size() <= LIMIT {
            content.read_to_end(&mut bytes)?;
            assert_eq!(bytes.len() as u64, entry.size());
            entries.push((entry, bytes));
        }
        Ok::<_, io::Error>(())
    })?;
    Ok(entries)
}

fn write(entries: &[(Entry, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut writer = LayerWriter::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut content.as_slice())?;
    }
    writer.finish()
}
