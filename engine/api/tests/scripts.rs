//! Scripts that talk to the services of a cluster of one member, with memory for a disk and a clock that the
//! script moves. The whole runs on this thread, in an order that is always the same.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p quorate-api` writes the outputs; read them before they are committed.

mod world;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use goldenscript::{Argument, Command, Context};
use quorate_api::{HealthQuery, Metadata, WatchSession};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::request_op;
use quorate_proto::etcdserverpb::response_op;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_proto::mvccpb;
use quorate_proto::quoratepb::MemberDemoteRequest;

use world::{ManualClock, World};

#[test]
fn scripts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut count = 0;
    for area in std::fs::read_dir(&root).expect("the scripts are there") {
        for script in std::fs::read_dir(area.expect("readable").path()).expect("a directory per area") {
            let path = script.expect("readable").path();
            if let Err(error) = goldenscript::run(&mut Runner::new(), &path) {
                panic!("{}: {error}", path.display());
            }
            count += 1;
        }
    }
    assert!(count > 0, "no scripts in {}", root.display());
}

/// The commands are the methods of `Runner` that `run` lists. A range is one or two positional arguments, as
/// in `get a c`; `\0` means what it means to etcd. Flags are positional arguments too.
struct Runner {
    world: World,
    watch: WatchSession<ManualClock>,
    metadata: Metadata,
}

type Output = Result<String, Box<dyn Error>>;

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Output {
        let mut args = Args(command.args.clone());
        let output = match command.name.as_str() {
            // KV.
            "get" => self.get(&mut args),
            "put" => self.put(&mut args),
            "del" => self.del(&mut args),
            "txn" => self.txn(&mut args),
            "compact" => self.compact(&mut args),
            // Watch: all on one stream. `take` shows what has come.
            "watch" => self.watch(&mut args),
            "cancel" => self.cancel(&mut args),
            "progress" => self.progress(),
            "take" => self.take(),
            // Lease.
            "grant" => self.grant(&mut args),
            "revoke" => self.revoke(&mut args),
            "keepalive" => self.keep_alive(&mut args),
            "ttl" => self.time_to_live(&mut args),
            "leases" => self.leases(),
            // Cluster, Maintenance, health.
            "members" => self.members(),
            "member" => self.member(&mut args),
            "lead" => self.move_leader(&mut args),
            "status" => self.status(),
            "alarm" => self.alarm(&mut args),
            "health" => self.health(&mut args),
            // Lets time pass: `wait 10` is ten seconds.
            "wait" => self.wait(&mut args),
            name => Err(format!("unknown command {name}").into()),
        };
        if output.is_ok() && !args.0.is_empty() {
            return Err(format!("unexpected arguments: {:?}", args.0).into());
        }
        output
    }
}

impl Runner {
    fn new() -> Runner {
        let mut world = World::new();
        world.elect();
        let watch = world.api.watch(Metadata::default()).expect("nothing is required");
        Runner { world, watch, metadata: Metadata::default() }
    }

    // --- KV ---

    fn get(&mut self, args: &mut Args) -> Output {
        let request = range_request(args)?;
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        Ok(show_range(&self.world.run(api.range(request, metadata))?))
    }

    fn put(&mut self, args: &mut Args) -> Output {
        let request = put_request(args)?;
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        Ok(show_put(&self.world.run(api.put(request, metadata))?))
    }

    fn del(&mut self, args: &mut Args) -> Output {
        let request = delete_request(args)?;
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        Ok(show_delete(&self.world.run(api.delete_range(request, metadata))?))
    }

    /// `txn k=3 then "put a=1" "get a" else "del a c"`: compares are of mod revisions.
    fn txn(&mut self, args: &mut Args) -> Output {
        let mut request = pb::TxnRequest::default();
        while let Some((key, revision)) = args.next_key() {
            request.compare.push(pb::Compare {
                target: pb::compare::CompareTarget::Mod.into(),
                key: bytes(&key),
                target_union: Some(pb::compare::TargetUnion::ModRevision(revision.parse()?)),
                ..Default::default()
            });
        }
        let mut branch = &mut request.success;
        while let Some(word) = args.next_pos() {
            match word.as_str() {
                "then" => branch = &mut request.success,
                "else" => branch = &mut request.failure,
                operation => branch.push(operation_of(operation)?),
            }
        }
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        Ok(show_txn(&self.world.run(api.txn(request, metadata))?))
    }

