//! Registers whose writes are all of different values: decided without a search.
//!
//! All operations of one value form a cluster: its write and its reads must stand together, with no other
//! write in between. Let *f* be the earliest return in the cluster and *s* the latest call. If *f* < *s* the
//! value is surely the register's from *f* to *s*: the zone is *forward*. Otherwise all its operations
//! overlap at the moments from
//! *s* to *f*, and the whole cluster fits at any one of them: the zone is *backward*. The register is
//! linearizable if and only if no read returns before its write is called, no two forward zones overlap, and
//! no backward zone lies inside a forward one.
//!
//! Source: Gibbons & Korach, "Testing shared memories", SIAM J. Comput. 26 (1997), theorem 4.

/// One operation on a register; values are numbers below `values`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterOperation {
    /// When it was called.
    pub call: u64,
    /// When it returned; `u64::MAX` for a write of unknown outcome. Unknown reads are to be left out.
    pub end: u64,
    /// The value.
    pub value: u32,
    /// A write, not a read.
    pub is_write: bool,
}

/// Judges a register with unique writes. The values are those of `0..values`, 0 being the initial one, which
/// nobody writes. On refusal: the operations that show it (indices into `operations`, few) and why.
///
/// # Panics
/// If a value is written twice or the initial one is written: then this engine does not apply.
pub fn check(operations: &[RegisterOperation], values: usize) -> Result<(), (Vec<usize>, &'static str)> {
    let mut clusters = vec![Cluster::default(); values];
    // The initial value was written before everything.
    clusters[0].written = true;
    clusters[0].first_return = (0, NOBODY);
    for (index, operation) in operations.iter().enumerate() {
        // Zero is the time at which the initial value was written.
        let (call, end) = (operation.call.saturating_add(1), operation.end.saturating_add(1));
        let cluster = &mut clusters[operation.value as usize];
        if operation.is_write {
            assert!(!cluster.written, "zones need unique writes");
            cluster.written = true;
            cluster.write = index;
            cluster.write_call = call;
        } else {
            cluster.is_read = true;
            if cluster.first_read.0 > end {
                cluster.first_read = (end, index);
            }
        }
        if end < cluster.first_return.0 {
            cluster.first_return = (end, index);
        }
        if call > cluster.last_call.0 {
            cluster.last_call = (call, index);
        }
    }
    for cluster in clusters.iter().filter(|cluster| cluster.is_read) {
        let (end, read) = cluster.first_read;
        if !cluster.written {
            return Err((vec![read], "is a value that nobody wrote"));
        }
        if end < cluster.write_call {
            return Err((vec![read, cluster.write], "returned before the write of its value was called"));
        }
    }
    // A write of unknown outcome that nobody read can be left out.
    clusters.retain(|cluster| {
        cluster.last_call.1 != NOBODY && (cluster.is_read || cluster.first_return.0 < u64::MAX)
    });
    let (forward, backward): (Vec<&Cluster>, Vec<&Cluster>) =
        clusters.iter().partition(|cluster| cluster.first_return.0 < cluster.last_call.0);
    check_zones(forward, &backward)
}

fn check_zones(mut forward: Vec<&Cluster>, backward: &[&Cluster]) -> Result<(), (Vec<usize>, &'static str)> {
    forward.sort_unstable_by_key(|zone| zone.first_return.0);
    for pair in forward.windows(2) {
        let (earlier, later) = (pair[0], pair[1]);
        // Intervals are closed: zones that only touch can still be ordered.
        if later.first_return.0 < earlier.last_call.0 {
            return Err((both(earlier, later), "must have been the value while another one was"));
        }
    }
    for zone in backward {
        let (start, end) = (zone.last_call.0, zone.first_return.0);
        let before = forward.partition_point(|forward| forward.first_return.0 < start);
        if let Some(around) =
            before.checked_sub(1).map(|index| forward[index]).filter(|zone| end < zone.last_call.0)
        {
            return Err((both(zone, around), "happened while another value was there all the time"));
        }
    }
    Ok(())
}

/// The operations that bound two zones, and their writes.
fn both(offender: &Cluster, other: &Cluster) -> Vec<usize> {
    let mut shown = Vec::new();
    for cluster in [offender, other] {
        for index in [cluster.last_call.1, cluster.first_return.1, cluster.write] {
            if index != NOBODY && !shown.contains(&index) {
                shown.push(index);
            }
        }
    }
    shown
}

/// All operations of one value.
#[derive(Clone, Debug)]
struct Cluster {
    written: bool,
    is_read: bool,
    write: usize,
    write_call: u64,
    /// When a read of it returned first, and which.
    first_read: (u64, usize),
    first_return: (u64, usize),
    last_call: (u64, usize),
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            written: false,
            is_read: false,
            write: NOBODY,
            write_call: 0,
            first_read: (u64::MAX, NOBODY),
            first_return: (u64::MAX, NOBODY),
            last_call: (0, NOBODY),
        }
    }
}

/// No operation.
const NOBODY: usize = usize::MAX;
