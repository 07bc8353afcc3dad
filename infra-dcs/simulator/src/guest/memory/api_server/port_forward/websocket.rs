//! Port-forward over a WebSocket: two channels for each port, data and error, told by the first byte of each message
//! (`cri-streaming/pkg/streaming/portforward/websocket.go`). The first message of a channel is its port, little-endian.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    CHANNELS, Io,
    pump::{self, CHUNKS, Pod, Sink},
    switching, text, values,
};
use crate::guest::memory::api_server::front::Answer;

/// Largest message; clients send what they read, a few KiB.
const MESSAGE_LIMIT: usize = 4 << 20;
/// Ports of one request.
const PORTS: usize = 32;

/// Agrees on a subprotocol and reads the ports.
pub(super) fn handshake(headers: &HeaderMap, uri: &Uri) -> Result<(Answer, Vec<u16>), Answer> {
    let ports = ports(uri).map_err(|why| text(StatusCode::BAD_REQUEST, &why))?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let is_known = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let Some(key) = key.filter(|_| is_known) else {
        return Err(text(StatusCode::BAD_REQUEST, "missing or bad WebSocket-Key or version"));
    };
    let mut answer = switching("websocket");
    let offered: Vec<_> = values(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    if offered.contains(&CHANNELS) {
        answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(CHANNELS));
    } else if !offered.is_empty() {
        return Err(text(StatusCode::FORBIDDEN, ""));
    }
    let accepted = derive_accept_key(key.as_bytes());
    let accepted = HeaderValue::from_str(&accepted)
        .map_err(|_| text(StatusCode::BAD_REQUEST, "missing or bad WebSocket-Key or version"))?;
    answer.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    Ok((answer, ports))
}

fn ports(uri: &Uri) -> Result<Vec<u16>, String> {
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut ports = Vec::new();
    for (_, value) in query.filter(|(key, _)| key == "ports" || key == "port") {
        for part in value.split(',') {
            match part.parse::<u16>() {
                Ok(0) => return Err("port \"0\" must be > 0".to_owned()),
                Ok(port) => ports.push(port),
                Err(_) => return Err(format!("unable to parse {value:?} as a port")),
            }
        }
    }
    match ports.len() {
        0 => Err("query parameter \"ports\" is required".to_owned()),
        1..=PORTS => Ok(ports),
        _ => Err(format!("too many ports: at most {PORTS} can be forwarded by one request")),
    }
}

/// A channel towards the client.
struct Channel {
    number: u8,
    messages: mpsc::Sender<Message>,
}

impl Channel {
    async fn write(&self, bytes: &[u8]) -> Result<(), ()> {
        let mut message = BytesMut::with_capacity(bytes.len() + 1);
        message.put_u8(self.number);
        message.put_slice(bytes);
        self.messages.send(Message::Binary(message.freeze())).await.map_err(drop)
    }
}

impl Sink for Channel {
    async fn send(&mut self, bytes: Bytes) -> Result<(), ()> {
        self.write(&bytes).await
    }
}

/// Forwards the ports until all have ended or the client leaves.
pub(super) async fn run(stream: Io, pod: Pod, ports: Vec<u16>) {
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_LIMIT)).max_frame_size(Some(MESSAGE_LIMIT));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (mut sink, mut source) = socket.split();
    let (messages, mut outgoing) = mpsc::channel(CHUNKS);
    let mut inputs = HashMap::new();
    let mut forwards = JoinSet::new();
    for (number, port) in (0_u8..).step_by(2).zip(ports) {
        let (input, from_client) = mpsc::channel(CHUNKS);
        inputs.insert(number, input);
        forwards.spawn(forward(pod.clone(), port, number, messages.clone(), from_client));
    }
    // With the last port the last sender goes, and with it the connection.
    drop(messages);
    let writing = async {
        while let Some(message) = outgoing.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // A client that is gone needs no farewell.
        let _ = sink.close().await;
    };
    let reading = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(mut bytes) if !bytes.is_empty() => {
                    let number = bytes.split_to(1).first().copied().unwrap_or_default();
                    let Some(input) = inputs.get(&number) else { continue };
                    if !bytes.is_empty() && input.send(bytes).await.is_err() {
                        inputs.remove(&number);
                    }
                }
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

async fn forward(pod: Pod, port: u16, number: u8, messages: mpsc::Sender<Message>, from_client: mpsc::Receiver<Bytes>) {
    let data = Channel { number, messages: messages.clone() };
    let error = Channel { number: number + 1, messages };
    for channel in [&data, &error] {
        if channel.write(&port.to_le_bytes()).await.is_err() {
            return;
        }
    }
    match pod.connect(port).await {
        Ok(stream) => pump::run(stream, from_client, data).await,
        // Nobody may be left to read it.
        Err(why) => drop(error.write(why.as_bytes()).await),
    }
}
