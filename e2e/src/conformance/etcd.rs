//! etcd behind a port-forward, asked by its own client, etcdctl.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, client::Body};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, copy_bidirectional},
    net::TcpListener,
};

use super::{Corner, answer::Transcript, checks};
use crate::process;

checks! {
    Look: members, forwarded_by_kubectl, refused_forwards, refused_members;
}

const ANSWER: Duration = Duration::from_secs(30);

/// Files that etcdctl is given.
struct Identity {
    arguments: [String; 3],
}

impl Identity {
    fn write(c: &Corner, check: &str) -> Result<Self> {
        let folder = c.subject.dir.join(format!("etcd-{check}"));
        fs::create_dir_all(&folder)?;
        let pair = c.subject.etcd_client()?;
        let file = |name: &str, text: &str| -> Result<String> {
            let path = folder.join(name);
            fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        let authority = file("ca.crt", c.subject.etcd_authority())?;
        let (certificate, key) = (file("client.crt", &pair.certificate)?, file("client.key", &pair.key)?);
        let arguments = [format!("--cacert={authority}"), format!("--cert={certificate}"), format!("--key={key}")];
        Ok(Self { arguments })
    }
}

/// What etcdctl says of the member behind a local port, as JSON.
async fn etcdctl(c: &Corner, identity: &Identity, port: u16, command: &[&str]) -> Result<Value> {
    let mut program = c.subject.program("etcdctl");
    program
        .arg(format!("--endpoints=127.0.0.1:{port}"))
        .args(&identity.arguments)
        .arg("--write-out=json")
        .args(command);
    let said = process::output(&mut program, None).await?;
    serde_json::from_str(&said).with_context(|| format!("etcdctl {} prints {said}", command.join(" ")))
}

/// A local port that leads to etcd on a node, through port-forwards of kube-rs (`v4.channel.k8s.io` over a WebSocket).
async fn forwarded(c: &Corner, node: &str) -> Result<(u16, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let pods: Api<Pod> = Api::namespaced(c.subject.client.clone(), "kube-system");
    let pod = format!("etcd-{node}");
    let task = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (pods, pod) = (pods.clone(), pod.clone());
            tokio::spawn(async move {
                let Ok(mut forward) = pods.portforward(&pod, &[2379]).await else { return };
                if let Some(mut far) = forward.take_stream(2379) {
                    // The client sees how its connection ended.
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                }
                forward.abort();
            });
        }
    });
    Ok((port, task))
}

/// Every member says the same of all: as many as machines, all vote, one leads, no alarm.
async fn members(c: &Corner) -> Result<Value> {
    let identity = Identity::write(c, "members")?;
    let mut said = Map::new();
    let mut leaders = Vec::new();
    for node in c.subject.control_plane() {
        let (port, task) = forwarded(c, &node.name).await?;
        let members = etcdctl(c, &identity, port, &["member", "list"]).await;
        let status = etcdctl(c, &identity, port, &["endpoint", "status"]).await;
        let alarms = etcdctl(c, &identity, port, &["alarm", "list"]).await;
        task.abort();
        let (members, mut status, alarms) = (members?, status?, alarms?);
        let listed = members["members"].as_array().cloned().unwrap_or_default();
        ensure!(listed.len() == c.subject.control_plane().count(), "{} lists {members}", node.name);
        let learns = |member: &Value| member["isLearner"] == true;
        ensure!(!listed.iter().any(learns), "a member still learns: {members}");
        let names: Vec<_> = listed.iter().filter_map(|member| member["name"].as_str()).collect();
        ensure!(c.subject.control_plane().all(|node| names.contains(&node.name.as_str())), "members are {names:?}");
        let own = listed.iter().find(|member| member["name"] == node.name.as_str());
        let own = own.with_context(|| format!("{} is no member", node.name))?;
        let status = status[0]["Status"].take();
        ensure!(status["header"]["member_id"] == own["ID"], "the pod of {} answers as {}", node.name, status["header"]);
        ensure!(status["dbSize"].as_u64().is_some_and(|bytes| bytes > 0), "its database is empty: {status}");
        ensure!(alarms["alarms"].as_array().is_none_or(Vec::is_empty), "alarms: {alarms}");
        leaders.push(status["leader"].clone());
        let fields = |value: &Value| value.as_object().into_iter().flat_map(Map::keys).cloned().collect::<Vec<_>>();
        said.insert("member".into(), own.as_object().map_or(Value::Null, |_| {
            json!({"fields": fields(own), "name": own["name"], "peerURLs": own["peerURLs"], "clientURLs": own["clientURLs"]})
        }));
        said.insert(
            "status".into(),
            json!({
                "version": status["version"], "storageVersion": status["storageVersion"],
                "errors": status["errors"], "fields": fields(&status),
            }),
        );
        said.insert("listHeader".into(), json!(fields(&members["header"])));
    }
    leaders.dedup();
    ensure!(leaders.len() == 1 && leaders[0] != 0, "members follow {leaders:?}");
    Ok(Value::Object(said))
}

