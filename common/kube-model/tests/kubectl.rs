//! An unmodified kubectl, which `KUBE_MODEL_KUBECTL` names, against the model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    sync::Arc,
};

use common::Counting;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use kube_model::{Options, Server, transport::HttpServer};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpListener, process::Command};

/// A model behind a port of the loopback, and kubectl with a home of its own.
struct Ground {
    kubectl: String,
    server: String,
    home: PathBuf,
}

impl Ground {
    async fn start(name: &str) -> Self {
        let kubectl = std::env::var("KUBE_MODEL_KUBECTL").expect("KUBE_MODEL_KUBECTL names a kubectl");
        let home = std::env::temp_dir().join(format!("kube-model-kubectl-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let model = Server::new(Arc::new(Counting::default()), Options::default());
        let model = HttpServer::new(Arc::new(model), "v1.36.3");
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let service = TowerToHyperService::new(model.clone());
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service);
                tokio::spawn(serving);
            }
        });
        Self { kubectl, server, home }
    }

    async fn output(&self, arguments: &str, input: &str) -> Output {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.args(["--server", &self.server]).args(arguments.split(' '));
        kubectl.env("HOME", &self.home).env("KUBECONFIG", self.home.join("none"));
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().expect("kubectl starts");
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        child.wait_with_output().await.unwrap()
    }

    /// Standard output of a command that must work, and say nothing else.
    async fn run(&self, arguments: &str, input: &str) -> String {
        let output = self.output(arguments, input).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && errors.is_empty(), "kubectl {arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command says that must fail.
    async fn fail(&self, arguments: &str, input: &str) -> String {
        let output = self.output(arguments, input).await;
        assert!(!output.status.success(), "kubectl {arguments}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// A table without the run of spaces between its columns.
fn squeezed(table: &str) -> Vec<String> {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn deployment(image: &str, more: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 2\n  selector: {{matchLabels: \
         {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      containers:\n      - \
         {{name: a, image: {image}}}\n      - {{name: b, image: two}}\n{more}"
    )
}

fn widgets() -> String {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "description": "What is wanted.", "properties": {
                        "size": {"type": "integer", "description": "How large it is."}}},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}}}]},
    })
    .to_string()
}

fn widget(size: i64) -> String {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": size}})
        .to_string()
}

#[tokio::test]
#[ignore = "needs a kubectl: the api tier runs it"]
async fn built_in_kinds_are_applied_and_shown() {
    let ground = Ground::start("built-in").await;
    assert_eq!(ground.run("apply -f -", &deployment("one", "")).await, "deployment.apps/web created\n");
    assert_eq!(ground.run("apply -f -", &deployment("one", "")).await, "deployment.apps/web unchanged\n");
    assert_eq!(ground.run("apply -f -", &deployment("three", "")).await, "deployment.apps/web configured\n");
    let images = "get deployment web -o jsonpath={.spec.template.spec.containers[*].image}";
    assert_eq!(ground.run(images, "").await, "three two");
    let difference = ground.fail("diff -f -", &deployment("four", "")).await;
    assert!(difference.contains("image: three") && difference.contains("image: four"), "{difference}");
    let refused = ground.fail("apply -f -", &deployment("one", "  replica: 3\n")).await;
    assert!(refused.contains("strict decoding error: unknown field \"spec.replica\""), "{refused}");
    let refused = ground.fail("apply --server-side -f -", &deployment("one", "  replica: 3\n")).await;
    assert!(refused.contains(".spec.replica: field not declared in schema"), "{refused}");
    let shown = squeezed(&ground.run("get deployments,pods -A -o wide", "").await);
    assert_eq!(shown[0], "NAMESPACE NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR");
    assert!(
        shown[1].starts_with("default deployment.apps/web 0/2 0 0 ") && shown[1].ends_with("s a,b three,two app=web"),
        "{shown:?}"
    );
    let names = ground.run("get all -o name", "").await;
    assert_eq!(names, "deployment.apps/web\n");
    let described = ground.run("describe deployment web", "").await;
    assert!(described.contains("Image:") && described.contains("three"), "{described}");
    ground.run("label deployment web a=b", "").await;
    ground.run("set image deployment/web a=five", "").await;
    assert_eq!(ground.run(images, "").await, "five two");
    assert!(ground.run("delete deployment web", "").await.starts_with("deployment.apps \"web\" deleted"));
    ground.run("wait --for=delete deployment/web --timeout=60s", "").await;
}

