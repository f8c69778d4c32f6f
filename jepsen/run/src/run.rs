//! One run, from the first process to the verdict.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use quorate_client::{Client as Wire, Options as WireOptions};
use quorate_jepsen::Verdict;
use quorate_jepsen::etcd::{Keys, Range, Request, Store};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::converge::{self, Compared};
use crate::folder;
use crate::judge::{self, Check};
use crate::live::Live;
use crate::local::{Layout, Local, Shared};
use crate::nemesis::{self, Nemesis, Plan};
use crate::options::Options;
use crate::record::{Recorder, Seen};
use crate::workload::{self, Context, Workload};

/// Exit codes.
pub const VALID: u8 = 0;
const INVALID: u8 = 1;
const UNKNOWN: u8 = 2;
/// The run could not be made.
pub const BAD_INPUT: u8 = 3;

/// Makes the run that the options ask for. Gives the exit code.
pub async fn run(options: &Options) -> Result<u8, String> {
    let seed = options.seed.unwrap_or_else(fresh_seed);
    let name = options.workload.name();
    let folder =
        folder::make(options.out.as_deref(), name).map_err(|error| format!("the folder: {error}"))?;
    let mut random = StdRng::seed_from_u64(seed);
    let cluster = start(options, &folder).await?;
    let endpoints = match &cluster {
        Some(local) => local.lock().await.endpoints(),
        None => options.endpoints.clone(),
    };
    let timeout = options.request_timeout();
    let limits = WireOptions { dial_timeout: timeout.min(Duration::from_secs(1)), request_timeout: timeout };
    let wire = Wire::new(&endpoints, limits).map_err(|error| error.to_string())?;
    let recorder = Arc::new(Recorder::new(Duration::from_secs_f64(options.time)));
    let observer = Client::new(wire.clone(), OBSERVER, 1, Arc::clone(&recorder));
    let initial = judge::initial_state(&observer).await?;
    let run = Run { observer, options, folder, recorder, initial, context: Arc::new(context(options)) };
    let (checks, seen, notes) = run.perform(&wire, cluster, &mut random).await?;
    run.finish(seed, &checks, &seen, &notes)
}

/// A run without a seed differs from the last one; it prints its seed.
fn fresh_seed() -> u64 {
    RandomState::new().hash_one(())
}

async fn start(options: &Options, folder: &Path) -> Result<Option<Shared>, String> {
    let Some(program) = options.local else { return Ok(None) };
    let has = |nemesis| options.nemesis.contains(&nemesis);
    let layout = Layout {
        members: usize::from(options.members),
        with_network: has(Nemesis::Partition),
        with_disks: has(Nemesis::Disk),
        with_spare: has(Nemesis::Members),
    };
    let local = Local::start(program, options.binary.as_deref(), layout, folder).await;
    Ok(Some(Arc::new(Mutex::new(local.map_err(|error| error.to_string())?))))
}

fn context(options: &Options) -> Context {
    let mut context = Context::new(options.workload, options.keys, options.pause());
    context.serializable = options.serializable;
    context.fenced = options.fenced;
    context.ttl = options.ttl;
    context.value_size = options.value_size;
    context.wrong_clocks = options.nemesis.contains(&Nemesis::Clock);
    context
}

struct Run<'o> {
    /// Asks whatever member answers.
    observer: Client,
    options: &'o Options,
    folder: PathBuf,
    recorder: Arc<Recorder>,
    initial: Store,
    context: Arc<Context>,
}

