//! Random histories: what to do to the store and its model, step by step.
//!
//! Revisions are generated relative to the present one (see [`resolve`]), so that most of them exist.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use quorate_store::{
    AlarmKind, Branch, Command, Compare, CompareResult, CompareTarget, DeleteRange, Error, Key, KeyRange,
    LeaseId, Operation, Put, Query, RangeEnd, RangeQuery, Revision, RevisionFilter, Sort, SortBy, Txn, Value,
    WatchRequest,
};

/// One step of a history.
#[derive(Clone, Debug)]
pub enum Step {
    /// A command.
    Apply(Command),
    /// A question.
    Query(Query),
    /// Many puts and deletes in a row, all over the key space.
    Burst {
        /// How many.
        count: u16,
        /// Where they begin.
        seed: u16,
    },
    /// A watcher more.
    Watch(WatchRequest),
    /// A watcher less.
    Cancel(u8),
    /// Credit for a watcher.
    Credit(u8, u8),
    /// A watcher asks for progress.
    Progress(u8),
    /// All updates are taken.
    Drain,
    /// Garbage is removed.
    Maintain,
    /// A snapshot is exported while commands go on, and imported.
    Export {
        /// The size of parts.
        part_bytes: usize,
        /// One is applied before each part, as long as there are any.
        meanwhile: Vec<Command>,
    },
    /// The store is copied while commands go on.
    Copy {
        /// How much is copied at a time.
        steps: usize,
        /// One is applied after each time, as long as there are any.
        meanwhile: Vec<Command>,
    },
    /// The store falls behind by these commands and gets them as a snapshot.
    Install(Vec<Command>),
}

pub fn history() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..120)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => command().prop_map(Step::Apply),
        20 => query().prop_map(Step::Query),
        1 => (1..400u16, any::<u16>()).prop_map(|(count, seed)| Step::Burst { count, seed }),
        6 => watch_request().prop_map(Step::Watch),
        2 => any::<u8>().prop_map(Step::Cancel),
        8 => (any::<u8>(), 0..12u8).prop_map(|(watcher, events)| Step::Credit(watcher, events)),
        4 => any::<u8>().prop_map(Step::Progress),
        8 => Just(Step::Drain),
        2 => Just(Step::Maintain),
        2 => (1..600usize, vec(command(), 0..20))
            .prop_map(|(part_bytes, meanwhile)| Step::Export { part_bytes, meanwhile }),
        2 => (1..400usize, vec(command(), 0..20)).prop_map(|(steps, meanwhile)| Step::Copy { steps, meanwhile }),
        1 => vec(command(), 0..12).prop_map(Step::Install),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        20 => put().prop_map(Command::Put),
        8 => delete().prop_map(Command::DeleteRange),
        12 => txn().prop_map(Command::Txn),
        3 => relative_revision().prop_map(Command::Compact),
        3 => (lease(), -1..100i64).prop_map(|(id, ttl)| Command::LeaseGrant { id, ttl }),
        2 => lease().prop_map(|id| Command::LeaseRevoke { id }),
        4 => member_command(),
        // Mostly off: little happens while an alarm is on.
        1 => (0..2u64, any::<bool>(), 0..4u8).prop_map(|(member, corrupt, on)| Command::Alarm {
            member,
            kind: if corrupt { AlarmKind::Corrupt } else { AlarmKind::NoSpace },
            active: on == 0,
        }),
    ]
}

/// Few members and few addresses, so that they collide.
fn member_command() -> impl Strategy<Value = Command> {
    let id = || 0..6u64;
    let urls = || prop_oneof![8 => vec("[a-d]", 1), 1 => vec("[a-d]", 0..3)];
    prop_oneof![
        4 => (id(), urls(), any::<bool>(), any::<bool>()).prop_map(|(id, peer_urls, learner, auto_promote)| {
            Command::MemberAdd { id, peer_urls, learner, auto_promote }
        }),
        1 => id().prop_map(|id| Command::MemberRemove { id }),
        1 => (id(), urls()).prop_map(|(id, peer_urls)| Command::MemberUpdate { id, peer_urls }),
        2 => id().prop_map(|id| Command::MemberPromote { id }),
        1 => id().prop_map(|id| Command::MemberDemote { id }),
        2 => (id(), urls()).prop_map(|(id, client_urls)| {
            Command::MemberPublish { id, name: format!("m{id}"), client_urls, priority: 1 }
        }),
        4 => (0..12u64, 0..3u64, urls()).prop_map(|(id, owner, peer_urls)| {
            Command::MemberJoin { id, owner, name: format!("o{owner}"), peer_urls }
        }),
        1 => Just(Command::MemberRefused { error: Error::UnhealthyCluster }),
    ]
}

