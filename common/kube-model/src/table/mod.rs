//! Objects as rows with named columns, which is how `kubectl get` asks for them (`Table` of `meta.k8s.io`).
//!
//! Columns and cells of built-in kinds are those of `pkg/printers/internalversion` of Kubernetes, those of custom
//! resources what their definition says (`apiextensions-apiserver/pkg/registry/customresource/tableconvertor`). Columns
//! of built-in kinds have no descriptions: nobody is shown them.

mod cells;
mod cluster;
mod custom;
mod duration;
mod jsonpath;
mod network;
mod pods;
mod storage;
mod workloads;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    apply::managed::{Managers, Said},
    errors::ApiError,
    object,
    registry::Resource,
    server::List,
    stored::Stored,
};

/// What goes with each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// The object's metadata.
    Metadata,
    /// The whole object.
    Object,
    /// Nothing.
    Nothing,
}

impl Include {
    /// The `includeObject` of a query.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            "None" => Ok(Self::Nothing),
            other => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', \
                 'Object', 'None', or empty"
            ))),
        }
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: Cow<'static, str>,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    kind: Cow<'static, str>,
    /// `name` for the column of names.
    format: Cow<'static, str>,
    description: Cow<'static, str>,
    /// 0 for columns that are always shown, more for those of `-o wide`.
    priority: i64,
}

const fn column(name: &'static str, kind: &'static str, format: &'static str, priority: i64) -> Column {
    Column {
        name: Cow::Borrowed(name),
        kind: Cow::Borrowed(kind),
        format: Cow::Borrowed(format),
        description: Cow::Borrowed(""),
        priority,
    }
}

/// The column of names.
const NAME: Column = column("Name", "string", "name", 0);
/// The column of ages.
const AGE: Column = text("Age");

/// A column of texts.
const fn text(name: &'static str) -> Column {
    column(name, "string", "", 0)
}

/// A column of whole numbers.
const fn number(name: &'static str) -> Column {
    column(name, "integer", "", 0)
}

/// A column of texts for `-o wide`.
const fn wide(name: &'static str) -> Column {
    column(name, "string", "", 1)
}

/// How the objects of a built-in kind are shown: the columns, and a cell for each.
struct Printer {
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// The printer of a built-in kind. Kinds without one show their name and when they were made.
fn printer(group: &str, kind: &str) -> Printer {
    let own = match group {
        "" => match kind {
            "Pod" => Some(pods::PODS),
            "Node" => Some(cluster::NODES),
            "Namespace" => Some(cluster::NAMESPACES),
            "Event" => Some(cluster::EVENTS),
            "Secret" => Some(cluster::SECRETS),
            "ConfigMap" => Some(cluster::CONFIG_MAPS),
            "ServiceAccount" => Some(cluster::SERVICE_ACCOUNTS),
            "Service" => Some(network::SERVICES),
            "Endpoints" => Some(network::ENDPOINTS),
            "PersistentVolume" => Some(storage::VOLUMES),
            "PersistentVolumeClaim" => Some(storage::CLAIMS),
            _ => None,
        },
        "apps" => match kind {
            "DaemonSet" => Some(workloads::DAEMON_SETS),
            "Deployment" => Some(workloads::DEPLOYMENTS),
            "ReplicaSet" => Some(workloads::REPLICA_SETS),
            "StatefulSet" => Some(workloads::STATEFUL_SETS),
            _ => None,
        },
        "batch" => (kind == "Job").then_some(workloads::JOBS),
        "policy" => (kind == "PodDisruptionBudget").then_some(workloads::DISRUPTION_BUDGETS),
        "coordination.k8s.io" => (kind == "Lease").then_some(cluster::LEASES),
        "certificates.k8s.io" => (kind == "CertificateSigningRequest").then_some(cluster::SIGNING_REQUESTS),
        "discovery.k8s.io" => (kind == "EndpointSlice").then_some(network::ENDPOINT_SLICES),
        "rbac.authorization.k8s.io" => {
            ["RoleBinding", "ClusterRoleBinding"].contains(&kind).then_some(cluster::BINDINGS)
        }
        "storage.k8s.io" => match kind {
            "CSINode" => Some(storage::CSI_NODES),
            "StorageClass" => Some(storage::CLASSES),
            "VolumeAttachment" => Some(storage::ATTACHMENTS),
            _ => None,
        },
        _ => None,
    };
    own.unwrap_or(PLAIN)
}

const PLAIN: Printer = Printer {
    columns: &[NAME, column("Created At", "date", "", 0)],
    cells: |object, _| vec![cells::name(object), cells::text(object, "/metadata/creationTimestamp").into()],
};

/// How a client wants its tables.
pub struct Tables {
    resource: Arc<Resource>,
    /// Version of the kind.
    version: String,
    /// Version of the table: `v1` or `v1beta1`.
    table_version: &'static str,
    include: Include,
}

/// What stands beside the rows.
#[derive(Default)]
struct ListMeta {
    resource_version: String,
    continue_token: String,
    remaining: Option<usize>,
}

impl Tables {
    /// Tables of a kind, in a version of it and of the table.
    pub fn new(resource: Arc<Resource>, version: &str, table_version: &'static str, include: Include) -> Self {
        Self { resource, version: version.to_owned(), table_version, include }
    }