impl Run<'_> {
    /// Load, faults and checks until the time is over.
    async fn perform(
        &self,
        wire: &Wire,
        cluster: Option<Shared>,
        random: &mut StdRng,
    ) -> Result<(Vec<Check>, Seen, Vec<String>), String> {
        let workers = self.start_workers(wire, random);
        let tormentor = cluster.as_ref().map(|local| self.start_nemesis(local, random));
        let (members, context) = (each(wire), Arc::clone(&self.context));
        let comparer = tokio::spawn(async move { converge::compare(members, &context).await });
        let live = self.follow().await?;
        self.context.stop();
        workers.join_all().await;
        let mut compared = comparer.await.map_err(|error| error.to_string())?;
        let notes = match tormentor {
            Some(task) => {
                task.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?
            }
            None => Vec::new(),
        };
        let recovered = self.recover(cluster.as_ref(), wire, &mut compared).await?;
        let seen = self.recorder.take();
        folder::append_history(&self.folder, &seen.etcd).map_err(|error| format!("the history: {error}"))?;
        let (seen, mut checks) = match live {
            None => {
                let checks = judge::judge_all(&seen, &self.initial, &self.context);
                (seen, checks)
            }
            Some(live) => {
                folder::append_named(&self.folder, &seen.named)
                    .map_err(|error| format!("the operations: {error}"))?;
                (Seen::default(), live.conclude(seen))
            }
        };
        checks.extend([recovered, compared.check()]);
        // The members' processes end here, before anybody waits for the report.
        drop(cluster);
        Ok((checks, seen, notes))
    }

    /// Each client talks to one member.
    fn start_workers(&self, wire: &Wire, random: &mut StdRng) -> JoinSet<()> {
        let members = each(wire);
        let clients = u64::from(self.options.clients);
        let mut workers = JoinSet::new();
        for number in 0..clients {
            let member = members[number as usize % members.len()].clone();
            let client = Client::new(member, number, clients, Arc::clone(&self.recorder));
            let (random, context) = (StdRng::seed_from_u64(random.random()), Arc::clone(&self.context));
            workers.spawn(async move { workload::work(client, random, &context).await });
        }
        if self.options.workload == Workload::Watch {
            let from = self.initial.revision() + 1;
            for (number, member) in members.into_iter().enumerate() {
                let (recorder, context) = (Arc::clone(&self.recorder), Arc::clone(&self.context));
                workers.spawn(async move {
                    workload::watch(number as u64, member, &recorder, &context, from).await;
                });
            }
        }
        workers
    }

    /// The end, when nobody works and nothing is wrong any more.
    async fn recover(
        &self,
        cluster: Option<&Shared>,
        wire: &Wire,
        compared: &mut Compared,
    ) -> Result<Check, String> {
        let recovered = match cluster {
            Some(local) => converge::recovered(Some(&mut *local.lock().await), wire, compared).await,
            None => converge::recovered(None, wire, compared).await,
        };
        recovered.map_err(|error| error.to_string())
    }

    fn start_nemesis(
        &self,
        local: &Shared,
        random: &mut StdRng,
    ) -> tokio::task::JoinHandle<Result<Vec<String>, crate::local::LocalError>> {
        let interval = Duration::from_secs_f64(self.options.interval);
        let plan = Plan { kinds: self.options.nemesis.clone(), interval };
        let random = StdRng::seed_from_u64(random.random());
        let (local, recorder, context) =
            (Arc::clone(local), Arc::clone(&self.recorder), Arc::clone(&self.context));
        tokio::spawn(async move { nemesis::torment(&local, &plan, random, &recorder, &context).await })
    }

    /// Shows progress until the time is over, somebody interrupts, or a live check fails.
    async fn follow(&self) -> Result<Option<Live>, String> {
        let bar = progress(self.options.time);
        let options = || judge::options(&self.initial, &self.context);
        let aside = || self.folder.join("unknown.jsonl");
        let mut live = self.options.verify_live.map(|_| Live::new(options(), &self.context, aside()));
        let window = Duration::from_secs_f64(self.options.verify_live.unwrap_or(1e7));
        let (begun, mut checked) = (self.recorder.elapsed(), self.recorder.elapsed());
        let mut goes_on = true;
        let interrupted = interrupted();
        tokio::pin!(interrupted);
        while goes_on {
            let elapsed = self.recorder.elapsed() - begun;
            if elapsed.as_secs_f64() >= self.options.time {
                break;
            }
            tokio::select! {
                _ = &mut interrupted => break,
                () = tokio::time::sleep(TICK) => {}
            }
            bar.set_position(elapsed.as_secs());
            bar.set_message(self.progress_line(elapsed, live.as_ref()));
            if let Some(live) = &mut live
                && self.recorder.elapsed() - checked >= window
            {
                goes_on = self.judge_part(live).await?;
                checked = self.recorder.elapsed();
            }
        }
        bar.finish_and_clear();
        Ok(live)
    }

    /// Judges what is over by now, with everything that is there as it was read last. False if that is enough.
    async fn judge_part(&self, live: &mut Live) -> Result<bool, String> {
        let everything = Request::Range(Range::of(Keys::all()));
        self.observer.ask(everything).await;
        let (seen, now) = self.recorder.take_over();
        folder::append_history(&self.folder, &seen.etcd).map_err(|error| format!("the history: {error}"))?;
        folder::append_named(&self.folder, &seen.named)
            .map_err(|error| format!("the operations: {error}"))?;
        Ok(live.judge(seen, now))
    }

    fn progress_line(&self, elapsed: Duration, live: Option<&Live>) -> String {
        let [answered, unknown, refused] = self.recorder.counts();
        let rate = (answered + refused) as f64 / elapsed.as_secs_f64().max(0.1);
        let live = live.map_or(String::new(), |live| format!(", {}", live.progress()));
        let faults = self.recorder.current_faults();
        let faults = if faults.is_empty() { String::new() } else { format!(" | {faults}") };
        format!("{answered} answered ({rate:.0}/s), {unknown} unknown, {refused} refused{live}{faults}")
    }

    /// Writes the folder, prints the verdicts, gives the exit code.
    fn finish(&self, seed: u64, checks: &[Check], seen: &Seen, notes: &[String]) -> Result<u8, String> {
        let bands = self.recorder.bands();
        let [answered, unknown, refused] = self.recorder.counts();
        let summary = serde_json::json!({
            "workload": self.options.workload.name(), "seed": seed, "seconds": self.options.time,
            "answered": answered, "unknown": unknown, "refused": refused, "faults": bands.len(),
            "checks": checks.iter().map(folder::summary).collect::<Vec<_>>(), "notes": notes,
        });
        folder::write(&self.folder, seen, &bands, &self.recorder.timeline(), &summary)
            .and_then(|()| folder::write_pages(&self.folder, checks, &bands))
            .map_err(|error| format!("cannot write to {}: {error}", self.folder.display()))?;
        let name = self.options.workload.name();
        println!(
            "{name}: {answered} answered, {unknown} unknown, {refused} refused, {} faults, seed {seed}",
            bands.len()
        );
        notes.iter().for_each(|note| println!("  note: {note}"));
        for check in checks {
            let verdict = match &check.verdict {
                Verdict::Valid => "valid  ",
                Verdict::Invalid(_) => "INVALID",
                Verdict::Unknown(_) => "unknown",
            };
            println!("  {verdict} {}", check.name);
            check.why.iter().for_each(|line| println!("          {line}"));
            let skipped = check.evidence.len().saturating_sub(EVIDENCE_SHOWN);
            check.evidence[skipped..].iter().for_each(|line| println!("          {line}"));
        }
        println!("  everything is in {}", self.folder.display());
        Ok(exit_code(checks))
    }
}

/// A client for each member alone.
fn each(wire: &Wire) -> Vec<Wire> {
    wire.each().map(|(_, member)| member).collect()
}

/// Somebody wants the run to end: it is judged then, and members do not outlive it.
async fn interrupted() {
    let terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let Ok(mut terminated) = terminated else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

/// A refutation outweighs a doubt.
fn exit_code(checks: &[Check]) -> u8 {
    let any = |matches: fn(&Verdict) -> bool| checks.iter().any(|check| matches(&check.verdict));
    if any(Verdict::is_invalid) {
        INVALID
    } else if any(|verdict| matches!(verdict, Verdict::Unknown(_))) {
        UNKNOWN
    } else {
        VALID
    }
}

/// A bar for people; hidden unless somebody watches.
fn progress(seconds: f64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} s {wide_msg}");
    ProgressBar::new(seconds as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The number of the client that is not one of the load.
const OBSERVER: u64 = 2_000_000;
/// How often progress is shown.
const TICK: Duration = Duration::from_millis(200);
/// How many operations are printed as evidence.
const EVIDENCE_SHOWN: usize = 12;
