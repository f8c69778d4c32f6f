//! From files to a member: whose directory it is, the newest usable snapshot, the log behind it.
//!
//! # The order of things
//!
//! On the first start, the log is begun before the meta file is written; from then on a meta file says that there
//! must be a log, and a directory whose log has been taken away is not mistaken for a new one. On every later start, the boot
//! number is raised and made durable before anything else is done.
//!
//! # A damaged snapshot
//!
//! A newest snapshot that does not read back is passed over for the older one, if the log still reaches that: then
//! nothing is lost. Otherwise the member does not start. It never starts from less than it had.

use quorate_raft::{Configuration, Index, NodeId, Position, SnapshotMeta};
use quorate_replica::{Saved, SnapshotChunk};

use crate::env::Disk;
use crate::error::Error;
use crate::meta::{self, ClusterId, META_FILE, Meta};
use crate::snapshot_file::{self, SnapshotWriter, snapshot_name};
use crate::wal::{RecoveredError, Wal, segment_names};

/// Whose a data directory should be.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: NodeId,
    /// The configuration that the cluster began with; only the first start reads it.
    pub initial: Configuration,
}

/// What a member finds on its disk, and the writers that go on from there.
pub(crate) struct Recovery<D: Disk> {
    pub saved: Saved,
    pub wal: Wal<D>,
    pub snapshots: SnapshotWriter<D>,
}

/// Brings back what was durable, or begins a new member in an empty directory.
pub(crate) async fn recover<D: Disk>(
    disk: &D,
    identity: Identity,
    segment_bytes: u64,
) -> Result<Recovery<D>, Error> {
    let owner = (identity.cluster, identity.member);
    let meta = match meta::read(disk).await? {
        Some(mut meta) => {
            Error::check_owner(META_FILE, (meta.cluster, meta.member), owner)?;
            meta.boot += 1;
            meta::write(disk, &meta).await?;
            meta
        }
        None => begin(disk, identity).await?,
    };

    let snapshot = newest_snapshot(disk, owner, meta.initial).await?;
    let position = snapshot.meta.position;
    let (mut wal, recovered) = Wal::open(disk.clone(), owner, segment_bytes).await?;
    let noted = recovered.noted();
    let (hard_state, entries) = recovered.finish(position).map_err(|error| match error {
        RecoveredError::Gap { begins, snapshot: position } => {
            let damaged = snapshot.damaged.join("");
            Error::LogGap { begins, snapshot: position, damaged }
        }
        RecoveredError::Short { last, hard_state } => {
            Error::LogShort { last, term: hard_state.term, commit: hard_state.commit }
        }
    })?;
    if position.index > Index(0) && noted != position {
        wal.note_snapshot(position, Index(0)).await?;
    }
    tracing::info!(boot = meta.boot, %position, entries = entries.len(), term = %hard_state.term, "recovered");
    Ok(Recovery {
        saved: Saved {
            boot: meta.boot,
            hard_state,
            snapshot: snapshot.meta,
            chunks: snapshot.chunks,
            entries,
        },
        wal,
        snapshots: SnapshotWriter::new(disk.clone(), owner, snapshot.usable),
    })
}

/// Makes an empty directory the home of a new member.
async fn begin<D: Disk>(disk: &D, identity: Identity) -> Result<Meta, Error> {
    let Identity { cluster, member, initial } = identity;
    if let Some(position) = snapshot_file::snapshot_positions(disk).await?.first() {
        return Err(Error::MetaMissing { file: snapshot_name(*position) });
    }
    // A first start may have been interrupted between the log and the meta file. Then the log holds nothing.
    for segment in segment_names(disk).await? {
        let name = segment.to_string();
        let bytes = meta::read_file(disk, &name).await?;
        if !segment.is_untouched(&bytes) {
            return Err(Error::MetaMissing { file: name });
        }
        disk.remove(&name).await.map_err(Error::io("remove", &name))?;
        disk.sync_dir().await.map_err(Error::io("sync", "the data directory"))?;
    }
    Wal::create(disk, (cluster, member)).await?;
    let meta = Meta { cluster, member, boot: 1, initial };
    meta::write(disk, &meta).await?;
    Ok(meta)
}

/// The newest snapshot that reads back.
struct Newest {
    meta: SnapshotMeta,
    chunks: Vec<SnapshotChunk>,
    /// The snapshots that can be kept: this one and, read only when it is needed, the ones before it.
    usable: Vec<Position>,
    /// What is wrong with newer ones, in words.
    damaged: Vec<String>,
}

async fn newest_snapshot<D: Disk>(
    disk: &D,
    owner: (ClusterId, NodeId),
    initial: Configuration,
) -> Result<Newest, Error> {
    let mut usable = snapshot_file::snapshot_positions(disk).await?;
    let mut damaged = Vec::new();
    while let Some(position) = usable.last() {
        match snapshot_file::load(disk, owner, *position).await {
            Ok((meta, chunks)) => return Ok(Newest { meta, chunks, usable, damaged }),
            Err(Error::Corrupt { file, offset, what }) => {
                tracing::warn!(file, offset, what, "a snapshot is damaged; trying the one before it");
                damaged.push(format!(" ({file} is damaged at byte {offset}: {what})"));
                usable.pop();
            }
            Err(error) => return Err(error),
        }
    }
    let meta = SnapshotMeta { position: Position::default(), configuration: initial };
    Ok(Newest { meta, chunks: Vec::new(), usable, damaged })
}
