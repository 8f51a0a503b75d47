//! Programs: the same bytes as a program, as its loader and library, and as what configures the
//! loader. A stripped program needs what it needed before.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smidge_image::{Entry, EntryKind, LayerPath, MemoryTree};
use smidge_trim::{Elf, Program, Search, closure, prove, strip};

fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes.to_vec();
    if let (Ok(plan), Ok(before)) = (strip(&bytes), Elf::parse(&bytes)) {
        // A name may have been read from behind the segments, and that is gone.
        if let Ok(after) = Elf::parse(&stripped(&bytes, &plan)) {
            assert_eq!(
                (after.interpreter, after.needed),
                (before.interpreter, before.needed)
            );
        }
    }
    let tree = tree(&bytes);
    let _ = closure(&tree, b"/program", &Search::default());
    for architecture in ["amd64", "386"] {
        let _ = prove(&tree, &Program::new(["/program"], architecture));
    }
});

fn stripped(bytes: &[u8], plan: &smidge_trim::StripPlan) -> Vec<u8> {
    let size = usize::try_from(plan.size).expect("a part of the file");
    let mut stripped = bytes[..size].to_vec();
    for (offset, patch) in &plan.patches {
        let offset = usize::try_from(*offset).expect("a part of the file");
        stripped[offset..offset + patch.len()].copy_from_slice(patch);
    }
    stripped
}

fn tree(bytes: &[u8]) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for name in [
        "program",
        "lib64/ld-linux-x86-64.so.2",
        "lib/libc.so.6",
        "etc/ld.so.cache",
        "etc/ld.so.conf",
        "etc/ld-musl-x86_64.path",
    ] {
        let path = LayerPath::parse(name.as_bytes()).expect("a path");
        let kind = EntryKind::File {
            size: bytes.len() as u64,
        };
        tree.insert(
            Entry {
                mode: 0o755,
                ..Entry::new(path, kind)
            },
            bytes.to_vec(),
        );
    }
    tree
}
