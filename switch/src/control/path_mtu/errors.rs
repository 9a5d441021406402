//! Listening to the error queues of the underlay's sending sockets.

use std::{io, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    task::JoinHandle,
    time::sleep,
};
use tracing::debug;

use super::{Heard, watched};
use crate::underlay::events::{ErrorQueue, ErrorQueues};

/// Errors that are taken from one queue before a pause. Who floods weft with ICMP fills the kernel's queue and no processor.
const AT_ONCE: usize = 64;
const PAUSE: Duration = Duration::from_millis(10);

/// The listeners of one underlay; nobody listens when this is gone.
pub(super) struct Listeners(Vec<JoinHandle<()>>);

impl Listeners {
    /// To be called inside a tokio runtime.
    ///
    /// # Errors
    /// The runtime can't watch a descriptor.
    pub(super) fn start(queues: &ErrorQueues, heard: &mpsc::Sender<Heard>) -> io::Result<Self> {
        let queues = (0..queues.count()).filter_map(|index| queues.queue(index));
        let watched = queues.map(|queue| watched(queue, Interest::ERROR)).collect::<io::Result<Vec<_>>>()?;
        Ok(Self(watched.into_iter().map(|queue| tokio::spawn(listen(queue, heard.clone()))).collect()))
    }

    /// Ends listening and lets go of the sockets.
    pub(super) async fn stop(mut self) {
        for listener in std::mem::take(&mut self.0) {
            listener.abort();
            _ = listener.await;
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn listen(queue: AsyncFd<ErrorQueue>, heard: mpsc::Sender<Heard>) {
    loop {
        let Ok(mut ready) = queue.ready(Interest::ERROR).await else { return };
        let mut count = 0;
        while count < AT_ONCE {
            match queue.get_ref().next() {
                Ok(Some(event)) => {
                    count += 1;
                    if heard.send(Heard::Underlay(event)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    debug!(%error, "an error queue can't be read");
                    break;
                }
            }
        }
        if count < AT_ONCE {
            ready.clear_ready();
        } else {
            sleep(PAUSE).await;
        }
    }
}
