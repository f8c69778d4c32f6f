//! Clients' requests as they are written in scenarios.
//!
//! ```text
//! put KEY VALUE [padded N] [lease N] [prev] [ignore-value] [ignore-lease]
//! get KEYS [stale] [revision N] [limit N] [sort key|version|create|mod|value ascend|descend]
//!          [keys-only] [count-only]
//! delete KEYS [prev]
//! txn [if TEST [and TEST]…] then { [REQUEST [; REQUEST]…] } else { … }
//! compact N   grant ID SECONDS   revoke ID   keep-alive ID   time-to-live ID
//! KEYS: KEY | KEY .. KEY | KEY .. end | all        TEST: version|create|mod|value|lease KEYS = < > != …
//! ```

use std::fmt;

use quorate_jepsen::etcd::{
    Bytes, Compare, Delete, Keys, Put, Range, Relation, Request, SortOrder, SortTarget, Target, Txn,
};

use super::words::{Read, Words, written};

/// Reads a request.
pub fn read(words: &mut Words) -> Read<Request> {
    let word = words.word("a request (put, get, delete, txn, compact, grant, revoke, keep-alive, …)")?;
    Ok(match word.as_str() {
        "put" => Request::Put(read_put(words)?),
        "get" => Request::Range(read_range(words)?),
        "delete" => Request::Delete(Delete { keys: keys(words)?, prev_kv: words.take("prev") }),
        "txn" => Request::Txn(read_txn(words)?),
        "compact" => Request::Compact { revision: words.number("a revision")? },
        "grant" => {
            Request::LeaseGrant { id: words.number("a lease")?, ttl: words.number("seconds to live")? }
        }
        "revoke" => Request::LeaseRevoke { id: words.number("a lease")? },
        "keep-alive" => Request::LeaseKeepAlive { id: words.number("a lease")? },
        "time-to-live" => Request::LeaseTimeToLive { id: words.number("a lease")? },
        other => return Err(words.back().wrong(&format!("there is no request {other:?}"))),
    })
}

fn read_put(words: &mut Words) -> Read<Put> {
    let key = Bytes::from(words.bytes("a key")?);
    let mut put = Put::new(key, value(words)?);
    loop {
        if words.take("lease") {
            put.lease = words.number("a lease")?;
        } else if words.take("prev") {
            put.prev_kv = true;
        } else if words.take("ignore-value") {
            put.ignore_value = true;
        } else if words.take("ignore-lease") {
            put.ignore_lease = true;
        } else {
            return Ok(put);
        }
    }
}

/// A value; a long one is a short one, padded with points.
pub fn value(words: &mut Words) -> Read<Bytes> {
    let mut value = words.bytes("a value")?;
    if words.take("padded") {
        let length: usize = words.number("a length")?;
        if length < value.len() || length > VALUE_MAX {
            return Err(words.back().wrong(&format!("expected a length up to {VALUE_MAX}")));
        }
        value.resize(length, b'.');
    }
    Ok(Bytes::from(value))
}

/// Keys: one, from one to another, or all.
pub fn keys(words: &mut Words) -> Read<Keys> {
    if words.take("all") {
        return Ok(Keys::all());
    }
    let key = Bytes::from(words.bytes("a key, or \"all\"")?);
    if !words.take("..") {
        return Ok(Keys::one(key));
    }
    let end =
        if words.take("end") { Bytes::from("\0") } else { Bytes::from(words.bytes("a key, or \"end\"")?) };
    Ok(Keys::between(key, end))
}

fn read_range(words: &mut Words) -> Read<Range> {
    let mut range = Range::of(keys(words)?);
    loop {
        if words.take("stale") {
            range.serializable = true;
        } else if words.take("revision") {
            range.revision = words.number("a revision")?;
        } else if words.take("limit") {
            range.limit = words.number("a number of keys")?;
        } else if words.take("keys-only") {
            range.keys_only = true;
        } else if words.take("count-only") {
            range.count_only = true;
        } else if words.take("sort") {
            let by = words.word("what to sort by")?;
            let target = SORTS.iter().find(|(name, _)| *name == by);
            range.sort_target =
                target.ok_or_else(|| words.back().wrong("expected key, version, create, mod or value"))?.1;
            range.sort_order = if words.take("descend") {
                SortOrder::Descend
            } else {
                words.expect("ascend").map(|()| SortOrder::Ascend)?
            };
        } else {
            return Ok(range);
        }
    }
}

fn read_txn(words: &mut Words) -> Read<Txn> {
    let mut txn = Txn::default();
    if words.take("if") {
        txn.compares.push(test(words)?);
        while words.take("and") {
            txn.compares.push(test(words)?);
        }
    }
    words.expect("then")?;
    txn.success = requests(words)?;
    words.expect("else")?;
    txn.failure = requests(words)?;
    Ok(txn)
}

fn requests(words: &mut Words) -> Read<Vec<Request>> {
    words.expect("{")?;
    let mut requests = Vec::new();
    while !words.take("}") {
        if !requests.is_empty() {
            words.expect(";")?;
        }
        let nested = ["put", "get", "delete", "txn"].contains(&words.peek());
        if !nested {
            return Err(words.wrong("a transaction can hold put, get, delete and txn"));
        }
        requests.push(read(words)?);
    }
    Ok(requests)
}

