//! smidge
fn main() {}
