//! Golden scripts: a small cluster, one step at a time. See [`Command`] for what a script may say.

mod cluster;
mod format;
#[path = "../../store/tests/members/mod.rs"]
mod members;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use cluster::{Cluster, Event, Options};
use quorate_raft::{Index, NodeId};
use quorate_replica::{Consistency, Input, Message, Request, RequestId};
use quorate_store::{
    AlarmKind, Blob, DeleteRange, KeyRange, LeaseId, Put, Query, RangeEnd, RangeQuery, Revision, WatchId,
    WatchRequest,
};

/// What a script may say. Members are `n1`, `n2` …; times are `1500ms` or `2s`.
///
/// Requests are handed over and polled; what else a step leads to waits for `settle`, `elapse`, or the
/// manual steps (`persist`, `save`, `deliver`, `drop`). Every command shows what clients and operators
/// are told meanwhile; `messages` and `writes` show what is under way.
#[derive(goldenscript::Command)]
enum Command {
    /// Starts a cluster; must come first.
    Cluster {
        #[arg(key)]
        members: Option<u64>,
        #[arg(key)]
        snapshot_entries: Option<u64>,
        #[arg(key)]
        catchup_entries: Option<u64>,
        #[arg(key)]
        quota: Option<u64>,
        #[arg(key)]
        learners_max: Option<usize>,
        /// Whether etcd's strict-reconfig-check is on.
        #[arg(key)]
        strict: Option<bool>,
        #[arg(key, optional)]
        auto_promote: bool,
    },

    // --- Requests ---
    /// Writes a key.
    Put { member: Member, key: String, value: String },
    /// Writes a key attached to a lease.
    PutLeased { member: Member, key: String, value: String, lease: i64 },
    /// Writes a key with a value of so many bytes.
    PutLarge { member: Member, key: String, bytes: usize },
    /// Puts several keys in one turn.
    PutMany { member: Member, pairs: Vec<(String, String)> },
    /// Deletes a key.
    Delete { member: Member, key: String },
    /// Reads a key, linearizably unless `serializable=true`.
    Get {
        member: Member,
        key: String,
        #[arg(key, optional)]
        serializable: bool,
    },
    /// Reads several keys in one turn.
    GetMany { member: Member, keys: Vec<String> },
    /// Compacts history.
    Compact { member: Member, revision: i64 },
    /// Grants a lease.
    Grant { member: Member, lease: i64, ttl: i64 },
    /// Revokes a lease.
    Revoke { member: Member, lease: i64 },
    /// Keeps a lease alive.
    KeepAlive { member: Member, lease: i64 },
    /// Asks how long a lease lives.
    TimeToLive {
        member: Member,
        lease: i64,
        #[arg(key, optional)]
        keys: bool,
    },
    /// Clears the alarm of a member that has no space.
    Disarm { member: Member, of: Member },
    /// Raises or clears the alarm that members disagree.
    Corrupt { member: Member, active: bool },
    /// Asks a member how it is.
    AskStatus { member: Member },
    /// Changes the membership; the words are those of `members::parse`.
    Change { member: Member, words: Vec<String> },
    /// A directory asks a member to let it join.
    Join { member: Member, owner: u64, name: String, urls: String },
    /// A member publishes its priority.
    Publish { member: Member, priority: u32 },
    /// Asks a member to let another lead.
    MoveLeader { member: Member, to: Option<Member> },
    /// Takes a request back; the client has gone.
    Cancel { member: Member, sequence: u64 },

    // --- Watchers ---
    /// Watches a key, or with `prefix=true` every key that begins so.
    Watch {
        member: Member,
        watch: u64,
        key: String,
        #[arg(key, optional)]
        prefix: bool,
        #[arg(key)]
        start: Option<i64>,
    },
    /// Lets a watcher have so many more events.
    Credit { member: Member, watch: u64, events: u32 },
    /// Asks how far a watcher is.
    Progress { member: Member, watch: u64 },
    /// Ends a watcher.
    CancelWatch { member: Member, watch: u64 },

