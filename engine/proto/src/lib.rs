//! etcd's wire format: our own `.proto` files and the types generated from them.
//!
//! Packages, names and field numbers are etcd's, as of version 3.6; the words are ours. All RPCs of the
//! services named here are declared, served or not, so that clients can be written against them.
//! `bytes` fields are [`Bytes`](prost::bytes::Bytes): decoding shares the buffer they arrived in.
//!
//! The server needs messages only and frames them itself (`engine/src/grpc`); the feature `client` adds
//! tonic's clients.
#![forbid(unsafe_code)]

pub use prost;

/// Keys, values and events.
#[allow(missing_docs, reason = "generated; the .proto file documents what is not plain")]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// etcd's client services.
#[allow(missing_docs, reason = "generated; the .proto file documents what is not plain")]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// What Quorate offers beyond etcd's services.
#[allow(missing_docs, reason = "generated; the .proto file documents what is not plain")]
pub mod quoratepb {
    include!(concat!(env!("OUT_DIR"), "/quoratepb.rs"));
}

/// gRPC's health check.
#[allow(missing_docs, reason = "generated; the .proto file documents what is not plain")]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}
