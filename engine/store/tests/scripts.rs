//! Runs the scripts under `tests/scripts`, each against a store of its own.
//!
//! A script is a list of commands (see [`Command`]) and what they print. `UPDATE_GOLDENFILES=1 cargo test`
//! writes the output anew; read it before committing it.

mod members;

use std::error::Error;
use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use goldenscript::Context;
use quorate_store as store;
use quorate_store::{
    AlarmKind, Branch, Compare, CompareResult, CompareTarget, DeleteRange, Event, EventKind, Key, KeyRange,
    KeyValue, LeaseId, Operation, Put, Query, RangeEnd, RangeQuery, RangeResponse, Response, Revision,
    RevisionFilter, SnapshotCursor, SnapshotPart, Sort, SortBy, Store, Txn, Value, WatchId, WatchRequest,
    WatchUpdate,
};

macro_rules! script_tests {
    ($($folder:ident),*) => {$(
        #[test]
        fn $folder() {
            run_folder(stringify!($folder));
        }
    )*};
}

script_tests!(kv, txn, compact, lease, member, watch, snapshot);

fn run_folder(folder: &str) {
    let folder = format!("{}/tests/scripts/{folder}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&folder).expect("the folder exists");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder} has scripts");
    for path in paths {
        println!("running {}", path.display());
        goldenscript::run(&mut Runner::default(), &path).expect("the script runs");
    }
}

