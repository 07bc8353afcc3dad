//! KubeadmConfig in both versions, kubeadm rendering, cluster PKI, kubeconfig, tokens.
