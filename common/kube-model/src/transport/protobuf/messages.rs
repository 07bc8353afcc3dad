//! The messages that are read: field numbers of `generated.proto` of apimachinery and api, names of the JSON. They are
//! those that controllers write to other clusters; a kind that is not here is refused as a server refuses what it cannot
//! read.

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    /// Base64 in JSON.
    Bytes,
    Number,
    Switch,
    /// RFC 3339 to the second.
    Time,
    /// RFC 3339 to the microsecond.
    MicroTime,
    Message(&'static [Field]),
    /// Texts by text.
    Texts,
    /// Bytes by text.
    Blobs,
    /// JSON in a message of its own.
    Json,
    /// A number or a text, in a message of its own.
    NumberOrText,
}

/// A field.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub number: u64,
    pub name: &'static str,
    pub shape: Shape,
    pub is_list: bool,
    /// Whether a zero is more than nothing: Go has a pointer there.
    pub is_pointer: bool,
}

const fn one(number: u64, name: &'static str, shape: Shape) -> Field {
    Field { number, name, shape, is_list: false, is_pointer: false }
}

const fn text(number: u64, name: &'static str) -> Field {
    one(number, name, Shape::Text)
}

const fn pointer(number: u64, name: &'static str, shape: Shape) -> Field {
    Field { number, name, shape, is_list: false, is_pointer: true }
}

const fn list(number: u64, name: &'static str, shape: Shape) -> Field {
    Field { number, name, shape, is_list: true, is_pointer: false }
}

const METADATA: Field = one(1, "metadata", Shape::Message(OBJECT_META));

const OBJECT_META: &[Field] = &[
    text(1, "name"),
    text(2, "generateName"),
    text(3, "namespace"),
    text(4, "selfLink"),
    text(5, "uid"),
    text(6, "resourceVersion"),
    one(7, "generation", Shape::Number),
    one(8, "creationTimestamp", Shape::Time),
    pointer(9, "deletionTimestamp", Shape::Time),
    pointer(10, "deletionGracePeriodSeconds", Shape::Number),
    one(11, "labels", Shape::Texts),
    one(12, "annotations", Shape::Texts),
    list(13, "ownerReferences", Shape::Message(OWNER_REFERENCE)),
    list(14, "finalizers", Shape::Text),
    list(17, "managedFields", Shape::Message(MANAGED_FIELDS)),
];

const OWNER_REFERENCE: &[Field] = &[
    text(1, "kind"),
    text(3, "name"),
    text(4, "uid"),
    text(5, "apiVersion"),
    pointer(6, "controller", Shape::Switch),
    pointer(7, "blockOwnerDeletion", Shape::Switch),
];

const MANAGED_FIELDS: &[Field] = &[
    text(1, "manager"),
    text(2, "operation"),
    text(3, "apiVersion"),
    pointer(4, "time", Shape::Time),
    text(6, "fieldsType"),
    pointer(7, "fieldsV1", Shape::Json),
    text(8, "subresource"),
];

pub(super) const DELETE_OPTIONS: &[Field] = &[
    pointer(1, "gracePeriodSeconds", Shape::Number),
    pointer(
        2,
        "preconditions",
        Shape::Message(&[pointer(1, "uid", Shape::Text), pointer(2, "resourceVersion", Shape::Text)]),
    ),
    pointer(3, "orphanDependents", Shape::Switch),
    pointer(4, "propagationPolicy", Shape::Text),
    list(5, "dryRun", Shape::Text),
];

pub(super) const EVICTION: &[Field] = &[METADATA, pointer(2, "deleteOptions", Shape::Message(DELETE_OPTIONS))];

pub(super) const SECRET: &[Field] = &[
    METADATA,
    one(2, "data", Shape::Blobs),
    text(3, "type"),
    one(4, "stringData", Shape::Texts),
    pointer(5, "immutable", Shape::Switch),
];

pub(super) const CONFIG_MAP: &[Field] = &[
    METADATA,
    one(2, "data", Shape::Texts),
    one(3, "binaryData", Shape::Blobs),
    pointer(4, "immutable", Shape::Switch),
];

const OBJECT_REFERENCE: &[Field] = &[
    text(1, "kind"),
    text(2, "namespace"),
    text(3, "name"),
    text(4, "uid"),
    text(5, "apiVersion"),
    text(6, "resourceVersion"),
    text(7, "fieldPath"),
];

pub(super) const SERVICE_ACCOUNT: &[Field] = &[
    METADATA,
    list(2, "secrets", Shape::Message(OBJECT_REFERENCE)),
    list(3, "imagePullSecrets", Shape::Message(&[text(1, "name")])),
    pointer(4, "automountServiceAccountToken", Shape::Switch),
];

pub(super) const NAMESPACE: &[Field] =
    &[METADATA, one(2, "spec", Shape::Message(&[list(1, "finalizers", Shape::Text)]))];