/// What a script can do. `RANGE` is `a` (the key), `a..c` (half-open), `a..` (from there on) or `all`. A key may have several words or be empty, in quotes.
#[derive(goldenscript::Command)]
enum Command {
    /// `put KEY [VALUE] [lease=ID] [prev=true] [ignore_lease=true]`: writes a key. Without a value the
    /// present one is kept (`ignore_value`).
    Put {
        key: String,
        value: Option<String>,
        #[arg(key)]
        lease: Option<i64>,
        #[arg(key, optional)]
        prev: bool,
        #[arg(key, optional)]
        ignore_lease: bool,
    },
    /// `get RANGE [rev=N] [limit=N] [sort=BY-ORDER] [keys_only=true] [count_only=true] [min_mod=N] …`: reads
    /// a range. `BY` is key, version, create, mod or value; `ORDER` is asc, desc or none (etcd's sort
    /// target without an order).
    Get {
        range: RangeArg,
        #[arg(key)]
        rev: Option<i64>,
        #[arg(key, optional)]
        limit: u64,
        #[arg(key)]
        sort: Option<SortArg>,
        #[arg(key, optional)]
        keys_only: bool,
        #[arg(key, optional)]
        count_only: bool,
        #[arg(key)]
        min_mod: Option<i64>,
        #[arg(key)]
        max_mod: Option<i64>,
        #[arg(key)]
        min_create: Option<i64>,
        #[arg(key)]
        max_create: Option<i64>,
    },
    /// `del RANGE [prev=true]`: deletes a range.
    Del {
        range: RangeArg,
        #[arg(key, optional)]
        prev: bool,
    },
    /// `txn [if COMPARE…] [then OP…] [else OP…] [branch …]`: a transaction; `branch` begins the next one of
    /// the flattened form. A compare is `"value a = x"` (value, version, create, mod or lease; =, !=, <, >); an
    /// operation is `"put a x [lease]"`, `"keep a"` (`ignore_value` and `ignore_lease`), `"get RANGE [rev]"`,
    /// `"del RANGE"` or `"nested N"`.
    Txn(#[arg(optional)] Vec<String>),
    /// `read_txn …`: like `txn`, but as a query.
    ReadTxn(#[arg(optional)] Vec<String>),
    /// `burst PREFIX COUNT [once=true]`: puts PREFIX000 and so on, each in its own revision or all in one.
    Burst {
        prefix: String,
        count: u32,
        #[arg(key, optional)]
        once: bool,
    },
    /// `compact REVISION`: forgets history.
    Compact(i64),
    /// `maintain`: removes all garbage, and prints how often it was called for that.
    Maintain,
    /// `size`: prints the number of keys and the size of all versions.
    Size,
    /// `history`: prints every event that can still be read, by revision.
    History,
    /// `grant ID TTL`: creates a lease.
    Grant(i64, i64),
    /// `revoke ID`: ends a lease.
    Revoke(i64),
    /// `lease ID`: prints a lease and its keys.
    Lease(i64),
    /// `leases`: prints the ids of all leases.
    Leases,
    /// `member …`: a change of the members; see `members::parse`.
    Member(Vec<String>),
    /// `members`: prints the members, and who was one.
    Members,
    /// `conform VOTERS LEARNERS`: makes the members agree with a configuration of Raft's.
    Conform(String, String),
    /// `alarm MEMBER KIND STATE`: switches the alarm nospace or corrupt on or off.
    Alarm(u64, String, String),
    /// `alarms`: prints the alarms that are on.
    Alarms,
    /// `watch ID RANGE [start=N] [prev=true] [no_put=true] [no_delete=true] [credit=N]`: adds a watcher.
    Watch {
        id: u64,
        range: RangeArg,
        #[arg(key)]
        start: Option<i64>,
        #[arg(key, optional)]
        prev: bool,
        #[arg(key, optional)]
        no_put: bool,
        #[arg(key, optional)]
        no_delete: bool,
        #[arg(key)]
        credit: Option<u32>,
    },
    /// `credit ID EVENTS`: lets a watcher have more.
    Credit(u64, u32),
    /// `progress ID`: asks for a watcher's progress.
    Progress(u64),
    /// `cancel ID`: removes a watcher.
    Cancel(u64),
    /// `poll [brief=true]`: prints all updates, or only how many events each has.
    Poll {
        #[arg(key, optional)]
        brief: bool,
    },
    /// `open`: opens an export, forgetting the parts of earlier ones.
    Open,
    /// `part BYTES`: exports the next part and prints it.
    Part(usize),
    /// `rest BYTES`: exports all other parts, prints them, and closes the export.
    Rest(usize),
    /// `import`: imports the parts and compares with this store.
    Import,
    /// `install`: imports the parts and replaces this store's contents.
    Install,
    /// `drop_part N`: takes a part away.
    DropPart(usize),
    /// `swap_parts N M`: exchanges two parts.
    SwapParts(usize, usize),
    /// `damage N FIELD VALUE`: sets create, mod, version or lease of the first version in a part, or
    /// revision or compacted of the head.
    Damage(usize, String, i64),
    /// `reset`: begins with an empty store, without watchers, and keeps the parts.
    Reset,
    /// `hash`: prints the checksum over all effects.
    Hash,
}

#[derive(Default)]
struct Runner {
    store: Store,
    cursor: Option<SnapshotCursor>,
    parts: Vec<SnapshotPart>,
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        use store::Command as C;
        Ok(match command {
            Command::Put { key, value, lease, prev, ignore_lease } => self.apply(&C::Put(Put {
                key: Key::from(key.as_str()),
                value: value.as_deref().map(Value::from),
                lease: (!ignore_lease).then_some(LeaseId(lease.unwrap_or(0))),
                previous: *prev,
            })),
            Command::Del { range, prev } => {
                self.apply(&C::DeleteRange(DeleteRange { range: range.0.clone(), previous: *prev }))
            }
            Command::Txn(words) => self.apply(&C::Txn(parse_txn(words)?)),
            Command::ReadTxn(words) => self.query(&Query::Txn(parse_txn(words)?)),
            Command::Burst { prefix, count, once } => self.burst(prefix, *count, *once),
            Command::Compact(revision) => self.apply(&C::Compact(Revision(*revision))),
            Command::Grant(id, ttl) => self.apply(&C::LeaseGrant { id: LeaseId(*id), ttl: *ttl }),
            Command::Revoke(id) => self.apply(&C::LeaseRevoke { id: LeaseId(*id) }),
            Command::Member(words) => self.apply(&members::parse(words)?),
            Command::Conform(voters, learners) => {
                let ids = |list: &str| list.split('/').filter_map(|id| id.parse().ok()).collect();
                match self.store.conform_members(&ids(voters), &ids(learners)) {
                    true => "they did not\n".into(),
                    false => "they do\n".into(),
                }
            }
            Command::Alarm(member, kind, state) => self.apply(&C::Alarm {
                member: *member,
                kind: parse_alarm(kind)?,
                active: parse_state(state)?,
            }),
            get @ Command::Get { .. } => self.query(&Query::Range(parse_get(get))),
            Command::Lease(id) => self.query(&Query::Lease { id: LeaseId(*id), keys: true }),
            Command::Leases => self.query(&Query::Leases),
            Command::Members => {
                let gone: Vec<_> = self.store.members().removed().map(|id| id.to_string()).collect();
                let gone =
                    if gone.is_empty() { String::new() } else { format!("gone {}\n", gone.join(", ")) };
                self.query(&Query::Members) + &gone
            }
            Command::Alarms => self.query(&Query::Alarms),
            Command::Size => {
                format!("{} keys, {} bytes\n", self.store.key_count(), self.store.size_bytes())
            }
            Command::Hash => format!("{:016x}\n", self.store.state_hash()),
            Command::Maintain => {
                let calls = 1 + std::iter::from_fn(|| self.store.maintain().then_some(())).count();
                format!("called {calls}\n")
            }
            Command::History => self.history(),
            watching => return self.run_watching(watching),
        })
    }
}

impl Runner {
    fn apply(&mut self, command: &store::Command) -> String {
        let applied = self.store.apply(command);
        let result = print_result(&applied.result);
        format!("@{} {result}", applied.revision)
    }

