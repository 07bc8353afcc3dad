//! Conversion reviews: objects of one API version in, the same objects in another out.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

pub(super) fn convert(body: &[u8], convert: fn(Value, &str) -> Result<Value, String>) -> Response {
    let mut review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("not a ConversionReview: {error}")).into_response(),
    };
    let request = review["request"].take();
    let (uid, desired) = (request["uid"].clone(), request["desiredAPIVersion"].as_str().unwrap_or_default().to_owned());
    let Value::Array(objects) = request["objects"].clone() else {
        return (StatusCode::BAD_REQUEST, "not a ConversionReview: it has no objects").into_response();
    };
    let converted: Result<Vec<Value>, String> = objects
        .into_iter()
        .map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            convert(object, &desired).map_err(|error| format!("{name}: {error}"))
        })
        .collect();
    let response = match converted {
        Ok(objects) => json!({"uid": uid, "convertedObjects": objects, "result": {"status": "Success"}}),
        Err(message) => {
            json!({"uid": uid, "convertedObjects": [], "result": {"status": "Failure", "message": message}})
        }
    };
    Json(json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response}))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(response: Response) -> Value {
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()["response"].clone()
    }

    fn review(objects: &Value) -> Vec<u8> {
        json!({"request": {"uid": "u", "desiredAPIVersion": "g/v2", "objects": objects}}).to_string().into_bytes()
    }

    #[tokio::test]
    async fn all_objects_come_back_or_none_does() {
        let upgrade: fn(Value, &str) -> Result<Value, String> = |mut object, desired| {
            if object["bad"] == true {
                return Err("spec.x: cannot be said in g/v2".to_owned());
            }
            object["apiVersion"] = json!(desired);
            Ok(object)
        };
        let good = said(convert(&review(&json!([{"apiVersion": "g/v1"}, {"apiVersion": "g/v1"}])), upgrade)).await;
        assert_eq!(good["convertedObjects"], json!([{"apiVersion": "g/v2"}, {"apiVersion": "g/v2"}]));
        let bad = review(&json!([{"apiVersion": "g/v1"}, {"bad": true, "metadata": {"name": "b"}}]));
        let bad = said(convert(&bad, upgrade)).await;
        assert_eq!(bad["convertedObjects"], json!([]));
        assert_eq!(bad["result"]["message"], "b: spec.x: cannot be said in g/v2");
    }
}