    fn compact(&mut self, args: &mut Args) -> Output {
        let revision = args.next_pos().ok_or("which revision?")?.parse()?;
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let request = pb::CompactionRequest { revision, physical: false };
        let response = self.world.run(api.compact(request, metadata))?;
        Ok(show_header(response.header.as_ref()))
    }

    // --- Watch ---

    fn watch(&mut self, args: &mut Args) -> Output {
        let mut request = pb::WatchCreateRequest::default();
        while let Some((name, value)) = args.next_key() {
            match name.as_str() {
                "id" => request.watch_id = value.parse()?,
                "start" => request.start_revision = value.parse()?,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        let mut range = vec![];
        while let Some(word) = args.next_pos() {
            match word.as_str() {
                "prev" => request.prev_kv = true,
                "notify" => request.progress_notify = true,
                "fragment" => request.fragment = true,
                "noput" => request.filters.push(0),
                "nodelete" => request.filters.push(1),
                _ => range.push(word),
            }
        }
        (request.key, request.range_end) = range_of(range);
        self.watch_request(RequestUnion::CreateRequest(request))
    }

    fn cancel(&mut self, args: &mut Args) -> Output {
        let watch_id = args.next_pos().ok_or("which watcher?")?.parse()?;
        self.watch_request(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }))
    }

    fn progress(&mut self) -> Output {
        self.watch_request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
    }

    /// Does not wait for an answer: `take` does.
    fn watch_request(&mut self, union: RequestUnion) -> Output {
        self.watch.handle(&pb::WatchRequest { request_union: Some(union) });
        Ok(String::new())
    }

    fn take(&mut self) -> Output {
        let mut output = String::new();
        while let Some(response) = self.world.run_while_it_moves(self.watch.next()) {
            output.push_str(&show_watch(&response?));
            output.push('\n');
        }
        Ok(output)
    }

    // --- Lease ---

    fn grant(&mut self, args: &mut Args) -> Output {
        let id = args.next_pos().ok_or("which lease?")?.parse()?;
        let ttl = args.next_pos().ok_or("for how long?")?.parse()?;
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let response = self.world.run(api.lease_grant(pb::LeaseGrantRequest { ttl, id }, metadata))?;
        let id = if id == 0 && response.id > 0 { "chosen".to_owned() } else { response.id.to_string() };
        Ok(format!("{} id={id} ttl={}", show_header(response.header.as_ref()), response.ttl))
    }

    fn revoke(&mut self, args: &mut Args) -> Output {
        let id = args.next_pos().ok_or("which lease?")?.parse()?;
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let response = self.world.run(api.lease_revoke(pb::LeaseRevokeRequest { id }, metadata))?;
        Ok(show_header(response.header.as_ref()))
    }

    fn keep_alive(&mut self, args: &mut Args) -> Output {
        let id = args.next_pos().ok_or("which lease?")?.parse()?;
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let request = pb::LeaseKeepAliveRequest { id };
        let response = self.world.run(api.lease_keep_alive(request, metadata))?;
        Ok(format!("id={} ttl={}", response.id, response.ttl))
    }

    fn time_to_live(&mut self, args: &mut Args) -> Output {
        let id = args.next_pos().ok_or("which lease?")?.parse()?;
        let keys = args.next_pos().as_deref() == Some("keys");
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let request = pb::LeaseTimeToLiveRequest { id, keys };
        let response = self.world.run(api.lease_time_to_live(request, metadata))?;
        let keys: Vec<_> = response.keys.iter().map(|key| text(key)).collect();
        Ok(format!("id={} ttl={} granted={} keys={keys:?}", response.id, response.ttl, response.granted_ttl))
    }

    fn leases(&mut self) -> Output {
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let response = self.world.run(api.lease_leases(pb::LeaseLeasesRequest {}, metadata))?;
        Ok(format!("{:?}", response.leases.iter().map(|lease| lease.id).collect::<Vec<_>>()))
    }

