//! Do all members hold the same? Asked again and again while the run lasts, and at the end, when every fault is healed
//! and every member must serve again and catch up.
//!
//! Members are compared at one revision that all of them have reached. etcd's `HashKV` gives a checksum of a member's
//! history; where it is not served, the keys that a member shows at that revision stand for it.

use std::time::Duration;

use quorate_client::proto::etcdserverpb as pb;
use quorate_client::{Client as Wire, Error};
use quorate_jepsen::etcd::{HashSeen, check_hashes};
use quorate_jepsen::{Verdict, Violation};

use crate::judge::Check;
use crate::local::{Local, LocalError};
use crate::nemesis;
use crate::workload::Context;

/// What came of the comparisons up to now.
#[derive(Debug, Default)]
pub struct Compared {
    /// How often two members or more could be compared.
    rounds: usize,
    difference: Option<Violation>,
}

impl Compared {
    /// Compares those members that answer and have come as far as one of them; `all`: waits for every one.
    async fn round(&mut self, members: &[Wire], all: bool) -> Result<(), Error> {
        let mut revision = 0;
        for member in members {
            match member.range(range(0, false)).await {
                Ok(response) => revision = revision.max(response.header.unwrap_or_default().revision),
                Err(error) if all => return Err(error),
                Err(_) => {}
            }
        }
        if revision == 0 {
            return Ok(()); // nobody knows how far the cluster is; each member would show how far itself is
        }
        let mut seen = Vec::new();
        for member in members {
            match look(member, revision, all).await {
                Ok(hash) => seen.extend(hash),
                Err(error) if all => return Err(error),
                Err(_) => {}
            }
        }
        if seen.len() > 1 {
            self.rounds += 1;
            self.difference = self.difference.take().or(check_hashes(&seen).err());
        }
        Ok(())
    }

    /// The verdict.
    pub fn check(self) -> Check {
        let verdict = match self.difference {
            Some(difference) => Verdict::Invalid(difference),
            None if self.rounds == 0 => Verdict::Unknown("no two members could be compared".to_owned()),
            None => Verdict::Valid,
        };
        let mut check = Check::of("members hold the same at the same revision", verdict);
        check.why.push(format!("compared {} times", self.rounds));
        check
    }
}

/// Compares the members now and then until the run is over.
pub async fn compare(members: Vec<Wire>, context: &Context) -> Compared {
    let mut compared = Compared::default();
    let mut ticks = 0_u32;
    while !context.is_over() {
        tokio::time::sleep(TICK).await;
        ticks += 1;
        if ticks.is_multiple_of(TICKS_PER_ROUND) {
            // Who does not answer now is asked again at the end.
            let _ = compared.round(&members, false).await;
        }
    }
    compared
}

/// Waits, now that everything is healed, until the cluster consists of those it began with and every member serves and
/// has caught up; then compares them.
pub async fn recovered(
    local: Option<&mut Local>,
    endpoints: &Wire,
    compared: &mut Compared,
) -> Result<Check, LocalError> {
    let name = "when the faults are over, every member serves and catches up";
    if let Some(local) = local {
        match nemesis::restore_members(local, PATIENCE).await {
            Err(LocalError::Members(why, _)) => return Ok(Check::of(name, Verdict::Invalid(stuck(why)))),
            other => other?,
        }
    }
    let members: Vec<Wire> = endpoints.each().map(|(_, member)| member).collect();
    let mut left = PATIENCE;
    while let Err(error) = compared.round(&members, true).await {
        if left.is_zero() {
            let sentence =
                format!("a member does not serve {PATIENCE:?} after everything was healed: {error}");
            return Ok(Check::of(name, Verdict::Invalid(stuck(sentence))));
        }
        tokio::time::sleep(TICK).await;
        left = left.saturating_sub(TICK);
    }
    Ok(Check::of(name, Verdict::Valid))
}

fn stuck(sentence: String) -> Violation {
    Violation { rule: "recovery", sentence, operations: Vec::new() }
}

/// What a member holds at a revision; nothing if there are too many keys to read them while it works.
async fn look(member: &Wire, revision: i64, however_many: bool) -> Result<Option<HashSeen>, Error> {
    match member.hash_kv(revision).await {
        Ok(response) => {
            let (header, compact_revision) = (response.header.unwrap_or_default(), response.compact_revision);
            let seen = HashSeen { member: header.member_id, revision, compact_revision, hash: response.hash };
            Ok(Some(seen))
        }
        Err(error) if error.is_unimplemented() => {
            let limit = if however_many { 0 } else { KEYS_MAX };
            let response = member.range(pb::RangeRequest { limit, ..range(revision, true) }).await?;
            let member = response.header.unwrap_or_default().member_id;
            // The keys at a revision do not depend on what has been forgotten before it.
            let seen = HashSeen { member, revision, compact_revision: 0, hash: checksum(&response.kvs) };
            Ok((!response.more).then_some(seen))
        }
        Err(error) => Err(error),
    }
}

/// Everything at a revision, or whatever is there now: how far the cluster is.
fn range(revision: i64, everything: bool) -> pb::RangeRequest {
    pb::RangeRequest {
        key: vec![0].into(),
        range_end: if everything { vec![0].into() } else { Vec::new().into() },
        revision,
        serializable: everything,
        ..Default::default()
    }
}

/// FNV-1a over all fields.
fn checksum(kvs: &[quorate_client::proto::mvccpb::KeyValue]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    for kv in kvs {
        for bytes in [&kv.key, &kv.value] {
            add(&(bytes.len() as u64).to_le_bytes());
            add(bytes);
        }
        for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
            add(&number.to_le_bytes());
        }
    }
    hash
}

/// How often members are compared.
const TICK: Duration = Duration::from_millis(500);
const TICKS_PER_ROUND: u32 = 10;
/// How many keys are read to compare members without `HashKV`.
const KEYS_MAX: i64 = 20_000;
/// How long a healed cluster may take.
const PATIENCE: Duration = Duration::from_secs(60);
