//! What the library needs of the world: connections, and time. TCP and tokio, unless somebody simulates them.

use std::time::Duration;

use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::transport::{Channel, Endpoint};

/// Connections, and time.
pub trait Transport: Clone + Send + Sync + 'static {
    /// A connection, over which calls go side by side. When it breaks, a later call makes another.
    type Channel: GrpcService<
            Body,
            ResponseBody = Body,
            Error: Into<Box<dyn std::error::Error + Send + Sync>>,
            Future: Send,
        > + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static;

    /// Connects to a member. If that fails, nothing has been asked.
    fn dial(&self, endpoint: &Endpoint) -> impl Future<Output = Result<Self::Channel, String>>;

    /// Does something that may take so long; `None` if it takes longer.
    fn within<F: Future>(&self, limit: Duration, work: F) -> impl Future<Output = Option<F::Output>>;
}

/// TCP, and tokio's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Transport for Tcp {
    type Channel = Channel;

    async fn dial(&self, endpoint: &Endpoint) -> Result<Channel, String> {
        endpoint.connect().await.map_err(|error| {
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let causes: String = causes.map(|cause| format!(": {cause}")).collect();
            format!("{}: {error}{causes}", endpoint.uri())
        })
    }

    async fn within<F: Future>(&self, limit: Duration, work: F) -> Option<F::Output> {
        tokio::time::timeout(limit, work).await.ok()
    }
}
