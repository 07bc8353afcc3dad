//! One list of checks, run against the model always, and against a real API server by the ignored tests, for which the `api`
//! tier has one. Where answers differ, the model is wrong.
//!
//! `KUBE_MODEL_CONFORMANCE_KUBECONFIG` is a kubeconfig for the real server with an administrator's rights,
//! `KUBE_MODEL_CONFORMANCE_ETCDCTL` an etcdctl that reaches its etcd by the variables that etcdctl itself knows
//! (`ETCDCTL_ENDPOINTS`…). The server needs a controller manager with the garbage collector, the namespace and the service
//! account controller beside it. The suite makes namespaces, nodes and two custom resources of its own, and removes all but the
//! resources; it compacts etcd.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apply;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod deletion;
mod fields;
mod history;
mod objects;
mod patches;
mod reads;
mod tables;
mod twins;
mod watches;

use std::{panic::AssertUnwindSafe, path::PathBuf};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};

use crate::cluster::{Cluster, Subject};

/// A check and its name.
pub type Check = (&'static str, fn(Cluster) -> BoxFuture<'static, ()>);

/// Lists async functions as checks.
#[macro_export]
macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        /// The checks of this module.
        pub const CHECKS: &[$crate::Check] =
            &[$((stringify!($name), |cluster| Box::pin(async move { $name(&cluster).await }))),*];
    };
}

/// What runs side by side, and what does so after it.
fn checks() -> [Vec<&'static Check>; 2] {
    let first = [
        objects::CHECKS,
        reads::CHECKS,
        watches::CHECKS,
        patches::CHECKS,
        apply::CHECKS,
        tables::CHECKS,
        fields::CHECKS,
    ];
    // One makes the server forget what the first read; the other reads nothing old, and waits as long.
    let second = [deletion::CHECKS, history::CHECKS];
    [first.into_iter().flatten().collect(), second.into_iter().flatten().collect()]
}

/// Runs checks, each in a namespace of its own, and names those that fail.
async fn failing(subject: &Subject, run: &str, checks: &[&'static Check]) -> Vec<&'static str> {
    stream::iter(checks)
        .map(|(name, check)| async move {
            let cluster = Cluster::prepare(subject.clone(), run, name).await;
            let outcome = AssertUnwindSafe(check(cluster.clone())).catch_unwind().await;
            cluster.clean().await;
            outcome.is_err().then_some(*name)
        })
        .buffer_unordered(8)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Runs every check.
async fn run(subject: &Subject, run: &str) {
    cluster::install(subject).await;
    let wanted = std::env::var("KUBE_MODEL_CONFORMANCE_FILTER").unwrap_or_default();
    let (mut asked, mut failed) = (0, Vec::new());
    for mut checks in checks() {
        checks.retain(|(name, _)| name.contains(&wanted));
        asked += checks.len();
        failed.extend(failing(subject, run, &checks).await);
    }
    println!("{asked} checks, {} failed", failed.len());
    assert!(failed.is_empty(), "failed: {failed:?}");
}

#[tokio::test]
async fn the_model_conforms() {
    run(&Subject::model(), "model").await;
}

#[tokio::test]
#[ignore = "needs a real API server: the api tier runs it"]
async fn the_real_server_conforms() {
    run(&real_server().await, &format!("real-{}", std::process::id())).await;
}

/// Random sequences of writes; `KUBE_MODEL_CONFORMANCE_SEEDS` says how many.
#[tokio::test]
#[ignore = "needs a real API server: the api tier runs it"]
async fn the_model_answers_random_requests_as_the_real_server_does() {
    let (model, real) = (Subject::model(), real_server().await);
    cluster::install(&model).await;
    cluster::install(&real).await;
    let seeds = std::env::var("KUBE_MODEL_CONFORMANCE_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(20) {
        let (run, check) = (format!("twins-{}", std::process::id()), format!("seed-{seed}"));
        let model = Cluster::prepare(model.clone(), &run, &check).await;
        let real = Cluster::prepare(real.clone(), &run, &check).await;
        twins::compare(&model, &real, seed).await;
        real.clean().await;
    }
}

/// The real API server that the environment names.
async fn real_server() -> Subject {
    let named = |variable: &str| {
        let path = std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set"));
        PathBuf::from(path)
    };
    // Another provider may be there already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(named("KUBE_MODEL_CONFORMANCE_KUBECONFIG")).expect("a kubeconfig");
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a usable kubeconfig");
    config.default_retry = false;
    let client = Client::try_from(config).expect("a client");
    Subject::real(client, named("KUBE_MODEL_CONFORMANCE_ETCDCTL"))
}