    fn query(&self, query: &Query) -> String {
        print_result(&self.store.query(query))
    }

    fn burst(&mut self, prefix: &str, count: u32, once: bool) -> String {
        let put = |i| Put {
            key: Key::from(format!("{prefix}{i:03}").as_str()),
            value: Some(Value::from("v")),
            lease: Some(LeaseId::NONE),
            previous: false,
        };
        if once {
            let success = (0..count).map(put).map(Operation::Put).collect();
            let txn = Txn { branches: vec![Branch { success, ..Branch::default() }] };
            self.store.apply(&store::Command::Txn(txn));
        } else {
            for i in 0..count {
                self.store.apply(&store::Command::Put(put(i)));
            }
        }
        format!("@{}\n", self.store.revision())
    }

    /// The commands about watchers and snapshots.
    fn run_watching(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        match command {
            Command::Watch { id, range, start, prev, no_put, no_delete, credit } => {
                let request = WatchRequest {
                    range: range.0.clone(),
                    start: start.map(Revision),
                    previous: *prev,
                    no_put: *no_put,
                    no_delete: *no_delete,
                };
                self.store.watch(WatchId(*id), request);
                self.store.credit(WatchId(*id), credit.unwrap_or(0));
            }
            Command::Credit(id, events) => self.store.credit(WatchId(*id), *events),
            Command::Progress(id) => self.store.request_progress(WatchId(*id)),
            Command::Cancel(id) => self.store.cancel_watch(WatchId(*id)),
            Command::Poll { brief } => return Ok(self.poll(*brief)),
            Command::Open => {
                self.cursor = Some(self.store.open_snapshot());
                self.parts.clear();
            }
            Command::Part(bytes) => {
                let cursor = self.cursor.as_mut().ok_or("no export is open")?;
                let part = self.store.next_part(cursor, *bytes);
                let printed = part.as_ref().map_or("none\n".into(), print_part);
                self.parts.extend(part);
                return Ok(printed);
            }
            Command::Rest(bytes) => {
                let mut cursor = self.cursor.take().ok_or("no export is open")?;
                let mut printed = String::new();
                while let Some(part) = self.store.next_part(&mut cursor, *bytes) {
                    printed += &print_part(&part);
                    self.parts.push(part);
                }
                self.store.close_snapshot(cursor);
                return Ok(printed);
            }
            Command::Import => return Ok(self.import()),
            Command::Install => match Store::import(self.parts.clone()) {
                Ok(store) => self.store.replace_contents(store),
                Err(error) => return Ok(format!("{error}\n")),
            },
            Command::Reset => self.store = Store::new(),
            Command::DropPart(index) => drop(self.parts.remove(*index)),
            Command::SwapParts(a, b) => self.parts.swap(*a, *b),
            Command::Damage(index, field, value) => damage(&mut self.parts[*index], field, *value)?,
            _ => unreachable!("the others are run by the caller"),
        }
        Ok(String::new())
    }

