//! Why a node cannot start, or must stop.

use std::io;

use quorate_raft::{Index, NodeId, Position};
use thiserror::Error;

use crate::codec::CodecError;
use crate::meta::ClusterId;

/// Why a node cannot start, or must stop. After any of them the process ends: what the disk holds is
/// not known, and starting again is how it is found out.
#[derive(Debug, Error)]
pub enum Error {
    /// The disk refused. A failed sync is never tried again: what was written may be gone although a
    /// second sync succeeds.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is damaged where no crash can have damaged it.
    #[error(
        "{file} is damaged at byte {offset} ({what}): not a torn write but lost data; restore this member's \
         data directory from a backup, or remove the member from the cluster and add it again with an \
         empty one"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A later version of Quorate has written here.
    #[error(
        "{file} was written by a newer version (format {found}; this one reads up to {supported}): start \
         that version"
    )]
    NewerVersion {
        /// The file.
        file: String,
        /// Its format.
        found: u16,
        /// Ours.
        supported: u16,
    },
    /// The data directory belongs to another cluster.
    #[error(
        "{file} belongs to cluster {found}, this is cluster {expected}: give this cluster a data directory \
         of its own, or correct its initial members and token; if the cluster runs already and its members have \
         changed since it began, start with --initial-cluster-state=existing"
    )]
    ForeignCluster {
        /// The file that says so.
        file: String,
        /// Whose it is.
        found: ClusterId,
        /// Who we are.
        expected: ClusterId,
    },
    /// The data directory belongs to another member.
    #[error(
        "{file} belongs to member {found:x}, this is member {expected:x}: a member must start on its own \
         data directory, and never on a copy of another's"
    )]
    ForeignMember {
        /// The file that says so.
        file: String,
        /// Whose it is.
        found: u64,
        /// Who we are.
        expected: u64,
    },
    /// The data directory was made by a member with another name and at another place.
    #[error(
        "the data directory belongs to member {found:x} (\"{name}\" at {peer_urls}), this is \"{expected}\": a member \
         must start on its own data directory, and never on a copy of another's"
    )]
    ForeignDirectory {
        /// Whose it is.
        found: u64,
        /// Its name.
        name: String,
        /// Where the others reached it.
        peer_urls: String,
        /// The name of the one that was started.
        expected: String,
    },
    /// The member was removed from the cluster.
    #[error(
        "member {member:x} has been removed from the cluster for ever: to come back, add a member (etcdctl member add) \
         and start it with an empty data directory and --initial-cluster-state=existing"
    )]
    Removed {
        /// The member.
        member: u64,
    },
    /// The data directory is an old copy of the member's.
    #[error(
        "the data directory is an old copy of that of member {member:x}: it lacks what the member has promised and \
         acknowledged since"
    )]
    Disowned {
        /// The member.
        member: u64,
        /// How often this copy has started.
        boot: u64,
    },
    /// The cluster does not take this member in.
    #[error("cannot join the cluster: {by} says: {reason}")]
    JoinRefused {
        /// The name of the member that was asked.
        by: String,
        /// Why, and what to do.
        reason: String,
    },
    /// There is data, but nothing that says whose it is.
    #[error(
        "the data directory holds {file} but not the file \"{}\" that says whose it is: restore that \
         file, or start with an empty directory",
        crate::meta::META_FILE
    )]
    MetaMissing {
        /// A file that should not be there alone.
        file: String,
    },
    /// The log's files are not a row without a hole.
    #[error(
        "log segment {missing:016x} is missing: restore it, or remove the member from the cluster and \
         add it again with an empty data directory"
    )]
    SegmentMissing {
        /// Its sequence number.
        missing: u64,
    },
    /// The log does not reach back to the snapshot.
    #[error(
        "the log begins at index {begins}, but the newest usable snapshot ends at {snapshot}{damaged}: the \
         entries between are lost; restore the data directory from a backup, or remove the member from the \
         cluster and add it again with an empty one"
    )]
    LogGap {
        /// The log's first index.
        begins: Index,
        /// What the snapshot covers.
        snapshot: Position,
        /// Which newer snapshots could not be used, in words; empty if there are none.
        damaged: String,
    },
    /// The log ends before what it says is committed, or begins a term it says it has not seen.
    #[error(
        "the log ends at {last}, but says that it knows term {term} and index {commit} is committed: its end \
         is lost; remove the member from the cluster and add it again with an empty data directory"
    )]
    LogShort {
        /// The log's last entry.
        last: Position,
        /// The term it claims.
        term: quorate_raft::Term,
        /// The commit index it claims.
        commit: Index,
    },
    /// The snapshot's chunks are whole but do not fit together.
    #[error("the snapshot at {position} cannot be used: {source}")]
    Import {
        /// The snapshot.
        position: Position,
        /// Why.
        source: quorate_store::ImportError,
    },
    /// Something is too large to be written. The limits at the edge are smaller than the limit here, so
    /// this is a mistake in the program.
    #[error("cannot encode for {file}: {source}")]
    Encode {
        /// Where it should have gone.
        file: String,
        /// Why.
        source: CodecError,
    },
}

impl Error {
    /// An [`Error::Io`] in the making, for `map_err`.
    pub(crate) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Error {
        let file = file.to_owned();
        move |source| Error::Io { action, file, source }
    }

    /// What a frame of `file` at `offset` that cannot be decoded means.
    pub(crate) fn decode(file: &str, offset: u64, error: CodecError) -> Error {
        match error {
            CodecError::NewerFormat { found, supported, .. } => {
                Error::NewerVersion { file: file.to_owned(), found, supported }
            }
            other => Error::Corrupt { file: file.to_owned(), offset, what: other.to_string() },
        }
    }

    /// Refuses a file of another cluster or member.
    pub(crate) fn check_owner(
        file: &str,
        found: (ClusterId, NodeId),
        expected: (ClusterId, NodeId),
    ) -> Result<(), Error> {
        let file = file.to_owned();
        if found.0 != expected.0 {
            return Err(Error::ForeignCluster { file, found: found.0, expected: expected.0 });
        }
        if found.1 != expected.1 {
            return Err(Error::ForeignMember { file, found: found.1.0, expected: expected.1.0 });
        }
        Ok(())
    }
}
