//! Logs: text for people, JSON for machines, level by flag or `RUST_LOG`, changed while running by the diagnostics.
//! Traces: one span a pass, one an effect, exported over OTLP where an endpoint is given.

use std::{collections::HashMap, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::TracerProvider,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{
    EnvFilter, Registry, fmt,
    layer::{Layer, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

/// Limit of one export of spans.
const EXPORT: Duration = Duration::from_secs(5);
/// Limit of the last export, when the process ends.
const FLUSH: Duration = Duration::from_secs(3);

/// Flags of log and traces.
#[derive(Args, Clone, Debug)]
pub struct TelemetryArgs {
    /// Verbosity: 0 information, 2 and above debug, 5 and above trace
    #[arg(short, long, env = "V", default_value_t = 0)]
    pub v: u8,
    /// Format of the log
    #[arg(long, env = "LOGGING_FORMAT", value_enum, default_value = "text")]
    pub logging_format: LoggingFormat,
    /// Send traces to this OTLP endpoint (gRPC), e.g. `http://collector:4317`
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Share of what this process begins by itself that is traced, from 0 to 1
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0, value_parser = ratio)]
    pub trace_ratio: f64,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoggingFormat {
    /// For people
    Text,
    /// For machines: one JSON object a line
    Json,
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(format!("{text} is not between 0 and 1")) }
}

/// Log and traces of this process.
#[derive(Clone)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    set_level: Arc<dyn Fn(u8) -> bool + Send + Sync>,
}

/// Installs log and traces of this process under a service's name and version; a second call in one process changes
/// nothing. The error names the flag that is wrong.
pub fn init(args: &TelemetryArgs, name: &'static str, version: &'static str) -> Result<Telemetry, String> {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level(args.v)));
    let (filter, handle) = reload::Layer::<EnvFilter, Registry>::new(careful(wanted));
    let log = fmt::layer().with_writer(std::io::stderr);
    let log = match args.logging_format {
        LoggingFormat::Json => log.json().flatten_event(true).boxed(),
        LoggingFormat::Text => log.with_ansi(false).boxed(),
    };
    let traces = args.otlp_endpoint.as_deref().map(|endpoint| provider(endpoint, args, name, version)).transpose()?;
    let spans = traces.as_ref().map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer(name)));
    drop(tracing_subscriber::registry().with(filter).with(log).with(spans).try_init());
    let set_level = Arc::new(move |verbosity| handle.reload(careful(EnvFilter::new(level(verbosity)))).is_ok());
    Ok(Telemetry { traces, set_level })
}

impl Telemetry {
    /// Changes the verbosity of the log; whether that was possible.
    pub fn set_level(&self, verbosity: u8) -> bool {
        (self.set_level)(verbosity)
    }

    /// Sends what is not sent yet. It blocks for three seconds at most.
    pub async fn flush(self) {
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

fn provider(
    endpoint: &str,
    args: &TelemetryArgs,
    name: &'static str,
    version: &'static str,
) -> Result<SdkTracerProvider, String> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT)
        .build()
        .map_err(|error| format!("--otlp-endpoint {endpoint}: {error}"))?;
    let resource = Resource::builder()
        .with_service_name(name)
        .with_attribute(opentelemetry::KeyValue::new("service.version", version))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(args.trace_ratio)));
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_sampler(sampler).with_resource(resource).build())
}

/// The current span as W3C trace context headers, to be carried into a call; empty where nothing is traced.
pub fn trace_context() -> HashMap<String, String> {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut headers);
    headers.retain(|_, value| !value.is_empty());
    headers
}

/// Makes a span the continuation of its caller's trace, as the W3C headers of a request tell it; without them the span
/// begins a trace of its own.
pub fn continue_trace(span: &Span, headers: &http::HeaderMap) {
    // A span that nobody records takes no parent; that is no error.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
}

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
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
    fn a_call_continues_its_callers_trace() {
        let traces = SdkTracerProvider::builder().build();
        let subscriber =
            tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(traces.tracer("test")));
        tracing::subscriber::with_default(subscriber, || {
            let caller = tracing::info_span!("caller");
            let headers: http::HeaderMap = caller
                .in_scope(trace_context)
                .into_iter()
                .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
                .collect();
            let trace = |span: &Span| span.in_scope(|| trace_context()["traceparent"][3..35].to_owned());
            let (call, other) = (tracing::info_span!("call"), tracing::info_span!("other"));
            continue_trace(&call, &headers);
            continue_trace(&other, &http::HeaderMap::new());
            assert_eq!(trace(&call), trace(&caller));
            assert_ne!(trace(&other), trace(&caller));
        });
    }

    #[test]
    fn a_share_lies_between_none_and_all() {
        assert_eq!(ratio("0.25"), Ok(0.25));
        assert!(ratio("1.5").unwrap_err().contains("between 0 and 1"));
        assert!(ratio("most").unwrap_err().contains("no number"));
    }

    #[test]
    fn kubes_client_never_logs_bodies_however_verbose() {
        for verbosity in 0..9 {
            let filter = careful(EnvFilter::new(level(verbosity))).to_string();
            assert!(filter.contains("kube_client::client=off"), "{filter}");
        }
    }
}
