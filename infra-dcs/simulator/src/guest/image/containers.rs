//! The container images a cluster pulls, written from scratch around the toolchain's programs.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use super::{layer::Layer, progress, store::Writer};

const KUBE_PROXY: &str = include_str!("rootfs/kube-proxy.sh");
const WEB: &str = include_str!("rootfs/web.sh");

/// The scripts inside images: inputs of the image's key.
pub fn scripts() -> String {
    format!("{KUBE_PROXY}\0{WEB}")
}

/// Writes all images into a new store. `root` is the golden root, whose programs and libraries some of them share.
pub fn make(store: &Path, root: &Path, bin: &Path, kubernetes: &str, bar: &ProgressBar) -> Result<()> {
    progress::count(bar, 8);
    let mut store = Writer::new(store)?;
    let mut add = |name: &str, version: Option<&str>, entrypoint: &[&str], layer: Layer| {
        bar.set_message(name.to_owned());
        let result = store.add(name, version, entrypoint, layer);
        bar.inc(1);
        result
    };
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        add(name, Some(kubernetes), &[], Layer::new().file(&format!("usr/local/bin/{name}"), bin.join(name)))?;
    }
    add("kube-proxy", Some(kubernetes), &[], kube_proxy(root, bin)?)?;
    let etcd =
        Layer::new().file("usr/local/bin/etcd", bin.join("etcd")).file("usr/local/bin/etcdctl", bin.join("etcdctl"));
    add("etcd", None, &[], etcd)?;
    add("coredns", None, &["/coredns"], Layer::new().file("coredns", bin.join("coredns")))?;
    // catatonit's pause mode does what the pause program does: it reaps, and ends on SIGTERM.
    add("pause", None, &["/pause", "-P"], Layer::new().file("pause", root.join("usr/bin/catatonit")))?;
    // A workload for whoever tests a cluster: nothing else can be pulled here.
    let web = Layer::new()
        .text("usr/local/bin/web", 0o755, WEB)
        .programs(root, &["/bin/sh", "/usr/bin/socat", "/usr/bin/curl", "/usr/bin/cat", "/usr/bin/sleep"])?;
    add("web", None, &["/usr/local/bin/web"], web)?;
    store.finish()
}

/// kube-proxy with the wrapper before it, and the firewall programs it drives.
fn kube_proxy(root: &Path, bin: &Path) -> Result<Layer> {
    let mut layer = Layer::new()
        .text("usr/local/bin/kube-proxy", 0o755, KUBE_PROXY)
        .file("usr/local/bin/kube-proxy.real", bin.join("kube-proxy"));
    let extensions = root.join("usr/lib/x86_64-linux-gnu/xtables");
    let mut programs: Vec<String> =
        ["/bin/sh", "/bin/sed", "/usr/sbin/nft", "/usr/sbin/xtables-nft-multi", "/usr/sbin/conntrack"]
            .map(str::to_owned)
            .to_vec();
    for entry in fs::read_dir(&extensions).with_context(|| format!("cannot read {}", extensions.display()))? {
        let name = entry?.file_name();
        programs.push(format!("/usr/lib/x86_64-linux-gnu/xtables/{}", name.to_string_lossy()));
    }
    // Directory order is not stable; the image's digest is to be.
    programs.sort();
    layer = layer.programs(root, &programs.iter().map(String::as_str).collect::<Vec<_>>())?;
    for name in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            layer = layer.link(&format!("usr/sbin/{name}{suffix}"), "xtables-nft-multi");
        }
    }
    Ok(layer)
}
