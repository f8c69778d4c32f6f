//! What each property says, for people who meet it for the first time in a failure.

/// A property in a sentence, and who says so. Empty if nothing is known of it.
#[must_use]
pub fn meaning(invariant: &str) -> &'static str {
    RULES.iter().find(|(name, _)| *name == invariant).map_or("", |(_, meaning)| meaning)
}

const RULES: [(&str, &str); 34] = [
    ("election safety", "At most one member leads in a term. (Raft, figure 3)"),
    ("one vote", "A member votes once in a term, through restarts, too. (Raft §5.2)"),
    (
        "log matching",
        "Entries of the same index and term are the same, and so is everything before them. (Raft §5.3)",
    ),
    ("leader completeness", "A leader has every entry that was committed in earlier terms. (Raft §5.4)"),
    ("state-machine safety", "No two members apply different entries at the same index. (Raft §5.4.3)"),
    (
        "durable votes",
        "A vote is on the disk before it is given: a power loss must not let it be given twice. (Raft, figure 2)",
    ),
    (
        "durable acknowledgements",
        "An entry is on the disk before a member says that it has it. (Raft, figure 2)",
    ),
    ("durable commits", "An entry counts as committed when a quorum has it on its disks. (Raft §5.3)"),
    ("durable restarts", "What was durable before a power loss is there after it."),
    ("recovery", "What a crash leaves on a disk is enough to start from."),
    ("damage is noticed", "A member does not start from bytes that have changed on its disk."),
    ("monotonic state", "Terms, commit and applied indices never go back. (Raft, figure 2)"),
    ("ordered indices", "Applied is never beyond committed, nor committed beyond the end of the log."),
    ("equal states", "Members that have applied the same entries have the same state."),
    ("equal revisions", "Members that have applied the same entries are at the same revision."),
    (
        "snapshot equivalence",
        "A state from a snapshot is the state from the entries that it stands for. (Raft §7)",
    ),
    (
        "leases do not expire early",
        "Whoever ends a lease has seen its whole time to live pass since the last renewal, on its own clock. (Gray and Cheriton, 1989)",
    ),
    ("hand-over", "Leadership is handed to a voter that has the whole log. (Ongaro's thesis §3.10)"),
    ("identity", "No member is taken for another one, or for an old copy of itself."),
    (
        "liveness",
        "When faults stop, a quorum serves within ten election timeouts, and all members agree in the end.",
    ),
    ("bounded queues", "What waits inside a member has a bound."),
    ("no event storm", "A bounded time holds a bounded number of events."),
    ("assertions", "The product's own assertions hold, and none of its code panics."),
    ("scenario", "What the scenario demands is so."),
    ("fault budget", "The scenario leaves the cluster a quorum, and asks for what can be done."),
    (
        "linearizable registers",
        "Every read of a key returns what the latest write before it wrote, in some order that agrees with real time. (Herlihy and Wing, 1990)",
    ),
    (
        "real-time",
        "An answer is of a revision that is not older than any answered before the question was asked. (Linearizability, by revisions)",
    ),
    (
        "replay",
        "Applying the writes in the order of their revisions gives every answer that was given. (Strict serializability)",
    ),
    ("one-writer", "Each revision has one write that made it."),
    ("unexplained-revision", "Every revision was made by a request that somebody sent."),
    ("compaction", "History before the compacted revision is refused, and what is after it is there."),
    ("member-monotonic", "What one member answers never goes back in time."),
    ("lock-ownership", "Whoever was told that it owns a lock held its oldest key. (etcd's lock recipe)"),
    ("lock-fencing", "A guarded write is refused once a later owner has written or the owner's key is gone."),
];