    fn poll(&mut self, brief: bool) -> String {
        let mut printed = String::new();
        while let Some((id, update)) = self.store.poll_watch() {
            match update {
                WatchUpdate::Created { revision } => {
                    writeln!(printed, "watcher {} created at {revision}", id.0).unwrap();
                }
                WatchUpdate::Events { revision, events } => {
                    writeln!(printed, "watcher {} has {} events at {revision}", id.0, events.len()).unwrap();
                    if !brief {
                        events.iter().for_each(|event| printed += &print_event(event));
                    }
                }
                WatchUpdate::Progress { revision } => {
                    writeln!(printed, "watcher {} has all up to {revision}", id.0).unwrap();
                }
                WatchUpdate::Compacted { compact_revision, revision } => {
                    let id = id.0;
                    writeln!(printed, "watcher {id} lost: compacted {compact_revision} at {revision}")
                        .unwrap();
                }
            }
        }
        printed
    }

    fn history(&mut self) -> String {
        let everything = RangeArg::from_str("all").unwrap().0;
        let start = Some(self.store.compact_revision().max(Revision(1)));
        let (id, previous) = (WatchId(u64::MAX), false);
        let request = WatchRequest { range: everything, start, previous, no_put: false, no_delete: false };
        self.store.watch(id, request);
        self.store.credit(id, u32::MAX);
        let printed = self.poll(false);
        self.store.cancel_watch(id);
        printed.lines().filter(|line| !line.starts_with("watcher")).map(|line| format!("{line}\n")).collect()
    }

    fn import(&mut self) -> String {
        let imported = match Store::import(self.parts.clone()) {
            Ok(imported) => imported,
            Err(error) => return format!("{error}\n"),
        };
        let same = |equal| if equal { "same" } else { "different" };
        format!(
            "revision {}, compacted {}, {} state, {} content\n",
            imported.revision(),
            imported.compact_revision(),
            same(imported.state_hash() == self.store.state_hash()),
            same(imported.content_hash() == self.store.content_hash()),
        )
    }
}

// --- Parsing ---

struct RangeArg(KeyRange);

impl FromStr for RangeArg {
    type Err = Box<dyn Error>;
    fn from_str(text: &str) -> Result<RangeArg, Self::Err> {
        let (start, end) = match text.split_once("..") {
            None if text == "all" => ("", RangeEnd::Unbounded),
            None => (text, RangeEnd::Single),
            Some((start, "")) => (start, RangeEnd::Unbounded),
            Some((start, end)) => (start, RangeEnd::Before(Key::from(end))),
        };
        Ok(RangeArg(KeyRange { start: Key::from(start), end }))
    }
}

struct SortArg(Sort);

impl FromStr for SortArg {
    type Err = Box<dyn Error>;
    fn from_str(text: &str) -> Result<SortArg, Self::Err> {
        let (by, order) = text.split_once('-').ok_or("a sort is BY-ORDER")?;
        let by = match by {
            "key" => SortBy::Key,
            "version" => SortBy::Version,
            "create" => SortBy::Create,
            "mod" => SortBy::Mod,
            "value" => SortBy::Value,
            _ => return Err("unknown sort target".into()),
        };
        let (descending, limit_first) = match order {
            "asc" => (false, false),
            "desc" => (true, false),
            "none" => (false, true),
            _ => return Err("unknown sort order".into()),
        };
        Ok(SortArg(Sort { by, descending, limit_first }))
    }
}

fn parse_get(command: &Command) -> RangeQuery {
    let Command::Get {
        range,
        rev,
        limit,
        sort,
        keys_only,
        count_only,
        min_mod,
        max_mod,
        min_create,
        max_create,
    } = command
    else {
        unreachable!("the caller has a get")
    };
    let filter = RevisionFilter {
        min_mod: min_mod.unwrap_or(0),
        max_mod: max_mod.unwrap_or(0),
        min_create: min_create.unwrap_or(0),
        max_create: max_create.unwrap_or(0),
    };
    RangeQuery {
        range: range.0.clone(),
        revision: rev.map(Revision),
        limit: *limit,
        sort: sort.as_ref().map(|sort| sort.0),
        keys_only: *keys_only,
        count_only: *count_only,
        filter: (filter != RevisionFilter::default()).then_some(filter),
    }
}

fn parse_txn(words: &[String]) -> Result<Txn, Box<dyn Error>> {
    let mut txn = Txn { branches: Vec::new() };
    let mut section = "";
    for word in words {
        if word == "branch" || txn.branches.is_empty() {
            txn.branches.push(Branch::default());
        }
        let branch = txn.branches.last_mut().ok_or("there is a branch")?;
        match (section, word.as_str()) {
            (_, "branch") => section = "",
            (_, "if" | "then" | "else") => section = word,
            ("if", compare) => branch.compares.push(parse_compare(compare)?),
            ("then", operation) => branch.success.push(parse_operation(operation)?),
            ("else", operation) => branch.failure.push(parse_operation(operation)?),
            _ => return Err(format!("{word} comes before if, then and else").into()),
        }
    }
    Ok(txn)
}

fn parse_compare(text: &str) -> Result<Compare, Box<dyn Error>> {
    let [property, range, result, target] = text.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("not a compare: {text}").into());
    };
    let result = match result {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        "?" => CompareResult::Always,
        _ => return Err(format!("unknown result: {text}").into()),
    };
    let target = match property {
        "value" => CompareTarget::Value(Value::from(target)),
        "version" => CompareTarget::Version(target.parse()?),
        "create" => CompareTarget::Create(target.parse()?),
        "mod" => CompareTarget::Mod(target.parse()?),
        "lease" => CompareTarget::Lease(target.parse()?),
        _ => return Err(format!("unknown property: {text}").into()),
    };
    Ok(Compare { range: range.parse::<RangeArg>()?.0, result, target })
}