#[tokio::test]
#[ignore = "needs a kubectl: the api tier runs it"]
async fn nodes_are_shown_and_cordoned() {
    let ground = Ground::start("nodes").await;
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": ""}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.3"}},
    });
    ground.run("create -f -", &node.to_string()).await;
    let shown = squeezed(&ground.run("get nodes", "").await);
    assert_eq!(shown[0], "NAME STATUS ROLES AGE VERSION");
    assert!(shown[1].starts_with("n Ready worker ") && shown[1].ends_with(" v1.36.3"), "{shown:?}");
    ground.run("cordon n", "").await;
    assert!(ground.run("get node n", "").await.contains("Ready,SchedulingDisabled"));
    let described = ground.run("describe node n", "").await;
    assert!(squeezed(&described).contains(&"Unschedulable: true".to_owned()), "{described}");
    ground.run("drain n", "").await;
}

#[tokio::test]
#[ignore = "needs a kubectl: the api tier runs it"]
async fn fields_are_explained() {
    let ground = Ground::start("explain").await;
    let explained = ground.run("explain deployment.spec.template.spec.containers", "").await;
    assert!(
        explained.contains("FIELD: containers <[]Container>") && explained.contains("imagePullPolicy"),
        "{explained}"
    );
    let explained = ground.run("explain nodes --recursive", "").await;
    assert!(explained.contains("kubeletVersion\t<string>"), "{explained}");
    let explained = ground.run("explain crd.spec.versions.schema", "").await;
    assert!(explained.contains("openAPIV3Schema\t<JSONSchemaProps>"), "{explained}");
    let older = ground.run("explain pod.spec.nodeName --output=plaintext-openapiv2", "").await;
    assert!(older.contains("FIELD:    nodeName <string>"), "{older}");
    ground.run("apply -f -", &widgets()).await;
    let explained = ground.run("explain widget.spec.size", "").await;
    assert!(explained.contains("FIELD: size <integer>") && explained.contains("How large it is."), "{explained}");
}

#[tokio::test]
#[ignore = "needs a kubectl: the api tier runs it"]
async fn custom_resources_are_applied_and_shown() {
    let ground = Ground::start("custom").await;
    ground.run("apply -f -", &widgets()).await;
    ground.run("wait --for=condition=Established crd/widgets.example.com --timeout=60s", "").await;
    assert_eq!(ground.run("apply -f -", &widget(1)).await, "widget.example.com/w created\n");
    assert_eq!(ground.run("apply -f -", &widget(2)).await, "widget.example.com/w configured\n");
    assert_eq!(ground.run("apply -f -", &widget(2)).await, "widget.example.com/w unchanged\n");
    assert_eq!(squeezed(&ground.run("get widgets", "").await), ["NAME SIZE", "w 2"]);
    let refused = ground.fail("apply -f -", &widget(1).replace("size", "sizee")).await;
    assert!(refused.contains("strict decoding error: unknown field \"spec.sizee\""), "{refused}");
    let patch = r#"patch widget w --type=merge --subresource=status -p {"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    ground.run(patch, "").await;
    ground.run("wait --for=condition=Ready widget/w --timeout=60s", "").await;
    let described = ground.run("describe widget w", "").await;
    assert!(squeezed(&described).contains(&"Size: 2".to_owned()), "{described}");
    ground.run("delete widget w", "").await;
}