fn test(words: &mut Words) -> Read<Compare> {
    let property = words.word("a property")?;
    if !["version", "create", "mod", "value", "lease"].contains(&property.as_str()) {
        return Err(words.back().wrong("expected version, create, mod, value or lease"));
    }
    let keys = keys(words)?;
    let relation = words.word("a relation")?;
    let result = RELATIONS.iter().find(|(name, _)| *name == relation);
    let result = result.ok_or_else(|| words.back().wrong("expected =, !=, < or >"))?.1;
    let target = match property.as_str() {
        "version" => Target::Version(words.number("a version")?),
        "create" => Target::Create(words.number("a revision")?),
        "mod" => Target::Mod(words.number("a revision")?),
        "lease" => Target::Lease(words.number("a lease")?),
        _ => Target::Value(value(words)?),
    };
    Ok(Compare { keys, result, target })
}

/// A request, to be written.
pub struct Printed<'a>(pub &'a Request);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Request::Range(range) => write_range(f, range),
            Request::Put(put) => write_put(f, put),
            Request::Delete(delete) => {
                write!(f, "delete {}", keys_text(&delete.keys))?;
                f.write_str(if delete.prev_kv { " prev" } else { "" })
            }
            Request::Txn(txn) => write_txn(f, txn),
            Request::Compact { revision } => write!(f, "compact {revision}"),
            Request::LeaseGrant { id, ttl } => write!(f, "grant {id} {ttl}"),
            Request::LeaseRevoke { id } => write!(f, "revoke {id}"),
            Request::LeaseKeepAlive { id } => write!(f, "keep-alive {id}"),
            Request::LeaseTimeToLive { id } => write!(f, "time-to-live {id}"),
        }
    }
}

fn write_put(f: &mut fmt::Formatter<'_>, put: &Put) -> fmt::Result {
    write!(f, "put {} {}", written(put.key.as_slice()), value_text(&put.value))?;
    if put.lease != 0 {
        write!(f, " lease {}", put.lease)?;
    }
    let marks =
        [(put.prev_kv, "prev"), (put.ignore_value, "ignore-value"), (put.ignore_lease, "ignore-lease")];
    marks.iter().filter(|(on, _)| *on).try_for_each(|(_, name)| write!(f, " {name}"))
}

fn write_range(f: &mut fmt::Formatter<'_>, range: &Range) -> fmt::Result {
    write!(f, "get {}", keys_text(&range.keys))?;
    if range.serializable {
        f.write_str(" stale")?;
    }
    if range.revision != 0 {
        write!(f, " revision {}", range.revision)?;
    }
    if range.limit != 0 {
        write!(f, " limit {}", range.limit)?;
    }
    if range.sort_order != SortOrder::None {
        let by =
            SORTS.iter().find(|(_, target)| *target == range.sort_target).map_or("key", |(name, _)| name);
        let order = if range.sort_order == SortOrder::Descend { "descend" } else { "ascend" };
        write!(f, " sort {by} {order}")?;
    }
    let marks = [(range.keys_only, "keys-only"), (range.count_only, "count-only")];
    marks.iter().filter(|(on, _)| *on).try_for_each(|(_, name)| write!(f, " {name}"))
}

fn write_txn(f: &mut fmt::Formatter<'_>, txn: &Txn) -> fmt::Result {
    f.write_str("txn ")?;
    for (number, Compare { keys, result, target }) in txn.compares.iter().enumerate() {
        let (property, target) = match target {
            Target::Version(version) => ("version", version.to_string()),
            Target::Create(revision) => ("create", revision.to_string()),
            Target::Mod(revision) => ("mod", revision.to_string()),
            Target::Lease(lease) => ("lease", lease.to_string()),
            Target::Value(value) => ("value", value_text(value)),
        };
        let relation = RELATIONS.iter().find(|(_, other)| other == result).map_or("=", |(name, _)| name);
        let word = if number == 0 { "if" } else { "and" };
        write!(f, "{word} {property} {} {relation} {target} ", keys_text(keys))?;
    }
    for (word, requests) in [("then", &txn.success), (" else", &txn.failure)] {
        let list: Vec<String> = requests.iter().map(|request| Printed(request).to_string()).collect();
        let list = list.join(" ; ");
        let space = if list.is_empty() { "" } else { " " };
        write!(f, "{word} {{ {list}{space}}}")?;
    }
    Ok(())
}

/// Keys, to be written.
pub fn keys_text(keys: &Keys) -> String {
    match keys.range_end.as_slice() {
        [] => written(keys.key.as_slice()),
        [0] if keys.key.as_slice() == [0] => "all".to_owned(),
        [0] => format!("{} .. end", written(keys.key.as_slice())),
        end => format!("{} .. {}", written(keys.key.as_slice()), written(end)),
    }
}

/// A value, to be written.
pub fn value_text(value: &Bytes) -> String {
    let bytes = value.as_slice();
    let short = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == b'.').count();
    if bytes.len() - short < PADDING_MIN {
        return written(bytes);
    }
    format!("{} padded {}", written(&bytes[..short]), bytes.len())
}

const SORTS: [(&str, SortTarget); 5] = [
    ("key", SortTarget::Key),
    ("version", SortTarget::Version),
    ("create", SortTarget::Create),
    ("mod", SortTarget::Mod),
    ("value", SortTarget::Value),
];

const RELATIONS: [(&str, Relation); 4] =
    [("=", Relation::Equal), ("!=", Relation::NotEqual), ("<", Relation::Less), (">", Relation::Greater)];

/// Fewer points than this are part of a value.
const PADDING_MIN: usize = 3;

/// The longest value that a scenario can have.
const VALUE_MAX: usize = 1 << 20;
