//! `pods/log`: what a container has written. Nothing runs in containers, so that it is nothing, but for what a component of
//! the control plane says when it cannot start.

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
    let container = match (asked, names("containers").as_slice()) {
        (Some(asked), _) if is_known(&object, &asked) => asked,
        (Some(asked), _) => {
            return Err(ApiError::bad_request(format!("container {asked} is not valid for pod {pod}")));
        }
        (None, [only]) => (*only).to_owned(),
        (None, several) => {
            let why =
                format!("a container name must be specified for pod {pod}, choose one of: [{}]", several.join(" "));
            return Err(ApiError::bad_request(why));
        }
    };
    Ok(plain(StatusCode::OK, "text/plain", last_words(&object, &container).into()))
}

/// What a container said that ends as soon as it is started.
fn last_words(pod: &Value, container: &str) -> String {
    let mut statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let waiting = statuses.find(|status| status["name"] == container).map(|status| &status["state"]["waiting"]);
    let crash = waiting.filter(|waiting| waiting["reason"] == "CrashLoopBackOff");
    crash.and_then(|waiting| waiting["message"].as_str()).map(|said| format!("{said}\n")).unwrap_or_default()
}

fn is_known(pod: &Value, container: &str) -> bool {
    ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .any(|known| known["name"] == container)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_who_cannot_start_has_said_anything() {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "Error: unknown flag: --x"}});
        let pod = json!({"status": {"containerStatuses": [
            {"name": "crashed", "state": waiting("CrashLoopBackOff")},
            {"name": "pulled", "state": waiting("ImagePullBackOff")},
            {"name": "running", "state": {"running": {}}},
        ]}});
        assert_eq!(last_words(&pod, "crashed"), "Error: unknown flag: --x\n");
        for name in ["pulled", "running", "other"] {
            assert_eq!(last_words(&pod, name), "");
        }
    }
}
