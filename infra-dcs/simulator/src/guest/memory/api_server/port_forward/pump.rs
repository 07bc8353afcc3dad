//! One forwarded port: bytes between a client's channel and a pod, whatever carries the channel.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use super::super::{PodPorts, PodStream};

/// Chunks that wait for a pod that reads slowly.
pub(super) const CHUNKS: usize = 8;
/// Bytes that are read from a pod at a time.
const READ: usize = 16 * 1024;
/// How long a process may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A pod whose ports are forwarded.
#[derive(Clone)]
pub(super) struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub ports: Arc<dyn PodPorts>,
}

impl Pod {
    /// Connects to a port; an error is the text that clients get on their error channel.
    pub async fn connect(&self, port: u16) -> Result<Box<dyn PodStream>, String> {
        let connecting = self.ports.connect(&self.namespace, &self.name, port);
        let connected = timeout(CONNECT_LIMIT, connecting).await;
        connected
            .unwrap_or_else(|_| Err("connection timed out".to_owned()))
            .map_err(|why| format!("error forwarding port {port} to pod {}, uid {}: {why}", self.name, self.uid))
    }
}

/// Where bytes of a pod go; an error ends the port, because nobody listens any more.
pub(super) trait Sink {
    /// Hands bytes on.
    fn send(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), ()>> + Send;
}

/// Carries bytes both ways until the pod has said all, or the client is gone. A client that has said all is told to the
/// pod, and may go on listening.
pub(super) async fn run(stream: Box<dyn PodStream>, mut from_client: mpsc::Receiver<Bytes>, mut to_client: impl Sink) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let upward = async {
        while let Some(bytes) = from_client.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The pod may have closed already.
        let _ = writer.shutdown().await;
    };
    let downward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ);
            match reader.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) if to_client.send(buffer.split().freeze()).await.is_err() => return,
                Ok(_) => {}
            }
        }
    };
    tokio::pin!(downward);
    tokio::select! {
        () = &mut downward => {}
        () = upward => downward.await,
    }
}
