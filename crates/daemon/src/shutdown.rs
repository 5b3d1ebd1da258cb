//! When to stop.

use std::future::Future;
use std::io::Read;

use tokio::signal::unix::{Signal, SignalKind, signal as listen};
use tokio::sync::oneshot;
use tracing::error;

/// A future that ends with the first SIGINT or SIGTERM after this call, which must happen within a
/// tokio runtime.
pub fn signal() -> impl Future<Output = ()> + Send + use<> {
    let listening = listen(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, listen(SignalKind::terminate())?)));
    async {
        match listening {
            Ok((interrupt, terminate)) => first(interrupt, terminate).await,
            Err(error) => {
                // Then signals do what they do to any process: end it, without a drain.
                error!(%error, "signals cannot be listened to, so they end the process at once");
                std::future::pending().await
            }
        }
    }
}

async fn first(mut interrupt: Signal, mut terminate: Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// A future that ends when standard input does: for a child process whose parent holds the other
/// end of a pipe, and so also ends it by dying.
///
/// A thread of its own reads (and forgets) what arrives; unlike tokio's standard input it does
/// not keep a runtime from stopping. Without that thread the future ends at once: a child that
/// nobody could stop must not start.
pub fn when_stdin_closes() -> impl Future<Output = ()> + Send + use<> {
    let (closed, until_closed) = oneshot::channel::<()>();
    let watching = std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            drain(std::io::stdin().lock());
            drop(closed);
        });
    if let Err(error) = watching {
        error!(%error, "standard input cannot be watched");
    }
    async {
        // The sender is dropped when the thread ends, and by a spawn that failed.
        let _ = until_closed.await;
    }
}

fn drain(mut input: impl Read) {
    let mut ignored = [0; 256];
    loop {
        match input.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
