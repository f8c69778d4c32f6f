//! etcd's KV service.

use quorate_api::Api;
use quorate_node::Clock;

use super::call::{Call, Reply};
use super::unknown_method;
use crate::metrics::Rpc;

pub(super) async fn serve<C: Clock>(call: Call<C>, method: &str) -> Reply {
    match method {
        "Range" => call.unary(Rpc::Range, Api::range).await,
        "Put" => call.unary(Rpc::Put, Api::put).await,
        "Txn" => call.unary(Rpc::Txn, Api::txn).await,
        "DeleteRange" => call.unary(Rpc::DeleteRange, Api::delete_range).await,
        "Compact" => call.unary(Rpc::Compact, Api::compact).await,
        _ => Err(unknown_method("etcdserverpb.KV", method)),
    }
}
