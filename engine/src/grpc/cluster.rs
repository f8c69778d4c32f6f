//! etcd's Cluster service.

use quorate_api::Api;
use quorate_node::Clock;

use super::call::{Call, Reply};
use super::unknown_method;
use crate::metrics::Rpc;

pub(super) async fn serve<C: Clock>(call: Call<C>, method: &str) -> Reply {
    match method {
        "MemberList" => call.unary(Rpc::MemberList, Api::member_list).await,
        _ => Err(unknown_method("etcdserverpb.Cluster", method)),
    }
}
