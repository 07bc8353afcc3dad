//! What a machine does with its boot data, read from the text as a machine would: init, or join by a token.

/// What kubeadm is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// To make a cluster.
    Init,
    /// To join one.
    Join {
        /// By this token.
        token: String,
        /// As a control plane machine.
        control_plane: bool,
    },
}

/// Reads cloud-config; `None` where it tells kubeadm nothing that it could do.
pub fn read(boot_data: &[u8]) -> Option<Boot> {
    let text = std::str::from_utf8(boot_data).ok()?;
    let runs = |what: &str| {
        text.lines().any(|line| line.trim_start().trim_start_matches("- ").trim_start_matches('\'').starts_with(what))
    };
    if runs("kubeadm init") {
        return Some(Boot::Init);
    }
    if !runs("kubeadm join") {
        return None;
    }
    let token = text.lines().find_map(|line| line.trim().strip_prefix("token: "))?.trim_matches('"').to_owned();
    let control_plane = text.lines().any(|line| line.trim_start().starts_with("controlPlane:"));
    Some(Boot::Join { token, control_plane })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_machines_are_told_is_read() {
        let init = "runcmd:\n  - 'kubeadm init --config /run/kubeadm/kubeadm.yaml  && echo'\n";
        assert_eq!(read(init.as_bytes()), Some(Boot::Init));
        let join = "content: |\n  controlPlane: {}\n  discovery:\n    token: abcdef.0123456789abcdef\nruncmd:\n  - kubeadm join --config x\n";
        let token = "abcdef.0123456789abcdef".to_owned();
        assert_eq!(read(join.as_bytes()), Some(Boot::Join { token, control_plane: true }));
        assert_eq!(read(b"#cloud-config\n"), None);
    }
}
