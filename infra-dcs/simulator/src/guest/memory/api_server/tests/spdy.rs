//! Port-forward over SPDY, with a client of our own.

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Bed;
use crate::guest::memory::api_server::port_forward::spdy::frame::{Decoder, Encoder, Frame};

const PATH: &str = "/api/v1/namespaces/kube-system/pods/p/portforward";

/// An answer: its head, and the connection behind it.
async fn ask(bed: &Bed, method: &str, headers: &[(&str, &str)]) -> (String, TlsStream<TcpStream>) {
    let pair = bed.authority.client("kubernetes-admin", &["kubeadm:cluster-admins"]);
    let tls = bed.authority.client_tls(Some(&pair), &["http/1.1"]);
    let stream = TcpStream::connect(bed.api.address()).await.unwrap();
    let mut stream = TlsConnector::from(tls).connect("kubernetes".try_into().unwrap(), stream).await.unwrap();
    let mut head = format!("{method} {PATH}?ports=7 HTTP/1.1\r\nHost: kubernetes\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(answer).unwrap().to_lowercase(), stream)
}

struct Spdy {
    stream: TlsStream<TcpStream>,
    encoder: Encoder,
    decoder: Decoder,
    arrived: BytesMut,
}

impl Spdy {
    async fn connect(bed: &Bed) -> Self {
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "SPDY/3.1"),
            ("X-Stream-Protocol-Version", "portforward.k8s.io"),
            ("Content-Length", "0"),
        ];
        let (head, stream) = ask(bed, "POST", &headers).await;
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains("upgrade: spdy/3.1") && head.contains("x-stream-protocol-version: portforward.k8s.io"));
        Self { stream, encoder: Encoder::new().unwrap(), decoder: Decoder::default(), arrived: BytesMut::new() }
    }

    async fn send(&mut self, frame: Frame) {
        let mut out = BytesMut::new();
        self.encoder.put(&frame, &mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    async fn begin(&mut self, id: u32, kind: &str, port: &str, request: &str) {
        let headers = [("streamtype", kind), ("port", port), ("requestid", request)];
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.send(Frame::SynStream { id, headers, is_last: false }).await;
    }

    async fn say(&mut self, id: u32, text: &'static str, is_last: bool) {
        self.send(Frame::Data { id, is_last, bytes: Bytes::from_static(text.as_bytes()) }).await;
    }

    async fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next(&mut self.arrived).unwrap() {
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.arrived).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn expect(&mut self, expected: Frame) {
        assert_eq!(self.hear().await, Some(expected));
    }
}

fn data(id: u32, text: &'static str, is_last: bool) -> Frame {
    Frame::Data { id, is_last, bytes: Bytes::from_static(text.as_bytes()) }
}

#[tokio::test]
async fn pairs_of_streams_are_forwarded_each_by_itself() {
    let bed = Bed::new().await;
    bed.create_pod("p", "a");
    let mut spdy = Spdy::connect(&bed).await;
    for (error, request) in [(1, "0"), (5, "1")] {
        spdy.begin(error, "error", "7", request).await;
        spdy.expect(Frame::SynReply { id: error }).await;
        // As client-go does: it will say nothing about errors.
        spdy.say(error, "", true).await;
        spdy.begin(error + 2, "data", "7", request).await;
        spdy.expect(Frame::SynReply { id: error + 2 }).await;
    }
    spdy.say(7, "two", false).await;
    spdy.expect(data(7, "two", false)).await;
    spdy.say(3, "one", false).await;
    spdy.expect(data(3, "one", false)).await;
    spdy.send(Frame::Ping(9)).await;
    spdy.expect(Frame::Ping(9)).await;
    // When the client has said all, so has the pod.
    spdy.say(3, "", true).await;
    spdy.expect(data(3, "", true)).await;
    spdy.expect(data(1, "", true)).await;
    spdy.say(7, "still there", false).await;
    spdy.expect(data(7, "still there", false)).await;
    spdy.send(Frame::GoAway { last: 0 }).await;
    assert_eq!(spdy.hear().await, None);
}

#[tokio::test]
async fn errors_are_told_on_their_stream() {
    let bed = Bed::new().await;
    bed.create_pod("p", "a");
    let mut spdy = Spdy::connect(&bed).await;
    // Without a request id the numbers tell what belongs together.
    spdy.begin(1, "error", "81", "").await;
    spdy.expect(Frame::SynReply { id: 1 }).await;
    spdy.begin(3, "data", "81", "").await;
    spdy.expect(Frame::SynReply { id: 3 }).await;
    let Some(Frame::Data { id: 1, bytes, .. }) = spdy.hear().await else { panic!("no error came") };
    assert!(bytes.ends_with(b"dial tcp4 127.0.0.1:81: connect: connection refused"));
    spdy.expect(Frame::RstStream { id: 3, reason: 5 }).await;
    spdy.expect(Frame::RstStream { id: 1, reason: 5 }).await;

    spdy.begin(5, "other", "7", "2").await;
    spdy.expect(Frame::RstStream { id: 5, reason: 5 }).await;
    spdy.begin(5, "data", "7", "2").await;
    spdy.expect(Frame::RstStream { id: 5, reason: 1 }).await;
    spdy.begin(7, "data", "0", "2").await;
    spdy.expect(Frame::RstStream { id: 7, reason: 5 }).await;
}

#[tokio::test]
async fn what_is_no_port_forward_is_refused() {
    let bed = Bed::new().await;
    bed.create_pod("p", "a");
    let status = async |headers: &[(&str, &str)]| {
        let (head, _) = ask(&bed, "GET", headers).await;
        head.split(' ').nth(1).unwrap().to_owned()
    };
    let (connection, spdy) = (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"));
    assert_eq!(status(&[]).await, "400");
    assert_eq!(status(&[connection, ("Upgrade", "h2c")]).await, "400");
    assert_eq!(status(&[connection, spdy]).await, "400", "no protocol");
    assert_eq!(status(&[connection, spdy, ("X-Stream-Protocol-Version", "v4.channel.k8s.io")]).await, "403");
    let socket = [
        connection,
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let with = |protocol| [&socket[..], &[("Sec-WebSocket-Protocol", protocol)]].concat();
    assert_eq!(status(&with("SPDY/3.1+portforward.k8s.io")).await, "403", "clients turn to SPDY then");
    assert_eq!(status(&with("v5.channel.k8s.io, v4.channel.k8s.io")).await, "101");
    assert_eq!(status(&socket).await, "101");
}
