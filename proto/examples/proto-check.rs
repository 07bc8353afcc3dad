//! Compares the service with the last released one (`released.bin`); fails on a breaking change. With `--release`
//! writes the present one there.

use std::{env, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let baseline = Path::new(env!("CARGO_MANIFEST_DIR")).join("released.bin");
    if env::args().any(|argument| argument == "--release") {
        fs::write(&baseline, dcs_proto::DESCRIPTORS)?;
        return Ok(());
    }
    let found = dcs_proto::compatibility::breaking_changes(&fs::read(&baseline)?, dcs_proto::DESCRIPTORS)?;
    if found.is_empty() { Ok(()) } else { Err(found.join("\n").into()) }
}
