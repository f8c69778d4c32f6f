//! etcd's Maintenance service.

use quorate_api::Api;
use quorate_node::Clock;

use super::call::{Call, Reply};
use super::unknown_method;
use crate::metrics::Rpc;

pub(super) async fn serve<C: Clock>(call: Call<C>, method: &str) -> Reply {
    match method {
        "Status" => call.unary(Rpc::Status, Api::status).await,
        "Alarm" => call.unary(Rpc::Alarm, Api::alarm).await,
        _ => Err(unknown_method("etcdserverpb.Maintenance", method)),
    }
}
