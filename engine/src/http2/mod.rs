//! HTTP/2 for the client port: as much of RFC 9113 as a gRPC server needs, without a task, a channel or an
//! allocated header map per request.
//!
//! One task does all that a connection needs ([`connection`]): it reads what has arrived, takes every frame
//! in it ([`session`], [`frame`], [`hpack`]), polls the calls that these begin ([`calls`]) and writes all
//! replies that are ready at once ([`reply`], [`flow`]). So the cost of a read, a wake-up and a write is
//! shared by all requests in flight.
//!
//! Being our own it also accepts what grpc-go accepts: etcd's clients before 3.5.1 send `:authority` as a
//! URL (etcd issue 13192), which other servers take for a protocol error.
//!
//! Left out, as clients of etcd do not use them: server push, priorities, `CONNECT`, replies with trailers
//! or headers longer than a frame.

mod ask;
mod calls;
mod connection;
mod flow;
mod frame;
mod head;
mod hpack;
mod huffman;
mod reply;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use ask::ask;
pub(crate) use connection::serve;
pub(crate) use frame::PREFACE;
pub(crate) use hpack::write_field;
