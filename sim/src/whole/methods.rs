//! gRPC's unary methods by their names, as the server dispatches them.

use bytes::Bytes;
use prost::Message;
use quorate_api::{Error, Metadata};

use super::cluster::Api;

/// Answers an encoded request.
pub async fn unary(api: &Api, path: &str, bytes: &[u8]) -> Result<Bytes, Error> {
    let none = Metadata::default();
    Ok(match path {
        "/etcdserverpb.KV/Range" => encode(&api.range(decode(bytes), none).await?),
        "/etcdserverpb.KV/Put" => encode(&api.put(decode(bytes), none).await?),
        "/etcdserverpb.KV/DeleteRange" => encode(&api.delete_range(decode(bytes), none).await?),
        "/etcdserverpb.KV/Txn" => encode(&api.txn(decode(bytes), none).await?),
        "/etcdserverpb.KV/Compact" => encode(&api.compact(decode(bytes), none).await?),
        "/etcdserverpb.Lease/LeaseGrant" => encode(&api.lease_grant(decode(bytes), none).await?),
        "/etcdserverpb.Lease/LeaseRevoke" => encode(&api.lease_revoke(decode(bytes), none).await?),
        "/etcdserverpb.Lease/LeaseTimeToLive" => encode(&api.lease_time_to_live(decode(bytes), none).await?),
        "/etcdserverpb.Cluster/MemberList" => encode(&api.member_list(decode(bytes), none).await?),
        "/etcdserverpb.Cluster/MemberAdd" => encode(&api.member_add(decode(bytes), none).await?),
        "/etcdserverpb.Cluster/MemberRemove" => encode(&api.member_remove(decode(bytes), none).await?),
        "/etcdserverpb.Cluster/MemberPromote" => encode(&api.member_promote(decode(bytes), none).await?),
        "/etcdserverpb.Maintenance/HashKV" => encode(&api.hash_kv(decode(bytes), none).await?),
        "/etcdserverpb.Maintenance/MoveLeader" => encode(&api.move_leader(decode(bytes), none).await?),
        path if path.ends_with("/MemberDemote") => encode(&api.member_demote(decode(bytes), none).await?),
        other => panic!("no client here calls {other}"),
    })
}

/// A message as bytes.
pub fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// A message that a client has encoded.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> M {
    M::decode(bytes).expect("what was encoded can be decoded")
}
