//! gRPC's health check.

use quorate_api::Metadata;
use quorate_node::Clock;
use quorate_proto::health as pb;
use quorate_proto::health::health_check_response::ServingStatus;

use super::call::{Call, Reply, Stream};
use super::status::Status;
use super::unknown_method;
use crate::metrics::Rpc;

pub(super) async fn serve<C: Clock>(call: Call<C>, method: &str) -> Reply {
    match method {
        "Check" => {
            let check = async |api: &quorate_api::Api<C>, request, _: Metadata| api.health_check(&request);
            call.unary(Rpc::HealthCheck, check).await
        }
        "Watch" => call.stream(Rpc::HealthWatch, |_, _| Ok(()), watch),
        _ => Err(unknown_method("grpc.health.v1.Health", method)),
    }
}

/// Says how the server is; that does not change until the connection ends.
async fn watch<C: Clock>((): (), mut stream: Stream<C>) -> Status {
    let request = match stream.next::<pb::HealthCheckRequest>().await {
        Ok(request) => request.unwrap_or_default(),
        Err(status) => return status,
    };
    let response = stream
        .state
        .api
        .health_check(&request)
        .unwrap_or(pb::HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() });
    stream.send(&response).await;
    std::future::pending().await
}