pub(super) const LEASE: &[Field] = &[
    METADATA,
    one(
        2,
        "spec",
        Shape::Message(&[
            pointer(1, "holderIdentity", Shape::Text),
            pointer(2, "leaseDurationSeconds", Shape::Number),
            pointer(3, "acquireTime", Shape::MicroTime),
            pointer(4, "renewTime", Shape::MicroTime),
            pointer(5, "leaseTransitions", Shape::Number),
            pointer(6, "strategy", Shape::Text),
            pointer(7, "preferredHolder", Shape::Text),
        ]),
    ),
];

const RULES: Field = list(
    2,
    "rules",
    Shape::Message(&[
        list(1, "verbs", Shape::Text),
        list(2, "apiGroups", Shape::Text),
        list(3, "resources", Shape::Text),
        list(4, "resourceNames", Shape::Text),
        list(5, "nonResourceURLs", Shape::Text),
    ]),
);

pub(super) const ROLE: &[Field] = &[METADATA, RULES];

const LABEL_SELECTOR: &[Field] = &[
    one(1, "matchLabels", Shape::Texts),
    list(2, "matchExpressions", Shape::Message(&[text(1, "key"), text(2, "operator"), list(3, "values", Shape::Text)])),
];

pub(super) const CLUSTER_ROLE: &[Field] = &[
    METADATA,
    RULES,
    pointer(3, "aggregationRule", Shape::Message(&[list(1, "clusterRoleSelectors", Shape::Message(LABEL_SELECTOR))])),
];

pub(super) const ROLE_BINDING: &[Field] = &[
    METADATA,
    list(2, "subjects", Shape::Message(&[text(1, "kind"), text(2, "apiGroup"), text(3, "name"), text(4, "namespace")])),
    one(3, "roleRef", Shape::Message(&[text(1, "apiGroup"), text(2, "kind"), text(3, "name")])),
];

/// The envelope of every message (`runtime.Unknown`).
pub(super) const UNKNOWN: &[Field] = &[
    one(1, "typeMeta", Shape::Message(&[text(1, "apiVersion"), text(2, "kind")])),
    one(2, "raw", Shape::Bytes),
    text(3, "contentEncoding"),
    text(4, "contentType"),
];

pub(super) const SERVICE: &[Field] = &[METADATA, one(2, "spec", Shape::Message(SERVICE_SPEC))];

const SERVICE_SPEC: &[Field] = &[
    list(1, "ports", Shape::Message(SERVICE_PORT)),
    one(2, "selector", Shape::Texts),
    text(3, "clusterIP"),
    text(4, "type"),
    list(5, "externalIPs", Shape::Text),
    text(7, "sessionAffinity"),
    text(8, "loadBalancerIP"),
    list(9, "loadBalancerSourceRanges", Shape::Text),
    text(10, "externalName"),
    text(11, "externalTrafficPolicy"),
    one(12, "healthCheckNodePort", Shape::Number),
    one(13, "publishNotReadyAddresses", Shape::Switch),
    pointer(17, "ipFamilyPolicy", Shape::Text),
    list(18, "clusterIPs", Shape::Text),
    list(19, "ipFamilies", Shape::Text),
    pointer(20, "allocateLoadBalancerNodePorts", Shape::Switch),
    pointer(21, "loadBalancerClass", Shape::Text),
    pointer(22, "internalTrafficPolicy", Shape::Text),
];

const SERVICE_PORT: &[Field] = &[
    text(1, "name"),
    text(2, "protocol"),
    one(3, "port", Shape::Number),
    one(4, "targetPort", Shape::NumberOrText),
    one(5, "nodePort", Shape::Number),
    pointer(6, "appProtocol", Shape::Text),
];

pub(super) const SELF_REVIEW: &[Field] = &[METADATA];

pub(super) const TOKEN_REVIEW: &[Field] = &[METADATA, one(2, "spec", Shape::Message(TOKEN))];

const TOKEN: &[Field] = &[text(1, "token"), list(2, "audiences", Shape::Text)];

pub(super) const RULES_REVIEW: &[Field] = &[METADATA, one(2, "spec", Shape::Message(PLACE))];

const PLACE: &[Field] = &[text(1, "namespace")];

/// What is asked of oneself has no user and no groups.
pub(super) const ACCESS_REVIEW: &[Field] = &[METADATA, one(2, "spec", Shape::Message(ACCESS))];

const ACCESS: &[Field] = &[
    pointer(1, "resourceAttributes", Shape::Message(RESOURCE_ATTRIBUTES)),
    pointer(2, "nonResourceAttributes", Shape::Message(PATH_ATTRIBUTES)),
    text(3, "user"),
    list(4, "groups", Shape::Text),
    text(6, "uid"),
];

const RESOURCE_ATTRIBUTES: &[Field] = &[
    text(1, "namespace"),
    text(2, "verb"),
    text(3, "group"),
    text(4, "version"),
    text(5, "resource"),
    text(6, "subresource"),
    text(7, "name"),
];

const PATH_ATTRIBUTES: &[Field] = &[text(1, "path"), text(2, "verb")];
