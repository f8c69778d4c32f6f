//! The result of a run, for people and as JSON.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::options::Plan;
use super::process::Usage;
use super::tally::Tally;

/// The result of one run. Its fields are the JSON output.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The workload's name.
    pub workload: &'static str,
    /// Requests in flight, at most.
    pub in_flight: u32,
    /// Connections over all endpoints.
    pub connections: u32,
    /// Requests per second that were to be started, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Seconds that were measured.
    pub seconds: f64,
    /// Calls that were answered without an error.
    pub operations: u64,
    /// Those per second.
    pub operations_per_second: f64,
    /// From the start of a call, or the moment it was due, to its answer.
    pub latency_ms: Latency,
    /// What watchers received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Events>,
    /// Compare-and-swaps that found another revision than expected.
    pub conflicts: u64,
    /// Gets that found nothing.
    pub missing: u64,
    /// Failed calls by error.
    pub errors: std::collections::BTreeMap<String, u64>,
    /// What the servers used, if their process ids were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<Consumption>,
    /// What the load generator used.
    pub load_generator: Consumption,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// What watchers received.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Events {
    /// How many.
    pub count: u64,
    /// Those per second.
    pub per_second: f64,
    /// From the start of the put to its event.
    pub latency_ms: Latency,
    /// Events that answered puts should have caused and that did not come.
    pub lost: u64,
}

/// CPU and memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Consumption {
    /// Seconds of CPU during the measurement.
    pub cpu_seconds: f64,
    /// Seconds of CPU per 100,000 operations, or per 100,000 events if watchers were measured.
    pub cpu_seconds_per_100k: f64,
    /// Resident memory at the end.
    pub resident_bytes: u64,
}

impl Consumption {
    /// The difference between two readings, which `count` operations or events share.
    pub fn between(before: Usage, after: Usage, count: u64) -> Self {
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        let cpu_seconds_per_100k = if count == 0 { 0.0 } else { cpu_seconds * 100_000.0 / count as f64 };
        Self { cpu_seconds, cpu_seconds_per_100k, resident_bytes: after.resident_bytes }
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let quantile = |q| milliseconds(histogram.value_at_quantile(q));
        Self {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: milliseconds(histogram.max()),
        }
    }
}

/// How long was measured, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// While calls were started, and until the last was answered if their number was given.
    pub calls: f64,
    /// Until the last event.
    pub events: f64,
}

impl Report {
    /// Puts figures to what was counted.
    pub fn new(plan: &Plan, tally: Tally, times: Times, events_lost: u64) -> Self {
        let seconds = times.calls;
        let operations = tally.latency.len();
        let events = (plan.workload == super::options::Workload::Watch).then(|| Events {
            count: tally.event_latency.len(),
            per_second: tally.event_latency.len() as f64 / times.events,
            latency_ms: Latency::of(&tally.event_latency),
            lost: events_lost,
        });
        Self {
            workload: plan.workload.name(),
            in_flight: plan.in_flight,
            connections: plan.connections,
            rate: plan.rate,
            seconds,
            operations,
            operations_per_second: operations as f64 / seconds,
            latency_ms: Latency::of(&tally.latency),
            events,
            conflicts: tally.conflicts,
            missing: tally.missing,
            errors: tally.errors,
            servers: None,
            load_generator: Consumption::between(Usage::default(), Usage::default(), 0),
        }
    }

    /// What CPU time is related to: events where watchers are measured, else operations.
    pub fn unit_count(&self) -> u64 {
        self.events.as_ref().map_or(self.operations, |events| events.count)
    }

    /// What was counted, per second.
    pub fn units_per_second(&self) -> f64 {
        self.events.as_ref().map_or(self.operations_per_second, |events| events.per_second)
    }

    /// The latency that goes with `units_per_second`.
    pub fn unit_latency(&self) -> Latency {
        self.events.as_ref().map_or(self.latency_ms, |events| events.latency_ms)
    }

    /// Several lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let open = self.rate.map_or(String::new(), |rate| format!(", open loop at {rate}/s"));
        writeln!(
            out,
            "{}: {} in flight on {} connections{open}, {:.1} s",
            self.workload, self.in_flight, self.connections, self.seconds
        )?;
        writeln!(out, "  operations    {} ({:.0}/s)", self.operations, self.operations_per_second)?;
        write_latency("latency", self.latency_ms, out)?;
        if let Some(events) = &self.events {
            writeln!(
                out,
                "  events        {} ({:.0}/s), {} lost",
                events.count, events.per_second, events.lost
            )?;
            write_latency("put to event", events.latency_ms, out)?;
        }
        if self.conflicts > 0 {
            writeln!(out, "  conflicts     {}", self.conflicts)?;
        }
        if self.missing > 0 {
            writeln!(out, "  not found     {}", self.missing)?;
        }
        if let Some(servers) = &self.servers {
            write_consumption("servers", servers, out)?;
        }
        write_consumption("this program", &self.load_generator, out)?;
        for (error, count) in &self.errors {
            writeln!(out, "  error         {count} × {error}")?;
        }
        Ok(())
    }
}

fn write_latency(name: &str, latency: Latency, out: &mut String) -> std::fmt::Result {
    let Latency { p50, p90, p99, p999, max } = latency;
    writeln!(
        out,
        "  {name:<13} p50 {p50:.3} ms, p90 {p90:.3} ms, p99 {p99:.3} ms, p99.9 {p999:.3} ms, max {max:.3} ms"
    )
}

fn write_consumption(name: &str, consumption: &Consumption, out: &mut String) -> std::fmt::Result {
    let Consumption { cpu_seconds, cpu_seconds_per_100k, resident_bytes } = consumption;
    let megabytes = *resident_bytes as f64 / 1e6;
    writeln!(
        out,
        "  {name:<13} {cpu_seconds:.2} CPU-s, {cpu_seconds_per_100k:.3} per 100k, {megabytes:.0} MB resident"
    )
}
