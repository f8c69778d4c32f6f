//! Parsing requests: tables of what is refused and why, and properties over arbitrary messages.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::compare::TargetUnion;
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_store::{CompareResult, CompareTarget, KeyRange, LeaseId, Operation, Sort, SortBy, Txn};

use super::*;
use crate::config::Limits;
use crate::error::Error;

// --- Ways to write requests briefly ---

fn get(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: Bytes::from(key), ..Default::default() }
}

fn put_of(key: &'static str) -> pb::PutRequest {
    pb::PutRequest { key: Bytes::from(key), value: Bytes::from("v"), ..Default::default() }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn op_get(key: &'static str) -> pb::RequestOp {
    op(Request::RequestRange(get(key)))
}

fn op_put(key: &'static str) -> pb::RequestOp {
    op(Request::RequestPut(put_of(key)))
}

fn op_delete(key: &'static str, range_end: &'static str) -> pb::RequestOp {
    let (key, range_end) = (Bytes::from(key), Bytes::from(range_end));
    op(Request::RequestDeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv: false }))
}

fn op_txn(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
    op(Request::RequestTxn(pb::TxnRequest { compare: vec![], success, failure }))
}

fn then(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success, ..Default::default() }
}

fn parse(request: &pb::TxnRequest) -> Result<Txn, Error> {
    txn(request, &Limits::default())
}

// --- Single operations ---

#[test]
fn requests_without_a_key_are_refused() {
    assert_eq!(range(&get("")), Err(Error::EmptyKey));
    assert_eq!(put(&put_of("")), Err(Error::EmptyKey));
    assert_eq!(delete_range(&pb::DeleteRangeRequest::default()), Err(Error::EmptyKey));
    let no_key = pb::TxnRequest { compare: vec![pb::Compare::default()], ..Default::default() };
    for request in [then(vec![op_get("")]), then(vec![op_put("")]), then(vec![op_delete("", "")]), no_key] {
        assert_eq!(parse(&request), Err(Error::EmptyKey), "{request:?}");
    }
}

#[test]
fn what_is_kept_must_not_be_given() {
    let keep_value = pb::PutRequest { ignore_value: true, ..put_of("k") };
    assert_eq!(put(&keep_value), Err(Error::ValueProvided));
    let keep_lease = pb::PutRequest { ignore_lease: true, lease: 7, ..put_of("k") };
    assert_eq!(put(&keep_lease), Err(Error::LeaseProvided));

    let parsed =
        put(&pb::PutRequest { ignore_value: true, ignore_lease: true, value: Bytes::new(), ..put_of("k") });
    let parsed = parsed.expect("nothing is given that is kept");
    assert_eq!((parsed.value, parsed.lease), (None, None));
    let parsed = put(&put_of("k")).expect("a plain put");
    assert_eq!(parsed.lease, Some(LeaseId::NONE), "a put without a lease detaches the key from its own");
}

#[test]
fn unknown_sort_options_are_refused() {
    for (sort_order, sort_target) in [(3, 0), (-1, 0), (0, 5), (0, -1)] {
        let request = pb::RangeRequest { sort_order, sort_target, ..get("k") };
        assert_eq!(range(&request), Err(Error::InvalidSortOption), "{sort_order} {sort_target}");
    }
}

#[test]
fn sort_options_become_an_order() {
    let sorted = |by, descending, limit_first| Some(Sort { by, descending, limit_first });
    // Order, target, a bound on mod revisions; the outcome.
    let table = [
        // By key ascending is how the store keeps them.
        (0, 0, 0, None),
        (1, 0, 0, None),
        (2, 0, 0, sorted(SortBy::Key, true, false)),
        // A target without an order sorts ascending what the limit left.
        (0, 1, 0, sorted(SortBy::Version, false, true)),
        (1, 1, 0, sorted(SortBy::Version, false, false)),
        // A filter makes etcd read everything first, so that the limit comes last.
        (0, 4, 9, sorted(SortBy::Value, false, false)),
        (2, 2, 0, sorted(SortBy::Create, true, false)),
        (2, 3, 9, sorted(SortBy::Mod, true, false)),
    ];
    for (sort_order, sort_target, min_mod_revision, expected) in table {
        let request = pb::RangeRequest { sort_order, sort_target, min_mod_revision, ..get("k") };
        let parsed = range(&request).expect("valid options");
        assert_eq!(parsed.sort, expected, "{sort_order} {sort_target} {min_mod_revision}");
        assert_eq!(parsed.filter.is_some(), min_mod_revision != 0);
    }
}