    // --- What happens to members ---
    /// Lets a member win an election. If `bare=true`, nothing else happens once it leads: nobody knows, and
    /// its first entry is not committed.
    Campaign {
        member: Member,
        #[arg(key, optional)]
        bare: bool,
    },
    /// Lets everything happen that needs no time to pass.
    Settle,
    /// The same, until a chunk of a snapshot is under way to a peer.
    SettleUntilChunk,
    /// Lets time pass for all, with everything that happens meanwhile.
    Elapse { time: Time },
    /// Moves clocks on (all, or those named) without anybody noticing yet.
    Skip {
        time: Time,
        #[arg(optional)]
        members: Vec<Member>,
    },
    /// Tells a member that its deadline has passed.
    Wake { member: Member },
    /// Ends a process; what its disk was not done with is lost.
    Crash { member: Member },
    /// Starts it again.
    Restart { member: Member },
    /// Begins a process with an empty disk, as a member that has joined.
    StartNew { member: Member },
    /// Ends a process and loses its disk.
    Lose { member: Member },
    /// Makes a copy of a member's disk.
    Backup { member: Member },
    /// Ends a process, puts the copy in the place of its disk, and starts it again.
    RestoreBackup { member: Member },
    /// Freezes a process: messages to it pile up, its clock goes on.
    Pause { member: Member },
    /// Lets it go on: first it takes what has piled up, then it looks at the clock.
    Resume { member: Member },

    // --- Disks and network ---
    /// Makes the next write of a member durable.
    Persist { member: Member },
    /// Makes the next snapshot chunk of a member durable.
    Save { member: Member },
    /// From now on, only that does: the member's disk is slow with snapshots.
    SaveSlowly { member: Member },
    /// The disk is fast again.
    SaveFast { member: Member },
    /// Cuts the links between a member and all others.
    Isolate { member: Member },
    /// Cuts the link from one member to another, but not the way back.
    Cut { from: Member, to: Member },
    /// Mends all links.
    Heal,
    /// Delivers the oldest message from one member to another, or the one that has `place` others before
    /// it, or all of them.
    Deliver {
        from: Member,
        to: Member,
        #[arg(key, optional)]
        place: usize,
        #[arg(key, optional)]
        all: bool,
    },
    /// Delivers a copy of the oldest message from one member to another; the message stays.
    Duplicate { from: Member, to: Member },
    /// Loses all messages from one member to another.
    Drop { from: Member, to: Member },
    /// Sends a member the first chunk of a snapshot with nothing in it but the claim to be whole.
    SendDamagedSnapshot { from: Member, to: Member },

    // --- Looking ---
    /// Shows the members, one line each.
    Status,
    /// Shows the messages under way.
    Messages,
    /// Shows the entries and snapshot chunks that are not durable yet.
    Writes,
    /// Shows when a member wants to be woken, and why.
    Deadline { member: Member },
    /// Shows a key as each member's store has it.
    Stores { key: String },
    /// Shows the members as a member knows them.
    Members { member: Member },
    /// Shows whom a member talks to.
    Peers { member: Member },
    /// Shows the configuration in force at each member.
    Configurations,
    /// Checks that all members have applied the same and are in the same state.
    Converged,
}

/// `n1`.
#[derive(Clone, Copy)]
struct Member(NodeId);

impl std::str::FromStr for Member {
    type Err = String;
    fn from_str(text: &str) -> Result<Member, String> {
        let number = text.strip_prefix('n').and_then(|number| number.parse().ok());
        Ok(Member(NodeId(number.ok_or(format!("no member: {text}"))?)))
    }
}

/// `1500ms` or `2s`.
#[derive(Clone, Copy)]
struct Time(Duration);