    // --- Cluster, Maintenance, health ---

    fn members(&mut self) -> Output {
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let response =
            self.world.run(api.member_list(pb::MemberListRequest { linearizable: true }, metadata))?;
        Ok(show_members(response.header.as_ref(), &response.members))
    }

    /// `member add learner URL…`, `member update ID URL…`; `remove`, `promote` and `demote` take an ID.
    fn member(&mut self, args: &mut Args) -> Output {
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let action = args.next_pos().ok_or("do what?")?;
        if action == "add" {
            let mut peer_ur_ls: Vec<String> = std::iter::from_fn(|| args.next_pos()).collect();
            let is_learner = peer_ur_ls.first().is_some_and(|word| word == "learner");
            peer_ur_ls.drain(..usize::from(is_learner));
            let request = pb::MemberAddRequest { peer_ur_ls, is_learner };
            let response = self.world.run(api.member_add(request, metadata))?;
            let new = response.member.ok_or("which is the new one?")?;
            return Ok(format!("new: {}", show_members(None, &[new]).trim_start_matches("no header\n")));
        }
        let id = u64::from_str_radix(&args.next_pos().ok_or("which?")?, 16)?;
        let (header, members) = match action.as_str() {
            "remove" => {
                let response = self.world.run(api.member_remove(pb::MemberRemoveRequest { id }, metadata))?;
                (response.header, response.members)
            }
            "update" => {
                let peer_ur_ls = std::iter::from_fn(|| args.next_pos()).collect();
                let request = pb::MemberUpdateRequest { id, peer_ur_ls };
                let response = self.world.run(api.member_update(request, metadata))?;
                (response.header, response.members)
            }
            "promote" => {
                let response =
                    self.world.run(api.member_promote(pb::MemberPromoteRequest { id }, metadata))?;
                (response.header, response.members)
            }
            "demote" => {
                let response = self.world.run(api.member_demote(MemberDemoteRequest { id }, metadata))?;
                (response.header, response.members)
            }
            _ => return Err(format!("nobody can {action} a member").into()),
        };
        Ok(show_members(header.as_ref(), &members))
    }

    fn move_leader(&mut self, args: &mut Args) -> Output {
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let target_id = u64::from_str_radix(&args.next_pos().ok_or("who?")?, 16)?;
        let response = self.world.run(api.move_leader(pb::MoveLeaderRequest { target_id }, metadata))?;
        Ok(show_header(response.header.as_ref()))
    }

    fn status(&mut self) -> Output {
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let response = self.world.run(api.status(pb::StatusRequest {}, metadata))?;
        let (leader, errors) = (response.leader, response.errors);
        Ok(format!(
            "version={} leader={leader:x} quota={} errors={errors:?}",
            response.version, response.db_size_quota
        ))
    }

    /// `alarm get`, `alarm activate NOSPACE 1`, `alarm deactivate NOSPACE 1`.
    fn alarm(&mut self, args: &mut Args) -> Output {
        let action = args.next_pos().ok_or("which action?")?.to_uppercase();
        let action = pb::alarm_request::AlarmAction::from_str_name(&action).ok_or("no such action")?;
        let alarm = pb::AlarmType::from_str_name(&args.next_pos().unwrap_or("NONE".to_owned()))
            .ok_or("no such alarm")?;
        let member_id = args.next_pos().unwrap_or("0".to_owned()).parse()?;
        let request = pb::AlarmRequest { action: action.into(), member_id, alarm: alarm.into() };
        let (api, metadata) = (Arc::clone(&self.world.api), self.metadata);
        let response = self.world.run(api.alarm(request, metadata))?;
        let alarms = response.alarms.iter().map(|a| format!("{:x} {}", a.member_id, a.alarm().as_str_name()));
        Ok(format!("{:?}", alarms.collect::<Vec<_>>()))
    }

