//! Every bound of this crate in one place, with the relations between them.

/// Most bytes in the body of one frame: a peer's message, one snapshot chunk. Far above what a replica
/// makes of its own accord (appends of about a megabyte), so that a large single request still travels.
pub const FRAME_BODY_BYTES_MAX: usize = 65 << 20;

/// Most bytes in the body of one log record, that is of one log entry.
pub const RECORD_BODY_BYTES_MAX: usize = 64 << 20;

/// A segment of the log is closed when it has reached this length.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Room that the log makes ahead of itself in its file.
pub const RESERVE_BYTES: u64 = 1 << 20;

/// Encoded bytes that one append to the log gathers before it is written, however many writes wait.
pub const BATCH_BYTES: usize = 8 << 20;

/// Most events taken from the inbox in one turn: bounds how late a deadline can be noticed.
pub const INPUTS_PER_TURN: usize = 1024;

/// Most requests of clients that lie in the inbox untaken; more are refused.
pub const INBOX_REQUESTS_MAX: usize = 16 * 1024;

/// Most bytes of peers' messages that lie in the inbox untaken; more are dropped, as a network may.
pub const INBOX_MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Events that a new watcher may be sent before its stream has taken any.
pub const WATCH_CREDIT: u32 = 1024;

/// Complete snapshot files kept: the newest, and one to fall back on.
pub const SNAPSHOTS_KEPT: usize = 2;

/// Most bytes in the body of a question or of its answer: a genesis of nine members and their URLs is far smaller.
pub const QUESTION_BYTES_MAX: usize = 64 << 10;

/// Questions of others that wait for their answer.
pub const QUESTIONS_MAX: usize = 64;

/// Data directories that wait at one member for the cluster to take them in.
pub const JOINING_MAX: usize = 16;

/// Most bytes of an input that the flight recorder writes down: none that a node accepts is longer.
pub const RECORDED_INPUT_BYTES_MAX: usize = FRAME_BODY_BYTES_MAX - (2 << 20);

// An append adds a term, a position and two numbers to the one entry that may make it so large.
const _: () = assert!(RECORD_BODY_BYTES_MAX + 1024 <= FRAME_BODY_BYTES_MAX, "what fits the log fits a frame");
const _: () = assert!(FRAME_BODY_BYTES_MAX <= u32::MAX as usize, "a frame's length is 32 bits");
const _: () = assert!(INBOX_MESSAGE_BYTES_MAX >= FRAME_BODY_BYTES_MAX, "the largest message gets in");
const _: () = assert!(SNAPSHOTS_KEPT >= 1);
const _: () = assert!(QUESTION_BYTES_MAX <= FRAME_BODY_BYTES_MAX);