impl std::str::FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Time, String> {
        let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or("a time has a unit")?;
        let number: u64 = text[..unit].parse().map_err(|_| format!("no time: {text}"))?;
        match &text[unit..] {
            "ms" => Ok(Time(Duration::from_millis(number))),
            "s" => Ok(Time(Duration::from_secs(number))),
            _ => Err(format!("no unit of time: {text}")),
        }
    }
}

#[derive(Default)]
struct Runner {
    cluster: Option<Cluster>,
    backup: Option<cluster::Disk>,
    output: String,
}

type Outcome = Result<(), Box<dyn Error>>;

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        self.output.clear();
        match command {
            Command::Cluster {
                members,
                snapshot_entries,
                catchup_entries,
                quota,
                learners_max,
                strict,
                auto_promote,
            } => {
                let defaults = Options::default();
                let options = Options {
                    members: members.unwrap_or(defaults.members),
                    snapshot_entries: snapshot_entries.unwrap_or(defaults.snapshot_entries),
                    catchup_entries: catchup_entries.unwrap_or(defaults.catchup_entries),
                    quota_bytes: quota.unwrap_or(defaults.quota_bytes),
                    learners_max: learners_max.unwrap_or(defaults.learners_max),
                    strict_reconfig_check: strict.unwrap_or(true),
                    auto_promote: *auto_promote,
                    ..defaults
                };
                self.cluster = Some(Cluster::new(options, 1));
            }
            command => {
                if let Some((member, request)) = changes(command)? {
                    self.request(member, vec![request])?;
                } else if let Some((member, requests)) = requests(command) {
                    self.request(member, requests)?;
                } else {
                    self.watchers(command)?;
                    self.faults(command)?;
                    self.disks(command)?;
                    self.io(command)?;
                    self.look(command)?;
                    self.look_at_members(command)?;
                }
            }
        }
        Ok(std::mem::take(&mut self.output))
    }
}

/// The request that a command about members stands for.
fn changes(command: &Command) -> Result<Option<(NodeId, Request)>, Box<dyn Error>> {
    use quorate_store::Command as Store;
    Ok(Some(match command {
        Command::Change { member, words } => (member.0, Request::Command(members::parse(words)?)),
        Command::Join { member, owner, name, urls } => {
            let peer_urls = urls.split('/').map(String::from).collect();
            (member.0, Request::Join { owner: *owner, name: name.clone(), peer_urls })
        }
        Command::Publish { member, priority } => {
            let (id, priority) = (member.0.0, *priority);
            let (name, client_urls) = (format!("m{id}"), vec![format!("c{id}")]);
            (member.0, Request::Command(Store::MemberPublish { id, name, client_urls, priority }))
        }
        Command::MoveLeader { member, to } => (member.0, Request::MoveLeader { to: to.map(|to| to.0.0) }),
        _ => return Ok(None),
    }))
}