/// `kubectl port-forward`, which speaks a tunnel over a WebSocket, or SPDY/3.1 where that is refused.
async fn forwarded_by_kubectl(c: &Corner) -> Result<Value> {
    let identity = Identity::write(c, "kubectl")?;
    let node = c.subject.control_plane().next().context("no control plane")?;
    let mut kubectl = c.subject.kubectl();
    kubectl.args(["port-forward", "--address=127.0.0.1", "--namespace=kube-system"]);
    kubectl.args([format!("pod/etcd-{}", node.name).as_str(), ":2379"]);
    let mut child = kubectl.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("kubectl has no output")?).lines();
    let line = tokio::time::timeout(ANSWER, lines.next_line()).await.context("kubectl does not forward")??;
    let Some(line) = line else {
        let mut why = String::new();
        child.stderr.take().context("kubectl has no errors")?.read_to_string(&mut why).await?;
        anyhow::bail!("kubectl port-forward ended: {why}");
    };
    let port = line.rsplit_once(" -> ").and_then(|(from, _)| from.rsplit_once(':')?.1.parse().ok());
    let port = port.with_context(|| format!("kubectl prints {line:?}"))?;
    let members = etcdctl(c, &identity, port, &["member", "list"]).await;
    child.kill().await?;
    let count = members?["members"].as_array().map_or(0, Vec::len);
    ensure!(count == c.subject.control_plane().count(), "{count} members");
    Ok(Value::Null)
}

fn upgrade(path: &str, protocol: &str) -> Result<Request<Body>> {
    let request = Request::builder().uri(path).header("connection", "Upgrade").header("upgrade", "websocket");
    let request = request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    Ok(request.header("sec-websocket-protocol", protocol).body(Body::from(Vec::new()))?)
}

/// What a port-forward that cannot be is answered with, protocol by protocol.
async fn refused_forwards(c: &Corner) -> Result<Value> {
    let node = c.subject.control_plane().next().context("no control plane")?;
    let path = |pod: &str| format!("/api/v1/namespaces/kube-system/pods/{pod}/portforward?ports=2379");
    let etcd = path(&format!("etcd-{}", node.name));
    let mut heard = Transcript::default();
    heard.add("without upgrade", &c.get(&etcd).await?);
    for (label, protocol) in
        [("channels", "v4.channel.k8s.io"), ("tunnel", "SPDY/3.1+portforward.k8s.io"), ("unknown", "v9.nothing.test")]
    {
        heard.add(label, &c.send(upgrade(&etcd, protocol)?).await?);
    }
    let missing = c.send(upgrade(&path("etcd-nowhere"), "v4.channel.k8s.io")?).await?;
    missing.refused(404, "NotFound")?;
    heard.add("missing pod", &missing);
    let ports = etcd.replace("ports=2379", "ports=0");
    heard.add("port 0", &c.send(upgrade(&ports, "v4.channel.k8s.io")?).await?);
    // Nobody listens: that is said in the channel of errors.
    let pods: Api<Pod> = Api::namespaced(c.subject.client.clone(), "kube-system");
    let mut forward = pods.portforward(&format!("etcd-{}", node.name), &[1]).await?;
    let why = forward.take_error(1).context("the port-forward has no channel of errors")?;
    // The forward begins with the first byte that is read or written.
    let stream = forward.take_stream(1);
    let why = tokio::time::timeout(ANSWER, why).await.context("no error of a closed port")?;
    drop(stream);
    forward.abort();
    ensure!(why.as_ref().is_some_and(|why| why.contains("connection refused")), "a closed port: {why:?}");
    heard.finish()
}

/// What etcd does not do.
async fn refused_members(c: &Corner) -> Result<Value> {
    let identity = Identity::write(c, "refused")?;
    let node = c.subject.control_plane().next().context("no control plane")?;
    let (port, task) = forwarded(c, &node.name).await?;
    let mut said = Map::new();
    for command in [
        &["member", "remove", "1234567890abcdef"][..],
        &["member", "promote", "1234567890abcdef"],
        &["member", "add", "again", &format!("--peer-urls=https://{}:2380", node.address)],
    ] {
        let label = command[..2].join(" ");
        let outcome = etcdctl(c, &identity, port, command).await;
        let why = outcome.err().with_context(|| format!("etcd agreed to {label}"))?;
        let last = format!("{why:#}").lines().last().unwrap_or_default().to_owned();
        // Before the error stand a moment and the place in a client's source.
        let message = last.split_once("Error: ").map_or(last.as_str(), |(_, message)| message);
        said.insert(label, json!(message));
    }
    task.abort();
    Ok(Value::Object(said))
}