/// Few keys, so that things happen to the same one; now and then one of the many that bursts write.
fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        8 => (0..6u8).prop_map(|i| Key::from([b'a' + i].as_slice())),
        2 => (0..500u16).prop_map(burst_key),
        1 => Just(Key::from([].as_slice())),
        1 => Just(Key::from(b"b\0".as_slice())),
    ]
}

pub fn burst_key(number: u16) -> Key {
    Key::from(format!("b{:03}", number % 500).as_str())
}

fn value() -> impl Strategy<Value = Value> {
    "[x-z]{0,3}".prop_map(|text| Value::from(text.as_str()))
}

fn lease() -> impl Strategy<Value = LeaseId> {
    prop_oneof![Just(0), Just(1), Just(2), Just(-7)].prop_map(LeaseId)
}

fn range() -> impl Strategy<Value = KeyRange> {
    let end = prop_oneof![
        5 => Just(RangeEnd::Single),
        3 => key().prop_map(RangeEnd::Before),
        1 => Just(RangeEnd::Unbounded),
    ];
    (key(), end).prop_map(|(start, end)| KeyRange { start, end })
}

/// To be subtracted from the present revision; see [`resolve`].
fn relative_revision() -> impl Strategy<Value = Revision> {
    prop_oneof![10 => 0..12i64, 2 => 0..100i64, 1 => -3..0i64, 1 => Just(1_000_000)].prop_map(Revision)
}

fn put() -> impl Strategy<Value = Put> {
    let lease = prop_oneof![4 => Just(Some(LeaseId::NONE)), 3 => lease().prop_map(Some), 1 => Just(None)];
    let value = prop_oneof![8 => value().prop_map(Some), 1 => Just(None)];
    (key(), value, lease, any::<bool>()).prop_map(|(key, value, lease, previous)| Put {
        key,
        value,
        lease,
        previous,
    })
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (range(), any::<bool>()).prop_map(|(range, previous)| DeleteRange { range, previous })
}

fn range_query() -> impl Strategy<Value = RangeQuery> {
    let sort = (0..5u8, any::<bool>(), any::<bool>()).prop_map(|(by, descending, limit_first)| Sort {
        by: [SortBy::Key, SortBy::Version, SortBy::Create, SortBy::Mod, SortBy::Value][by as usize],
        descending,
        limit_first,
    });
    let bound = || prop_oneof![2 => Just(0), 1 => 0..40i64];
    let filter =
        (bound(), bound(), bound(), bound()).prop_map(|(min_mod, max_mod, min_create, max_create)| {
            RevisionFilter { min_mod, max_mod, min_create, max_create }
        });
    (
        range(),
        option::of(relative_revision()),
        prop_oneof![Just(0), 0..6u64],
        option::of(sort),
        option::weighted(0.2, filter),
        any::<bool>(),
        prop::bool::weighted(0.15),
    )
        .prop_map(|(range, revision, limit, sort, filter, keys_only, count_only)| RangeQuery {
            range,
            revision,
            limit,
            // Without a sort, key order and the early end of the walk are one and the same thing.
            sort,
            keys_only,
            count_only,
            filter,
        })
}

fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        12 => range_query().prop_map(Query::Range),
        2 => vec(range_query(), 0..3).prop_map(|ranges| {
            let success = ranges.into_iter().map(Operation::Range).collect();
            Query::Txn(Txn { branches: vec![Branch { success, ..Branch::default() }] })
        }),
        1 => txn().prop_map(Query::Txn),
        1 => Just(Query::Leases),
        2 => (lease(), any::<bool>()).prop_map(|(id, keys)| Query::Lease { id, keys }),
        1 => Just(Query::Members),
        1 => Just(Query::Alarms),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = prop_oneof![
        Just(CompareResult::Equal),
        Just(CompareResult::Greater),
        Just(CompareResult::Less),
        Just(CompareResult::NotEqual),
        Just(CompareResult::Always),
    ];
    let target = prop_oneof![
        (0..3i64).prop_map(CompareTarget::Version),
        (0..30i64).prop_map(CompareTarget::Create),
        (0..30i64).prop_map(CompareTarget::Mod),
        value().prop_map(CompareTarget::Value),
        (0..2i64).prop_map(CompareTarget::Lease),
    ];
    (range(), result, target).prop_map(|(range, result, target)| Compare { range, result, target })
}

/// A transaction that may hold others.
#[derive(Clone, Debug)]
struct Tree {
    compares: Vec<Compare>,
    success: Vec<Node>,
    failure: Vec<Node>,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Operation),
    Tree(Tree),
}

fn txn() -> impl Strategy<Value = Txn> {
    let leaf = || {
        prop_oneof![
            3 => range_query().prop_map(Operation::Range),
            4 => put().prop_map(Operation::Put),
            1 => delete().prop_map(Operation::DeleteRange),
        ]
        .prop_map(Node::Leaf)
    };
    let node = leaf().prop_recursive(3, 12, 3, move |inner| {
        let side = vec(inner, 0..3);
        prop_oneof![
            leaf(),
            (vec(compare(), 0..2), side.clone(), side)
                .prop_map(|(compares, success, failure)| Node::Tree(Tree { compares, success, failure })),
        ]
    });
    let tree = (vec(compare(), 0..3), vec(node.clone(), 0..4), vec(node, 0..3))
        .prop_map(|(compares, success, failure)| Tree { compares, success, failure });
    // Now and then a reference is bent, as in a hostile log entry.
    (tree, option::weighted(0.05, (any::<prop::sample::Index>(), 0..6u32))).prop_map(|(tree, bend)| {
        let mut txn = Txn { branches: Vec::new() };
        flatten(tree, &mut txn);
        if let Some((branch, to)) = bend {
            let branch = branch.index(txn.branches.len());
            txn.branches[branch].success.push(Operation::Nested(to));
        }
        txn
    })
}

fn flatten(tree: Tree, txn: &mut Txn) -> u32 {
    let index = txn.branches.len();
    txn.branches.push(Branch { compares: tree.compares, ..Branch::default() });
    let mut side = |nodes: Vec<Node>| {
        let operation = |node| match node {
            Node::Leaf(operation) => operation,
            Node::Tree(tree) => Operation::Nested(flatten(tree, txn)),
        };
        nodes.into_iter().map(operation).collect()
    };
    let (success, failure) = (side(tree.success), side(tree.failure));
    txn.branches[index].success = success;
    txn.branches[index].failure = failure;
    index as u32
}

fn watch_request() -> impl Strategy<Value = WatchRequest> {
    let filter = || prop::bool::weighted(0.15);
    (range(), option::of(relative_revision()), any::<bool>(), filter(), filter()).prop_map(
        |(range, start, previous, no_put, no_delete)| WatchRequest {
            range,
            start,
            previous,
            no_put,
            no_delete,
        },
    )
}

// --- From relative revisions to real ones ---

pub fn resolve(relative: &mut Revision, present: i64) {
    relative.0 = present - relative.0;
}

pub fn resolve_command(command: &mut Command, present: i64) {
    match command {
        Command::Compact(revision) => resolve(revision, present),
        Command::Txn(txn) => resolve_txn(txn, present),
        _ => {}
    }
}

pub fn resolve_query(query: &mut Query, present: i64) {
    match query {
        Query::Range(RangeQuery { revision: Some(revision), .. }) => resolve(revision, present),
        Query::Txn(txn) => resolve_txn(txn, present),
        _ => {}
    }
}

fn resolve_txn(txn: &mut Txn, present: i64) {
    for operation in txn.branches.iter_mut().flat_map(|b| b.success.iter_mut().chain(&mut b.failure)) {
        // One in three: most transactions should do something.
        if let Operation::Range(RangeQuery { revision, .. }) = operation {
            match revision {
                Some(relative) if relative.0 % 3 == 0 => resolve(relative, present),
                _ => *revision = None,
            }
        }
    }
}
