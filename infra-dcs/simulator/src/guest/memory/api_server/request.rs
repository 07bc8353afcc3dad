//! What a request asks for, as authorization sees it (`apiserver/pkg/endpoints/request/requestinfo.go`).

use http::{Method, Uri};

/// A request's verb and object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    /// Lower-case HTTP method of a path, or the verb on a resource.
    pub verb: String,
    /// The path as it came.
    pub path: String,
    /// The resource; none for other paths.
    pub resource: Option<ResourceAttributes>,
}

/// The object of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResourceAttributes {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name, or empty. A list that selects one name is about that one.
    pub name: String,
    /// Name of the node that a field selector asks for, or empty.
    pub selected_node: String,
}

impl ResourceAttributes {
    /// Resource and subresource, as rules name them.
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

impl Attributes {
    /// Reads a request line.
    pub fn read(method: &Method, uri: &Uri) -> Self {
        let path = uri.path().to_owned();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, rest) = match parts.as_slice() {
            ["api", _, rest @ ..] if !rest.is_empty() => ("", rest),
            ["apis", group, _, rest @ ..] if !rest.is_empty() => (*group, rest),
            _ => return Self { verb: method.as_str().to_lowercase(), path, resource: None },
        };
        let (namespace, rest) = match rest {
            ["namespaces", name, "status" | "finalize", ..] | ["namespaces", name] => (*name, rest),
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        let mut resource = ResourceAttributes {
            group: group.to_owned(),
            resource: part(0),
            name: part(1),
            subresource: part(2),
            namespace: namespace.to_owned(),
            selected_node: String::new(),
        };
        let is_collection = resource.name.is_empty();
        let verb = match (method.as_str(), is_collection) {
            ("GET" | "HEAD", true) => resource.read_selectors(uri),
            ("GET" | "HEAD", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            _ => "",
        };
        Self { verb: verb.to_owned(), path, resource: Some(resource) }
    }

    /// Whether it changes objects.
    pub fn is_write(&self) -> bool {
        self.resource.is_some() && !["get", "list", "watch"].contains(&self.verb.as_str())
    }

    /// A request to a subresource of a pod: the pod's namespace and name.
    pub fn of_pod(&self, subresource: &str) -> Option<(&str, &str)> {
        let resource = self.resource.as_ref()?;
        (resource.group.is_empty() && resource.resource == "pods" && resource.subresource == subresource)
            .then_some((resource.namespace.as_str(), resource.name.as_str()))
    }
}

impl ResourceAttributes {
    /// Reads the query of a list or a watch; gives which of both it is.
    fn read_selectors(&mut self, uri: &Uri) -> &'static str {
        let mut verb = "list";
        for (key, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "watch" if !["false", "0"].contains(&value.to_lowercase().as_str()) => verb = "watch",
                "fieldSelector" => {
                    for term in value.split(',') {
                        let Some((field, wanted)) = term.split_once('=').filter(|(field, _)| !field.ends_with('!'))
                        else {
                            continue;
                        };
                        let wanted = wanted.trim_start_matches('=');
                        match field {
                            "metadata.name" => wanted.clone_into(&mut self.name),
                            "spec.nodeName" => wanted.clone_into(&mut self.selected_node),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        verb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, uri: &str) -> (String, Option<String>) {
        let attributes = Attributes::read(&method.parse().unwrap(), &uri.parse().unwrap());
        let shown = attributes.resource.map(|resource| {
            let full = resource.full_resource();
            [resource.group, resource.namespace, full, resource.name, resource.selected_node].join("|")
        });
        (attributes.verb, shown)
    }

    #[test]
    fn paths_and_queries() {
        let of = |verb: &str, shown: &str| (verb.to_owned(), Some(shown.to_owned()));
        assert_eq!(read("GET", "/api/v1"), ("get".into(), None));
        assert_eq!(read("POST", "/healthz"), ("post".into(), None));
        assert_eq!(read("GET", "/api/v1/nodes/a"), of("get", "||nodes|a|"));
        assert_eq!(read("PUT", "/api/v1/namespaces/n"), of("update", "|n|namespaces|n|"));
        assert_eq!(read("PUT", "/api/v1/namespaces/n/finalize"), of("update", "|n|namespaces/finalize|n|"));
        assert_eq!(read("GET", "/apis/apps/v1/namespaces/n/deployments?watch=1"), of("watch", "apps|n|deployments||"));
        assert_eq!(read("DELETE", "/api/v1/namespaces/n/pods"), of("deletecollection", "|n|pods||"));
        assert_eq!(read("GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Da"), of("list", "||pods||a"));
        assert_eq!(
            read("GET", "/api/v1/namespaces/n/configmaps?fieldSelector=metadata.name%3Dm,metadata.namespace!%3Dx"),
            of("list", "|n|configmaps|m|")
        );
        assert_eq!(read("POST", "/api/v1/namespaces/n/pods/p/eviction"), of("create", "|n|pods/eviction|p|"));
    }
}