    /// `health`, `health NOSPACE` to leave an alarm out, `health serializable`.
    fn health(&mut self, args: &mut Args) -> Output {
        let mut query = HealthQuery::default();
        while let Some(word) = args.next_pos() {
            match word.as_str() {
                "serializable" => query.serializable = true,
                alarm => query.exclude.push(alarm.to_owned()),
            }
        }
        let api = Arc::clone(&self.world.api);
        Ok(match self.world.run(api.health(&query)) {
            Ok(()) => "healthy".to_owned(),
            Err(reason) => reason,
        })
    }

    fn wait(&mut self, args: &mut Args) -> Output {
        let seconds = args.next_pos().ok_or("how long?")?.parse()?;
        self.world.wait(seconds);
        Ok(String::new())
    }
}

// --- From words to requests ---

/// Arguments that have not been used, of a command or of an operation within one.
struct Args(Vec<Argument>);

impl Args {
    fn next_pos(&mut self) -> Option<String> {
        let place = self.0.iter().position(|arg| matches!(arg, Argument::Positional(_)))?;
        match self.0.remove(place) {
            Argument::Positional(value) => Some(value),
            other => unreachable!("{other} was positional"),
        }
    }

    fn next_key(&mut self) -> Option<(String, String)> {
        let place = self.0.iter().position(|arg| matches!(arg, Argument::KeyValue(..)))?;
        match self.0.remove(place) {
            Argument::KeyValue(key, value) => Some((key, value)),
            other => unreachable!("{other} had a key"),
        }
    }
}

fn bytes(word: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(word.as_bytes())
}

