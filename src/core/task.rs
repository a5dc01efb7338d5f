//! Tasks that go on beside what began them: they log where it logs, and under the id of the same request.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument;
use tracing::instrument::WithSubscriber;

/// Begins a task on the runtime of the caller.
pub fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(carry(work))
}

/// The work as it is to be spawned, for those who have a `spawn` of their own.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    work.in_current_span().with_current_subscriber()
}
