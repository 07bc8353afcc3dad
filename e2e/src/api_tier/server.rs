//! The API server as the checks use it: plain JSON in and out.

use anyhow::{Context, Result, bail, ensure};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::Value;
use tokio::process::Command;

use super::objects::NAMESPACE;
use crate::{management::Management, process};

/// What an answer is: the object, or the refusal's text.
pub type Answer = Result<Value, String>;

/// The API server, as a user with all rights.
pub struct Server<'a> {
    management: &'a Management,
}

impl<'a> Server<'a> {
    pub fn new(management: &'a Management) -> Self {
        Self { management }
    }

    /// Client with all rights.
    pub fn client(&self) -> Client {
        self.management.client.clone()
    }

    fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &format!("{}s", kind.kind.to_lowercase()));
        Api::namespaced_with(self.client(), NAMESPACE, &resource)
    }

    fn api_of(&self, object: &Value) -> Api<DynamicObject> {
        self.api(text(object, "apiVersion"), text(object, "kind"))
    }

    /// Creates an object.
    pub async fn create(&self, object: &Value) -> Answer {
        let created = self.api_of(object).create(&PostParams::default(), &typed(object)?).await;
        answer(created)
    }

    /// Creates an object without storing it.
    pub async fn create_dry(&self, object: &Value) -> Answer {
        let unstored = PostParams { dry_run: true, ..PostParams::default() };
        answer(self.api_of(object).create(&unstored, &typed(object)?).await)
    }

    /// Reads an object at a version.
    pub async fn get(&self, api_version: &str, kind: &str, name: &str) -> Answer {
        answer(self.api(api_version, kind).get(name).await)
    }

    /// Writes a whole object.
    pub async fn replace(&self, object: &Value) -> Answer {
        let name = text(&object["metadata"], "name");
        answer(self.api_of(object).replace(name, &PostParams::default(), &typed(object)?).await)
    }

    /// Writes the status of an object.
    pub async fn replace_status(&self, object: &Value) -> Answer {
        let name = text(&object["metadata"], "name");
        answer(self.api_of(object).replace_status(name, &PostParams::default(), &typed(object)?).await)
    }

    /// Server-side apply by a field manager, which gives way to others.
    pub async fn apply(&self, manager: &str, object: &Value) -> Answer {
        let name = text(&object["metadata"], "name");
        answer(self.api_of(object).patch(name, &PatchParams::apply(manager), &Patch::Apply(object)).await)
    }

    /// Wants another number of machines, as `kubectl scale` does.
    pub async fn scale(&self, api_version: &str, kind: &str, name: &str, replicas: i64) -> Answer {
        let api = self.api(api_version, kind);
        let patch = serde_json::json!({"spec": {"replicas": replicas}});
        let scaled = api.patch_scale(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match scaled {
            Ok(scale) => serde_json::to_value(scale).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// kubectl with these arguments; its standard output.
    pub async fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut kubectl: Command = self.management.kubectl();
        kubectl.args(arguments);
        process::output(&mut kubectl, input.map(str::as_bytes)).await
    }
}

fn typed(object: &Value) -> Result<DynamicObject, String> {
    serde_json::from_value(object.clone()).map_err(|error| error.to_string())
}

fn answer(result: Result<DynamicObject, kube::Error>) -> Answer {
    let object = result.map_err(|error| error.to_string())?;
    serde_json::to_value(object).map_err(|error| error.to_string())
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// The object of an answer that must be one.
pub fn accepted(answer: Answer) -> Result<Value> {
    answer.map_err(anyhow::Error::msg).context("the API server refused it")
}

/// An answer that must be a refusal with these texts in it.
pub fn refused(answer: Answer, texts: &[&str]) -> Result<()> {
    let Err(refusal) = answer else { bail!("the API server took it") };
    for text in texts {
        ensure!(refusal.contains(text), "the refusal does not say {text:?}: {refusal}");
    }
    Ok(())
}

/// Two values that must be the same.
pub fn same(what: &str, found: &Value, wanted: &Value) -> Result<()> {
    ensure!(found == wanted, "{what} is {found}, not {wanted}");
    Ok(())
}
