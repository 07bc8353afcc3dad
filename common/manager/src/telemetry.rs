//! Logs: text for people, JSON for machines, level by flag or `RUST_LOG`, changed while running by the diagnostics.
//! Traces: one span a pass, one an effect, exported over OTLP where an endpoint is given.

use std::{collections::HashMap, sync::Arc, time::Duration};

use opentelemetry::{propagation::TextMapPropagator, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{
    EnvFilter, Registry, fmt,
    layer::{Layer, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use crate::{
    Identity,
    cli::{LoggingFormat, ManagerArgs},
};

/// Limit of one export of spans.
const EXPORT: Duration = Duration::from_secs(5);
/// Limit of the last export, when the process ends.
const FLUSH: Duration = Duration::from_secs(3);

/// Log and traces of this process.
#[derive(Clone)]
pub(crate) struct Telemetry {
    traces: Option<SdkTracerProvider>,
    set_level: Arc<dyn Fn(u8) -> bool + Send + Sync>,
}

/// Installs log and traces of this process; a second call in one process changes nothing.
pub(crate) fn init(args: &ManagerArgs, identity: Identity) -> Result<Telemetry, String> {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level(args.v)));
    let (filter, handle) = reload::Layer::<EnvFilter, Registry>::new(careful(wanted));
    let log = fmt::layer().with_writer(std::io::stderr);
    let log = match args.logging_format {
        LoggingFormat::Json => log.json().flatten_event(true).boxed(),
        LoggingFormat::Text => log.with_ansi(false).boxed(),
    };
    let traces = args.otlp_endpoint.as_deref().map(|endpoint| provider(endpoint, args, identity)).transpose()?;
    let spans = traces.as_ref().map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer(identity.name)));
    drop(tracing_subscriber::registry().with(filter).with(log).with(spans).try_init());
    let set_level = Arc::new(move |verbosity| handle.reload(careful(EnvFilter::new(level(verbosity)))).is_ok());
    Ok(Telemetry { traces, set_level })
}

impl Telemetry {
    /// Changes the verbosity of the log; whether that was possible.
    pub(crate) fn set_level(&self, verbosity: u8) -> bool {
        (self.set_level)(verbosity)
    }

    /// Sends what is not sent yet. It blocks for three seconds at most.
    pub(crate) async fn flush(self) {
        let Some(traces) = self.traces else { return };
        let flushed = tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(FLUSH));
        if !matches!(tokio::time::timeout(FLUSH, flushed).await, Ok(Ok(Ok(())))) {
            tracing::warn!("The last traces could not be sent.");
        }
    }
}

fn level(verbosity: u8) -> &'static str {
    match verbosity {
        0 | 1 => "info,hyper=warn,kube=warn,tower=warn,h2=warn,opentelemetry=warn",
        2..=4 => "debug,hyper=info,h2=info,rustls=info,tower=info,kube=info,opentelemetry=info",
        _ => "trace",
    }
}

/// Never lets kube's client log what it received: that may be a Secret. Its errors are told by whoever asked.
fn careful(filter: EnvFilter) -> EnvFilter {
    ["kube_client::client=off", "rustls=info", "h2=info"]
        .into_iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive)
}

fn provider(endpoint: &str, args: &ManagerArgs, identity: Identity) -> Result<SdkTracerProvider, String> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT)
        .build()
        .map_err(|error| format!("--otlp-endpoint {endpoint}: {error}"))?;
    let resource = Resource::builder()
        .with_service_name(identity.name)
        .with_attribute(opentelemetry::KeyValue::new("service.version", identity.version))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(args.trace_ratio)));
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_sampler(sampler).with_resource(resource).build())
}

/// The current span as W3C trace context headers, to be carried into a call; empty where nothing is traced.
pub fn trace_context() -> HashMap<String, String> {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&tracing::Span::current().context(), &mut headers);
    headers.retain(|_, value| !value.is_empty());
    headers
}

#[cfg(test)]
mod tests {
    use tracing::{Instrument, instrument::WithSubscriber};

    use super::*;

    #[tokio::test]
    async fn the_span_of_an_effect_is_told_to_those_it_calls() {
        let traces = SdkTracerProvider::builder().build();
        let subscriber =
            tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(traces.tracer("test")));
        let told = async {
            let outer = trace_context();
            let inner = fault::around("create-machine", async { trace_context() }).await;
            (outer, inner)
        };
        let (outer, inner) =
            async { told.instrument(tracing::info_span!("reconcile")).await }.with_subscriber(subscriber).await;
        let parts = |headers: &HashMap<String, String>| {
            headers["traceparent"].split('-').map(str::to_owned).collect::<Vec<_>>()
        };
        let (outer, inner) = (parts(&outer), parts(&inner));
        assert_eq!(outer[1], inner[1], "one trace");
        assert_ne!(outer[2], inner[2], "the effect has a span of its own");
        assert!(trace_context().is_empty());
    }

    #[test]
    fn kubes_client_never_logs_bodies_however_verbose() {
        for verbosity in 0..9 {
            let filter = careful(EnvFilter::new(level(verbosity))).to_string();
            assert!(filter.contains("kube_client::client=off"), "{filter}");
        }
    }
}
