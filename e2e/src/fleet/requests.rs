//! What the API server says of its work: its own metrics, in Prometheus' text format. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counters of an API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Requests by `VERB resource`, of everybody.
    pub requests: BTreeMap<String, u64>,
    /// Requests by status code.
    pub codes: BTreeMap<String, u64>,
    /// Events sent to watches, by resource: how many, and how many bytes.
    pub watched: BTreeMap<String, Watched>,
    /// Size of etcd's file in bytes, as it is at the end.
    pub store: u64,
}

/// Events of one resource that were sent to watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// Events.
    pub events: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl Counters {
    /// Reads `/metrics`; what it does not know it passes over.
    pub fn parse(text: &str) -> Self {
        let mut counters = Self::default();
        for line in text.lines() {
            let Some(Sample { name, labels, value }) = Sample::parse(line) else { continue };
            let label = |name: &str| labels.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
            let resource = label("resource").or(label("kind")).unwrap_or_default();
            match name {
                "apiserver_request_total" => {
                    let part = label("subresource").filter(|part| !part.is_empty());
                    let part = part.map(|part| format!("/{part}")).unwrap_or_default();
                    let verb = label("verb").unwrap_or_default();
                    *counters.requests.entry(format!("{verb} {resource}{part}")).or_default() += value;
                    *counters.codes.entry(label("code").unwrap_or_default().to_owned()).or_default() += value;
                }
                "apiserver_watch_events_sizes_sum" => {
                    counters.watched.entry(resource.to_owned()).or_default().bytes += value;
                }
                "apiserver_watch_events_sizes_count" => {
                    counters.watched.entry(resource.to_owned()).or_default().events += value;
                }
                "apiserver_storage_size_bytes" => counters.store = value,
                _ => {}
            }
        }
        counters
    }

    /// What was added to `earlier`, an older reading of the same server.
    pub fn since(&self, earlier: &Self) -> Self {
        let new = |after: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>| {
            let new = after.iter().map(|(key, count)| {
                let before = before.get(key).copied().unwrap_or_default();
                (key.clone(), count.saturating_sub(before))
            });
            new.filter(|(_, count)| *count > 0).collect()
        };
        let watched = self.watched.iter().map(|(resource, after)| {
            let before = earlier.watched.get(resource).copied().unwrap_or_default();
            let events = after.events.saturating_sub(before.events);
            (resource.clone(), Watched { events, bytes: after.bytes.saturating_sub(before.bytes) })
        });
        Self {
            requests: new(&self.requests, &earlier.requests),
            codes: new(&self.codes, &earlier.codes),
            watched: watched.filter(|(_, watched)| watched.events > 0).collect(),
            store: self.store,
        }
    }

    /// Bytes sent to watches.
    pub fn watch_bytes(&self) -> u64 {
        self.watched.values().map(|watched| watched.bytes).sum()
    }
}

/// One line of the text format that holds a value: `name{label="value",…} value`.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: u64,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (name, rest) = line.split_at(line.find(['{', ' '])?);
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest),
        };
        // Values of the labels that are read here hold neither quotes nor backslashes.
        let labels = labels.split("\",").filter_map(|label| label.trim_end_matches('"').split_once("=\"")).collect();
        // A timestamp may follow.
        let value: f64 = value.split_whitespace().next()?.parse().ok()?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counters are whole and not negative"
        )]
        Some(Self { name, labels, value: value as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
# HELP apiserver_request_total [STABLE] Counter of apiserver requests.
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="cluster.x-k8s.io",resource="machines",scope="resource",subresource="",verb="GET",version="v1beta2"} 3
apiserver_request_total{code="409",component="apiserver",dry_run="",group="cluster.x-k8s.io",resource="machines",scope="resource",subresource="status",verb="PATCH",version="v1beta2"} 1
apiserver_watch_events_sizes_bucket{group="",resource="secrets",version="v1",le="1024"} 4
apiserver_watch_events_sizes_sum{group="",resource="secrets",version="v1"} 2048
apiserver_watch_events_sizes_count{group="",resource="secrets",version="v1"} 4
apiserver_storage_size_bytes{storage_cluster_id="etcd-0"} 1.2582912e+07
process_open_fds 17
"#;

    #[test]
    fn what_is_asked_and_sent_is_read() {
        let counters = Counters::parse(BEFORE);
        assert_eq!(counters.requests["GET machines"], 3);
        assert_eq!(counters.requests["PATCH machines/status"], 1);
        assert_eq!((counters.codes["200"], counters.codes["409"]), (3, 1));
        assert_eq!(counters.watched["secrets"], Watched { events: 4, bytes: 2048 });
        assert_eq!(counters.store, 12 << 20);
    }

    #[test]
    fn a_phase_is_the_difference() {
        let after = BEFORE.replace("\"} 3", "\"} 5").replace("\"} 2048", "\"} 3000");
        let new = Counters::parse(&after).since(&Counters::parse(BEFORE));
        assert_eq!(new.requests, BTreeMap::from([("GET machines".to_owned(), 2)]));
        assert_eq!(new.codes, BTreeMap::from([("200".to_owned(), 2)]));
        assert_eq!(new.watch_bytes(), 0, "no event was counted");
        assert_eq!(new.store, 12 << 20, "a size, not a count");
    }
}
