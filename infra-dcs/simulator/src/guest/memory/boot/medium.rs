//! What the medium in the CD-ROM drive is for.

use std::path::{Path, PathBuf};

use crate::guest::{iso::Medium, memory::machine::Machine};

/// Label of an Ignition medium, and the document on it.
const IGNITION: (&str, &str) = ("ignition", "ignition/config.ign");
/// Label of a config drive in OpenStack's layout.
const CONFIG_DRIVE: &str = "config-2";
/// Label of a medium in the layout of cloud-init's `NoCloud`.
const NO_CLOUD: &str = "cidata";
/// Versions of OpenStack's metadata that cloud-init knows, the newest first.
const VERSIONS: [&str; 8] =
    ["2018-08-27", "2017-02-22", "2016-10-06", "2016-06-30", "2015-10-15", "2013-10-17", "2013-04-04", "2012-08-10"];

/// What a medium holds.
pub(super) enum Source {
    None,
    Ignition(Vec<u8>),
    Cloud(Seed),
}

/// What cloud-init reads from its source, as it lies there.
#[derive(Default)]
pub(super) struct Seed {
    /// Whether it is OpenStack's layout; else it is `NoCloud`'s.
    pub openstack: bool,
    pub meta_data: Vec<u8>,
    pub user_data: Option<Vec<u8>>,
    pub network: Option<Vec<u8>>,
}

pub(super) fn source(medium: &Medium, machine: &Machine) -> Result<Source, String> {
    let label = medium.label.to_ascii_lowercase();
    let file = |path: &Path| medium.files.get(path).cloned();
    match label.as_str() {
        label if label == IGNITION.0 => match file(Path::new(IGNITION.1)) {
            Some(bytes) => Ok(Source::Ignition(bytes)),
            None => Err(format!("it is labelled {label:?} but has no file {}", IGNITION.1)),
        },
        CONFIG_DRIVE => {
            let folder = VERSIONS.iter().chain([&"latest"]).map(|version| Path::new("openstack").join(version));
            let folder: Option<PathBuf> =
                folder.into_iter().find(|folder| medium.files.keys().any(|path| path.starts_with(folder)));
            let Some(folder) = folder else {
                return Err(format!("it is labelled {label:?} but has no openstack/latest"));
            };
            let Some(meta_data) = file(&folder.join("meta_data.json")) else {
                return Err(format!("{} is missing", folder.join("meta_data.json").display()));
            };
            Ok(Source::Cloud(Seed {
                openstack: true,
                meta_data,
                user_data: file(&folder.join("user_data")),
                network: file(&folder.join("network_data.json")),
            }))
        }
        NO_CLOUD => {
            let Some(meta_data) = file(Path::new("meta-data")) else { return Err("meta-data is missing".to_owned()) };
            Ok(Source::Cloud(Seed {
                openstack: false,
                meta_data,
                user_data: file(Path::new("user-data")),
                network: file(Path::new("network-config")),
            }))
        }
        label => {
            machine.say(&format!("cdrom: no reader in this image for a medium labelled {label:?}"));
            Ok(Source::None)
        }
    }
}
