//! Frames of SPDY/3.1 and their compressed headers (SPDY Protocol Draft 3.1, 2.2 and 2.6). Both directions keep one
//! compression context for as long as the connection lasts.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::DICTIONARY;

/// Protocol version of control frames; 3.1 kept the number.
const VERSION: u16 = 3;
/// Largest frame; clients send what they read, a few KiB.
const FRAME_LIMIT: usize = 1 << 20;
/// Largest block of headers when it is uncompressed.
const HEADERS_LIMIT: usize = 64 << 10;
/// Most headers of a block.
const HEADER_COUNT: u32 = 64;
const CONTROL: u32 = 1 << 31;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Why a stream is refused or cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reset {
    /// The other side broke the rules.
    ProtocolError = 1,
    /// There are too many.
    RefusedStream = 3,
    /// It is not wanted, or not any more.
    Cancel = 5,
}

/// A frame. Settings and window updates are read as [`Frame::Other`]: whoever forwards ports sends without windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A stream begins.
    SynStream {
        /// Its number.
        id: u32,
        /// Names in lower case, and values.
        headers: Vec<(String, String)>,
        /// The sender will say nothing on it.
        is_last: bool,
    },
    /// The other side takes part in a stream.
    SynReply {
        /// Its number.
        id: u32,
    },
    /// A stream is cut off, for a reason given by number.
    RstStream {
        /// Its number.
        id: u32,
        /// The reason.
        reason: u32,
    },
    /// Asks for the same frame.
    Ping(u32),
    /// No more streams are begun.
    GoAway {
        /// The last stream that was taken.
        last: u32,
    },
    /// Bytes of a stream.
    Data {
        /// Its number.
        id: u32,
        /// The sender has said all.
        is_last: bool,
        /// The bytes.
        bytes: Bytes,
    },
    /// Something that changes nothing here.
    Other,
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame is larger than anybody needs.
    #[error("the frame is too large")]
    TooLarge,
    /// A control frame of another protocol.
    #[error("the frame is of another version")]
    Version,
    /// Its parts do not fit together.
    #[error("the frame is malformed")]
    Malformed,
    /// Its headers cannot be uncompressed.
    #[error("the headers are not compressed as SPDY/3 demands")]
    Compression,
}

/// Reads frames.
pub struct Decoder {
    inflate: Decompress,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflate: Decompress::new(true) }
    }
}

impl Decoder {
    /// Takes the next frame off the front of what has arrived; none when it is not all there.
    pub fn next(&mut self, arrived: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let mut head = arrived.as_ref();
        if head.len() < 8 {
            return Ok(None);
        }
        let (first, second) = (head.get_u32(), head.get_u32());
        let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
        if length > FRAME_LIMIT {
            return Err(FrameError::TooLarge);
        }
        if head.len() < length {
            return Ok(None);
        }
        arrived.advance(8);
        let payload = arrived.split_to(length).freeze();
        if first & CONTROL == 0 {
            return Ok(Some(Frame::Data { id: first, is_last: flags & FIN != 0, bytes: payload }));
        }
        let (version, kind) = ((first >> 16 & 0x7fff) as u16, (first & 0xffff) as u16);
        if version != VERSION {
            return Err(FrameError::Version);
        }
        self.control(kind, flags, payload).map(Some)
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: Bytes) -> Result<Frame, FrameError> {
        let mut number = || payload.try_get_u32().map_err(|_| FrameError::Malformed);
        Ok(match kind {
            SYN_STREAM => {
                let id = number()? & !CONTROL;
                number()?;
                // Priority and slot.
                payload.try_get_u16().map_err(|_| FrameError::Malformed)?;
                Frame::SynStream { id, headers: self.headers(&payload)?, is_last: flags & FIN != 0 }
            }
            SYN_REPLY => {
                let id = number()? & !CONTROL;
                self.headers(&payload)?;
                Frame::SynReply { id }
            }
            HEADERS => {
                number()?;
                // They have to be read all the same: the context goes on with what comes later.
                self.headers(&payload)?;
                Frame::Other
            }
            RST_STREAM => Frame::RstStream { id: number()? & !CONTROL, reason: number()? },
            PING => Frame::Ping(number()?),
            GOAWAY => Frame::GoAway { last: number()? & !CONTROL },
            _ => Frame::Other,
        })
    }

