//! What etcd answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::request::Bytes;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Response {
    /// The revision in the response's header; zero if there was none (errors have none).
    #[serde(default)]
    pub revision: i64,
    /// The member in the response's header, if recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<u64>,
    /// The answer itself.
    pub result: Result<Reply, Error>,
}

impl Response {
    /// `reply` at `revision`.
    #[must_use]
    pub fn at(revision: i64, reply: Reply) -> Response {
        Response { revision, member: None, result: Ok(reply) }
    }

    /// A refusal.
    #[must_use]
    pub fn refused(error: Error) -> Response {
        Response { revision: 0, member: None, result: Err(error) }
    }
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To a range.
    Range {
        /// The keys found.
        #[serde(default)]
        kvs: Vec<KeyValue>,
        /// Whether the limit cut the result.
        #[serde(default)]
        more: bool,
        /// How many keys there are, limit and filters aside.
        #[serde(default)]
        count: i64,
    },
    /// To a put.
    Put {
        /// The version before, if asked for.
        #[serde(default)]
        previous: Option<KeyValue>,
    },
    /// To a delete.
    Delete {
        /// How many keys were deleted.
        #[serde(default)]
        deleted: i64,
        /// The deleted versions, if asked for.
        #[serde(default)]
        previous: Vec<KeyValue>,
    },
    /// To a txn.
    Txn {
        /// Whether all compares held.
        succeeded: bool,
        /// One reply per request of the branch.
        #[serde(default)]
        replies: Vec<Reply>,
    },
    /// To a compaction or a revocation.
    Done,
    /// To a grant, a keep-alive or a time-to-live request. That there is no such lease is said by zero to a
    /// keep-alive, and by less than zero to a time-to-live request, where zero is less than a second.
    Lease {
        /// Its id.
        id: i64,
        /// Its time to live in seconds.
        ttl: i64,
    },
}

/// One version of one key, as a response or a watch event shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyValue {
    /// The key.
    #[serde(with = "bytes_as_text")]
    pub key: Bytes,
    /// The value.
    #[serde(with = "bytes_as_text")]
    pub value: Bytes,
    /// The revision that created the key.
    pub create_revision: i64,
    /// The revision of this version.
    pub mod_revision: i64,
    /// The number of puts since the creation.
    pub version: i64,
    /// The lease, or zero.
    #[serde(skip_serializing_if = "no_lease")]
    pub lease: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn no_lease(lease: &i64) -> bool {
    *lease == 0
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} (mod {}, ", self.key, self.value, self.mod_revision)?;
        write!(f, "create {}, version {}", self.create_revision, self.version)?;
        if self.lease != 0 {
            write!(f, ", lease {}", self.lease)?;
        }
        f.write_str(")")
    }
}

/// A refusal: the request certainly had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Error {
    /// The revision has been compacted.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision does not exist yet.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// There is no such lease.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// There is such a lease already.
    #[error("lease already exists")]
    LeaseExists,
    /// `ignore_value` or `ignore_lease` on a missing key.
    #[error("key not found")]
    KeyNotFound,
    /// Anything else that certainly had no effect and tells nothing about the state: invalid arguments, no
    /// space, too many requests. Never a time-out or a lost connection.
    #[error("refused")]
    Refused,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Range { kvs, count, more } => {
                f.write_str("[")?;
                for (index, kv) in kvs.iter().take(SHOWN_MAX).enumerate() {
                    write!(f, "{}{kv}", if index == 0 { "" } else { ", " })?;
                }
                let rest = kvs.len().saturating_sub(SHOWN_MAX);
                if rest > 0 {
                    write!(f, ", and {rest} more")?;
                }
                write!(f, "] of {count}{}", if *more { ", more" } else { "" })
            }
            Reply::Put { previous: None } | Reply::Done => f.write_str("done"),
            Reply::Put { previous: Some(kv) } => write!(f, "done, before it {kv}"),
            Reply::Delete { deleted, .. } => write!(f, "{deleted} deleted"),
            Reply::Txn { succeeded, replies } => {
                f.write_str(if *succeeded { "then(" } else { "else(" })?;
                for (index, reply) in replies.iter().enumerate() {
                    write!(f, "{}{reply}", if index == 0 { "" } else { "; " })?;
                }
                f.write_str(")")
            }
            Reply::Lease { id, ttl } => write!(f, "lease {id} for {ttl} s"),
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(reply) => write!(f, "{reply} at revision {}", self.revision),
            Err(error) => write!(f, "error: {error}"),
        }
    }
}

/// How many keys of a result a message shows.
const SHOWN_MAX: usize = 4;

/// Bytes in JSON: a string if they are UTF-8, otherwise `{"hex": "…"}`.
pub(super) mod bytes_as_text {
    use std::fmt;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{self, MapAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::etcd::Bytes;

    #[derive(Serialize, Deserialize)]
    struct Hex {
        hex: String,
    }

    /// Writes bytes.
    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes.as_slice()) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let hex = bytes.as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
                Hex { hex }.serialize(serializer)
            }
        }
    }

    /// Reads bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_any(Form)
    }

    /// A string, or an object with hex digits. (What serde derives for this copies every string first.)
    struct Form;

    impl<'de> Visitor<'de> for Form {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string, or {\"hex\": \"…\"}")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
            Ok(Bytes::shared(text.as_bytes()))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Bytes, A::Error> {
            let Hex { hex } = Hex::deserialize(MapAccessDeserializer::new(map))?;
            decode(&hex).ok_or_else(|| de::Error::custom("expected pairs of hex digits"))
        }
    }

    fn decode(hex: &str) -> Option<Bytes> {
        if !hex.len().is_multiple_of(2) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let pairs = (0..hex.len()).step_by(2).map(|start| u8::from_str_radix(&hex[start..start + 2], 16));
        Some(Bytes::from(pairs.collect::<Result<Vec<u8>, _>>().ok()?))
    }
}