fn parse_operation(text: &str) -> Result<Operation, Box<dyn Error>> {
    let range = |text: &str| text.parse::<RangeArg>().map(|range| range.0);
    Ok(match text.split(' ').collect::<Vec<_>>()[..] {
        ["put", key, value, ref lease @ ..] => Operation::Put(Put {
            key: Key::from(key),
            value: Some(Value::from(value)),
            lease: Some(LeaseId(lease.first().map_or(Ok(0), |lease| lease.parse())?)),
            previous: true,
        }),
        ["keep", key] => {
            Operation::Put(Put { key: Key::from(key), value: None, lease: None, previous: true })
        }
        ["get", keys] => Operation::Range(RangeQuery::of(range(keys)?)),
        ["get", keys, revision] => Operation::Range(RangeQuery {
            revision: Some(Revision(revision.parse()?)),
            ..RangeQuery::of(range(keys)?)
        }),
        ["del", keys] => Operation::DeleteRange(DeleteRange { range: range(keys)?, previous: true }),
        ["nested", branch] => Operation::Nested(branch.parse()?),
        _ => return Err(format!("unknown operation: {text}").into()),
    })
}

fn parse_alarm(kind: &str) -> Result<AlarmKind, Box<dyn Error>> {
    match kind {
        "nospace" => Ok(AlarmKind::NoSpace),
        "corrupt" => Ok(AlarmKind::Corrupt),
        _ => Err("an alarm is nospace or corrupt".into()),
    }
}

fn parse_state(state: &str) -> Result<bool, Box<dyn Error>> {
    match state {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("an alarm is on or off".into()),
    }
}

fn damage(part: &mut SnapshotPart, field: &str, value: i64) -> Result<(), Box<dyn Error>> {
    let kv = match part {
        SnapshotPart::Head(head) => {
            match field {
                "revision" => head.revision.0 = value,
                "compacted" => head.compact_revision.0 = value,
                _ => return Err("a head has revision and compacted".into()),
            }
            return Ok(());
        }
        SnapshotPart::Base(versions) | SnapshotPart::Events(versions) => Arc::make_mut(&mut versions[0]),
        SnapshotPart::End { .. } => return Err("the end has no versions".into()),
    };
    match field {
        "create" => kv.create_revision.0 = value,
        "mod" => kv.mod_revision.0 = value,
        "version" => kv.version = value,
        "lease" => kv.lease.0 = value,
        _ => return Err("a version has create, mod, version and lease".into()),
    }
    Ok(())
}