    /// A list as a table.
    pub fn of_list(&self, list: &List, now: Timestamp) -> Value {
        let meta = ListMeta {
            resource_version: list.resource_version.to_string(),
            continue_token: list.continue_token.clone(),
            remaining: list.remaining,
        };
        self.table(&meta, &list.items, true, now)
    }

    /// An object as a table of one row.
    pub fn of_object(&self, object: &Arc<Stored>, now: Timestamp) -> Value {
        self.of_event(object, true, now)
    }

    /// The line of a watch, with a table in place of its object. Only the first says which columns there are; errors
    /// stay what they are.
    pub fn of_line(&self, line: &Bytes, is_first: bool, now: Timestamp) -> Bytes {
        let Ok(mut event) = serde_json::from_slice::<Value>(line) else { return line.clone() };
        if event["type"] == "ERROR" {
            return line.clone();
        }
        let mut object = event["object"].take();
        let managers = match Said::take(&mut object) {
            Said::Managers(managers) => managers,
            Said::Nothing | Said::Reset => Managers::default(),
        };
        let object = Arc::new(Stored::new(Arc::new(object), Arc::new(managers)));
        event["object"] = self.of_event(&object, is_first, now);
        format!("{event}\n").into()
    }

    fn of_event(&self, object: &Arc<Stored>, has_columns: bool, now: Timestamp) -> Value {
        let version = object::meta(object, "resourceVersion").unwrap_or_default().to_owned();
        let meta = ListMeta { resource_version: version, ..ListMeta::default() };
        self.table(&meta, std::slice::from_ref(object), has_columns, now)
    }

    fn table(&self, meta: &ListMeta, objects: &[Arc<Stored>], has_columns: bool, now: Timestamp) -> Value {
        let (columns, rows) = self.content(objects, now);
        let columns: Vec<_> = columns.iter().map(definition).collect();
        let mut metadata = json!({"resourceVersion": meta.resource_version});
        if !meta.continue_token.is_empty() {
            metadata["continue"] = json!(meta.continue_token);
        }
        if let Some(remaining) = meta.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        let rows: Vec<_> = objects.iter().zip(rows).map(|(object, cells)| self.row(object, cells)).collect();
        json!({
            "kind": "Table", "apiVersion": format!("meta.k8s.io/{}", self.table_version), "metadata": metadata,
            "columnDefinitions": has_columns.then_some(columns), "rows": rows,
        })
    }

    fn content(&self, objects: &[Arc<Stored>], now: Timestamp) -> (Cow<'static, [Column]>, Vec<Vec<Value>>) {
        if let Some(defined) = &self.resource.defined {
            let (columns, rows) = custom::content(defined.columns(&self.version), objects, now);
            return (columns.into(), rows);
        }
        let printer = printer(&self.resource.group, &self.resource.kind);
        let rows = objects.iter().map(|object| (printer.cells)(object, now)).collect();
        (printer.columns.into(), rows)
    }

    fn row(&self, object: &Arc<Stored>, cells: Vec<Value>) -> Value {
        let shown = match self.include {
            Include::Metadata => {
                let mut shown = object.with_fields(object::metadata_only(object)).whole();
                shown["apiVersion"] = json!(format!("meta.k8s.io/{}", self.table_version));
                shown
            }
            Include::Object => object.whole(),
            Include::Nothing => Value::Null,
        };
        let mut row = json!({"cells": cells, "object": shown});
        if self.resource.kind == "Pod" && self.resource.group.is_empty() {
            pods::mark_completed(object, &mut row);
        }
        row
    }
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format, "description": column.description,
        "priority": column.priority,
    })
}

#[cfg(test)]
mod tests;
