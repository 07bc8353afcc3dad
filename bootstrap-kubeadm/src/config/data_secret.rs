//! The Secret that holds boot data: what it looks like, when one of its name is not ours to write, and whose it is. Pure.

use std::collections::BTreeMap;

use cluster_api::{labels, owner};
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::ResourceExt;

use super::{observe::Facts, render::Error};

/// Most bytes that the API server takes in one Secret.
const LIMIT: usize = 1024 * 1024;

/// The Secret that holds this boot data.
pub fn holding(facts: &Facts, value: Vec<u8>) -> Result<Secret, Error> {
    let format = facts.config.spec.0.format.unwrap_or_default().as_str();
    let size = value.len() + format.len();
    if size > LIMIT {
        let cure = "shorten files and commands, or let preKubeadmCommands fetch them";
        return Err(Error::Field(format!("the boot data has {size} bytes, a Secret holds {LIMIT}; {cure}")));
    }
    let mut secret = Secret::default();
    secret.metadata.name = Some(facts.config.name_any());
    secret.metadata.namespace = facts.config.namespace();
    secret.metadata.labels = Some([(labels::CLUSTER_NAME.to_owned(), facts.cluster.name_any())].into());
    secret.metadata.owner_references = Some(vec![owner::controller(facts.config.as_ref())]);
    secret.type_ = Some(labels::SECRET_TYPE.to_owned());
    secret.data = Some(BTreeMap::from([
        ("value".to_owned(), ByteString(value)),
        ("format".to_owned(), ByteString(format.as_bytes().to_vec())),
    ]));
    Ok(secret)
}

/// What is to be done about a Secret that has the name of the one we make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It says what we would write.
    Same,
    /// It is ours, or nobody's, and holds something older: nobody has read it yet.
    Outdated,
    /// It is not ours to write; the text says why and how to mend it.
    Foreign(String),
}

/// Judges a Secret that exists against the one that is wanted.
pub fn judge(existing: &Secret, wanted: &Secret) -> Existing {
    let name = existing.name_any();
    let ours = wanted.owner_references().first();
    if let Some(other) = owner::controller_of(&existing.metadata)
        && Some(&other.uid) != ours.map(|owner| &owner.uid)
    {
        let text = format!("Secret {name} exists and belongs to {} {}; delete or rename it", other.kind, other.name);
        return Existing::Foreign(text);
    }
    if existing.metadata.deletion_timestamp.is_some() {
        return Existing::Foreign(format!("Secret {name} is being deleted"));
    }
    if existing.type_ != wanted.type_ {
        let type_ = existing.type_.as_deref().unwrap_or("Opaque");
        let text = format!("Secret {name} exists with type {type_}, which cannot be changed; delete or rename it");
        return Existing::Foreign(text);
    }
    if existing.data == wanted.data { Existing::Same } else { Existing::Outdated }
}

/// The owners that a Secret with boot data ought to have, where it has others: references get lost in a restore, and an
/// older one names an older API version. `Err` names the controller that it has instead.
pub fn owners(meta: &ObjectMeta, facts: &Facts) -> Result<Option<Vec<OwnerReference>>, String> {
    let wanted = owner::controller(facts.config.as_ref());
    let present = meta.owner_references.as_deref().unwrap_or_default();
    let is_wanted = |owner: &OwnerReference| {
        (&owner.api_version, &owner.kind, &owner.name, &owner.uid)
            == (&wanted.api_version, &wanted.kind, &wanted.name, &wanted.uid)
            && owner.controller == Some(true)
    };
    if present.iter().any(is_wanted) {
        return Ok(None);
    }
    if let Some(other) = owner::controller_of(meta).filter(|other| other.kind != wanted.kind) {
        let name = meta.name.as_deref().unwrap_or_default();
        return Err(format!("Secret {name} belongs to {} {}", other.kind, other.name));
    }
    let is_stale = |owner: &OwnerReference| {
        let group = owner::group_of(&owner.api_version);
        group == owner::group_of(&wanted.api_version) && (&owner.kind, &owner.name) == (&wanted.kind, &wanted.name)
    };
    let mut owners: Vec<_> = present.iter().filter(|owner| !is_stale(owner)).cloned().collect();
    // There is one controller at most: the object would be refused with two.
    for owner in &mut owners {
        owner.controller = owner.controller.filter(|is| !is);
    }
    owners.push(wanted);
    Ok(Some(owners))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::{super::decide::tests::facts, *};

    fn wanted() -> Secret {
        holding(&facts(json!({})), b"new".to_vec()).unwrap()
    }

    #[rstest]
    #[case::the_same(json!({}), Existing::Same)]
    #[case::older(json!({"data": {"value": "b2xk"}}), Existing::Outdated)]
    #[case::nobodys(json!({"metadata": {"ownerReferences": null}, "data": {"value": "b2xk"}}), Existing::Outdated)]
    #[case::of_an_object_of_the_same_name(json!({"metadata": {"ownerReferences": [{"apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2", "kind": "KubeadmConfig", "name": "m", "uid": "earlier", "controller": true}]}}), Existing::Foreign("Secret m exists and belongs to KubeadmConfig m; delete or rename it".into()))]
    #[case::of_another_type(json!({"type": "Opaque"}), Existing::Foreign("Secret m exists with type Opaque, which cannot be changed; delete or rename it".into()))]
    #[case::going(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Existing::Foreign("Secret m is being deleted".into()))]
    fn a_secret_that_is(#[case] change: Value, #[case] expected: Existing) {
        let mut existing = serde_json::to_value(wanted()).unwrap();
        json_patch::merge(&mut existing, &change);
        assert_eq!(judge(&serde_json::from_value(existing).unwrap(), &wanted()), expected);
    }

    #[test]
    fn a_secret_has_the_shape_that_infrastructure_reads() {
        insta::assert_json_snapshot!(
            holding(&facts(json!({"config": {"spec": {"format": "ignition"}}})), b"x".to_vec()).unwrap()
        );
    }

    #[test]
    fn boot_data_that_no_secret_holds_is_refused() {
        let error = holding(&facts(json!({})), vec![0; LIMIT]).unwrap_err().to_string();
        assert!(error.starts_with("the boot data has 1048588 bytes, a Secret holds 1048576;"), "{error}");
    }

    #[test]
    fn lost_owners_are_added_and_stale_ones_replaced() {
        let facts = facts(json!({}));
        let meta = |owners: Value| -> ObjectMeta {
            serde_json::from_value(json!({"name": "m", "ownerReferences": owners})).unwrap()
        };
        assert_eq!(owners(&wanted().metadata, &facts), Ok(None));
        let added = owners(&meta(json!(null)), &facts).unwrap().unwrap();
        assert_eq!((added.len(), added[0].uid.as_str(), added[0].controller), (1, "u-config", Some(true)));
        let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"});
        let stale = json!({"apiVersion": "bootstrap.cluster.x-k8s.io/v1beta1", "kind": "KubeadmConfig", "name": "m", "uid": "old", "controller": true});
        let replaced = owners(&meta(json!([other, stale])), &facts).unwrap().unwrap();
        let uids: Vec<_> = replaced.iter().map(|owner| owner.uid.as_str()).collect();
        assert_eq!(uids, ["x", "u-config"]);
        let foreign = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x", "controller": true}]);
        assert_eq!(owners(&meta(foreign), &facts), Err("Secret m belongs to ConfigMap x".to_owned()));
    }
}
