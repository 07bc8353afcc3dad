//! Metrics, under controller-runtime's names so that existing dashboards fit.

use std::{borrow::Cow, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{Category, Outcome, ReconcileError};

/// Label with a controller's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ControllerLabel {
    /// Name of the controller.
    pub controller: &'static str,
}

/// Labels of a work queue: controller-runtime tells the controller twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabels {
    /// Name of the queue.
    pub name: &'static str,
    /// Name of its controller.
    pub controller: &'static str,
}

impl QueueLabels {
    /// The queue of a controller.
    pub fn of(controller: &'static str) -> Self {
        Self { name: controller, controller }
    }
}

/// Labels of finished passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    /// Name of the controller.
    pub controller: &'static str,
    /// `success`, `requeue`, `requeue_after` or `error`.
    pub result: &'static str,
}

/// Labels of failed passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FailureLabels {
    /// Name of the controller.
    pub controller: &'static str,
    /// Category of the error.
    pub category: &'static str,
}

/// Labels of API requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// HTTP method.
    pub method: Cow<'static, str>,
    /// HTTP status; `0` where none came.
    pub code: u16,
    /// Host of the API server.
    pub host: Arc<str>,
}

/// Labels of webhook requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WebhookLabels {
    /// Path of the webhook.
    pub webhook: Arc<str>,
    /// HTTP status.
    pub code: u16,
}

/// Label with a lease's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LeaseLabel {
    /// Name of the lease.
    pub name: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics of a process.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Finished passes.
    pub reconciles: Family<ResultLabels, Counter>,
    /// Failed passes.
    pub errors: Family<ControllerLabel, Counter>,
    /// Passes that failed for good.
    pub terminal_errors: Family<ControllerLabel, Counter>,
    /// Failed passes by category.
    pub failures: Family<FailureLabels, Counter>,
    /// Time of a pass, in seconds.
    pub reconcile_seconds: Histograms<ControllerLabel>,
    /// Passes under way.
    pub active_workers: Family<ControllerLabel, Gauge>,
    /// Passes that may be under way at once.
    pub max_workers: Family<ControllerLabel, Gauge>,
    /// Passes that panicked.
    pub panics: Family<ControllerLabel, Counter>,
    /// Keys that are ready.
    pub queue_depth: Family<QueueLabels, Gauge>,
    /// Keys that were added.
    pub queue_adds: Family<QueueLabels, Counter>,
    /// Passes that are tried again after an error.
    pub retries: Family<QueueLabels, Counter>,
    /// Time of the work on a key, in seconds.
    pub work_seconds: Histograms<QueueLabels>,
    /// Requests to the management API server.
    pub requests: Family<RequestLabels, Counter>,
    /// Requests to webhooks.
    pub webhooks: Family<WebhookLabels, Counter>,
    /// 1 while this process leads.
    pub leading: Family<LeaseLabel, Gauge>,
}

fn seconds() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::default()),
            reconciles: Family::default(),
            errors: Family::default(),
            terminal_errors: Family::default(),
            failures: Family::default(),
            reconcile_seconds: Family::new_with_constructor(seconds),
            active_workers: Family::default(),
            max_workers: Family::default(),
            panics: Family::default(),
            queue_depth: Family::default(),
            queue_adds: Family::default(),
            retries: Family::default(),
            work_seconds: Family::new_with_constructor(seconds),
            requests: Family::default(),
            webhooks: Family::default(),
            leading: Family::default(),
        };
        metrics.register(&mut metrics.registry.lock());
        metrics
    }
}

impl Metrics {
    fn register(&self, registry: &mut Registry) {
        let runtime = registry.sub_registry_with_prefix("controller_runtime");
        runtime.register("reconcile", "Finished passes by result", self.reconciles.clone());
        runtime.register("reconcile_errors", "Failed passes", self.errors.clone());
        runtime.register("terminal_reconcile_errors", "Passes that failed for good", self.terminal_errors.clone());
        runtime.register("reconcile_time_seconds", "Time of a pass", self.reconcile_seconds.clone());
        runtime.register("active_workers", "Passes under way", self.active_workers.clone());
        runtime.register("max_concurrent_reconciles", "Passes that may be under way at once", self.max_workers.clone());
        runtime.register("reconcile_panics", "Passes that panicked", self.panics.clone());
        runtime.register("webhook_requests", "Requests to webhooks by status", self.webhooks.clone());
        let queue = registry.sub_registry_with_prefix("workqueue");
        queue.register("depth", "Keys that are ready", self.queue_depth.clone());
        queue.register("adds", "Keys that were added", self.queue_adds.clone());
        queue.register("retries", "Passes tried again after an error", self.retries.clone());
        queue.register("work_duration_seconds", "Time of the work on a key", self.work_seconds.clone());
        registry.register("reconcile_failures", "Failed passes by category of the error", self.failures.clone());
        registry.register("rest_client_requests", "Requests to the API server", self.requests.clone());
        registry.register("leader_election_master_status", "1 while this process leads", self.leading.clone());
    }

    /// Counts how a pass ended.
    pub(crate) fn settled(&self, controller: &'static str, result: &Result<Outcome, ReconcileError>) {
        let label = ControllerLabel { controller };
        let told = match result {
            Ok(Outcome::Settled) => "success",
            Ok(Outcome::Requeue(_)) => "requeue_after",
            Err(error) => {
                let category = error.category;
                self.failures.get_or_create(&FailureLabels { controller, category: category.name() }).inc();
                self.retries.get_or_create(&QueueLabels::of(controller)).inc();
                if category == Category::Terminal {
                    self.terminal_errors.get_or_create(&label).inc();
                }
                if category.is_failure() {
                    self.errors.get_or_create(&label).inc();
                }
                match category {
                    Category::Conflict => "requeue",
                    Category::Waiting(_) => "requeue_after",
                    _ => "error",
                }
            }
        };
        self.reconciles.get_or_create(&ResultLabels { controller, result: told }).inc();
    }

    /// Registers a provider's own metrics.
    pub fn extend(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock());
    }

    /// All metrics in the text format of `OpenMetrics`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry.lock());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_controller_runtimes() {
        let metrics = Metrics::default();
        metrics.settled("machine", &Ok(Outcome::Settled));
        metrics.settled("machine", &Err(ReconcileError::transient("no")));
        metrics.settled("machine", &Err(ReconcileError::new(Category::Conflict, "no")));
        metrics.queue_depth.get_or_create(&QueueLabels::of("machine")).set(3);
        let text = metrics.render();
        for line in [
            r#"controller_runtime_reconcile_total{controller="machine",result="success"} 1"#,
            r#"controller_runtime_reconcile_total{controller="machine",result="error"} 1"#,
            r#"controller_runtime_reconcile_total{controller="machine",result="requeue"} 1"#,
            r#"controller_runtime_reconcile_errors_total{controller="machine"} 1"#,
            r#"reconcile_failures_total{controller="machine",category="transient"} 1"#,
            r#"workqueue_depth{name="machine",controller="machine"} 3"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
