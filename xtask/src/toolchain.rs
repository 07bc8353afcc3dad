//! The peers that are built from Go modules: Kubernetes, etcd, core Cluster API, containerd, CoreDNS.
//!
//! Each folder under `e2e/toolchain/` holds a `go.mod` and `go.sum` and no source: they pin upstream's modules as Go
//! `tool` dependencies. Every binary is built once into the cache, keyed by those two files and the build settings.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{command, paths, progress::Progress};

/// A Go module pinned under `e2e/toolchain/` and the binaries built from it.
pub struct Module {
    /// Folder under `e2e/toolchain/`.
    pub folder: &'static str,
    /// Module whose version is stamped into the binaries.
    pub versioned_by: &'static str,
    /// Go package that holds the version variables; empty where no stamp is needed.
    stamp: Stamp,
    tags: &'static str,
    /// Binary name and its Go package.
    pub binaries: &'static [(&'static str, &'static str)],
    /// The same of those that only a comparison needs.
    rivals: &'static [(&'static str, &'static str)],
}

enum Stamp {
    None,
    /// `gitVersion`, `gitMajor`, `gitMinor`, `gitTreeState` of this package. An API server without them reports a
    /// version that Cluster API refuses, and kubeadm compares its own with the kubelet's.
    Git(&'static str),
    /// One variable that takes the whole version.
    Variable(&'static str),
}

/// All pinned modules, in the order in which they are needed.
pub const MODULES: &[Module] = &[
    Module {
        folder: "etcd",
        versioned_by: "go.etcd.io/etcd/server/v3",
        stamp: Stamp::None,
        tags: "",
        binaries: &[("etcd", "go.etcd.io/etcd/server/v3"), ("etcdctl", "go.etcd.io/etcd/etcdctl/v3")],
        rivals: &[],
    },
    Module {
        folder: "kubernetes",
        versioned_by: "k8s.io/kubernetes",
        stamp: Stamp::Git("k8s.io/component-base/version"),
        tags: "",
        binaries: &[
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            ("kubeadm", "k8s.io/kubernetes/cmd/kubeadm"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
        ],
        rivals: &[],
    },
    Module {
        folder: "cluster-api",
        versioned_by: "sigs.k8s.io/cluster-api",
        stamp: Stamp::Git("sigs.k8s.io/cluster-api/version"),
        tags: "fieldsv1string",
        binaries: &[
            ("capi-manager", "sigs.k8s.io/cluster-api/core"),
            ("clusterctl", "sigs.k8s.io/cluster-api/cmd/clusterctl"),
        ],
        rivals: &[
            ("capi-kubeadm-bootstrap-manager", "sigs.k8s.io/cluster-api/bootstrap/kubeadm"),
            ("capi-kubeadm-control-plane-manager", "sigs.k8s.io/cluster-api/controlplane/kubeadm"),
        ],
    },
    Module {
        folder: "containerd",
        versioned_by: "github.com/containerd/containerd/v2",
        stamp: Stamp::Variable("github.com/containerd/containerd/v2/version.Version"),
        tags: "no_btrfs no_devmapper no_zfs no_aufs no_tracing",
        binaries: &[
            ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
            ("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
            ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ],
        rivals: &[],
    },
    Module {
        folder: "coredns",
        versioned_by: "github.com/coredns/coredns",
        stamp: Stamp::None,
        tags: "",
        binaries: &[("coredns", "github.com/coredns/coredns")],
        rivals: &[],
    },
];

/// Environment variable naming a folder with a user's own `etcd`, `kube-apiserver` and `kubectl`.
pub const USER_ASSETS: &str = "KUBEBUILDER_ASSETS";

impl Module {
    fn source(&self) -> PathBuf {
        paths::workspace().join("e2e/toolchain").join(self.folder)
    }

    /// Version of the pinned module, as in `go.mod` (`v1.36.3`).
    pub fn version(&self) -> Result<String> {
        let file = self.source().join("go.mod");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let line = text.lines().map(|line| line.trim().trim_start_matches("require "));
        line.filter_map(|line| line.strip_prefix(self.versioned_by)?.strip_prefix(' '))
            .find_map(|rest| rest.split_whitespace().next().map(str::to_owned))
            .with_context(|| format!("{} does not require {}", file.display(), self.versioned_by))
    }

    /// Folder of the module's extracted source in Go's module cache; fetches it when it is not there.
    pub fn source_dir(&self) -> Result<PathBuf> {
        let format = ["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", self.versioned_by];
        let mut download = Command::new("go");
        download.args(["mod", "download", self.versioned_by]).current_dir(self.source());
        command::output(&mut download)?;
        let dir = command::output(Command::new("go").args(format).current_dir(self.source()))?;
        Ok(PathBuf::from(dir.trim()))
    }

    fn ldflags(&self) -> Result<String> {
        let version = self.version()?;
        let stamps = match self.stamp {
            Stamp::None => String::new(),
            Stamp::Variable(variable) => format!(" -X {variable}={version}"),
            Stamp::Git(package) => {
                let mut numbers = version.trim_start_matches('v').split('.');
                let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
                format!(
                    " -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} -X {package}.gitTreeState=clean"
                )
            }
        };
        Ok(format!("-s -w{stamps}"))
    }

    /// Folder in the cache that holds this module's binaries for exactly these sources and settings.
    fn cache_dir(&self) -> Result<PathBuf> {
        let mut digest = Sha256::new();
        for file in ["go.mod", "go.sum"] {
            digest.update(fs::read(self.source().join(file))?);
        }
        digest.update(self.ldflags()?);
        digest.update(self.tags);
        let hex: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(paths::cache().join("toolchain").join(format!("{}-{hex}", self.folder)))
    }

    fn build(&self, binary: &str, package: &str, into: &Path, progress: &Progress) -> Result<()> {
        let stage = progress.stage(format!("go build {binary}"));
        let part = into.join(format!(".{binary}.part"));
        let mut build = Command::new("go");
        build
            .current_dir(self.source())
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "-buildvcs=false")
            .args(["build", "-mod=readonly", "-trimpath", "-tags", self.tags, "-ldflags", &self.ldflags()?, "-o"])
            .arg(&part)
            .arg(package);
        command::run(&mut build, &stage).with_context(|| format!("building {binary} from {}", self.folder))?;
        fs::rename(&part, into.join(binary))?;
        stage.done(self.version()?);
        Ok(())
    }
}

/// Folder of the source of the module pinned under `e2e/toolchain/<folder>`; fetches it when it is not there.
pub fn source_of(folder: &str) -> Result<PathBuf> {
    let module = MODULES.iter().find(|module| module.folder == folder);
    module.with_context(|| format!("{folder} is not pinned under e2e/toolchain"))?.source_dir()
}

/// Builds what is missing and returns one folder with links to every binary. `assets` (or `KUBEBUILDER_ASSETS`)
/// names a folder whose `etcd`, `kube-apiserver` and `kubectl` are taken instead of building them.
pub fn ensure(assets: Option<&Path>, progress: &Progress) -> Result<PathBuf> {
    ensure_all(assets, |module| module.binaries.to_vec(), progress)
}

/// The same with upstream's own kubeadm providers, for a comparison.
pub fn ensure_with_rivals(assets: Option<&Path>, progress: &Progress) -> Result<PathBuf> {
    ensure_all(assets, |module| [module.binaries, module.rivals].concat(), progress)
}

fn ensure_all(
    assets: Option<&Path>,
    wanted: impl Fn(&Module) -> Vec<(&'static str, &'static str)>,
    progress: &Progress,
) -> Result<PathBuf> {
    let assets = assets.map(Path::to_path_buf).or_else(|| env::var_os(USER_ASSETS).map(PathBuf::from));
    if let Some(dir) = &assets
        && !dir.join("kube-apiserver").is_file()
    {
        bail!("{} holds no kube-apiserver; unset {USER_ASSETS} or name a folder that does", dir.display());
    }
    let mut chosen = Vec::new();
    for module in MODULES {
        let dir = module.cache_dir()?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for (binary, package) in wanted(module) {
            let users = assets.as_ref().map(|dir| dir.join(binary)).filter(|path| path.is_file());
            let path = users.unwrap_or_else(|| dir.join(binary));
            if !path.is_file() {
                module.build(binary, package, &dir, progress)?;
            }
            chosen.push((binary, path));
        }
    }
    link(&chosen)
}

/// One folder of symbolic links, named after what it links to, so that runs with other binaries do not disturb it.
fn link(chosen: &[(&str, PathBuf)]) -> Result<PathBuf> {
    let mut digest = Sha256::new();
    for (binary, path) in chosen {
        digest.update(binary);
        digest.update(path.as_os_str().as_encoded_bytes());
    }
    let hex: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let bin = paths::cache().join("toolchain").join(format!("bin-{hex}"));
    fs::create_dir_all(&bin)?;
    for (binary, path) in chosen {
        let link = bin.join(binary);
        if fs::read_link(&link).ok().as_ref() != Some(path) {
            if link.is_symlink() {
                fs::remove_file(&link)?;
            }
            std::os::unix::fs::symlink(path, &link).with_context(|| format!("cannot link {}", link.display()))?;
        }
    }
    Ok(bin)
}