#[test]
fn negative_limits_and_revisions_mean_none() {
    let parsed = range(&pb::RangeRequest { limit: -1, revision: -1, ..get("k") }).expect("a plain range");
    assert_eq!((parsed.limit, parsed.revision), (0, None));
    let compaction = pb::CompactionRequest { revision: -1, physical: false };
    assert_eq!(compact(&compaction), Err(Error::Compacted));
}

#[test]
fn leases_have_a_shortest_and_a_longest_time() {
    let table = [(i64::MIN, Ok(2)), (0, Ok(2)), (3, Ok(3)), (9_000_000_000, Ok(9_000_000_000))];
    for (asked, granted) in table {
        assert_eq!(grant_ttl(asked, 2), granted);
    }
    assert_eq!(grant_ttl(9_000_000_001, 2), Err(Error::LeaseTtlTooLarge));
}

#[test]
fn watches_are_parsed() {
    let request = |key: &'static str, range_end: &'static str| pb::WatchCreateRequest {
        key: Bytes::from(key),
        range_end: Bytes::from(range_end),
        ..Default::default()
    };
    // No key is the least key there is; with "\0" as the end that is all keys.
    let table = [("", "", "\0", ""), ("", "\0", "\0", "\0"), ("a", "b", "a", "b"), ("a", "", "a", "")];
    for (key, range_end, start, end) in table {
        let parsed = watch(&request(key, range_end)).expect("a range with keys");
        assert_eq!(parsed.range, KeyRange::from_wire(start.as_bytes(), end.as_bytes()));
    }
    for (key, range_end) in [("b", "a"), ("a", "a")] {
        assert_eq!(watch(&request(key, range_end)), Err(Rejection::EmptyRange));
    }
    let negative = pb::WatchCreateRequest { start_revision: -1, ..request("a", "") };
    assert_eq!(watch(&negative), Err(Rejection::NegativeRevision));
    let filtered = pb::WatchCreateRequest { filters: vec![1, 77], ..request("a", "") };
    let parsed = watch(&filtered).expect("unknown filters are ignored");
    assert_eq!((parsed.no_put, parsed.no_delete), (false, true));
}

// --- Transactions ---

#[test]
fn transactions_have_limits() {
    let gets = |count: usize| vec![op_get("k"); count];
    assert!(parse(&then(gets(128))).is_ok());
    assert_eq!(parse(&then(gets(129))), Err(Error::TooManyOps));
    let failure = pb::TxnRequest { failure: gets(129), ..Default::default() };
    assert_eq!(parse(&failure), Err(Error::TooManyOps));

    // What is nested has what its parent left.
    assert!(parse(&then(vec![op_txn(gets(127), vec![])])).is_ok());
    assert_eq!(parse(&then(vec![op_txn(gets(128), vec![])])), Err(Error::TooManyOps));

    // The whole tree is bounded too, though every level is within its limit.
    let broad = || op_txn(gets(64), gets(64));
    assert!(parse(&then((0..7).map(|_| broad()).collect())).is_ok());
    assert_eq!(parse(&then((0..8).map(|_| broad()).collect())), Err(Error::TooManyOps));

    let nested =
        |depth| (1..depth).fold(then(vec![op_get("k")]), |txn, _| then(vec![op(Request::RequestTxn(txn))]));
    assert!(parse(&nested(32)).is_ok());
    assert_eq!(parse(&nested(33)), Err(Error::TooManyOps));
}

#[test]
fn an_operation_that_is_none_is_refused() {
    assert_eq!(parse(&then(vec![pb::RequestOp { request: None }])), Err(Error::KeyNotFound));
}

