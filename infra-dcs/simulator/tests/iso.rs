//! The ISO reader against images made by the library that the adapter writes its boot media with.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, io::Cursor, path::Path, sync::Arc};

use dcs_simulator::guest::iso;
use hadris_iso::{
    joliet::JolietLevel,
    read::PathSeparator,
    write::{
        File, InputFiles, IsoImageWriter,
        options::{CreationFeatures, IsoFormatOptions},
    },
};

const DOCUMENT: &[u8] = br#"{"ignition":{"version":"3.3.0"}}"#;

fn image(label: &str, features: CreationFeatures) -> Vec<u8> {
    let dir = |name: &str, children| File::Directory { name: Arc::new(name.to_owned()), children };
    let file =
        |name: &str, contents: &[u8]| File::File { name: Arc::new(name.to_owned()), contents: contents.to_vec() };
    // Long and mixed-case names, a file over several sectors, and an empty one.
    let latest = dir(
        "latest",
        vec![file("meta_data.json", b"{}"), file("network_data.json", &[b'x'; 5000]), file("empty", b"")],
    );
    let files = InputFiles {
        path_separator: PathSeparator::ForwardSlash,
        files: vec![dir("ignition", vec![file("config.ign", DOCUMENT)]), dir("openstack", vec![latest])],
    };
    let options = IsoFormatOptions {
        volume_name: label.to_owned(),
        sector_size: 2048,
        path_separator: PathSeparator::ForwardSlash,
        features,
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        strict_charset: false,
    };
    let mut buffer = Cursor::new(vec![0; 1 << 20]);
    IsoImageWriter::create(&mut buffer, files, options).expect("image");
    buffer.into_inner()
}

fn read(bytes: &[u8]) -> Result<iso::Medium, iso::IsoError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("medium.iso");
    fs::write(&path, bytes).unwrap();
    iso::read(&path)
}

#[test]
fn names_and_contents_survive_in_both_extensions() {
    for features in
        [CreationFeatures::rock_ridge(), CreationFeatures::joliet(JolietLevel::Level3), CreationFeatures::extensions()]
    {
        let medium = read(&image("config-2", features)).unwrap();
        assert_eq!(medium.label, "config-2");
        let names: Vec<_> = medium.files.keys().map(|path| path.to_str().unwrap()).collect();
        let expected = [
            "ignition/config.ign",
            "openstack/latest/empty",
            "openstack/latest/meta_data.json",
            "openstack/latest/network_data.json",
        ];
        assert_eq!(names, expected);
        assert_eq!(medium.files[Path::new("ignition/config.ign")], DOCUMENT);
        assert_eq!(medium.files[Path::new("openstack/latest/network_data.json")].len(), 5000);
    }
}

#[test]
fn damaged_images_are_refused_and_never_a_panic() {
    let good = image("ignition", CreationFeatures::rock_ridge());
    assert!(read(b"").is_err());
    assert!(read(&vec![0; 1 << 16]).is_err());
    for cut in [16 * 2048, 17 * 2048 + 5] {
        assert!(read(&good[..cut]).is_err());
    }
    // Every byte of the descriptors and the directories, turned over: whatever comes, it is an answer.
    for at in (16 * 2048..good.len().min(32 * 2048)).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        let _ = read(&bad);
    }
}