/// The requests that a command stands for.
fn requests(command: &Command) -> Option<(NodeId, Vec<Request>)> {
    use quorate_store::Command as Store;
    let put = |key: &str, value: &str, lease: i64| {
        let (key, value, lease) = (Blob::from(key), Some(Blob::from(value)), Some(LeaseId(lease)));
        Request::Command(Store::Put(Put { key, value, lease, previous: false }))
    };
    let get = |key: &str, consistency| {
        let query = Query::Range(RangeQuery::of(KeyRange::single(key)));
        Request::Query { query, consistency }
    };
    Some(match command {
        Command::Put { member, key, value } => (member.0, vec![put(key, value, 0)]),
        Command::PutLeased { member, key, value, lease } => (member.0, vec![put(key, value, *lease)]),
        Command::PutLarge { member, key, bytes } => (member.0, vec![put(key, &"x".repeat(*bytes), 0)]),
        Command::PutMany { member, pairs } => {
            (member.0, pairs.iter().map(|(key, value)| put(key, value, 0)).collect())
        }
        Command::Delete { member, key } => {
            let delete = DeleteRange { range: KeyRange::single(key.as_str()), previous: false };
            (member.0, vec![Request::Command(Store::DeleteRange(delete))])
        }
        Command::Get { member, key, serializable } => {
            let consistency =
                if *serializable { Consistency::Serializable } else { Consistency::Linearizable };
            (member.0, vec![get(key, consistency)])
        }
        Command::GetMany { member, keys } => {
            (member.0, keys.iter().map(|key| get(key, Consistency::Linearizable)).collect())
        }
        Command::Compact { member, revision } => {
            (member.0, vec![Request::Command(Store::Compact(Revision(*revision)))])
        }
        Command::Grant { member, lease, ttl } => {
            (member.0, vec![Request::Command(Store::LeaseGrant { id: LeaseId(*lease), ttl: *ttl })])
        }
        Command::Revoke { member, lease } => {
            (member.0, vec![Request::Command(Store::LeaseRevoke { id: LeaseId(*lease) })])
        }
        Command::KeepAlive { member, lease } => (member.0, vec![Request::KeepAlive(LeaseId(*lease))]),
        Command::TimeToLive { member, lease, keys } => {
            (member.0, vec![Request::TimeToLive { id: LeaseId(*lease), keys: *keys }])
        }
        Command::Disarm { member, of } => {
            let alarm = Store::Alarm { member: of.0.0, kind: AlarmKind::NoSpace, active: false };
            (member.0, vec![Request::Command(alarm)])
        }
        Command::Corrupt { member, active } => {
            let alarm = Store::Alarm { member: member.0.0, kind: AlarmKind::Corrupt, active: *active };
            (member.0, vec![Request::Command(alarm)])
        }
        Command::AskStatus { member } => (member.0, vec![Request::Status]),
        _ => return None,
    })
}

impl Runner {
    fn cluster(&mut self) -> &mut Cluster {
        self.cluster.as_mut().expect("a script begins with `cluster`")
    }

    /// Hands over requests, all in one turn.
    fn request(&mut self, member: NodeId, requests: Vec<Request>) -> Outcome {
        for request in requests {
            self.cluster().request(member, request);
        }
        self.poll(member)
    }

    fn poll(&mut self, member: NodeId) -> Outcome {
        let events = self.cluster().poll(member).into_iter().map(|event| (member, event)).collect();
        self.show(events)
    }

    fn handle(&mut self, member: NodeId, input: Input) -> Outcome {
        self.cluster().handle(member, input);
        self.poll(member)
    }

    fn show(&mut self, events: Vec<(NodeId, Event)>) -> Outcome {
        for (member, event) in events {
            writeln!(self.output, "{}", format::event(member, &event))?;
        }
        Ok(())
    }

