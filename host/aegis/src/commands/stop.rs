//! Stopping a command that has something to tell when it is stopped.

use tokio_util::sync::CancellationToken;

/// The status of a command that was stopped, as shells have it: 128 + SIGINT.
pub(crate) const STOPPED: u8 = 130;

/// Cancelled by the first ctrl-c or SIGTERM. A second one ends the process at once.
pub(crate) fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            next().await;
            stop.cancel();
            next().await;
            std::process::exit(i32::from(STOPPED));
        }
    });
    Ok(stop)
}
