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
    let mut clusters = vec![Cluster::EMPTY; values];
    // The initial value was written before everything.
    clusters[0] = Cluster { first_return: 0, write: BEFORE_ALL, ..Cluster::EMPTY };
    for (index, operation) in operations.iter().enumerate() {
        // Zero is the time at which the initial value was written.
        let end = operation.end.max(operation.call).saturating_add(1);
        let call = operation.call.saturating_add(1);
        let cluster = &mut clusters[operation.value as usize];
        if operation.is_write {
            assert!(cluster.write == NOBODY, "zones need unique writes");
            cluster.write = index as u32;
        } else {
            cluster.is_read = true;
        }
        if end < cluster.first_return || (cluster.first_returned == NOBODY && cluster.first_return > 0) {
            (cluster.first_return, cluster.first_returned) = (end, index as u32);
        }
        if call > cluster.last_call {
            (cluster.last_call, cluster.last_called) = (call, index as u32);
        }
    }
    let mut forward: Vec<Zone> = Vec::new();
    for (value, cluster) in (0..).zip(&clusters) {
        if cluster.is_read {
            cluster.check_write(operations)?;
        }
        if cluster.is_forward() {
            forward.push(Zone { start: cluster.first_return, end: cluster.last_call, value });
        }
    }
    check_zones(&clusters, forward)
}

fn check_zones(clusters: &[Cluster], mut forward: Vec<Zone>) -> Result<(), (Vec<usize>, &'static str)> {
    forward.sort_unstable_by_key(|zone| zone.start);
    let both = |offender: u32, other: u32| both(&clusters[offender as usize], &clusters[other as usize]);
    for pair in forward.windows(2) {
        let (earlier, later) = (pair[0], pair[1]);
        // Intervals are closed: zones that only touch can still be ordered.
        if later.start < earlier.end {
            return Err((both(earlier.value, later.value), "must have been the value while another one was"));
        }
    }
    for (value, zone) in (0..).zip(clusters).filter(|(_, cluster)| cluster.is_backward()) {
        let (start, end) = (zone.last_call, zone.first_return);
        let before = forward.partition_point(|forward| forward.start < start);
        if let Some(around) =
            before.checked_sub(1).map(|index| forward[index]).filter(|forward| end < forward.end)
        {
            return Err((both(value, around.value), "happened while another value was there all the time"));
        }
    }
    Ok(())
}

/// The operations that bound two zones, and their writes.
fn both(offender: &Cluster, other: &Cluster) -> Vec<usize> {
    let mut shown = Vec::new();
    for cluster in [offender, other] {
        for index in [cluster.last_called, cluster.first_returned, cluster.write] {
            let index = index as usize;
            if index < BEFORE_ALL as usize && !shown.contains(&index) {
                shown.push(index);
            }
        }
    }
    shown
}

/// A forward zone and its value.
#[derive(Clone, Copy)]
struct Zone {
    start: u64,
    end: u64,
    value: u32,
}

/// All operations of one value.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    /// The earliest return, and whose it is.
    first_return: u64,
    /// The latest call, and whose it is.
    last_call: u64,
    first_returned: u32,
    last_called: u32,
    write: u32,
    is_read: bool,
}

impl Cluster {
    const EMPTY: Cluster = Cluster {
        first_return: u64::MAX,
        last_call: 0,
        first_returned: NOBODY,
        last_called: NOBODY,
        write: NOBODY,
        is_read: false,
    };

    /// The value was written, and not after a read of it had returned.
    fn check_write(&self, operations: &[RegisterOperation]) -> Result<(), (Vec<usize>, &'static str)> {
        let read = self.first_returned as usize;
        match self.write {
            NOBODY => Err((vec![read], "is a value that nobody wrote")),
            BEFORE_ALL => Ok(()),
            // A write does not return before its own call.
            write if self.first_return <= operations[write as usize].call => {
                Err((vec![read, write as usize], "returned before the write of its value was called"))
            }
            _ => Ok(()),
        }
    }

    /// A write of unknown outcome that nobody read can be left out, as can an initial value that nobody did.
    fn counts(&self) -> bool {
        self.last_called != NOBODY && (self.is_read || self.first_return < u64::MAX)
    }

    fn is_forward(&self) -> bool {
        self.counts() && self.first_return < self.last_call
    }

    fn is_backward(&self) -> bool {
        self.counts() && self.first_return >= self.last_call
    }
}

/// No operation.
const NOBODY: u32 = u32::MAX;
/// The write of the initial value.
const BEFORE_ALL: u32 = u32::MAX - 1;
