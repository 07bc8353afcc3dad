//! Developer commands: demo, test, gen, toolchain, doctor, clean.

fn main() {}