#[test]
fn nested_transactions_become_branches() {
    let request = pb::TxnRequest {
        compare: vec![],
        success: vec![op_put("a"), op_txn(vec![op_txn(vec![op_put("b")], vec![])], vec![])],
        failure: vec![op_txn(vec![], vec![op_put("a")])],
    };
    let txn = parse(&request).expect("within all limits");
    let nested = |operations: &[Operation]| -> Vec<u32> {
        operations.iter().filter_map(|o| if let Operation::Nested(i) = o { Some(*i) } else { None }).collect()
    };
    let shape: Vec<_> = txn.branches.iter().map(|b| (nested(&b.success), nested(&b.failure))).collect();
    assert_eq!(shape, [(vec![1], vec![3]), (vec![2], vec![]), (vec![], vec![]), (vec![], vec![])]);
}

#[test]
fn compares_without_a_fitting_operand_compare_with_nothing() {
    let compare = |target: i32, result: i32, target_union: Option<TargetUnion>| {
        let compare =
            pb::Compare { result, target, key: Bytes::from("k"), range_end: Bytes::new(), target_union };
        let txn = parse(&pb::TxnRequest { compare: vec![compare], ..Default::default() });
        let compare = txn.expect("any compare with a key is one").branches[0].compares[0].clone();
        (compare.result, compare.target)
    };
    let version = || Some(TargetUnion::Version(7));
    assert_eq!(compare(0, 0, version()), (CompareResult::Equal, CompareTarget::Version(7)));
    assert_eq!(compare(1, 1, version()), (CompareResult::Greater, CompareTarget::Create(0)));
    assert_eq!(compare(2, 2, None), (CompareResult::Less, CompareTarget::Mod(0)));
    assert_eq!(compare(3, 3, version()), (CompareResult::NotEqual, CompareTarget::Value(b""[..].into())));
    assert_eq!(compare(4, 99, None), (CompareResult::Always, CompareTarget::Lease(0)));
    // An unknown property is equal to everything.
    assert_eq!(compare(99, 0, None).0, CompareResult::Always);
    assert_eq!(compare(99, 3, None), (CompareResult::Less, CompareTarget::Version(i64::MIN)));
}

#[test]
fn no_key_is_changed_twice() {
    let duplicate = Err(Error::DuplicateKey);
    let table = [
        ("two puts", vec![op_put("a"), op_put("a")], duplicate),
        ("different keys", vec![op_put("a"), op_put("b")], Ok(())),
        ("put in a deleted range", vec![op_delete("a", "c"), op_put("b")], duplicate),
        ("in any order", vec![op_put("b"), op_delete("a", "c")], duplicate),
        ("beyond the range", vec![op_put("c"), op_delete("a", "c")], Ok(())),
        ("put of the deleted key", vec![op_put("a"), op_delete("a", "")], duplicate),
        ("put in an open range", vec![op_put("z"), op_delete("a", "\0")], duplicate),
        ("deletions may overlap", vec![op_delete("a", "c"), op_delete("b", "d"), op_delete("b", "")], Ok(())),
        ("nested and sibling", vec![op_txn(vec![op_put("a")], vec![]), op_put("a")], duplicate),
        ("nested exclude each other", vec![op_txn(vec![op_put("a")], vec![op_put("a")])], Ok(())),
        ("two nested", vec![op_txn(vec![op_put("a")], vec![]), op_txn(vec![], vec![op_put("a")])], duplicate),
        ("nested deletion", vec![op_txn(vec![], vec![op_delete("a", "c")]), op_put("b")], duplicate),
        ("nested put", vec![op_delete("a", "c"), op_txn(vec![op_put("b")], vec![])], duplicate),
        ("reads do not count", vec![op_get("a"), op_put("a"), op_get("a")], Ok(())),
    ];
    for (name, operations, expected) in table {
        assert_eq!(parse(&then(operations)).map(|_| ()), expected, "{name}");
    }
    let both = pb::TxnRequest { compare: vec![], success: vec![op_put("a")], failure: vec![op_put("a")] };
    assert!(parse(&both).is_ok(), "one or the other happens");
}

// --- Properties ---

