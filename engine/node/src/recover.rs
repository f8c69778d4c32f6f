//! From files to a member: whose directory it is, the newest usable snapshot, the log behind it.
//!
//! # The order of things
//!
//! On the first start, the log is begun before the meta file is written; from then on a meta file says that
//! there must be a log, and a directory whose log has been taken away is not mistaken for a new one. On
//! every later start, the boot number is raised last, so that a start that is refused leaves the directory as it
//! was, and made durable before the member runs and uses it.
//!
//! # A damaged snapshot
//!
//! A newest snapshot that does not read back is passed over for the older one, if the log still reaches
//! that: then nothing is lost. Otherwise the member does not start. It never starts from less than it had.

use quorate_raft::{Configuration, Index, NodeId, Position, SnapshotMeta};
use quorate_replica::{Saved, SnapshotChunk};

use crate::alone::go_on_alone;
use crate::env::Disk;
use crate::error::Error;
use crate::establish::{self, Identity};
use crate::meta::{self, ClusterId, META_FILE, Meta};
use crate::snapshot_file::{self, SnapshotWriter, snapshot_name};
use crate::wal::{RecoveredError, Wal, segment_names};

/// What a member finds on its disk, and the writers that go on from there.
pub(crate) struct Recovery<D: Disk> {
    pub saved: Saved,
    pub wal: Wal<D>,
    pub snapshots: SnapshotWriter<D>,
}

