//! Boot media: ISO 9660 images with Rock Ridge and Joliet names.

use std::{io::Cursor, sync::Arc};

use dcs_proto::v1::{MediaFormat, PutBootMediaRequest};
use hadris_iso::{
    joliet::JolietLevel,
    read::PathSeparator,
    write::{
        File, InputFiles, IsoImageWriter,
        options::{CreationFeatures, IsoFormatOptions},
    },
};

/// Largest content of a boot medium, in bytes.
const LIMIT: usize = 100 << 20;
const SECTOR: usize = 2048;

/// Why no image can be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The format is none of ours.
    #[error("format: must be IGNITION or CONFIG_DRIVE")]
    Format,
    /// There is nothing to boot from.
    #[error("user_data: must not be empty")]
    Empty,
    /// There is too much of it.
    #[error("user_data: {0} bytes; at most {LIMIT} fit on a boot medium")]
    TooLarge(usize),
    /// The image could not be written.
    #[error("cannot write the image: {0}")]
    Write(String),
}

/// The image that a request asks for. Stock images look for a label and a path:
/// `ignition` with `ignition/config.ign`, `config-2` with OpenStack's layout.
pub fn build(request: &PutBootMediaRequest) -> Result<Vec<u8>, Error> {
    if request.user_data.is_empty() {
        return Err(Error::Empty);
    }
    let size = request.user_data.len() + request.meta_data.len() + request.network_data.len();
    if size > LIMIT {
        return Err(Error::TooLarge(size));
    }
    let file =
        |name: &str, contents: &[u8]| File::File { name: Arc::new(name.to_owned()), contents: contents.to_vec() };
    let (label, tree) = match request.format() {
        MediaFormat::Ignition => {
            let children = vec![file("config.ign", &request.user_data)];
            ("ignition", File::Directory { name: Arc::new("ignition".to_owned()), children })
        }
        MediaFormat::ConfigDrive => {
            let mut latest = vec![file("user_data", &request.user_data)];
            for (name, contents) in
                [("meta_data.json", &request.meta_data), ("network_data.json", &request.network_data)]
            {
                if !contents.is_empty() {
                    latest.push(file(name, contents));
                }
            }
            let children = vec![File::Directory { name: Arc::new("latest".to_owned()), children: latest }];
            ("config-2", File::Directory { name: Arc::new("openstack".to_owned()), children })
        }
        MediaFormat::Unspecified => return Err(Error::Format),
    };
    write(label, tree, size)
}

fn write(label: &str, tree: File, size: usize) -> Result<Vec<u8>, Error> {
    let features = CreationFeatures { joliet: Some(JolietLevel::Level3), ..CreationFeatures::rock_ridge() };
    let options = IsoFormatOptions {
        volume_name: label.to_owned(),
        sector_size: SECTOR,
        path_separator: PathSeparator::ForwardSlash,
        features,
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        strict_charset: false,
    };
    let files = InputFiles { path_separator: PathSeparator::ForwardSlash, files: vec![tree] };
    // Descriptors, path tables and directories of this small tree stay below this.
    let mut image = Cursor::new(Vec::with_capacity(size + 512 * SECTOR));
    IsoImageWriter::create(&mut image, files, options).map_err(|error| Error::Write(format!("{error:?}")))?;
    Ok(image.into_inner())
}

#[cfg(test)]
mod tests {
    use hadris_iso::read::IsoImage;

    use super::*;

    fn request(format: MediaFormat) -> PutBootMediaRequest {
        PutBootMediaRequest {
            format: format.into(),
            user_data: b"user".to_vec(),
            meta_data: b"{}".to_vec(),
            ..PutBootMediaRequest::default()
        }
    }

    #[test]
    fn an_image_has_the_label_that_guests_look_for() {
        for (format, label) in [(MediaFormat::Ignition, "ignition"), (MediaFormat::ConfigDrive, "config-2")] {
            let image = build(&request(format)).unwrap();
            assert_eq!(&image[16 * SECTOR + 1..16 * SECTOR + 6], b"CD001");
            let volume = String::from_utf8_lossy(&image[16 * SECTOR + 40..16 * SECTOR + 72]).trim().to_owned();
            assert_eq!(volume.to_lowercase(), label);
            let read = IsoImage::open(Cursor::new(image)).unwrap();
            assert!(read.root_dir().iter(&read).entries().filter_map(Result::ok).count() >= 1);
        }
    }

    #[test]
    fn nothing_to_boot_from_is_refused() {
        let empty = PutBootMediaRequest { user_data: Vec::new(), ..request(MediaFormat::Ignition) };
        assert_eq!(build(&empty), Err(Error::Empty));
        assert_eq!(build(&request(MediaFormat::Unspecified)), Err(Error::Format));
    }
}