/// Transactions over few keys, so that they clash often.
fn any_operation() -> impl Strategy<Value = pb::RequestOp> {
    let key = prop::sample::select(vec!["a", "b", "c", "d"]);
    let range_end = prop::sample::select(vec!["", "", "b", "c", "\0"]);
    let leaf = prop_oneof![
        key.clone().prop_map(op_get),
        key.clone().prop_map(op_put),
        (key, range_end).prop_map(|(key, range_end)| op_delete(key, range_end)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let operations = prop::collection::vec(inner, 0..3);
        (operations.clone(), operations).prop_map(|(success, failure)| op_txn(success, failure))
    })
}

fn any_txn() -> impl Strategy<Value = pb::TxnRequest> {
    let operations = || prop::collection::vec(any_operation(), 0..4);
    (operations(), operations()).prop_map(|(success, failure)| pb::TxnRequest {
        compare: vec![],
        success,
        failure,
    })
}

/// The dumbest rule: list every way the transaction can go, and see whether a key is changed twice.
fn clashes(request: &pb::TxnRequest) -> bool {
    let mut ways = ways(&request.success);
    ways.extend(self::ways(&request.failure));
    ways.iter().any(|way| {
        (b'a'..=b'e').any(|key| {
            let puts = way.iter().filter(|op| matches!(op, Operation::Put(p) if p.key[..] == [key])).count();
            let deleted =
                way.iter().any(|op| matches!(op, Operation::DeleteRange(d) if d.range.contains(&[key])));
            puts > 1 || puts == 1 && deleted
        })
    })
}

fn ways(operations: &[pb::RequestOp]) -> Vec<Vec<Operation>> {
    let mut ways = vec![vec![]];
    for operation in operations {
        let of_this = match operation.request.as_ref().expect("generated with a request") {
            Request::RequestRange(request) => vec![vec![Operation::Range(range(request).expect("valid"))]],
            Request::RequestPut(request) => vec![vec![Operation::Put(put(request).expect("valid"))]],
            Request::RequestDeleteRange(request) => {
                vec![vec![Operation::DeleteRange(delete_range(request).expect("valid"))]]
            }
            Request::RequestTxn(txn) => {
                let mut both = self::ways(&txn.success);
                both.extend(self::ways(&txn.failure));
                both
            }
        };
        ways = ways.iter().flat_map(|way| of_this.iter().map(|more| [&way[..], more].concat())).collect();
    }
    ways
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn duplicate_keys_are_found_like_by_trying_all_ways(request in any_txn()) {
        let expected = if clashes(&request) { Err(Error::DuplicateKey) } else { Ok(()) };
        prop_assert_eq!(parse(&request).map(|_| ()), expected);
    }

    /// `Txn` documents what a flattened transaction is; the store relies on it.
    #[test]
    fn flattened_transactions_are_well_formed(request in any_txn()) {
        if let Ok(txn) = parse(&request) {
            let mut referred = vec![];
            for (place, branch) in txn.branches.iter().enumerate() {
                for operation in branch.success.iter().chain(&branch.failure) {
                    if let Operation::Nested(nested) = operation {
                        prop_assert!(*nested as usize > place);
                        referred.push(*nested as usize);
                    }
                }
            }
            referred.sort_unstable();
            prop_assert_eq!(referred, (1..txn.branches.len()).collect::<Vec<_>>());
        }
    }

    /// Whatever decodes is parsed or refused, without a panic.
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..64), wrap in 0u8..4) {
        // As they are, and as the contents of the first field, where the nested messages are.
        let mut bytes = bytes;
        for _ in 0..wrap {
            let mut outer = vec![0x0a, u8::try_from(bytes.len()).expect("short")];
            outer.extend(bytes);
            bytes = outer;
        }
        let bytes = &bytes[..];
        let _ = pb::RangeRequest::decode(bytes).map(|request| range(&request));
        let _ = pb::PutRequest::decode(bytes).map(|request| put(&request));
        let _ = pb::DeleteRangeRequest::decode(bytes).map(|request| delete_range(&request));
        let _ = pb::CompactionRequest::decode(bytes).map(|request| compact(&request));
        let _ = pb::TxnRequest::decode(bytes).map(|request| parse(&request));
        let _ = pb::WatchCreateRequest::decode(bytes).map(|request| watch(&request));
    }
}
