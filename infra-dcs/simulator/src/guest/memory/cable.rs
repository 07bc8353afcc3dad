//! The cable of a machine: connections that stall while it is unplugged, and go on when it is plugged in again, as TCP's
//! do.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the [module](self). Cheap to clone: all clones are one cable.
#[derive(Clone, Default)]
pub struct Cable(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_unplugged: bool,
    /// Who waits for the plug.
    waiting: Vec<Waker>,
}

impl Cable {
    /// Whether nothing passes.
    pub fn is_unplugged(&self) -> bool {
        self.0.lock().is_unplugged
    }

    /// Pulls the plug, or puts it back.
    pub fn set_unplugged(&self, unplugged: bool) {
        let waiting = {
            let mut state = self.0.lock();
            state.is_unplugged = unplugged;
            if unplugged { Vec::new() } else { std::mem::take(&mut state.waiting) }
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until it is plugged in.
    pub async fn plugged(&self) {
        std::future::poll_fn(|context| self.poll_plugged(context)).await;
    }

    fn poll_plugged(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if !state.is_unplugged {
            return Poll::Ready(());
        }
        // A task that looks twice must not be kept twice.
        state.waiting.retain(|known| !known.will_wake(context.waker()));
        state.waiting.push(context.waker().clone());
        Poll::Pending
    }

    /// A connection over this cable.
    pub fn carry<S>(&self, stream: S) -> Carried<S> {
        Carried { stream, cable: self.clone() }
    }
}

/// A connection over a cable.
pub struct Carried<S> {
    stream: S,
    cable: Cable,
}

impl<S: AsyncRead + Unpin> AsyncRead for Carried<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.cable.poll_plugged(context));
        // Bytes that came before the plug was pulled were already on this side.
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Carried<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.cable.poll_plugged(context));
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn a_connection_stalls_and_goes_on() {
        let cable = Cable::default();
        let (mut far, near) = tokio::io::duplex(64);
        let mut near = cable.carry(near);
        cable.set_unplugged(true);
        far.write_all(b"x").await.unwrap();
        let mut byte = [0];
        assert!(timeout(Duration::from_millis(20), near.read_exact(&mut byte)).await.is_err());
        assert!(timeout(Duration::from_millis(20), cable.plugged()).await.is_err());
        cable.set_unplugged(false);
        near.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"x");
    }
}
