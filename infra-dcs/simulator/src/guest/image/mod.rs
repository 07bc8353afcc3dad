//! `image build`: the guest image that sandbox machines boot, and the container images that the fabric's registry serves.
//!
//! ```text
//! <cache>/base-<key>/          debootstrap's result, keyed by suite and package list
//! <cache>/<key>/root/          the golden root: base + Kubernetes + what rootfs/ adds; lower layer of every machine
//! <cache>/<key>/registry/      container images, see [`store`]
//! <cache>/<key>/image.json     written last: its presence means that the image is complete
//! <cache>/current              link to the newest complete image
//! ```
//! A key is a digest of everything that went in, so a second build finds its work done. Everything is made under a
//! temporary name and renamed when complete.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

mod containers;
mod layer;
mod progress;
mod root;
pub mod store;

use progress::Progress;

/// Programs that the image takes from the toolchain.
const BINARIES: &[&str] = &[
    "containerd",
    "containerd-shim-runc-v2",
    "coredns",
    "ctr",
    "etcd",
    "etcdctl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubeadm",
    "kubectl",
    "kubelet",
];

/// Raised when the way of building changes without any input changing.
const RECIPE: &str = "2";

/// Options of `image build`.
#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    /// Directory with the programs that go into the image (kubelet, kubeadm, containerd, etcd, coredns, …).
    #[arg(long, value_name = "DIR")]
    pub toolchain_bin: PathBuf,
    /// Directory that keeps the built images; give the same to `serve --image-dir`.
    #[arg(long, value_name = "DIR")]
    pub cache: PathBuf,
    /// Debian mirror [default: debootstrap's own].
    #[arg(long, env = "BASALT_DEBIAN_MIRROR")]
    pub mirror: Option<String>,
    /// Registry that the guests' containerd asks for every image.
    #[arg(long, default_value = "http://10.77.0.1:5000")]
    pub registry: String,
}

/// What is known of a complete image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Version of the Kubernetes programs, for example `v1.36.3`.
    pub kubernetes_version: String,
    /// Debian release of the root file system.
    pub debian: String,
}

/// A complete image on this machine's disk.
#[derive(Clone, Debug)]
pub struct ImageDir {
    /// Directory of the image.
    pub path: PathBuf,
    /// What is in it.
    pub image: Image,
}

impl ImageDir {
    /// Opens an image: either its own directory or the cache that holds it.
    pub fn open(path: &Path) -> Result<Self> {
        let own = path.join("image.json");
        let dir = if own.exists() { path.to_owned() } else { path.join("current") };
        let dir = dir.canonicalize().with_context(|| {
            format!("{} holds no guest image; `basalt-dcs-simulator image build` makes one", path.display())
        })?;
        let text = fs::read_to_string(dir.join("image.json"))
            .with_context(|| format!("{} holds no complete guest image", dir.display()))?;
        let image = serde_json::from_str(&text).with_context(|| format!("{}/image.json", dir.display()))?;
        Ok(Self { path: dir, image })
    }

    /// The golden root file system.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// The container image store.
    pub fn registry(&self) -> PathBuf {
        self.path.join("registry")
    }
}

/// Builds what is missing and returns the image's directory.
pub fn build(args: &BuildArgs) -> Result<PathBuf> {
    let progress = Progress::new();
    fs::create_dir_all(&args.cache).with_context(|| format!("cannot make {}", args.cache.display()))?;
    let cache = args.cache.canonicalize()?;

    let key = progress.stage("digest of the inputs", |_| key(args))?;
    let dir = cache.join(&key);
    if !dir.join("image.json").exists() {
        if !rustix::process::geteuid().is_root() {
            bail!("building a guest image needs root: debootstrap makes device nodes and files of other users");
        }
        let base = root::ensure_base(&cache, args.mirror.as_deref(), &progress)?;
        let staging = cache.join(format!("{key}.partial"));
        root::remove(&staging)?;
        fs::create_dir_all(&staging)?;
        let golden = staging.join("root");
        progress.stage("golden root", |bar| root::make(&base, &golden, args, bar))?;
        let version = kubernetes_version(&args.toolchain_bin)?;
        progress.stage("container images", |bar| {
            containers::make(&staging.join("registry"), &golden, &args.toolchain_bin, &version, bar)
        })?;
        let image = Image { kubernetes_version: version, debian: root::SUITE.to_owned() };
        fs::write(staging.join("image.json"), serde_json::to_vec_pretty(&image)?)?;
        root::remove(&dir)?;
        fs::rename(&staging, &dir)?;
    }
    point_current_at(&cache, &key)?;
    forget_old(&cache, &key)?;
    progress.done(&format!("guest image {}", dir.display()));
    Ok(dir)
}

/// Replaces the link in one step, so that a simulator that starts meanwhile sees the old or the new image.
fn point_current_at(cache: &Path, key: &str) -> Result<()> {
    let fresh = cache.join("current.new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    std::os::unix::fs::symlink(key, &fresh)?;
    fs::rename(&fresh, cache.join("current")).context("cannot renew the link `current`")
}

/// Removes images that later ones have replaced, but for the latest of them: machines may still run on it.
fn forget_old(cache: &Path, key: &str) -> Result<()> {
    let mut others = Vec::new();
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let is_link = entry.file_type()?.is_symlink();
        if !is_link
            && entry.file_name() != key
            && let Ok(metadata) = fs::metadata(entry.path().join("image.json"))
        {
            others.push((metadata.modified()?, entry.path()));
        }
    }
    others.sort();
    others.pop();
    others.iter().try_for_each(|(_, path)| root::remove(path))
}

fn key(args: &BuildArgs) -> Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [RECIPE, root::SUITE, root::PACKAGES, &args.registry] {
        context.update(part.as_bytes());
        context.update(b"\0");
    }
    for file in root::FILES {
        context.update(format!("{} {:o}\0{}\0", file.path, file.mode, file.content).as_bytes());
    }
    context.update(containers::scripts().as_bytes());
    let mut buffer = vec![0; 1 << 20];
    for name in BINARIES {
        let path = args.toolchain_bin.join(name);
        let mut file = fs::File::open(&path).with_context(|| format!("the toolchain lacks {}", path.display()))?;
        context.update(name.as_bytes());
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            context.update(&buffer[..read]);
        }
    }
    Ok(hex::encode(&context.finish().as_ref()[..8]))
}

fn kubernetes_version(bin: &Path) -> Result<String> {
    let version = output(Command::new(bin.join("kubeadm")).args(["version", "--output=short"]))?;
    let version = version.trim().to_owned();
    if !version.starts_with("v1.") {
        bail!("{}/kubeadm calls its version `{version}`; it must be stamped with a Kubernetes version", bin.display());
    }
    Ok(version)
}

/// Runs a command to its end and returns its standard output; a failure carries its standard error.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start `{program}`"))?;
    if !output.status.success() {
        bail!("`{program}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