/// The key and the end of the range that words which are no flags stand for.
fn range_of(words: Vec<String>) -> (bytes::Bytes, bytes::Bytes) {
    let mut words = words.iter().map(|word| bytes(word));
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// `get a c`, then `limit=1`, `rev=5`, `sort=3` (a target), `order=2`, `min_mod=4`, `keys_only`, `count_only`,
/// `serializable`.
fn range_request(args: &mut Args) -> Result<pb::RangeRequest, Box<dyn Error>> {
    let mut request = pb::RangeRequest::default();
    while let Some((name, value)) = args.next_key() {
        match name.as_str() {
            "limit" => request.limit = value.parse()?,
            "rev" => request.revision = value.parse()?,
            "sort" => request.sort_target = value.parse()?,
            "order" => request.sort_order = value.parse()?,
            "min_mod" => request.min_mod_revision = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let mut range = vec![];
    while let Some(word) = args.next_pos() {
        match word.as_str() {
            "keys_only" => request.keys_only = true,
            "count_only" => request.count_only = true,
            "serializable" => request.serializable = true,
            _ => range.push(word),
        }
    }
    (request.key, request.range_end) = range_of(range);
    Ok(request)
}

/// `put a=1`, then `lease=5`, `prev`, `ignore_value`, `ignore_lease`.
fn put_request(args: &mut Args) -> Result<pb::PutRequest, Box<dyn Error>> {
    let (key, value) = args.next_key().ok_or("which key?")?;
    let mut request = pb::PutRequest { key: bytes(&key), value: bytes(&value), ..Default::default() };
    while let Some((name, value)) = args.next_key() {
        match name.as_str() {
            "lease" => request.lease = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    while let Some(word) = args.next_pos() {
        match word.as_str() {
            "prev" => request.prev_kv = true,
            "ignore_value" => request.ignore_value = true,
            "ignore_lease" => request.ignore_lease = true,
            _ => return Err(format!("unknown flag {word}").into()),
        }
    }
    Ok(request)
}

/// `del a c`, then `prev`.
fn delete_request(args: &mut Args) -> Result<pb::DeleteRangeRequest, Box<dyn Error>> {
    let mut request = pb::DeleteRangeRequest::default();
    let mut range = vec![];
    while let Some(word) = args.next_pos() {
        match word.as_str() {
            "prev" => request.prev_kv = true,
            _ => range.push(word),
        }
    }
    (request.key, request.range_end) = range_of(range);
    Ok(request)
}

/// An operation of a transaction, written as one quoted word.
fn operation_of(text: &str) -> Result<pb::RequestOp, Box<dyn Error>> {
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default();
    let argument = |word: &str| match word.split_once('=') {
        Some((key, value)) => Argument::KeyValue(key.to_owned(), value.to_owned()),
        None => Argument::Positional(word.to_owned()),
    };
    let mut args = Args(words.map(argument).collect());
    let request = match name {
        "get" => request_op::Request::RequestRange(range_request(&mut args)?),
        "put" => request_op::Request::RequestPut(put_request(&mut args)?),
        "del" => request_op::Request::RequestDeleteRange(delete_request(&mut args)?),
        _ => return Err(format!("unknown operation {name}").into()),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

// --- From responses to words ---

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn show_header(header: Option<&pb::ResponseHeader>) -> String {
    match header {
        None => "no header".to_owned(),
        // Inner answers of a transaction have the revision only.
        Some(header) if header.member_id == 0 => format!("rev={}", header.revision),
        Some(header) => format!("rev={} term={}", header.revision, header.raft_term),
    }
}

fn show_members(header: Option<&pb::ResponseHeader>, members: &[pb::Member]) -> String {
    let line = |m: &pb::Member| {
        let learner = if m.is_learner { " learner" } else { "" };
        format!("{:x} name={:?} peers={:?} clients={:?}{learner}", m.id, m.name, m.peer_ur_ls, m.client_ur_ls)
    };
    std::iter::once(show_header(header)).chain(members.iter().map(line)).collect::<Vec<_>>().join("\n")
}

fn show_kv(kv: &mvccpb::KeyValue) -> String {
    let lease = if kv.lease == 0 { String::new() } else { format!(" lease={}", kv.lease) };
    let (create, modified, version) = (kv.create_revision, kv.mod_revision, kv.version);
    format!("{}={} create={create} mod={modified} version={version}{lease}", text(&kv.key), text(&kv.value))
}

fn show_range(response: &pb::RangeResponse) -> String {
    let more = if response.more { " more" } else { "" };
    let head = format!("{} count={}{more}", show_header(response.header.as_ref()), response.count);
    std::iter::once(head).chain(response.kvs.iter().map(show_kv)).collect::<Vec<_>>().join("\n")
}

fn show_put(response: &pb::PutResponse) -> String {
    let previous = response.prev_kv.as_ref().map(|kv| format!(" before: {}", show_kv(kv)));
    format!("{}{}", show_header(response.header.as_ref()), previous.unwrap_or_default())
}

fn show_delete(response: &pb::DeleteRangeResponse) -> String {
    let head = format!("{} deleted={}", show_header(response.header.as_ref()), response.deleted);
    std::iter::once(head).chain(response.prev_kvs.iter().map(show_kv)).collect::<Vec<_>>().join("\n")
}

fn show_txn(response: &pb::TxnResponse) -> String {
    let mut output = format!("{} succeeded={}", show_header(response.header.as_ref()), response.succeeded);
    for operation in &response.responses {
        let shown = match operation.response.as_ref().expect("every operation is answered") {
            response_op::Response::ResponseRange(range) => format!("get {}", show_range(range)),
            response_op::Response::ResponsePut(put) => format!("put {}", show_put(put)),
            response_op::Response::ResponseDeleteRange(delete) => format!("del {}", show_delete(delete)),
            response_op::Response::ResponseTxn(txn) => format!("txn {}", show_txn(txn)),
        };
        output.push('\n');
        output.push_str(&shown);
    }
    output
}

fn show_watch(response: &pb::WatchResponse) -> String {
    let mut output = format!("{} {}", response.watch_id, show_header(response.header.as_ref()));
    for (flag, name) in
        [(response.created, "created"), (response.canceled, "canceled"), (response.fragment, "fragment")]
    {
        if flag {
            output.push(' ');
            output.push_str(name);
        }
    }
    if response.compact_revision != 0 {
        output.push_str(&format!(" compacted={}", response.compact_revision));
    }
    if !response.cancel_reason.is_empty() {
        output.push_str(&format!(" reason={:?}", response.cancel_reason));
    }
    for event in &response.events {
        let kv = event.kv.as_ref().map(show_kv).unwrap_or_default();
        output.push_str(&format!("\n  {} {kv}", event.r#type().as_str_name()));
        if let Some(previous) = &event.prev_kv {
            output.push_str(&format!(" before: {}", show_kv(previous)));
        }
    }
    output
}
