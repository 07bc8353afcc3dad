//! What each manager may do, asked of the API server's own authoriser.

use anyhow::{Result, ensure};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, api::PostParams};

use super::{Check, check, server::Server};
use crate::providers::{BOOTSTRAP, CONTROL_PLANE, DCS, Provider};

/// Verbs, group, resource and whether they are granted.
type Right = (&'static [&'static str], &'static str, &'static str, bool);

const READ: &[&str] = &["get", "list", "watch"];

/// Nobody of us enumerates Secrets, or touches what is none of our business.
const NOBODY: &[Right] = &[
    (&["list", "watch", "delete", "deletecollection"], "", "secrets", false),
    (&["create", "delete", "get", "list", "patch", "update", "watch"], "", "pods", false),
    (&["create", "patch", "update", "bind", "escalate"], "rbac.authorization.k8s.io", "clusterroles", false),
    (&["create", "delete", "patch", "update"], "cluster.x-k8s.io", "clusters", false),
    (&["impersonate"], "", "users", false),
    (&["create"], "", "serviceaccounts/token", false),
];

const RIGHTS: &[(&Provider, &[Right])] = &[
    (
        &BOOTSTRAP,
        &[
            (&["create", "get", "patch", "update"], "", "secrets", true),
            (READ, "cluster.x-k8s.io", "clusters", true),
            (READ, "cluster.x-k8s.io", "machines", true),
            (&["get", "list", "patch", "watch"], "bootstrap.cluster.x-k8s.io", "kubeadmconfigs", true),
            (&["get", "patch"], "bootstrap.cluster.x-k8s.io", "kubeadmconfigs/status", true),
            (&["create", "delete"], "bootstrap.cluster.x-k8s.io", "kubeadmconfigs", false),
            (&["create", "delete", "patch", "update"], "cluster.x-k8s.io", "machines", false),
            (&["patch", "update"], "controlplane.cluster.x-k8s.io", "kubeadmcontrolplanes", false),
        ],
    ),
    (
        &CONTROL_PLANE,
        &[
            (&["create", "get", "patch", "update"], "", "secrets", true),
            (READ, "cluster.x-k8s.io", "clusters", true),
            (&["create", "delete", "get", "list", "patch", "watch"], "cluster.x-k8s.io", "machines", true),
            (
                &["create", "delete", "get", "list", "patch", "watch"],
                "bootstrap.cluster.x-k8s.io",
                "kubeadmconfigs",
                true,
            ),
            (&["create", "delete", "get", "patch"], "infrastructure.cluster.x-k8s.io", "dcsmachines", true),
            (&["get"], "infrastructure.cluster.x-k8s.io", "dcsmachinetemplates", true),
            (
                &["get", "list", "patch", "update", "watch"],
                "controlplane.cluster.x-k8s.io",
                "kubeadmcontrolplanes",
                true,
            ),
            (&["get", "patch"], "controlplane.cluster.x-k8s.io", "kubeadmcontrolplanes/status", true),
            (READ, "apiextensions.k8s.io", "customresourcedefinitions", true),
            (&["create", "patch", "update"], "apiextensions.k8s.io", "customresourcedefinitions", false),
        ],
    ),
    (
        &DCS,
        &[
            (&["create", "get"], "", "secrets", true),
            (READ, "cluster.x-k8s.io", "clusters", true),
            (READ, "cluster.x-k8s.io", "machines", true),
            (&["get", "list", "patch", "update", "watch"], "infrastructure.cluster.x-k8s.io", "dcsmachines", true),
            (&["get", "patch", "update"], "infrastructure.cluster.x-k8s.io", "dcsclusters/status", true),
            (&["create", "delete"], "infrastructure.cluster.x-k8s.io", "dcsmachines", false),
            (&["create", "delete", "patch", "update"], "cluster.x-k8s.io", "machines", false),
            (&["patch", "update"], "", "secrets", false),
        ],
    ),
];

pub fn checks<'a>(server: &'a Server<'a>) -> Vec<Check<'a>> {
    RIGHTS
        .iter()
        .flat_map(|(provider, rights)| rights.iter().chain(NOBODY).map(move |right| (*provider, right)))
        .map(|(provider, right @ (verbs, group, resource, granted))| {
            let (may, what) =
                (if *granted { "may" } else { "may not" }, [*resource, *group].join(".").trim_matches('.').to_owned());
            check(format!("{} {may} {} {what}", provider.name, verbs.join(", ")), asked(server, provider, right))
        })
        .collect()
}

async fn asked(server: &Server<'_>, provider: &Provider, (verbs, group, resource, granted): &Right) -> Result<()> {
    let reviews: Api<SubjectAccessReview> = Api::all(server.client());
    let (namespace, account) = provider.account;
    for verb in *verbs {
        let (resource, subresource) =
            resource.split_once('/').map_or((*resource, None), |(resource, sub)| (resource, Some(sub)));
        let spec = SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{account}")),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                verb: Some((*verb).to_owned()),
                group: Some((*group).to_owned()),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                // Another namespace than its own: rights there are rights everywhere.
                namespace: Some(super::objects::NAMESPACE.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let review = reviews.create(&PostParams::default(), &review).await?;
        let allowed = review.status.is_some_and(|status| status.allowed);
        ensure!(allowed == *granted, "{verb} is {}", if allowed { "granted" } else { "refused" });
    }
    Ok(())
}
