//! `e2e conformance`: the checks against a cluster that is there already, such as one of `cargo xtask demo --keep`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use xtask::{paths, progress::Progress};

use super::{Purpose, Source, Subject, run};
use crate::{cluster::NAMESPACE, environment::Inputs, ground::Guests, management};

/// Which cluster is asked what.
#[derive(Args, Clone)]
pub struct Options {
    /// What its machines are
    #[arg(long, value_enum)]
    guests: Guests,
    /// kubeconfig of the management cluster [default: that of the demo]
    #[arg(long)]
    management: Option<PathBuf>,
    /// Namespace of the cluster's objects there
    #[arg(long, default_value = NAMESPACE)]
    namespace: String,
    /// Name of the cluster
    #[arg(long, default_value = "demo")]
    cluster: String,
    /// Run only checks whose theme/name contains this text
    #[arg(long)]
    filter: Option<String>,
    /// Take the answers as the records; only of sandbox guests
    #[arg(long)]
    record: bool,
}

/// Asks everything; fails with a report.
pub async fn main(inputs: &Inputs, options: &Options, progress: &Progress) -> Result<()> {
    let of_demo = || paths::run_dir("demo").join("admin.kubeconfig");
    let client = management::client(&options.management.clone().unwrap_or_else(of_demo)).await?;
    let dir = paths::run_dir("conformance").join(&options.cluster);
    let source = Source {
        management: &client,
        namespace: &options.namespace,
        cluster: &options.cluster,
        guests: options.guests,
        toolchain: &inputs.toolchain,
        dir: &dir,
    };
    let subject = Subject::find(&source).await?;
    run(&subject, Purpose::of(options.record), options.filter.as_deref(), progress).await
}
