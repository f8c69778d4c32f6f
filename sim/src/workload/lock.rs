//! Locks as etcd's clients make them, and a resource that takes writes only with the lock's token.
//!
//! A client grants itself a lease and makes a key of its own under the lock's name, unless it is there already. Whose
//! key has the smallest create revision owns the lock; the others look again and again. The owner writes to the
//! resource, guarded by the create revision of its key, proclaims (an election's leader changes the value of its key),
//! and lets go by deleting its key or revoking its lease. Some owners forget to renew their lease and go on.
//!
//! What is demanded of it all is in `crate::invariants::locks`. Source: etcd's `client/v3/concurrency/mutex.go` and
//! `election.go`.

use quorate_jepsen::etcd::{Bytes, Compare, Delete, Keys, Put, Range, Relation, Reply, Request, Target, Txn};

use super::Context;

/// The prefix of the keys of those who want a lock: `lock/NUMBER/LEASE`.
pub const PREFIX: &str = "lock/";

/// The prefix of the resources: `f/NUMBER`.
pub const RESOURCE: &str = "f/";

/// One client that wants a lock.
#[derive(Debug)]
pub struct Locks {
    slot: u64,
    granted: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It has no lease.
    Nothing,
    /// It has a lease, and no key.
    Session(Session),
    /// It has a key; its create revision.
    Queued(Session, i64),
    /// It was told that its key is the oldest.
    Owner(Session, i64),
}

#[derive(Clone, Copy, Debug)]
struct Session {
    lease: i64,
    lock: u64,
    /// Whether it forgets to renew its lease.
    forgetful: bool,
}

impl Session {
    fn name(self) -> String {
        format!("{PREFIX}{}/", self.lock)
    }

    fn key(self) -> Bytes {
        Bytes::from(format!("{}{:016x}", self.name(), self.lease).as_str())
    }

    /// The keys of all who want this lock.
    fn all(self) -> Keys {
        let beyond = format!("{PREFIX}{}0", self.lock);
        Keys::between(self.name().as_str(), beyond.as_str())
    }

    fn guard(self, token: i64) -> Compare {
        Compare { keys: Keys::one(self.key()), result: Relation::Equal, target: Target::Create(token) }
    }
}

impl Locks {
    pub(super) fn new(slot: u64) -> Locks {
        Locks { slot, granted: 0, stage: Stage::Nothing }
    }

    pub(super) fn next(&mut self, context: &mut Context<'_>) -> Request {
        match self.stage {
            Stage::Nothing => self.grant(context),
            Stage::Session(session) => acquire(session),
            Stage::Queued(session, _) => match context.random.below(20) {
                0 => Request::LeaseRevoke { id: session.lease },
                1..=4 => Request::LeaseKeepAlive { id: session.lease },
                _ => Request::Range(Range::of(session.all())),
            },
            Stage::Owner(session, token) => match context.random.below(20) {
                0 => Request::LeaseRevoke { id: session.lease },
                1 | 2 => Request::Delete(Delete { keys: Keys::one(session.key()), prev_kv: false }),
                3..=5 if !session.forgetful => Request::LeaseKeepAlive { id: session.lease },
                6 | 7 => proclaim(session, token, context),
                8..=10 => Request::Range(Range::of(session.all())),
                11 => Request::Range(Range::key(resource(session))),
                _ => write(session, token),
            },
        }
    }

    /// Learns what became of the last request: the reply and its revision, or nothing if it failed or is unknown.
    pub(super) fn done(&mut self, request: &Request, reply: Option<(&Reply, i64)>) {
        self.stage = match (self.stage, request, reply) {
            // Whoever does not know begins anew, with another lease; the old one will end.
            (_, _, None) => Stage::Nothing,
            (Stage::Nothing, &Request::LeaseGrant { .. }, Some(_)) => self.stage,
            (_, Request::LeaseRevoke { .. }, _) => Stage::Nothing,
            (_, Request::LeaseKeepAlive { .. }, Some((Reply::Lease { ttl, .. }, _))) if *ttl <= 0 => {
                Stage::Nothing
            }
            (
                Stage::Session(session),
                Request::Txn(_),
                Some((Reply::Txn { succeeded, replies }, revision)),
            ) => queued(session, *succeeded, replies, revision),
            (Stage::Queued(session, token), _, Some((Reply::Range { kvs, .. }, _))) => {
                match kvs.iter().min_by_key(|kv| kv.create_revision) {
                    _ if !kvs.iter().any(|kv| kv.create_revision == token) => Stage::Nothing,
                    Some(oldest) if oldest.create_revision == token => Stage::Owner(session, token),
                    _ => self.stage,
                }
            }
            (Stage::Owner(session, _), Request::Delete(_), Some(_)) => Stage::Session(session),
            (Stage::Owner(..), Request::Txn(_), Some((Reply::Txn { succeeded: false, .. }, _))) => {
                Stage::Nothing
            }
            _ => self.stage,
        };
    }

    fn grant(&mut self, context: &mut Context<'_>) -> Request {
        self.granted += 1;
        let lease = i64::try_from((self.slot + 1) << 32 | 1 << 31 | self.granted).expect("small numbers");
        let lock = context.random.below(context.load.keys.min(LOCKS_MAX));
        let forgetful = context.random.chance(300_000);
        self.stage = Stage::Session(Session { lease, lock, forgetful });
        Request::LeaseGrant { id: lease, ttl: 1 + context.random.below(3) as i64 }
    }
}

/// Makes the key, unless it is there already; and looks who owns the lock.
fn acquire(session: Session) -> Request {
    let key = session.key();
    let owner = Request::Range(Range::of(session.all()));
    Request::Txn(Txn {
        compares: vec![session.guard(0)],
        success: vec![
            Request::Put(Put { lease: session.lease, ..Put::new(key.clone(), "wants") }),
            owner.clone(),
        ],
        failure: vec![Request::Range(Range::key(key)), owner],
    })
}

fn queued(session: Session, made: bool, replies: &[Reply], revision: i64) -> Stage {
    let token = match replies.first() {
        Some(Reply::Range { kvs, .. }) if !made => kvs.first().map(|kv| kv.create_revision),
        _ => Some(revision),
    };
    let Some(token) = token else { return Stage::Nothing };
    match replies.get(1) {
        Some(Reply::Range { kvs, .. }) if kvs.iter().map(|kv| kv.create_revision).min() == Some(token) => {
            Stage::Owner(session, token)
        }
        _ => Stage::Queued(session, token),
    }
}

/// Writes the token to the resource, if the key that it is of is still there.
fn write(session: Session, token: i64) -> Request {
    let put = Put::new(resource(session), token.to_string().as_str());
    let failure = vec![Request::Range(Range::key(resource(session)))];
    Request::Txn(Txn { compares: vec![session.guard(token)], success: vec![Request::Put(put)], failure })
}

fn proclaim(session: Session, token: i64, context: &mut Context<'_>) -> Request {
    let put = Put { lease: session.lease, ..Put::new(session.key(), context.value()) };
    Request::Txn(Txn {
        compares: vec![session.guard(token)],
        success: vec![Request::Put(put)],
        failure: vec![],
    })
}

fn resource(session: Session) -> Bytes {
    Bytes::from(format!("{RESOURCE}{}", session.lock).as_str())
}

/// So few locks that clients meet.
const LOCKS_MAX: u64 = 2;
