//! Container images on disk: content-addressed blobs and an index by name.
//!
//! ```text
//! <store>/blobs/sha256/<hex>   layers, configurations and manifests
//! <store>/images.json          [`StoredImage`]s
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::layer::Layer;

/// Media type of the manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredImage {
    /// Last element of the repository it is served under, whatever stands before it.
    pub name: String,
    /// Version of the programs inside where it matters to who pulls: a tag must then be this version, or this version
    /// with a vendor's suffix. Without it every tag is served.
    pub version: Option<String>,
    /// Digest of the manifest, `sha256:<hex>`.
    pub manifest: String,
}

impl StoredImage {
    /// Whether this image may be served under a tag.
    pub fn serves(&self, tag: &str) -> bool {
        self.version.as_deref().is_none_or(|version| {
            tag.strip_prefix(version)
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit() || next == '.'))
        })
    }
}

/// Writes a store.
pub struct Writer {
    dir: PathBuf,
    images: Vec<StoredImage>,
}

impl Writer {
    /// Starts a store in a new directory.
    pub fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("blobs/sha256")).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), images: Vec::new() })
    }

    /// Adds an image of one layer.
    pub fn add(&mut self, name: &str, version: Option<&str>, entrypoint: &[&str], layer: Layer) -> Result<()> {
        let partial = self.dir.join("blobs/partial");
        let (layer_digest, layer_size) = layer.write(&partial).with_context(|| format!("layer of image {name}"))?;
        fs::rename(&partial, self.blob(&layer_digest))?;
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": entrypoint,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        });
        let (config_digest, config_size) = self.add_json(&config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": format!("sha256:{config_digest}"), "size": config_size},
            "layers": [{"mediaType": LAYER, "digest": format!("sha256:{layer_digest}"), "size": layer_size}],
        });
        let (manifest_digest, _) = self.add_json(&manifest)?;
        self.images.push(StoredImage {
            name: name.to_owned(),
            version: version.map(str::to_owned),
            manifest: format!("sha256:{manifest_digest}"),
        });
        Ok(())
    }

    /// Writes the index.
    pub fn finish(self) -> Result<()> {
        fs::write(self.dir.join("images.json"), serde_json::to_vec_pretty(&self.images)?)?;
        Ok(())
    }

    fn add_json(&self, value: &serde_json::Value) -> Result<(String, usize)> {
        let bytes = serde_json::to_vec(value)?;
        let digest = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes));
        fs::write(self.blob(&digest), &bytes)?;
        Ok((digest, bytes.len()))
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest)
    }
}

/// Reads the index of a store.
pub fn index(dir: &Path) -> Result<Vec<StoredImage>> {
    let path = dir.join("images.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not an image index", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_serves_itself_and_vendor_builds_of_it() {
        let image =
            StoredImage { name: "kube-apiserver".into(), version: Some("v1.36.3".into()), manifest: String::new() };
        for tag in ["v1.36.3", "v1.36.3-5", "v1.36.3_acp.1"] {
            assert!(image.serves(tag), "{tag}");
        }
        for tag in ["v1.36.31", "v1.36.4", "v1.36", "v1.36.3.1", "latest", ""] {
            assert!(!image.serves(tag), "{tag}");
        }
        assert!(StoredImage { version: None, ..image }.serves("anything"));
    }
}
