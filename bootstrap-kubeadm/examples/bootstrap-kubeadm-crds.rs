//! Prints what `cargo xtask gen` keeps in the repository.

fn main() -> anyhow::Result<()> {
    print!("{}", cluster_api::crd::to_yaml(&bootstrap_kubeadm::crds::definitions())?);
    Ok(())
}
