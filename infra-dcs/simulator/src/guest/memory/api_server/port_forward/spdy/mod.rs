//! Port-forward over SPDY/3.1, which Go clients speak: for each connection to a port a pair of streams, one for errors and
//! one for data, found together by their request id (`cri-streaming/pkg/streaming/portforward/httpstream.go`).

mod dictionary;
pub(in crate::guest::memory::api_server) mod frame;

use std::{collections::HashMap, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout},
};

use self::frame::{Decoder, Encoder, Frame, FrameError, Reset};
use super::pump::{self, CHUNKS, Pod, Sink};

/// Streams of one connection.
const STREAMS: usize = 512;
/// How long a stream waits for its partner (`--stream-creation-timeout` of a kubelet).
const PARTNER_LIMIT: Duration = Duration::from_secs(30);
/// Frames that wait for a client that reads slowly.
const FRAMES: usize = 16;
/// Bytes that are read from the client at a time.
const READ: usize = 16 * 1024;

/// Serves a client until it leaves.
pub(super) async fn run<S>(stream: S, pod: Pod)
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (frames, mut outgoing) = mpsc::channel(FRAMES);
    let writing = async {
        let Ok(mut encoder) = Encoder::new() else { return };
        let mut out = BytesMut::new();
        while let Some(frame) = outgoing.recv().await {
            out.clear();
            if encoder.put(&frame, &mut out).is_err() || writer.write_all(&out).await.is_err() {
                return;
            }
        }
    };
    let mut session = Session { pod, frames, streams: HashMap::new(), forwards: JoinSet::new(), last: 0 };
    let reading = async {
        let (mut decoder, mut arrived) = (Decoder::default(), BytesMut::new());
        loop {
            arrived.reserve(READ);
            // Silence is fine, but not in the middle of a request.
            if let Ok(read) = timeout(PARTNER_LIMIT, reader.read_buf(&mut arrived)).await
                && !matches!(read, Ok(1..))
            {
                return;
            }
            let taken = match session.take(&mut decoder, &mut arrived).await {
                Ok(()) => session.expire().await,
                failed => failed,
            };
            if let Err(error) = taken {
                tracing::debug!(%error, "SPDY client is cut off.");
                return;
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamType {
    Error,
    Data,
}

/// A stream that the client has begun.
struct Stream {
    kind: StreamType,
    port: u16,
    request: String,
    /// Where its bytes go; none when the client has said all.
    input: Option<mpsc::Sender<Bytes>>,
    /// Where they come from, until they are forwarded.
    output: Option<mpsc::Receiver<Bytes>>,
    /// What forwards it.
    forward: Option<AbortHandle>,
    began: Instant,
}

/// One connection.
struct Session {
    pod: Pod,
    frames: mpsc::Sender<Frame>,
    streams: HashMap<u32, Stream>,
    forwards: JoinSet<[u32; 2]>,
    /// The last stream that was begun.
    last: u32,
}

impl Session {
    /// Handles all frames that have arrived whole.
    async fn take(&mut self, decoder: &mut Decoder, arrived: &mut BytesMut) -> Result<(), SessionEnd> {
        while let Some(frame) = decoder.next(arrived)? {
            // Ports that have ended leave room for others.
            while let Some(ended) = self.forwards.try_join_next() {
                for id in ended.into_iter().flatten() {
                    self.streams.remove(&id);
                }
            }
            match frame {
                Frame::SynStream { id, headers, is_last } => self.begin(id, &headers, is_last).await?,
                Frame::Data { id, is_last, bytes } => self.data(id, is_last, bytes).await,
                Frame::RstStream { id, .. } => self.reset(id),
                // Of pings, those with odd numbers are the client's own.
                Frame::Ping(id) if !id.is_multiple_of(2) => self.send(Frame::Ping(id)).await?,
                Frame::GoAway { .. } => return Err(SessionEnd::GoneAway),
                Frame::SynReply { .. } | Frame::Ping(_) | Frame::Other => {}
            }
        }
        Ok(())
    }

    async fn send(&self, frame: Frame) -> Result<(), SessionEnd> {
        self.frames.send(frame).await.map_err(|_| SessionEnd::GoneAway)
    }

    async fn begin(&mut self, id: u32, headers: &[(String, String)], is_last: bool) -> Result<(), SessionEnd> {
        if id.is_multiple_of(2) || id <= self.last {
            return self.send(Frame::RstStream { id, reason: Reset::ProtocolError as u32 }).await;
        }
        self.last = id;
        if self.streams.len() >= STREAMS {
            return self.send(Frame::RstStream { id, reason: Reset::RefusedStream as u32 }).await;
        }
        let Some(mut stream) = Stream::read(id, headers) else {
            return self.send(Frame::RstStream { id, reason: Reset::Cancel as u32 }).await;
        };
        if is_last {
            stream.input = None;
        }
        let is_same = |other: &Stream| other.request == stream.request && other.forward.is_none();
        let partner = self.streams.iter().find(|(_, other)| is_same(other)).map(|(id, other)| (*id, other.kind));
        if partner.is_some_and(|(_, kind)| kind == stream.kind) {
            return self.send(Frame::RstStream { id, reason: Reset::Cancel as u32 }).await;
        }
        self.streams.insert(id, stream);
        self.send(Frame::SynReply { id }).await?;
        if let Some((other, kind)) = partner {
            let (data, error) = if kind == StreamType::Data { (other, id) } else { (id, other) };
            self.forward(data, error);
        }
        Ok(())
    }

    /// Begins to forward a pair of streams.
    fn forward(&mut self, data: u32, error: u32) {
        let Some((port, output)) =
            self.streams.get_mut(&data).and_then(|stream| Some((stream.port, stream.output.take()?)))
        else {
            return;
        };
        let (pod, frames) = (self.pod.clone(), self.frames.clone());
        let forward = self.forwards.spawn(async move {
            forward(&pod, port, frames, data, error, output).await;
            [data, error]
        });
        for id in [data, error] {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.forward = Some(forward.clone());
            }
        }
    }

    async fn data(&mut self, id: u32, is_last: bool, bytes: Bytes) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(input) = stream.input.as_ref().filter(|_| !bytes.is_empty() && stream.kind == StreamType::Data)
            && input.send(bytes).await.is_err()
        {
            stream.input = None;
        }
        if is_last {
            stream.input = None;
        }
    }

    /// Cuts off the streams whose partner does not come.
    async fn expire(&mut self) -> Result<(), SessionEnd> {
        let is_late = |stream: &Stream| stream.forward.is_none() && stream.began.elapsed() >= PARTNER_LIMIT;
        let late: Vec<u32> = self.streams.iter().filter(|(_, stream)| is_late(stream)).map(|(id, _)| *id).collect();
        for id in late {
            self.streams.remove(&id);
            self.send(Frame::RstStream { id, reason: Reset::Cancel as u32 }).await?;
        }
        Ok(())
    }

    /// A stream that is cut off takes its partner along.
    fn reset(&mut self, id: u32) {
        let Some(stream) = self.streams.remove(&id) else { return };
        if let Some(forward) = stream.forward {
            forward.abort();
            self.streams.retain(|_, other| other.request != stream.request);
        }
    }
}

impl Stream {
    /// Reads what a stream is for; none when it is not said.
    fn read(id: u32, headers: &[(String, String)]) -> Option<Self> {
        let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let kind = match header("streamtype")? {
            "error" => StreamType::Error,
            "data" => StreamType::Data,
            _ => return None,
        };
        let port = header("port")?.parse().ok().filter(|port| *port > 0)?;
        let request = match (header("requestid"), kind) {
            (Some(request), _) if !request.is_empty() => request.to_owned(),
            // Clients of old begin the stream of errors first, and name no request.
            (_, StreamType::Error) => id.to_string(),
            (_, StreamType::Data) => id.saturating_sub(2).to_string(),
        };
        let (input, output) = mpsc::channel(CHUNKS);
        let began = Instant::now();
        Some(Self { kind, port, request, input: Some(input), output: Some(output), forward: None, began })
    }
}

/// Where the bytes of a pod go.
struct DataStream {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

impl Sink for DataStream {
    async fn send(&mut self, bytes: Bytes) -> Result<(), ()> {
        self.frames.send(Frame::Data { id: self.id, is_last: false, bytes }).await.map_err(drop)
    }
}

async fn forward(
    pod: &Pod,
    port: u16,
    frames: mpsc::Sender<Frame>,
    data: u32,
    error: u32,
    from_client: mpsc::Receiver<Bytes>,
) {
    let farewell = match pod.connect(port).await {
        Ok(stream) => {
            pump::run(stream, from_client, DataStream { id: data, frames: frames.clone() }).await;
            [data, error].map(|id| Frame::Data { id, is_last: true, bytes: Bytes::new() }).to_vec()
        }
        Err(why) => {
            // An error is the end of both streams.
            let reset = [data, error].map(|id| Frame::RstStream { id, reason: Reset::Cancel as u32 });
            let told = Frame::Data { id: error, is_last: false, bytes: why.into() };
            std::iter::once(told).chain(reset).collect()
        }
    };
    for frame in farewell {
        if frames.send(frame).await.is_err() {
            return;
        }
    }
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum SessionEnd {
    #[error("the client has left")]
    GoneAway,
    #[error(transparent)]
    Frame(#[from] FrameError),
}