/// Brings back what was durable, or begins a new member in an empty directory.
pub(crate) async fn recover<D: Disk>(
    disk: &D,
    identity: &Identity,
    segment_bytes: u64,
    force_new_cluster: bool,
) -> Result<Recovery<D>, Error> {
    let owner = (identity.cluster, identity.member);
    let found = meta::read(disk).await?;
    let again = found.is_some();
    let mut meta = match found {
        Some(meta) => {
            Error::check_owner(META_FILE, (meta.identity.cluster, meta.identity.member), owner)?;
            meta
        }
        None => begin(disk, identity).await?,
    };

    let snapshot = newest_snapshot(disk, owner, meta.identity.genesis.configuration()).await?;
    let position = snapshot.meta.position;
    let (mut wal, recovered) = Wal::open(disk.clone(), owner, segment_bytes).await?;
    let noted = recovered.noted();
    let (mut hard_state, mut entries) = recovered.finish(position).map_err(|error| match error {
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
    if again {
        meta.boot += 1;
        meta::write(disk, &meta).await?;
    }
    if force_new_cluster {
        let member = meta.identity.member;
        let write = go_on_alone(member, meta.boot, hard_state, &snapshot.meta, &entries)?;
        if let Some(write) = write {
            // The life that the removals belong to ends here.
            meta.boot += 1;
            meta::write(disk, &meta).await?;
            wal.stage(&write)?;
            wal.flush(true).await?;
            hard_state = write.hard_state.unwrap_or(hard_state);
            entries.extend(write.entries);
        }
    }
    let (boot, term) = (meta.boot, hard_state.term);
    tracing::info!(boot, %position, entries = entries.len(), %term, "recovered");
    Ok(Recovery {
        saved: Saved {
            genesis: meta.identity.genesis.founders().to_vec(),
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
async fn begin<D: Disk>(disk: &D, identity: &Identity) -> Result<Meta, Error> {
    check_empty(disk).await?;
    for segment in segment_names(disk).await? {
        let name = segment.to_string();
        disk.remove(&name).await.map_err(Error::io("remove", &name))?;
        disk.sync_dir().await.map_err(Error::io("sync", "the data directory"))?;
    }
    Wal::create(disk, (identity.cluster, identity.member)).await?;
    let meta = Meta { identity: identity.clone(), boot: 1, removed: false };
    meta::write(disk, &meta).await?;
    establish::remove_owner(disk).await?;
    Ok(meta)
}

/// Makes sure that a directory without a meta file holds nothing that somebody may miss. A first start may have been
/// interrupted between the log and the meta file: then the log holds nothing.
pub(crate) async fn check_empty<D: Disk>(disk: &D) -> Result<(), Error> {
    if let Some(position) = snapshot_file::snapshot_positions(disk).await?.first() {
        return Err(Error::MetaMissing { file: snapshot_name(*position) });
    }
    for segment in segment_names(disk).await? {
        let name = segment.to_string();
        if !segment.is_untouched(&meta::read_file(disk, &name).await?) {
            return Err(Error::MetaMissing { file: name });
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use quorate_raft::{HardState, Payload, Term, WriteId};
    use quorate_replica::{ChunkBody, Write};
    use quorate_store::Command;

    use super::*;
    use crate::codec::HEADER_BYTES;
    use crate::testing::{MemoryDisk, Survival, configuration, identity, put, ready};

    fn start(disk: &MemoryDisk) -> Result<Recovery<MemoryDisk>, Error> {
        ready(recover(disk, &identity(7, 1, &[1, 2, 3]), 500, false))
    }

    fn position(index: u64) -> Position {
        Position { term: Term(1), index: Index(index) }
    }

    fn write(recovery: &mut Recovery<MemoryDisk>, index: u64) {
        let hard_state = HardState { term: Term(1), vote: Some(NodeId(1)), commit: Index(index - 1) };
        let entries = vec![put(1, index, "a key", "and a value")];
        let write = Write { id: WriteId(index), hard_state: Some(hard_state), entries, sync: true };
        recovery.wal.stage(&write).expect("small");
        ready(recovery.wal.flush(true)).expect("there is power");
        ready(recovery.wal.rotate_if_full()).expect("there is power");
    }

    fn snapshot(recovery: &mut Recovery<MemoryDisk>, index: u64) {
        let meta = SnapshotMeta { position: position(index), configuration: configuration(&[1, 2]) };
        let body = ChunkBody::Sessions(Vec::new());
        for (sequence, last) in [(0, false), (1, true)] {
            let chunk = SnapshotChunk { meta: meta.clone(), sequence, last, body: body.clone() };
            ready(recovery.snapshots.write(&chunk)).expect("there is power");
        }
        let keep_from = recovery.snapshots.fall_back();
        ready(recovery.wal.note_snapshot(position(index), keep_from)).expect("there is power");
    }

    /// The disk of a member with thirty entries and snapshots at ten and twenty.
    fn lived() -> MemoryDisk {
        lived_with(500)
    }

    fn lived_with(segment_bytes: u64) -> MemoryDisk {
        let disk = MemoryDisk::default();
        let mut recovery =
            ready(recover(&disk, &identity(7, 1, &[1, 2, 3]), segment_bytes, false)).expect("a new member");
        for index in 1..=30 {
            write(&mut recovery, index);
            if index % 10 == 0 && index < 30 {
                snapshot(&mut recovery, index);
            }
        }
        disk
    }

    fn segments(disk: &MemoryDisk) -> Vec<String> {
        ready(segment_names(disk)).expect("in memory").iter().map(ToString::to_string).collect()
    }

    fn damage(disk: &MemoryDisk, name: &str, at: usize) {
        let mut bytes = disk.bytes(name).expect("it is there");
        bytes[at] ^= 1;
        disk.install(name, &bytes);
    }

    /// The error of a start, as the user reads it.
    fn refusal(disk: &MemoryDisk) -> String {
        start(disk).err().expect("it is refused").to_string()
    }

    #[test]
    fn a_new_member_has_its_initial_configuration_and_nothing_else() {
        let disk = MemoryDisk::default();
        let saved = start(&disk).expect("a new member").saved;
        assert_eq!((saved.boot, saved.hard_state), (1, HardState::default()));
        assert_eq!(saved.snapshot.configuration, configuration(&[1, 2, 3]));
        assert!(saved.chunks.is_empty() && saved.entries.is_empty());
        // The genesis that a later start is told of is not looked at.
        let other = identity(7, 1, &[1, 9]);
        let saved = ready(recover(&disk, &other, 500, false)).expect("again").saved;
        assert_eq!((saved.boot, saved.snapshot.configuration), (2, configuration(&[1, 2, 3])));
    }

    #[test]
    fn a_member_comes_back_with_its_newest_snapshot_and_the_log_behind_it() {
        let disk = lived();
        let saved = start(&disk).expect("nothing is wrong").saved;
        assert_eq!((saved.boot, saved.snapshot.position), (2, position(20)));
        assert_eq!(saved.snapshot.configuration, configuration(&[1, 2]));
        assert_eq!(saved.chunks.len(), 2);
        assert_eq!(saved.entries.len(), 10);
        assert_eq!(saved.hard_state.commit, Index(29));
        assert!(!segments(&disk)[0].starts_with("0000000000000001-"), "the log was pruned");
    }

    #[test]
    fn the_log_is_kept_back_to_the_older_snapshot_and_with_the_entry_that_it_ends_with() {
        let disk = lived_with(1);
        assert!(segments(&disk)[0].ends_with("-000000000000000a.wal"), "one segment for each entry");
        damage(&disk, &snapshot_name(position(20)), 60);
        assert_eq!(start(&disk).expect("the log was kept").saved.entries.len(), 20);
    }

    #[test]
    fn a_member_that_goes_on_alone_keeps_its_log_and_removes_the_others_once() {
        let disk = lived();
        let alone = |disk: &MemoryDisk| ready(recover(disk, &identity(7, 1, &[1, 2, 3]), 500, true));
        let saved = alone(&disk).expect("its data is whole").saved;
        assert_eq!((saved.boot, saved.entries.len(), saved.hard_state.commit), (3, 11, Index(29)));
        assert_eq!((saved.hard_state.term, saved.hard_state.vote), (Term(2), Some(NodeId(1))));
        let last = saved.entries.last().expect("there are eleven");
        let Payload::Membership(membership) = &last.payload else { panic!("{last:?}") };
        assert_eq!((last.index, &membership.configuration), (Index(31), &configuration(&[1])));
        let command = membership.command.as_ref().expect("it removes").0.command.clone();
        assert_eq!(command, Command::MemberRemove { id: 2 }, "the third is not a member any more");
        // Again, with the flag and without it.
        let disk = disk.after_power_cut(Survival::Nothing);
        assert_eq!(alone(&disk).expect("again").saved.entries.len(), 11);
        assert_eq!(start(&disk).expect("without").saved.entries, saved.entries);
    }

    #[test]
    fn a_damaged_newest_snapshot_is_passed_over_while_the_log_reaches_the_one_before() {
        let disk = lived();
        damage(&disk, &snapshot_name(position(20)), 60);
        let saved = start(&disk).expect("the log was kept for this").saved;
        assert_eq!((saved.snapshot.position, saved.entries.len()), (position(10), 20));

        damage(&disk, &snapshot_name(position(10)), 60);
        let refusal = refusal(&disk);
        assert!(refusal.starts_with("the log begins at index "), "{refusal}");
        assert!(refusal.contains("the newest usable snapshot ends at 0@0"), "{refusal}");
        let name = snapshot_name(position(20));
        assert!(refusal.contains(&format!("({name} is damaged at byte ")), "{refusal}");
    }

    #[test]
    fn the_next_snapshot_clears_a_damaged_one_away() {
        let disk = lived();
        damage(&disk, &snapshot_name(position(20)), 60);
        let mut recovery = start(&disk).expect("falls back");
        snapshot(&mut recovery, 30);
        let left = ready(snapshot_file::snapshot_positions(&disk)).expect("in memory");
        assert_eq!(left, [position(10), position(30)]);
    }

    #[test]
    fn every_damaged_byte_of_a_snapshot_is_noticed() {
        let disk = lived();
        let name = snapshot_name(position(20));
        let whole = disk.bytes(&name).expect("it is there");
        let owner = (ClusterId(7), NodeId(1));
        for at in 0..whole.len() {
            damage(&disk, &name, at);
            let loaded = ready(snapshot_file::load(&disk, owner, position(20)));
            assert!(loaded.is_err(), "byte {at}");
            disk.install(&name, &whole[..at]);
            let loaded = ready(snapshot_file::load(&disk, owner, position(20)));
            assert!(matches!(loaded, Err(Error::Corrupt { .. })), "cut to {at}");
            disk.install(&name, &whole);
        }
        disk.install(&name, &[&whole[..], &[0]].concat());
        assert!(ready(snapshot_file::load(&disk, owner, position(20))).is_err(), "something follows");
    }

    #[test]
    fn a_directory_of_another_cluster_or_member_is_refused() {
        let disk = lived();
        let refusal =
            |identity| ready(recover(&disk, &identity, 500, false)).err().expect("foreign").to_string();
        assert_eq!(
            refusal(identity(8, 1, &[1, 2, 3])),
            "meta belongs to cluster 7, this is cluster 8: give this cluster a data directory of its own, or \
             correct its initial members and token; if the cluster runs already and its members have changed since it \
             began, start with --initial-cluster-state=existing"
        );
        assert_eq!(
            refusal(identity(7, 2, &[1, 2, 3])),
            "meta belongs to member 1, this is member 2: a member must start on its own data directory, and \
             never on a copy of another's"
        );
        assert_eq!(start(&disk).expect("ours").saved.boot, 2, "a refusal leaves the directory as it was");
    }

    #[test]
    fn a_segment_of_another_member_is_refused() {
        let (disk, other) = (lived(), MemoryDisk::default());
        ready(recover(&other, &identity(7, 2, &[1, 2, 3]), 500, false))
            .err()
            .is_none()
            .then_some(())
            .expect("a new member");
        let segment = segments(&other)[0].clone();
        disk.install(&segment, &other.bytes(&segment).expect("it is there"));
        assert!(refusal(&disk).contains("belongs to member 2, this is member 1"));
    }

    #[test]
    fn a_directory_without_its_meta_file_is_refused() {
        let disk = lived();
        ready(disk.remove(META_FILE)).expect("it is there");
        assert!(refusal(&disk).starts_with("the data directory holds snap-"));
        for index in [10, 20] {
            ready(disk.remove(&snapshot_name(position(index)))).expect("it is there");
        }
        assert!(refusal(&disk).starts_with("the data directory holds 0000"));
    }

    #[test]
    fn a_log_with_a_hole_is_refused() {
        let disk = lived();
        let names = segments(&disk);
        ready(disk.remove(&names[2])).expect("it is there");
        assert!(refusal(&disk).starts_with(&format!("log segment {} is missing", &names[2][..16])));
    }

    #[test]
    fn a_directory_without_its_log_is_refused() {
        let disk = lived();
        for name in segments(&disk) {
            ready(disk.remove(&name)).expect("it is there");
        }
        assert!(refusal(&disk).starts_with("log segment 0000000000000001 is missing"));
    }

    #[test]
    fn a_log_that_ends_before_what_it_says_is_committed_is_refused() {
        let disk = lived();
        let mut recovery = start(&disk).expect("nothing is wrong yet");
        let hard_state = HardState { term: Term(1), vote: None, commit: Index(31) };
        let write = Write { id: WriteId(1), hard_state: Some(hard_state), entries: vec![], sync: true };
        recovery.wal.stage(&write).expect("small");
        ready(recovery.wal.flush(true)).expect("there is power");
        let refusal = refusal(&disk);
        let expected = "the log ends at 30@1, but says that it knows term 1 and index 31 is committed";
        assert!(refusal.starts_with(expected), "{refusal}");
    }

    #[test]
    fn damage_in_the_log_is_refused_and_named() {
        let disk = lived();
        let names = segments(&disk);
        let len = disk.bytes(&names[1]).expect("it is there").len();
        damage(&disk, &names[1], len / 2);
        let refusal = refusal(&disk);
        assert!(refusal.starts_with(&format!("{} is damaged at byte ", names[1])), "{refusal}");
        assert!(refusal.contains("not a torn write but lost data"), "{refusal}");
    }

    #[test]
    fn a_closed_segment_cut_short_is_noticed() {
        let disk = lived();
        let name = segments(&disk)[1].clone();
        let bytes = disk.bytes(&name).expect("it is there");
        // At the end of a write: only the next segment knows that there was more.
        let end = (1..bytes.len())
            .rev()
            .find(|&len| crate::wal::record::scan(&bytes[..len], false).is_ok())
            .expect("several writes");
        disk.install(&name, &bytes[..end]);
        let refusal = refusal(&disk);
        assert!(refusal.contains(&format!("(it was {} bytes long)", bytes.len())), "{refusal}");
    }

    #[test]
    fn files_of_a_newer_version_are_refused() {
        for name in [META_FILE.to_owned(), segments(&lived())[1].clone(), snapshot_name(position(20))] {
            let disk = lived();
            let mut bytes = disk.bytes(&name).expect("it is there");
            let format = u16::from_le_bytes([bytes[4], bytes[5]]);
            bytes[4..6].copy_from_slice(&(format + 1).to_le_bytes());
            let checksum =
                crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[HEADER_BYTES..]).to_le_bytes();
            bytes[12..16].copy_from_slice(&checksum);
            disk.install(&name, &bytes);
            assert_eq!(
                refusal(&disk),
                format!(
                    "{name} was written by a newer version (format {}; this one reads up to {format}): start that \
                     version",
                    format + 1
                )
            );
        }
    }

    #[test]
    fn a_disk_that_refuses_is_named() {
        let disk = lived();
        disk.cut_power_after(0);
        assert_eq!(refusal(&disk), "cannot truncate 0000000000000006-000000000000001d.wal: the power is off");
    }
}