    fn headers(&mut self, compressed: &[u8]) -> Result<Vec<(String, String)>, FrameError> {
        let block = self.inflated(compressed)?;
        let mut block = block.as_slice();
        let count = block.try_get_u32().map_err(|_| FrameError::Malformed)?;
        if count > HEADER_COUNT {
            return Err(FrameError::TooLarge);
        }
        (0..count).map(|_| Ok((text(&mut block)?, text(&mut block)?))).collect()
    }

    fn inflated(&mut self, compressed: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut block = Vec::new();
        let mut rest = compressed;
        loop {
            if block.len() > HEADERS_LIMIT {
                return Err(FrameError::TooLarge);
            }
            block.reserve(4 << 10);
            let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
            let outcome = self.inflate.decompress_vec(rest, &mut block, FlushDecompress::Sync);
            let read = usize::try_from(self.inflate.total_in() - taken).unwrap_or(rest.len());
            rest = rest.get(read..).unwrap_or_default();
            match outcome {
                Ok(Status::StreamEnd) => return Err(FrameError::Compression),
                // All is read and nothing more comes out.
                Ok(_) if rest.is_empty() && self.inflate.total_out() == made => return Ok(block),
                Ok(_) if read == 0 && self.inflate.total_out() == made => return Err(FrameError::Compression),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&DICTIONARY).map_err(|_| FrameError::Compression)?;
                }
                Err(_) => return Err(FrameError::Compression),
            }
        }
    }
}

fn text(block: &mut &[u8]) -> Result<String, FrameError> {
    let length = block.try_get_u32().map_err(|_| FrameError::Malformed)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or(FrameError::Malformed)?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| FrameError::Malformed)
}

/// Writes frames.
pub struct Encoder {
    deflate: Compress,
}

impl Encoder {
    /// A context of its own.
    pub fn new() -> Result<Self, FrameError> {
        let mut deflate = Compress::new(Compression::fast(), true);
        deflate.set_dictionary(&DICTIONARY).map_err(|_| FrameError::Compression)?;
        Ok(Self { deflate })
    }

    /// Appends a frame.
    pub fn put(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), FrameError> {
        match frame {
            Frame::SynStream { id, headers, is_last } => {
                let block = self.headers(headers)?;
                control(out, SYN_STREAM, u8::from(*is_last) * FIN, 10 + block.len())?;
                out.put_u32(*id);
                out.put_u32(0);
                out.put_u16(0);
                out.put_slice(&block);
            }
            Frame::SynReply { id } => {
                let block = self.headers(&[])?;
                control(out, SYN_REPLY, 0, 4 + block.len())?;
                out.put_u32(*id);
                out.put_slice(&block);
            }
            Frame::RstStream { id, reason } => {
                control(out, RST_STREAM, 0, 8)?;
                out.put_u32(*id);
                out.put_u32(*reason);
            }
            Frame::Ping(id) => {
                control(out, PING, 0, 4)?;
                out.put_u32(*id);
            }
            Frame::GoAway { last } => {
                control(out, GOAWAY, 0, 8)?;
                out.put_u32(*last);
                out.put_u32(0);
            }
            Frame::Data { id, is_last, bytes } => {
                out.put_u32(*id);
                out.put_u32(length(u8::from(*is_last) * FIN, bytes.len())?);
                out.put_slice(bytes);
            }
            Frame::Other => {}
        }
        Ok(())
    }

