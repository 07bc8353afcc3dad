//! The paths of a resource and what can be done there, in no particular version of OpenAPI.

use crate::registry::Resource;

/// A parameter of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub name: &'static str,
    /// `string`, `boolean` or `integer`.
    pub kind: &'static str,
}

const fn parameter(name: &'static str, kind: &'static str) -> Parameter {
    Parameter { name, kind }
}

const WRITE: &[Parameter] =
    &[parameter("dryRun", "string"), parameter("fieldManager", "string"), parameter("fieldValidation", "string")];
const PATCH: &[Parameter] = &[
    parameter("dryRun", "string"),
    parameter("fieldManager", "string"),
    parameter("fieldValidation", "string"),
    parameter("force", "boolean"),
];
const DELETE: &[Parameter] = &[
    parameter("dryRun", "string"),
    parameter("gracePeriodSeconds", "integer"),
    parameter("propagationPolicy", "string"),
];
const LIST: &[Parameter] = &[
    parameter("allowWatchBookmarks", "boolean"),
    parameter("continue", "string"),
    parameter("fieldSelector", "string"),
    parameter("labelSelector", "string"),
    parameter("limit", "integer"),
    parameter("resourceVersion", "string"),
    parameter("resourceVersionMatch", "string"),
    parameter("sendInitialEvents", "boolean"),
    parameter("timeoutSeconds", "integer"),
    parameter("watch", "boolean"),
];

/// What is sent or answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Object,
    List,
    Patch,
    DeleteOptions,
    Status,
}

/// Something that can be done at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub method: &'static str,
    /// Name of the verb: `x-kubernetes-action`.
    pub action: &'static str,
    pub parameters: &'static [Parameter],
    pub body: Option<Content>,
    pub answer: Content,
}

const GET: Operation = Operation { method: "get", action: "get", parameters: &[], body: None, answer: Content::Object };
const PUT: Operation =
    Operation { method: "put", action: "put", parameters: WRITE, body: Some(Content::Object), answer: Content::Object };
const PATCHED: Operation = Operation {
    method: "patch",
    action: "patch",
    parameters: PATCH,
    body: Some(Content::Patch),
    answer: Content::Object,
};
const DELETED: Operation = Operation {
    method: "delete",
    action: "delete",
    parameters: DELETE,
    body: Some(Content::DeleteOptions),
    answer: Content::Status,
};
const LISTED: Operation =
    Operation { method: "get", action: "list", parameters: LIST, body: None, answer: Content::List };
const POST: Operation = Operation {
    method: "post",
    action: "post",
    parameters: WRITE,
    body: Some(Content::Object),
    answer: Content::Object,
};
const DELETED_ALL: Operation = Operation { method: "delete", action: "deletecollection", parameters: LIST, ..DELETED };

/// A path.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub path: String,
    /// Names of the parameters in the path.
    pub places: Vec<&'static str>,
    pub operations: &'static [Operation],
}

/// Every path of a resource in a version.
pub(super) fn routes(resource: &Resource, version: &str) -> Vec<Route> {
    let prefix = if resource.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", resource.group) };
    let everywhere = format!("{prefix}/{version}/{}", resource.plural);
    let mut routes = Vec::new();
    let (collection, places) = if resource.is_namespaced {
        if !resource.behaviour.is_asked {
            routes.push(Route { path: everywhere, places: Vec::new(), operations: &[LISTED] });
        }
        (format!("{prefix}/{version}/namespaces/{{namespace}}/{}", resource.plural), vec!["namespace"])
    } else {
        (everywhere, Vec::new())
    };
    if resource.behaviour.is_asked {
        return vec![Route { path: collection, places, operations: &[POST] }];
    }
    let mut named = places.clone();
    named.push("name");
    let object = format!("{collection}/{{name}}");
    if resource.behaviour.has_status {
        let path = format!("{object}/status");
        routes.push(Route { path, places: named.clone(), operations: &[GET, PUT, PATCHED] });
    }
    routes.push(Route { path: collection, places, operations: &[LISTED, POST, DELETED_ALL] });
    routes.push(Route { path: object, places: named, operations: &[GET, PUT, PATCHED, DELETED] });
    routes
}

/// Types of patches that a resource takes.
pub(super) fn patch_types(resource: &Resource) -> impl Iterator<Item = &'static str> {
    let strategic = (!resource.behaviour.is_custom).then_some("application/strategic-merge-patch+json");
    ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]
        .into_iter()
        .chain(strategic)
}
