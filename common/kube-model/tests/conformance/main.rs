//! One list of checks, run against the model always, and against a real API server when
//! `KUBE_MODEL_CONFORMANCE_KUBECONFIG` names a kubeconfig for it. Where answers differ, the model is wrong.
//!
//! The real server needs a controller manager with the garbage collector and the namespace controller beside it, and an
//! administrator's rights. The suite makes namespaces, nodes and two custom resources of its own, and removes them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apply;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod deletion;
mod fields;
mod objects;
mod patches;
mod reads;
mod tables;
mod twins;
mod watches;

use std::panic::AssertUnwindSafe;

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};

use crate::cluster::{Cluster, model_client};

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

fn checks() -> impl Iterator<Item = &'static Check> {
    let modules = [
        objects::CHECKS,
        reads::CHECKS,
        watches::CHECKS,
        patches::CHECKS,
        apply::CHECKS,
        deletion::CHECKS,
        tables::CHECKS,
        fields::CHECKS,
    ];
    modules.into_iter().flatten()
}

/// Runs every check in a namespace of its own and names those that fail.
async fn run(client: Client, run: &str) {
    cluster::install(&client).await;
    let wanted = std::env::var("KUBE_MODEL_CONFORMANCE_FILTER").unwrap_or_default();
    let wanted: Vec<_> = checks().filter(|(name, _)| name.contains(&wanted)).collect();
    let failed: Vec<&str> = stream::iter(&wanted)
        .map(|(name, check)| {
            let client = client.clone();
            async move {
                let cluster = Cluster::prepare(client, run, name).await;
                let outcome = AssertUnwindSafe(check(cluster.clone())).catch_unwind().await;
                cluster.clean().await;
                outcome.is_err().then_some(*name)
            }
        })
        .buffer_unordered(4)
        .filter_map(std::future::ready)
        .collect()
        .await;
    println!("{} checks, {} failed", wanted.len(), failed.len());
    assert!(failed.is_empty(), "failed: {failed:?}");
}

#[tokio::test]
async fn the_model_conforms() {
    run(model_client(), "model").await;
}

#[tokio::test]
async fn the_real_server_conforms() {
    if let Some(client) = real_client().await {
        run(client, &format!("real-{}", std::process::id())).await;
    }
}

/// Random sequences of writes; `KUBE_MODEL_CONFORMANCE_SEEDS` says how many.
#[tokio::test]
async fn the_model_answers_random_requests_as_the_real_server_does() {
    let Some(real) = real_client().await else { return };
    let model = model_client();
    cluster::install(&model).await;
    cluster::install(&real).await;
    let seeds = std::env::var("KUBE_MODEL_CONFORMANCE_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(20) {
        let (run, check) = (format!("model-{}", std::process::id()), format!("seed-{seed}"));
        let model = Cluster::prepare(model.clone(), &run, &check).await;
        let real = Cluster::prepare(real.clone(), &run, &check).await;
        twins::compare(&model, &real, seed).await;
        real.clean().await;
    }
}

/// A client of the real API server that the environment names.
async fn real_client() -> Option<Client> {
    let Ok(path) = std::env::var("KUBE_MODEL_CONFORMANCE_KUBECONFIG") else {
        println!("skipped: KUBE_MODEL_CONFORMANCE_KUBECONFIG names no real API server");
        return None;
    };
    // Another provider may be there already, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a usable kubeconfig");
    config.default_retry = false;
    Some(Client::try_from(config).expect("a client"))
}
