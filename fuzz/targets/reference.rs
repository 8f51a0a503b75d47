//! References: both ways of writing one are parsed as the same one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smidge_image::Reference;

fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else {
        return;
    };
    assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
    assert_eq!(reference.familiar().parse(), Ok(reference));
});
