//! Two servers, the same workloads, in turn: `quoratectl bench compare`.
//!
//! It starts nothing by itself. Each workload runs A B A B …, and the table shows medians, so that a change of the
//! machine's mood in the middle meets both.

use std::time::Duration;

use clap::Args;

use super::execute;
use super::options::{Consistency, LeaseOperation, LoadOptions, Plan, Workload, parse_duration};
use super::report::Report;
use crate::failure::Failure;
use crate::output;

/// The flags of `quoratectl bench compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// The first server: a name and its endpoints, such as quorate=127.0.0.1:2379,127.0.0.1:22379
    #[arg(long, value_name = "NAME=ENDPOINT,...", value_parser = Side::parse)]
    a: Side,

    /// The second server.
    #[arg(long, value_name = "NAME=ENDPOINT,...", value_parser = Side::parse)]
    b: Side,

    /// Process ids of the first server's members.
    #[arg(long, value_delimiter = ',', value_name = "PID,...")]
    a_pids: Vec<u32>,

    /// Process ids of the second server's members.
    #[arg(long, value_delimiter = ',', value_name = "PID,...")]
    b_pids: Vec<u32>,

    /// Workloads, each with its requests in flight: put, get, get-s (serializable), range, txn, watch, lease-grant,
    /// lease-keep-alive, mixed.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "WORKLOAD:IN_FLIGHT,...",
        default_value = "put:1,put:64,put:1000,get:64,get:1000,txn:64,mixed:64",
        value_parser = Case::parse
    )]
    workloads: Vec<Case>,

    /// How often each server runs each workload.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// The load of each run; in-flight, json and pids are those of the comparison.
    #[command(flatten)]
    load: LoadOptions,
}

#[derive(Clone, Debug)]
struct Side {
    name: String,
    endpoints: Vec<String>,
}

impl Side {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, endpoints) = text.split_once('=').ok_or("expected NAME=ENDPOINT,ENDPOINT,...")?;
        let endpoints = endpoints.split(',').map(str::to_owned).collect();
        Ok(Self { name: name.to_owned(), endpoints })
    }
}

#[derive(Clone, Debug)]
struct Case {
    name: String,
    workload: Workload,
    consistency: Consistency,
    lease_operation: LeaseOperation,
    in_flight: u32,
}

impl Case {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, in_flight) = text.split_once(':').ok_or("expected WORKLOAD:IN_FLIGHT, such as put:64")?;
        let in_flight = in_flight.parse().ok().filter(|count| (1..=1_000_000).contains(count));
        let in_flight = in_flight.ok_or("the requests in flight are a number from 1 to 1000000")?;
        let (mut consistency, mut lease_operation) = (Consistency::Linearizable, LeaseOperation::KeepAlive);
        let workload = match name {
            "put" => Workload::Put,
            "get" => Workload::Get,
            "get-s" => {
                consistency = Consistency::Serializable;
                Workload::Get
            }
            "range" => Workload::Range,
            "txn" => Workload::Txn,
            "watch" => Workload::Watch,
            "lease-grant" => {
                lease_operation = LeaseOperation::Grant;
                Workload::LeaseGrant
            }
            "lease-keep-alive" => Workload::LeaseKeepAlive,
            "mixed" => Workload::Mixed,
            _ => return Err(format!("unknown workload {name:?}")),
        };
        Ok(Self { name: name.to_owned(), workload, consistency, lease_operation, in_flight })
    }
}

