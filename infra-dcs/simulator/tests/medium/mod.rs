//! The boot medium that tests of guests write, as the DCS provider's adapter does.

use std::{fs, io::Cursor, path::Path};

use hadris_iso::{
    read::PathSeparator,
    write::{
        File, InputFiles, IsoImageWriter,
        options::{CreationFeatures, IsoFormatOptions},
    },
};
use serde_json::Value;

/// Writes an Ignition medium.
pub fn write(path: &Path, document: &Value) {
    let config = File::File { name: "config.ign".to_owned().into(), contents: document.to_string().into_bytes() };
    let files = InputFiles {
        path_separator: PathSeparator::ForwardSlash,
        files: vec![File::Directory { name: "ignition".to_owned().into(), children: vec![config] }],
    };
    let options = IsoFormatOptions {
        volume_name: "ignition".to_owned(),
        sector_size: 2048,
        path_separator: PathSeparator::ForwardSlash,
        features: CreationFeatures::rock_ridge(),
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        strict_charset: false,
    };
    let mut image = Cursor::new(vec![0; 1 << 20]);
    IsoImageWriter::create(&mut image, files, options).expect("image");
    fs::write(path, image.into_inner()).unwrap();
}