    fn headers(&mut self, headers: &[(String, String)]) -> Result<Vec<u8>, FrameError> {
        let number = |length: usize| u32::try_from(length).map_err(|_| FrameError::TooLarge);
        let mut block = BytesMut::new();
        block.put_u32(number(headers.len())?);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(number(text.len())?);
            block.put_slice(text.as_bytes());
        }
        let mut compressed = Vec::new();
        let mut rest = block.as_ref();
        loop {
            compressed.reserve(256);
            let before = self.deflate.total_in();
            let status = self.deflate.compress_vec(rest, &mut compressed, FlushCompress::Sync);
            let read = usize::try_from(self.deflate.total_in() - before).unwrap_or(rest.len());
            rest = rest.get(read..).unwrap_or_default();
            match status {
                // Room that is left over means that all is out.
                Ok(_) if rest.is_empty() && compressed.len() < compressed.capacity() => return Ok(compressed),
                Ok(_) => {}
                Err(_) => return Err(FrameError::Compression),
            }
        }
    }
}

fn length(flags: u8, length: usize) -> Result<u32, FrameError> {
    let length = u32::try_from(length).ok().filter(|length| *length < 1 << 24).ok_or(FrameError::TooLarge)?;
    Ok(u32::from(flags) << 24 | length)
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, payload: usize) -> Result<(), FrameError> {
    out.put_u32(CONTROL | u32::from(VERSION) << 16 | u32::from(kind));
    out.put_u32(length(flags, payload)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn(id: u32, request: &str) -> Frame {
        let headers = [("streamtype", "data"), ("port", "2379"), ("requestid", request)];
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Frame::SynStream { id, headers, is_last: false }
    }

    fn frames() -> Vec<Frame> {
        vec![
            syn(1, "0"),
            Frame::SynReply { id: 1 },
            Frame::Data { id: 1, is_last: false, bytes: Bytes::from_static(b"hello") },
            Frame::Ping(7),
            // The second block refers to the first.
            syn(3, "0"),
            Frame::Data { id: 3, is_last: true, bytes: Bytes::new() },
            Frame::RstStream { id: 3, reason: Reset::Cancel as u32 },
            Frame::GoAway { last: 3 },
        ]
    }

    fn encoded() -> BytesMut {
        let mut encoder = Encoder::new().unwrap();
        let mut out = BytesMut::new();
        for frame in &frames() {
            encoder.put(frame, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn what_is_written_can_be_read_whatever_the_pieces() {
        for piece in [1, 3, 7, 1024] {
            let (mut decoder, mut arrived, mut read) = (Decoder::default(), BytesMut::new(), Vec::new());
            for bytes in encoded().chunks(piece) {
                arrived.extend_from_slice(bytes);
                while let Some(frame) = decoder.next(&mut arrived).unwrap() {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames(), "pieces of {piece}");
        }
    }

    #[test]
    fn headers_of_another_implementation_can_be_read() {
        // Written by zlib itself: level 9, full window, one header `port: 2379`, flushed.
        let compressed = hex::decode(RECORDED).unwrap();
        let headers = Decoder::default().headers(&compressed).unwrap();
        assert_eq!(headers, [("port".to_owned(), "2379".to_owned())]);
    }

    const RECORDED: &str = "78f9e3c6a7c202a6234648f95b044eea46c6e69600000000ffff";

    #[test]
    fn faulty_frames_end_the_connection() {
        let refused = |bytes: &[u8]| Decoder::default().next(&mut BytesMut::from(bytes)).unwrap_err();
        assert_eq!(refused(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]), FrameError::TooLarge);
        assert_eq!(refused(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]), FrameError::Version);
        assert_eq!(refused(&[0x80, 3, 0, 6, 0, 0, 0, 2, 0, 0]), FrameError::Malformed);
        let garbage = [0x80, 3, 0, 1, 0, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(refused(&garbage), FrameError::Compression);
    }
}
