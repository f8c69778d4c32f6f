//! What the files of the robustness tests hold.
//!
//! `client-N/operations.json` is one object after the other, `client-N/watch.json` as well or an array; dumped
//! cases are one object with `kind`, and `reports`, `operations`, `persistedRequests` or `sequence`.

use serde::Deserialize;

use crate::format::FormatError;

/// Everything of one run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Report {
    /// What it is about.
    #[serde(default)]
    pub kind: Kind,
    #[serde(default)]
    pub(super) config: Config,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) reports: Vec<ClientReport>,
    #[serde(default, rename = "persistedRequests")]
    pub(super) persisted: Option<Vec<Request>>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) operations: Vec<Operation>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) sequence: Vec<Exchange>,
}

impl Report {
    /// How many operations, watches and steps it has.
    #[must_use]
    pub fn len(&self) -> usize {
        let clients = self.reports.iter().map(|client| client.key_value.len() + client.watch.len());
        self.operations.len() + self.sequence.len() + clients.sum::<usize>()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a file is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Operations of clients and their watches.
    #[default]
    Validate,
    /// Watches against the servers' logs.
    Watch,
    /// Reads of old revisions against the servers' logs.
    Serializable,
    /// Requests one after the other, all answers known.
    ModelDeterministic,
    /// Requests one after the other, some answers unknown.
    #[serde(alias = "model-non-deterministic")]
    ModelNondeterministic,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Config {
    pub expect_revision_unique: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ClientReport {
    #[serde(rename = "ClientID")]
    pub client: u64,
    #[serde(deserialize_with = "or_default")]
    pub key_value: Vec<Operation>,
    #[serde(deserialize_with = "or_default")]
    pub watch: Vec<Watch>,
}

/// One operation of a client.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Operation {
    #[serde(default, rename = "ClientId")]
    pub(super) client: u64,
    pub(super) input: Request,
    pub(super) call: i64,
    pub(super) output: Response,
    #[serde(rename = "Return")]
    pub(super) end: i64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Exchange {
    pub request: Request,
    pub response: Response,
    #[serde(default)]
    pub expect_failure: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Request {
    #[serde(rename = "Type")]
    pub(super) kind: RequestKind,
    pub(super) lease_grant: Option<LeaseId>,
    pub(super) lease_revoke: Option<LeaseId>,
    pub(super) range: Option<Range>,
    pub(super) txn: Option<Txn>,
    pub(super) compact: Option<Compact>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum RequestKind {
    #[default]
    Range,
    Txn,
    LeaseGrant,
    LeaseRevoke,
    Defragment,
    Compact,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct LeaseId {
    #[serde(rename = "LeaseID")]
    pub(super) id: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Compact {
    pub(super) revision: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Range {
    pub(super) start: String,
    pub(super) end: String,
    pub(super) limit: i64,
    pub(super) keys_only: bool,
    pub(super) revision: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Txn {
    #[serde(deserialize_with = "or_default")]
    pub(super) conditions: Vec<Condition>,
    #[serde(deserialize_with = "or_default")]
    pub(super) operations_on_success: Vec<TxnOperation>,
    #[serde(deserialize_with = "or_default")]
    pub(super) operations_on_failure: Vec<TxnOperation>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Condition {
    pub(super) key: String,
    pub(super) expected_revision: i64,
    pub(super) expected_version: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TxnOperation {
    #[serde(rename = "Type")]
    pub(super) kind: OperationKind,
    #[serde(default)]
    pub(super) range: Range,
    #[serde(default)]
    pub(super) put: Put,
    #[serde(default)]
    pub(super) delete: Delete,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub(super) enum OperationKind {
    #[default]
    #[serde(rename = "range-operation")]
    Range,
    #[serde(rename = "put-operation")]
    Put,
    #[serde(rename = "delete-operation")]
    Delete,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Put {
    pub(super) key: String,
    pub(super) value: ValueOrHash,
    #[serde(rename = "LeaseID")]
    pub(super) lease: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Delete {
    pub(super) key: String,
}

/// A short value, or the hash of a long one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "RawValue")]
pub(super) enum ValueOrHash {
    Value(String),
    Hash(u32),
    #[default]
    Nothing,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct RawValue {
    value: String,
    hash: u32,
}

impl From<RawValue> for ValueOrHash {
    fn from(raw: RawValue) -> ValueOrHash {
        match (raw.value.len(), raw.hash) {
            (0, 0) => ValueOrHash::Nothing,
            (0, hash) => ValueOrHash::Hash(hash),
            (HASHED_FROM.., _) => ValueOrHash::Hash(hash_of(&raw.value)),
            _ => ValueOrHash::Value(raw.value),
        }
    }
}

/// Values of so many bytes are recorded as hashes.
const HASHED_FROM: usize = 20;

/// FNV-1a of 32 bits.
fn hash_of(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Response {
    pub(super) txn: Option<TxnResponse>,
    pub(super) range: Option<RangeResponse>,
    /// The request was refused and did nothing.
    pub(super) client_error: String,
    pub(super) revision: i64,
    /// It is known from the servers' logs that it took effect, but not what it was answered.
    pub(super) persisted: bool,
    pub(super) persisted_revision: i64,
    /// Nobody knows what became of it.
    pub(super) error: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TxnResponse {
    pub(super) failure: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) results: Vec<OperationResult>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OperationResult {
    #[serde(rename = "KVs", deserialize_with = "or_default")]
    pub(super) kvs: Vec<KeyValue>,
    pub(super) count: i64,
    pub(super) deleted: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RangeResponse {
    #[serde(rename = "KVs", deserialize_with = "or_default")]
    pub(super) kvs: Vec<KeyValue>,
    pub(super) count: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct KeyValue {
    pub(super) key: String,
    pub(super) value: ValueOrHash,
    pub(super) mod_revision: i64,
    pub(super) version: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Watch {
    pub request: WatchRequest,
    #[serde(deserialize_with = "or_default")]
    pub responses: Vec<WatchResponse>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct WatchRequest {
    pub key: String,
    pub revision: i64,
    pub with_prefix: bool,
    #[serde(rename = "WithPrevKV")]
    pub with_previous: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct WatchResponse {
    #[serde(deserialize_with = "or_default")]
    pub events: Vec<WatchEvent>,
    pub is_progress_notify: bool,
    pub revision: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct WatchEvent {
    #[serde(rename = "Type")]
    pub kind: OperationKind,
    pub key: String,
    pub value: ValueOrHash,
    pub revision: i64,
    pub is_create: bool,
    pub prev_value: Option<KeyValue>,
}

/// Go writes null for what is empty.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads any of the files.
pub fn read(text: &str) -> Result<Report, FormatError> {
    let place = |error: &serde_json::Error| crate::format::json::locate(error, 0);
    let beginning = text.get(..text.len().min(PROBED)).unwrap_or(text);
    if beginning.contains("\"ClientId\"") && !beginning.contains("\"kind\"") {
        let mut operations = Vec::new();
        for operation in serde_json::Deserializer::from_str(text).into_iter::<Operation>() {
            operations.push(operation.map_err(|error| place(&error))?);
        }
        return Ok(Report { operations, ..Report::default() });
    }
    if beginning.contains("\"Request\"")
        && !beginning.contains("\"kind\"")
        && !beginning.contains("\"Response\"")
    {
        let watch = if text.trim_start().starts_with('[') {
            serde_json::from_str(text).map_err(|error| place(&error))?
        } else {
            let watches = serde_json::Deserializer::from_str(text).into_iter::<Watch>();
            watches.collect::<Result<Vec<Watch>, _>>().map_err(|error| place(&error))?
        };
        let client = ClientReport { watch, ..ClientReport::default() };
        return Ok(Report { kind: Kind::Watch, reports: vec![client], ..Report::default() });
    }
    serde_json::from_str(text).map_err(|error| place(&error))
}

/// How far into a file its kind shows.
const PROBED: usize = 4096;