/// Carries out the comparison and prints a Markdown table.
pub fn run(options: &CompareOptions) -> Result<(), Failure> {
    if options.load.json || !options.load.server_pids.is_empty() {
        return Err(Failure::arguments("compare prints a table and takes --a-pids and --b-pids instead"));
    }
    let with_cpu = !options.a_pids.is_empty() && !options.b_pids.is_empty();
    output::print(heading(&options.a.name, &options.b.name, with_cpu).as_bytes())?;
    for case in &options.workloads {
        let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
        for round in 1..=options.rounds {
            for (side, pids, reports) in
                [(&options.a, &options.a_pids, &mut of_a), (&options.b, &options.b_pids, &mut of_b)]
            {
                let report = run_case(case, side, pids, &options.load)?;
                eprintln!("{} round {round}: {}", side.name, report.text().trim_end());
                reports.push(report);
            }
        }
        let row = row(case, &Medians::of(&of_a), &Medians::of(&of_b), with_cpu);
        output::print(format!("{row}\n").as_bytes())?;
    }
    Ok(())
}

fn run_case(case: &Case, side: &Side, pids: &[u32], load: &LoadOptions) -> Result<Report, Failure> {
    let mut load = load.clone();
    load.in_flight = case.in_flight;
    load.consistency = case.consistency;
    load.lease_operation = case.lease_operation;
    load.server_pids = pids.to_vec();
    if load.total.is_none() && load.warm_up.is_zero() {
        load.warm_up = Duration::from_millis(500);
    }
    if load.duration.is_none() && load.total.is_none() {
        load.duration = parse_duration("5s").ok();
    }
    let plan = Plan::new(case.workload, &side.endpoints, &load)?;
    let report = execute(&plan, &load)?;
    match report.errors.first_key_value() {
        None => Ok(report),
        // Figures with failures in them compare nothing.
        Some((text, count)) => {
            Err(Failure::error(format!("{} {}: {count} × {text}", side.name, plan.workload.name())))
        }
    }
}

/// The middle of each figure over all rounds.
struct Medians {
    per_second: f64,
    p99: f64,
    cpu: f64,
}

impl Medians {
    fn of(reports: &[Report]) -> Self {
        let cpu = |report: &Report| report.servers.map_or(0.0, |servers| servers.cpu_seconds_per_100k);
        Self {
            per_second: median(reports.iter().map(Report::units_per_second).collect()),
            p99: median(reports.iter().map(|report| report.unit_latency().p99).collect()),
            cpu: median(reports.iter().map(cpu).collect()),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

fn heading(a: &str, b: &str, with_cpu: bool) -> String {
    let mut columns = vec![
        "workload".to_owned(),
        "in flight".to_owned(),
        format!("{a} ops/s"),
        format!("{b} ops/s"),
        "ratio".to_owned(),
        format!("{a} p99 ms"),
        format!("{b} p99 ms"),
    ];
    if with_cpu {
        columns.extend([format!("{a} CPU-s per 100k"), format!("{b} CPU-s per 100k"), "ratio".to_owned()]);
    }
    let rule = columns.iter().enumerate().map(|(at, _)| if at == 0 { "---" } else { "---:" });
    format!("| {} |\n| {} |\n", columns.join(" | "), rule.collect::<Vec<_>>().join(" | "))
}

fn row(case: &Case, a: &Medians, b: &Medians, with_cpu: bool) -> String {
    let mut columns = vec![
        case.name.clone(),
        thousands(f64::from(case.in_flight)),
        thousands(a.per_second),
        thousands(b.per_second),
        format!("{:.1}", a.per_second / b.per_second),
        format!("{:.1}", a.p99),
        format!("{:.1}", b.p99),
    ];
    if with_cpu {
        columns.extend([format!("{:.2}", a.cpu), format!("{:.2}", b.cpu), format!("{:.2}", a.cpu / b.cpu)]);
    }
    format!("| {} |", columns.join(" | "))
}

/// A rounded number with commas between its thousands.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.6), "1,000");
        assert_eq!(thousands(12.0), "12");
    }

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn cases() {
        assert_eq!(
            Case::parse("get-s:7").map(|case| (case.consistency, case.in_flight)),
            Ok((Consistency::Serializable, 7))
        );
        for wrong in ["put", "put:", "put:0", "puts:1", ":1"] {
            assert!(Case::parse(wrong).is_err(), "{wrong}");
        }
    }
}
