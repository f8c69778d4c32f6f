//! gRPC's health check: its stream.

use quorate_api::Metadata;
use quorate_node::Clock;
use quorate_proto::health as pb;
use quorate_proto::health::health_check_response::ServingStatus;

use super::call::Stream;
use super::status::Status;

/// Says how the server is; that does not change until the connection ends.
pub(super) async fn watch<C: Clock>(metadata: Metadata, mut stream: Stream<C>) -> Status {
    let request = match stream.next::<pb::HealthCheckRequest>().await {
        Ok(request) => request.unwrap_or_default(),
        Err(status) => return status,
    };
    let response = stream
        .state
        .api
        .health_check(&request, metadata)
        .unwrap_or(pb::HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() });
    stream.send(&response).await;
    std::future::pending().await
}
