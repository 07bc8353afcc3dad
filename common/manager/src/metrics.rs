//! Metrics, under controller-runtime's names so that existing dashboards fit.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Label with a controller's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ControllerLabel {
    /// Name of the controller.
    pub controller: &'static str,
}

/// Labels of finished passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    /// Name of the controller.
    pub controller: &'static str,
    /// `success`, `requeue_after`, or the category of an error.
    pub result: &'static str,
}

/// Labels of API requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// HTTP method.
    pub method: String,
    /// HTTP status; `0` where none came.
    pub code: u16,
}

/// All metrics of a process.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Finished passes.
    pub reconciles: Family<ResultLabels, Counter>,
    /// Time of a pass, in seconds.
    pub reconcile_seconds: Family<ControllerLabel, Histogram, fn() -> Histogram>,
    /// Passes under way.
    pub active_workers: Family<ControllerLabel, Gauge>,
    /// Keys that are ready.
    pub queue_depth: Family<ControllerLabel, Gauge>,
    /// Passes that are tried again after an error.
    pub retries: Family<ControllerLabel, Counter>,
    /// Passes that panicked.
    pub panics: Family<ControllerLabel, Counter>,
    /// Requests to the management API server.
    pub requests: Family<RequestLabels, Counter>,
    /// 1 while this process leads.
    pub leading: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        const SECONDS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let metrics = Self {
            registry: Mutex::new(Registry::default()),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(histogram),
            active_workers: Family::default(),
            queue_depth: Family::default(),
            retries: Family::default(),
            panics: Family::default(),
            requests: Family::default(),
            leading: Gauge::default(),
        };
        {
            let mut registry = metrics.registry.lock();
            let runtime = registry.sub_registry_with_prefix("controller_runtime");
            runtime.register("reconcile", "Finished passes by result", metrics.reconciles.clone());
            runtime.register("reconcile_time_seconds", "Time of a pass", metrics.reconcile_seconds.clone());
            runtime.register("active_workers", "Passes under way", metrics.active_workers.clone());
            runtime.register("reconcile_panics", "Passes that panicked", metrics.panics.clone());
            registry.register("workqueue_depth", "Keys that are ready", metrics.queue_depth.clone());
            registry.register("workqueue_retries", "Passes tried again after an error", metrics.retries.clone());
            registry.register("rest_client_requests", "Requests to the API server", metrics.requests.clone());
            registry.register("leader_election_master_status", "1 while this process leads", metrics.leading.clone());
        }
        metrics
    }
}

impl Metrics {
    /// Registers a provider's own metrics.
    pub fn extend(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock());
    }

    /// All metrics in the text format of `OpenMetrics`.
    pub fn render(self: &Arc<Self>) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry.lock());
        text
    }
}
