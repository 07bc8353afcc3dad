//! `pods/log`: what a container has written. Nothing runs in containers, so that it is always nothing.

use bytes::Bytes;
use http::{StatusCode, Uri};
use kube_model::{ApiError, Server, Target};
use serde_json::Value;

use super::front::{Answer, plain};

/// Answers for a container of a pod, which must be there.
pub(super) fn serve(server: &Server, namespace: &str, pod: &str, uri: &Uri) -> Result<Answer, ApiError> {
    let target = Target {
        version: "v1".into(),
        plural: "pods".into(),
        namespace: namespace.into(),
        name: pod.into(),
        ..Target::default()
    };
    let object = server.get(&target, false)?;
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let asked = query.into_iter().find(|(key, _)| key == "container").map(|(_, name)| name.into_owned());
    let names = |list: &str| -> Vec<&str> {
        let containers = object["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|container| container["name"].as_str()).collect()
    };
    match (asked, names("containers").as_slice()) {
        (Some(asked), _) if is_known(&object, &asked) => {}
        (Some(asked), _) => {
            return Err(ApiError::bad_request(format!("container {asked} is not valid for pod {pod}")));
        }
        (None, [_]) => {}
        (None, several) => {
            let why =
                format!("a container name must be specified for pod {pod}, choose one of: [{}]", several.join(" "));
            return Err(ApiError::bad_request(why));
        }
    }
    Ok(plain(StatusCode::OK, "text/plain", Bytes::new()))
}

fn is_known(pod: &Value, container: &str) -> bool {
    ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .any(|known| known["name"] == container)
}
