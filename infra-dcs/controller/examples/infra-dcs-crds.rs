//! Prints this provider's CRDs as YAML.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", cluster_api::crd::to_yaml(&dcs_controller::api::crd::definitions())?);
    Ok(())
}