    fn watchers(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Watch { member, watch, key, prefix, start } => {
                let end = match prefix {
                    true => RangeEnd::Before(Blob::from(format!("{key}~").as_str())),
                    false => RangeEnd::Single,
                };
                let range = KeyRange { start: Blob::from(key.as_str()), end };
                let start = start.map(Revision);
                let request = WatchRequest { range, start, previous: false, no_put: false, no_delete: false };
                self.handle(member.0, Input::Watch { watch: WatchId(*watch), request })
            }
            Command::Credit { member, watch, events } => {
                self.handle(member.0, Input::Credit { watch: WatchId(*watch), events: *events })
            }
            Command::Progress { member, watch } => {
                self.handle(member.0, Input::Progress { watch: WatchId(*watch) })
            }
            Command::CancelWatch { member, watch } => {
                self.handle(member.0, Input::CancelWatch { watch: WatchId(*watch) })
            }
            Command::Cancel { member, sequence } => {
                let id = RequestId { boot: self.cluster().member(member.0).disk.boot, sequence: *sequence };
                self.handle(member.0, Input::Cancel { id })
            }
            _ => Ok(()),
        }
    }

    fn faults(&mut self, command: &Command) -> Outcome {
        let cluster = self.cluster();
        let events = match command {
            Command::Campaign { member, bare } => cluster.campaign(member.0, *bare),
            Command::Settle => cluster.settle(),
            Command::SettleUntilChunk => cluster.settle_until(|cluster| {
                cluster.network.iter().any(|packet| matches!(packet.message, Message::Chunk { .. }))
            }),
            Command::Elapse { time } => cluster.elapse(time.0),
            Command::Skip { time, members } => {
                for (id, member) in &mut cluster.members {
                    if members.is_empty() || members.iter().any(|named| named.0 == *id) {
                        member.now += time.0;
                    }
                }
                return Ok(());
            }
            Command::Wake { member } => return self.handle(member.0, Input::Wake),
            Command::Crash { member } => {
                cluster.crash(member.0);
                return Ok(());
            }
            Command::Restart { member } => {
                cluster.start(member.0);
                return self.poll(member.0);
            }
            Command::Pause { member } => {
                cluster.member(member.0).paused = true;
                return Ok(());
            }
            Command::Resume { member } => {
                cluster.resume(member.0);
                return self.poll(member.0);
            }
            Command::SaveSlowly { member } => {
                cluster.member(member.0).saves_slowly = true;
                return Ok(());
            }
            Command::SaveFast { member } => {
                cluster.member(member.0).saves_slowly = false;
                return Ok(());
            }
            Command::Isolate { member } => {
                cluster.isolate(member.0);
                return Ok(());
            }
            Command::Cut { from, to } => {
                cluster.cut.insert((from.0, to.0));
                return Ok(());
            }
            Command::Heal => {
                cluster.cut.clear();
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.show(events)
    }

    fn disks(&mut self, command: &Command) -> Outcome {
        let cluster = self.cluster();
        match command {
            Command::StartNew { member } => {
                cluster.start_new(member.0);
                self.poll(member.0)?;
            }
            Command::Lose { member } => {
                cluster.members.remove(&member.0);
            }
            Command::Backup { member } => {
                let disk = cluster.member(member.0).disk.clone();
                self.backup = Some(disk);
            }
            Command::RestoreBackup { member } => {
                let disk = self.backup.clone().ok_or("there is no copy")?;
                let cluster = self.cluster();
                cluster.crash(member.0);
                cluster.member(member.0).disk = disk;
                cluster.start(member.0);
                self.poll(member.0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn io(&mut self, command: &Command) -> Outcome {
        let cluster = self.cluster();
        let find = |cluster: &Cluster, from: &Member, to: &Member, place: usize| {
            let packets = cluster.network.iter().enumerate();
            let between = packets.filter(|(_, it)| it.from == from.0 && it.to == to.0);
            between.map(|(found, _)| found).nth(place).ok_or("no message")
        };
        match command {
            Command::Persist { member } => {
                cluster.persist(member.0).then_some(()).ok_or("nothing to persist")?;
                self.poll(member.0)
            }
            Command::Save { member } => {
                cluster.save(member.0).then_some(()).ok_or("nothing to save")?;
                self.poll(member.0)
            }
            Command::Deliver { from, to, place, all } => {
                let found = find(cluster, from, to, *place)?;
                cluster.deliver(found);
                while *all && let Ok(found) = find(cluster, from, to, 0) {
                    cluster.deliver(found);
                }
                self.poll(to.0)
            }
            Command::Duplicate { from, to } => {
                let found = find(cluster, from, to, 0)?;
                let packet = cluster.network[found].clone();
                self.handle(to.0, Input::Message { from: from.0, message: packet.message })
            }
            Command::Drop { from, to } => {
                find(cluster, from, to, 0)?;
                cluster.network.retain(|packet| packet.from != from.0 || packet.to != to.0);
                Ok(())
            }
            Command::SendDamagedSnapshot { from, to } => {
                let message = format::damaged_snapshot(cluster.replica(from.0));
                self.handle(to.0, Input::Message { from: from.0, message })
            }
            _ => Ok(()),
        }
    }

    fn look_at_members(&mut self, command: &Command) -> Outcome {
        let cluster = self.cluster.as_mut().expect("a script begins with `cluster`");
        let output = &mut self.output;
        match command {
            Command::Members { member } => {
                for it in cluster.replica(member.0).store().members().iter() {
                    output.push_str(&members::print(it));
                }
            }
            Command::Peers { member } => {
                for (id, urls) in &cluster.member(member.0).peers {
                    writeln!(output, "n{id} at {}", urls.join("/"))?;
                }
            }
            Command::Configurations => {
                for (id, member) in &cluster.members {
                    if let Some(replica) = &member.replica {
                        writeln!(output, "n{id}: {}", replica.raft().configuration())?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn look(&mut self, command: &Command) -> Outcome {
        let cluster = self.cluster.as_mut().expect("a script begins with `cluster`");
        let output = &mut self.output;
        match command {
            Command::Status => {
                for (id, member) in &cluster.members {
                    match &member.replica {
                        Some(replica) => writeln!(output, "{}", replica.status())?,
                        None => writeln!(output, "n{id} is down")?,
                    }
                }
            }
            Command::Messages => {
                for packet in &cluster.network {
                    writeln!(
                        output,
                        "n{} → n{}: {}",
                        packet.from,
                        packet.to,
                        format::message(&packet.message)
                    )?;
                }
            }
            Command::Writes => {
                for (id, member) in &cluster.members {
                    for write in member.writes.iter().filter(|write| !write.entries.is_empty()) {
                        writeln!(output, "n{id} writes {}", format::write(write))?;
                    }
                    for (chunk, Index(keep_after)) in &member.saves {
                        let chunk = format::chunk(chunk);
                        writeln!(output, "n{id} saves {chunk}, keeping the log after {keep_after}")?;
                    }
                }
            }
            Command::Deadline { member } => {
                let now = cluster.member(member.0).now;
                let (at, why) = cluster.replica(member.0).deadline().ok_or("no deadline")?;
                writeln!(output, "n{}: in {:?}, {why}", member.0, at.since(now))?;
            }
            Command::Stores { key } => {
                for id in cluster.ids().into_iter().filter(|id| cluster.is_up(*id)).collect::<Vec<_>>() {
                    let query = Query::Range(RangeQuery::of(KeyRange::single(key.as_str())));
                    let response = cluster.replica(id).store().query(&query)?;
                    writeln!(output, "n{id}: {}", format::store_response(&response))?;
                }
            }
            Command::Converged => {
                let ids: Vec<_> = cluster.ids().into_iter().filter(|id| cluster.is_up(*id)).collect();
                let states: std::collections::BTreeSet<_> = ids
                    .into_iter()
                    .map(|id| {
                        let replica = cluster.replica(id);
                        (replica.status().applied, replica.state_hash())
                    })
                    .collect();
                (states.len() == 1).then_some(()).ok_or(format!("states differ: {states:?}"))?;
                writeln!(output, "all have applied {}", states.first().expect("one state").0)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Makes one test per folder of scripts.
macro_rules! scripts {
    ($($folder:ident),+) => {
        $(
            #[test]
            fn $folder() {
                run_folder(stringify!($folder));
            }
        )+
    };
}

scripts!(put, get, watch, lease, forward, failover, snapshot, membership, leadership, identity);

fn run_folder(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(folder);
    let entries = std::fs::read_dir(folder).expect("the folder exists");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "a folder of scripts has scripts");
    let mut failures = Vec::new();
    for path in paths {
        eprintln!("{}", path.display());
        if let Err(error) = goldenscript::run(&mut Runner::default(), &path) {
            failures.push(format!("{}: {error}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
