//! What a node needs of the world, as traits: the same driver runs on tokio and in the simulator.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;

use quorate_raft::{Instant, NodeId};
use quorate_replica::Message;

use crate::question::{Answer, NoAnswer, Question};

/// A node's monotonic clock.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The present instant; never goes back.
    fn now(&self) -> Instant;
    /// Completes when `now() >= at`.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send;
}

/// Ways to the peers.
pub trait Network: Clone + Send + Sync + 'static {
    /// Sends a message. May drop it; never blocks. Encoding happens on the sender's own task.
    fn send(&self, to: NodeId, message: Message);
    /// From now on, these are the peers, each with the URLs to try in turn; what waits for those that stay is kept.
    /// `removed` are no members any more, for ever, and are told so when they call.
    fn set_peers(&self, peers: Vec<(NodeId, Vec<String>)>, removed: BTreeSet<NodeId>);
    /// Asks whoever is at this URL. Does not take for ever.
    fn ask(&self, url: &str, question: Question) -> impl Future<Output = Result<Answer, NoAnswer>> + Send;
}

/// A directory of files. Names are relative to it and have no separators.
///
/// Nothing is durable before it is synced: a file's bytes by `File::sync`, its creation, renaming or
/// removal by `Disk::sync_dir`.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// The names of all files, in ascending order.
    fn list(&self) -> impl Future<Output = io::Result<Vec<String>>> + Send;
    /// Creates an empty file for appending; fails if it exists.
    fn create(&self, name: &str) -> impl Future<Output = io::Result<Self::File>> + Send;
    /// Opens an existing file; appends go to its end.
    fn open(&self, name: &str) -> impl Future<Output = io::Result<Self::File>> + Send;
    /// Renames a file, replacing another.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = io::Result<()>> + Send;
    /// Removes a file.
    fn remove(&self, name: &str) -> impl Future<Output = io::Result<()>> + Send;
    /// Makes creations, renamings and removals durable.
    fn sync_dir(&self) -> impl Future<Output = io::Result<()>> + Send;
}

/// An open file.
#[expect(clippy::len_without_is_empty, reason = "a length that takes an await is not a collection's")]
pub trait File: Send + 'static {
    /// The file's length in bytes.
    fn len(&self) -> impl Future<Output = io::Result<u64>> + Send;
    /// Writes at the end.
    fn append(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    /// Makes room for this many bytes behind the end, so that appends need not make the file longer: a sync of bytes
    /// alone is about half the work of one of bytes and length. Only a hint; room that is not used may show as
    /// zeros behind the end when the file is opened again.
    fn reserve(&mut self, bytes: u64) -> impl Future<Output = io::Result<()>> + Send {
        let _ = bytes;
        async { Ok(()) }
    }
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
    /// Cuts the file to `len` bytes, room behind its end included.
    fn truncate(&mut self, len: u64) -> impl Future<Output = io::Result<()>> + Send;
    /// Makes the file's bytes and length durable. After a failure nothing is known about them: the
    /// process must end (see ARCHITECTURE.md).
    fn sync(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}
