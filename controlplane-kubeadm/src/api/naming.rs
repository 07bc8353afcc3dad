//! Names of machines, from `spec.machineNaming.template`.

/// A template of machine names that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.machineNaming.template: {0:?} is not one of .cluster.name, .kubeadmControlPlane.name and .random")]
pub struct NamingError(String);

/// Longest name of a machine: it becomes a host name and a label.
const NAME_LIMIT: usize = 63;

/// The name that a template gives a machine of a control plane of a cluster; `random` is five characters.
pub fn render(template: &str, cluster: &str, control_plane: &str, random: &str) -> Result<String, NamingError> {
    let mut name = String::new();
    let mut rest = template;
    while let Some((text, tail)) = rest.split_once("{{") {
        name.push_str(text);
        let (variable, tail) = tail.split_once("}}").ok_or_else(|| NamingError(tail.to_owned()))?;
        name.push_str(match variable.trim() {
            ".cluster.name" => cluster,
            ".kubeadmControlPlane.name" => control_plane,
            ".random" => random,
            other => return Err(NamingError(other.to_owned())),
        });
        rest = tail;
    }
    name.push_str(rest);
    if name.len() > NAME_LIMIT {
        let end = (0..=NAME_LIMIT - random.len()).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name.truncate(end);
        name.push_str(random);
    }
    Ok(name)
}
