//! What the system disk holds before the first boot: the little of a node image that documents and scripts can see.
//! Programs are no files; the shell knows them.

use std::sync::OnceLock;

use super::root::{FileSystem, Owner, Root, Volume};

/// Directories, with their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("/bin", 0o755),
    ("/boot", 0o755),
    ("/dev", 0o755),
    ("/etc/NetworkManager/system-connections", 0o700),
    ("/etc/cni/net.d", 0o755),
    ("/etc/containerd", 0o755),
    ("/etc/kubernetes/manifests", 0o755),
    ("/etc/ssh", 0o755),
    ("/etc/sudoers.d", 0o750),
    ("/etc/sysctl.d", 0o755),
    ("/etc/systemd/system/multi-user.target.wants", 0o755),
    ("/home", 0o755),
    ("/lib/modules", 0o755),
    ("/mnt", 0o755),
    ("/opt/cni/bin", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sbin", 0o755),
    ("/srv", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/usr/bin", 0o755),
    ("/usr/lib/systemd/system", 0o755),
    ("/usr/local/bin", 0o755),
    ("/usr/local/share/ca-certificates", 0o755),
    ("/usr/sbin", 0o755),
    ("/var/lib/containerd", 0o711),
    ("/var/lib/etcd", 0o700),
    ("/var/lib/kubelet", 0o750),
    ("/var/log", 0o755),
];

/// Files, all of root and mode 0644 but for [`SECRET`].
const FILES: &[(&str, &str)] = &[
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "/etc/group",
        "root:x:0:\ndaemon:x:1:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nwheel:x:10:\nsudo:x:27:\nusers:x:100:\nsystemd-journal:x:101:\n\
         nogroup:x:65534:\n",
    ),
    ("/etc/shadow", "root:!:::::::\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("/etc/hostname", "localhost\n"),
    ("/etc/resolv.conf", ""),
    ("/etc/fstab", "/dev/vda1 / ext4 defaults 0 1\n"),
    ("/etc/os-release", "NAME=\"Memory guest\"\nID=memory-guest\nVERSION_ID=\"1\"\nPRETTY_NAME=\"Memory guest 1\"\n"),
    ("/etc/ssh/sshd_config", "UsePAM yes\n"),
    // The sandbox image's own.
    ("/etc/sysctl.d/90-kubernetes.conf", include_str!("../image/rootfs/sysctl.conf")),
    ("/etc/containerd/config.toml", "version = 3\n"),
    (
        "/usr/lib/systemd/system/containerd.service",
        "[Unit]\nDescription=containerd container runtime\nAfter=network.target local-fs.target\n\n[Service]\n\
         ExecStart=/usr/local/bin/containerd\nType=notify\nRestart=always\n\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "/usr/lib/systemd/system/kubelet.service",
        "[Unit]\nDescription=kubelet: The Kubernetes Node Agent\nWants=network-online.target containerd.service\n\
         After=network-online.target containerd.service\nConditionPathExists=/var/lib/kubelet/config.yaml\n\n[Service]\n\
         ExecStart=/usr/bin/kubelet\nRestart=always\nStartLimitInterval=0\nRestartSec=10\n\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
        "[Service]\n\
         Environment=\"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf\"\n\
         Environment=\"KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml\"\n\
         EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\nEnvironmentFile=-/etc/default/kubelet\nExecStart=\n\
         ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS\n",
    ),
    (
        "/usr/lib/systemd/system/NetworkManager.service",
        "[Unit]\nDescription=Network Manager\n\n[Service]\nType=dbus\nExecStart=/usr/sbin/NetworkManager --no-daemon\n\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "/usr/lib/systemd/system/sshd.service",
        "[Unit]\nDescription=OpenSSH server daemon\nAfter=network.target\n\n[Service]\nType=notify\nExecStart=/usr/sbin/sshd -D\n\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "/usr/lib/systemd/system/chronyd.service",
        "[Unit]\nDescription=NTP client/server\nAfter=network.target\n\n[Service]\nType=forking\nExecStart=/usr/sbin/chronyd\n\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
];
/// The file that only root may read.
const SECRET: &str = "/etc/shadow";
/// Units that the image has enabled.
const ENABLED: [&str; 5] =
    ["NetworkManager.service", "chronyd.service", "containerd.service", "kubelet.service", "sshd.service"];

/// A system disk that was never booted. All share the contents that they have in common.
pub fn system_disk() -> Volume {
    static GOLDEN: OnceLock<Volume> = OnceLock::new();
    GOLDEN.get_or_init(golden).duplicate()
}

fn golden() -> Volume {
    let volume = Volume::new(FileSystem::new("ext4", "6f1c3f6e-0f0b-4c58-9a2f-6e3f1d0c9b11", "root"));
    let mut root = Root::new(volume.clone());
    // Tables of this file alone decide whether all of it succeeds; a test reads every one of them back.
    for &(path, mode) in DIRECTORIES {
        let _ = root.make_directories(path).and_then(|()| root.set_mode(path, mode));
    }
    for &(path, content) in FILES {
        let mode = if path == SECRET { 0o640 } else { 0o644 };
        let _ = root.put(path, content.as_bytes(), mode, Owner::default());
    }
    for unit in ENABLED {
        let link = format!("/etc/systemd/system/multi-user.target.wants/{unit}");
        let _ = root.symlink(&format!("/usr/lib/systemd/system/{unit}"), &link);
    }
    volume
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_system_disk_has_all_that_the_tables_name_and_is_nobody_elses() {
        let mut root = Root::new(system_disk());
        for &(path, mode) in DIRECTORIES {
            assert_eq!(root.metadata(path).unwrap().mode, mode, "{path}");
        }
        for &(path, content) in FILES {
            assert_eq!(root.read_text(path).unwrap(), content, "{path}");
        }
        for unit in ENABLED {
            assert!(root.is_file(&format!("/etc/systemd/system/multi-user.target.wants/{unit}")), "{unit}");
        }
        root.write("/etc/hostname", b"changed\n".as_slice()).unwrap();
        assert_eq!(Root::new(system_disk()).read_text("/etc/hostname").unwrap(), "localhost\n");
    }
}
