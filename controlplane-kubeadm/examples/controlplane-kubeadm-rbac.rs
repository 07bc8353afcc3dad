//! Prints what `cargo xtask gen` keeps in the repository.

fn main() -> anyhow::Result<()> {
    print!("{}", cluster_api::crd::to_yaml(&controlplane_kubeadm::api::crds::roles())?);
    Ok(())
}