// --- Printing ---

fn print_result(result: &Result<Response, store::Error>) -> String {
    match result {
        Ok(response) => print_response(response),
        Err(error) => format!("error: {error}\n"),
    }
}

fn print_response(response: &Response) -> String {
    match response {
        Response::Put { previous: None } => "put\n".into(),
        Response::Put { previous: Some(kv) } => format!("put, was {}", print_kv(kv)),
        Response::Range(range) => print_range(range),
        Response::DeleteRange { deleted, previous } => {
            let previous: String = previous.iter().map(|kv| format!("  was {}", print_kv(kv))).collect();
            format!("deleted {deleted}\n{previous}")
        }
        Response::Txn { succeeded, responses } => {
            let head = if *succeeded { "succeeded" } else { "failed" };
            let inner: String = responses.iter().map(print_response).collect();
            let inner: String = inner.lines().map(|line| format!("  {line}\n")).collect();
            format!("{head}\n{inner}")
        }
        Response::Done => "done\n".into(),
        Response::LeaseGranted { id, ttl } => format!("granted {id} for {ttl} s\n"),
        Response::Leases(ids) => format!("{}\n", list(ids.iter().map(ToString::to_string))),
        Response::Lease(None) => "no such lease\n".into(),
        Response::Lease(Some(lease)) => {
            format!("{} s, keys {}\n", lease.ttl, list(lease.keys.iter().map(|key| text(key))))
        }
        Response::Members(members) => {
            if members.is_empty() {
                "none\n".into()
            } else {
                members.iter().map(members::print).collect()
            }
        }
        Response::Joined { id } => format!("joined as {id}\n"),
        Response::Hash(hash) => format!("checksum {:x} at {}\n", hash.hash, hash.revision),
        Response::Alarms(alarms) => {
            format!("alarms {}\n", list(alarms.iter().map(|(member, kind)| format!("{kind:?} of {member}"))))
        }
    }
}

fn print_range(range: &RangeResponse) -> String {
    let more = if range.more { ", more" } else { "" };
    let keys_only = if range.keys_only { ", keys only" } else { "" };
    let kvs: String = range.kvs.iter().map(|kv| print_kv(kv)).collect();
    format!("count {}{more}{keys_only}\n{kvs}", range.count)
}

fn print_kv(kv: &KeyValue) -> String {
    let lease = if kv.lease == LeaseId::NONE { String::new() } else { format!(" lease {}", kv.lease) };
    let (key, value) = (text(&kv.key), text(&kv.value));
    format!(
        "{key}={value} @{} created @{} version {}{lease}\n",
        kv.mod_revision, kv.create_revision, kv.version
    )
}

fn print_event(event: &Event) -> String {
    let was = event.previous.as_ref().map_or(String::new(), |kv| format!("    was {}", print_kv(kv)));
    match &event.kind {
        EventKind::Put(kv) => format!("  put {}{was}", print_kv(kv)),
        EventKind::Delete { key, revision } => format!("  delete {} @{revision}\n{was}", text(key)),
    }
}

fn print_part(part: &SnapshotPart) -> String {
    let versions = |kind: &str, versions: &[Arc<KeyValue>]| {
        let line = |kv: &Arc<KeyValue>| match kv.version {
            0 => format!("  {} deleted @{}\n", text(&kv.key), kv.mod_revision),
            _ => format!("  {}", print_kv(kv)),
        };
        let more = versions.len().saturating_sub(5);
        let more = if more > 0 { format!("  and {more} more\n") } else { String::new() };
        format!("{kind}\n{}{more}", versions.iter().take(5).map(line).collect::<String>())
    };
    match part {
        SnapshotPart::Head(head) => format!(
            "head revision {} compacted {} leases {:?} members {} alarms {:?}\n",
            head.revision,
            head.compact_revision,
            head.leases,
            head.members.len(),
            head.alarms
        ),
        SnapshotPart::Base(base) => versions("base", base),
        SnapshotPart::Events(events) => versions("events", events),
        SnapshotPart::End { versions } => format!("end after {versions} versions\n"),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

/// Bytes as text, quoted if they would be hard to read otherwise.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) => text.into(),
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}
