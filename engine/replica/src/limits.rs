//! Every bound of a replica, in one place, with the relations between them checked by the compiler.

/// How many of an origin's latest request ids the session table tells apart, and therefore how far the
/// ids of requests in flight may lie apart. At 100,000 requests a second through one member, a single
/// one may lag behind the others for two and a half seconds before newcomers are refused.
pub(crate) const SESSION_WINDOW: u64 = 1 << 18;

/// Words of 64 bits that cover the window wherever its end falls within a word.
pub(crate) const SESSION_WORDS: usize = SESSION_WINDOW as usize / 64 + 1;

/// Requests that may wait for an answer at one member.
pub(crate) const PENDING_MAX: usize = 1 << 16;

/// How many of those only keep-alives and revocations may use: under overload, leases come first.
pub(crate) const PENDING_RESERVED: usize = 1 << 12;

/// Bytes of commands that may wait for an answer at one member.
pub(crate) const PENDING_BYTES_MAX: usize = 256 << 20;

/// Committed entries that may wait to be applied before requests are refused. Entries are applied in
/// the turn in which they are handed over, so this is reached only behind a member that catches up.
pub(crate) const APPLY_LAG_MAX: u64 = 1 << 16;

/// Entries in the leader's log that may wait for a quorum before it ignores forwarded commands (their
/// origins send them again) and refuses those of its own clients.
pub(crate) const UNCOMMITTED_MAX: u64 = 4 * PENDING_MAX as u64;

/// Bytes of such entries' commands. A quorum that is slow with its disks, or gone, costs the leader this much.
pub(crate) const UNCOMMITTED_BYTES_MAX: usize = 256 << 20;

/// Changes of the membership that wait for their turn at the leader.
pub(crate) const CHANGES_MAX: usize = 256;

/// Entries that a member may lack for the leader to make it a voter, or its successor, by itself: it has them in a
/// moment.
pub(crate) const PROMOTION_LAG_MAX: u64 = 1_000;

/// For how many election timeouts a voter that would rather lead must have been fit.
pub(crate) const PREFERENCE_PATIENCE: u32 = 3;

/// Bytes of commands in one `Forward`; a larger single command travels alone.
pub(crate) const FORWARD_BYTES_MAX: usize = 1 << 20;

/// The interval between two sendings of an unanswered request doubles so many times at most: to eight election
/// timeouts, so that whatever had swallowed it, a request is answered within ten once the links are whole.
pub(crate) const RESEND_DOUBLINGS_MAX: u8 = 3;

/// Leases that may be on their way out at once: waiting for proof of leadership or for their
/// revocation to be applied. (etcd revokes at most 1,000 leases a second.)
pub(crate) const REVOKES_MAX: usize = 1_000;

/// Keep-alives of peers that a new leader holds until it may answer them.
pub(crate) const LEASE_ASKS_MAX: usize = 1 << 16;

/// About how many bytes of the store go into one chunk of a snapshot.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;

/// What an entry of the log counts for beside its command: as much as etcd's quota adds to a put, and twice what the
/// store adds to a version, so that a small store's snapshots are soon worth their while.
pub(crate) const LOG_ENTRY_BYTES: u64 = 256;

/// Bytes of applied commands after which a snapshot is due, however few they are and however large the store is:
/// what a restart has to read again.
pub(crate) const SNAPSHOT_LOG_BYTES_MAX: u64 = 1 << 30;

/// The log in memory is cut when it holds this many times what members that lag are to find there.
pub(crate) const LOG_SLACK: u64 = 2;

/// Applied entries that stay in memory at least until then.
pub(crate) const LOG_ENTRIES_MIN: u64 = 64;

/// Peers that are sent a snapshot at the same time.
pub(crate) const SNAPSHOT_PEERS_MAX: usize = 2;

/// For how many election timeouts a peer may be silent about a chunk before it is given up. Until then a
/// stream goes on where it was when the connection is mended. It pins what it exports, and the log after it.
pub(crate) const CHUNK_PATIENCE: u32 = 30;

/// For how many it may, if others wait for its place.
pub(crate) const CHUNK_PATIENCE_IN_QUEUE: u32 = 5;

// A request that may wait can always be told from its neighbours.
const _: () = assert!(PENDING_MAX as u64 <= SESSION_WINDOW);
const _: () = assert!(SESSION_WINDOW.is_multiple_of(64));
const _: () = assert!(PENDING_RESERVED < PENDING_MAX);
// Slots of the pending table are numbered in 32 bits, with one number to spare.
const _: () = assert!(PENDING_MAX < u32::MAX as usize);
// Everything one member may have in flight fits into the leader's log at once.
const _: () = assert!(UNCOMMITTED_MAX >= PENDING_MAX as u64);
const _: () = assert!(UNCOMMITTED_BYTES_MAX >= PENDING_BYTES_MAX);
// What one member's clients have in flight does not by itself make a snapshot due.
const _: () = assert!(SNAPSHOT_LOG_BYTES_MAX >= PENDING_BYTES_MAX as u64);
// A chunk is sent again before its peer is given up.
const _: () = assert!(CHUNK_PATIENCE > CHUNK_PATIENCE_IN_QUEUE && CHUNK_PATIENCE_IN_QUEUE > 1);
