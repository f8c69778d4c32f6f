//! `quoratectl endpoint …` and `move-leader`: every endpoint asked by itself, with etcdctl's output.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use quorate_client::proto::etcdserverpb as pb;
use quorate_client::{Client, Error, Options};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Format, Header, human_bytes, is_default, print, print_json};
use crate::recording;

/// Endpoints.
#[derive(Args, Debug)]
pub struct EndpointArguments {
    #[command(subcommand)]
    command: EndpointCommand,
    /// Ask every member of the cluster, at the addresses that the member list has.
    #[arg(long, global = true)]
    cluster: bool,
    /// How to print the result.
    #[arg(short = 'w', long, global = true, value_enum, default_value = "simple", value_name = "FORMAT")]
    write_out: Format,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// Who each endpoint is, who leads, how far the log is.
    Status,
    /// Whether each endpoint answers a linearizable read.
    Health,
    /// Have each endpoint write down what its flight recorder holds, for `quorate-sim replay-node` (Quorate only). Prints the
    /// names of the files, on the members' machines.
    FlightRecording,
}

/// Carries out a command and prints to standard output.
pub async fn run(arguments: EndpointArguments, client: &Client, options: Options) -> Result<(), Failure> {
    let everybody;
    let client = if arguments.cluster {
        everybody = Client::new(client_urls(client).await?, options)?;
        &everybody
    } else {
        client
    };
    match arguments.command {
        EndpointCommand::Status => status(arguments.write_out, client).await,
        EndpointCommand::Health => health(arguments.write_out, client).await,
        EndpointCommand::FlightRecording => {
            recording::run(arguments.write_out, client, options.request_timeout).await
        }
    }
}

/// Where the members say that clients reach them.
async fn client_urls(client: &Client) -> Result<Vec<String>, Failure> {
    let members = client.member_list(true).await?.members;
    let failure = "no member has said where clients reach it";
    let urls: Vec<String> = members.into_iter().flat_map(|member| member.client_ur_ls).collect();
    if urls.is_empty() { Err(Failure::error(failure)) } else { Ok(urls) }
}

async fn status(format: Format, client: &Client) -> Result<(), Failure> {
    const TITLES: [&str; 10] = [
        "ENDPOINT",
        "ID",
        "VERSION",
        "DB SIZE",
        "IS LEADER",
        "IS LEARNER",
        "RAFT TERM",
        "RAFT INDEX",
        "RAFT APPLIED INDEX",
        "ERRORS",
    ];
    let answers = ask_each(client, |client| async move { client.status().await }).await;
    let mut reached = Vec::new();
    let mut failed = 0;
    for (endpoint, answer, _) in answers {
        match answer {
            Ok(status) => reached.push((endpoint, status)),
            Err(error) => {
                eprintln!("Failed to get the status of endpoint {endpoint} ({error})");
                failed += 1;
            }
        }
    }
    let rows = || -> Vec<Vec<String>> { reached.iter().map(|(endpoint, it)| row(endpoint, it)).collect() };
    match format {
        Format::Simple => print(output::lines(&rows()).as_bytes())?,
        Format::Table => print(output::table(&TITLES, &rows()).as_bytes())?,
        Format::Json => {
            let all: Vec<Endpoint> = reached
                .into_iter()
                .map(|(endpoint, status)| Endpoint { endpoint, status: status.into() })
                .collect();
            print_json(&all)?;
        }
    }
    if failed == 0 { Ok(()) } else { Err(Failure::error("not every endpoint has answered")) }
}

fn row(endpoint: &str, status: &pb::StatusResponse) -> Vec<String> {
    let id = status.header.unwrap_or_default().member_id;
    vec![
        endpoint.to_owned(),
        format!("{id:x}"),
        status.version.clone(),
        human_bytes(status.db_size),
        (status.leader == id).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
    ]
}

async fn health(format: Format, client: &Client) -> Result<(), Failure> {
    let answers = ask_each(client, |client| async move { is_healthy(&client).await }).await;
    let healths: Vec<Health> = answers
        .into_iter()
        .map(|(endpoint, answer, took)| Health {
            endpoint,
            health: answer.is_ok(),
            took: format!("{took:?}"),
            error: answer.err().unwrap_or_default(),
        })
        .collect();
    match format {
        Format::Simple => {
            for health in &healths {
                let Health { endpoint, took, error, .. } = health;
                if health.health {
                    let text =
                        format!("{endpoint} is healthy: successfully committed proposal: took = {took}\n");
                    print(text.as_bytes())?;
                } else {
                    eprintln!("{endpoint} is unhealthy: failed to commit proposal: {error}");
                }
            }
        }
        Format::Table => {
            let row = |it: &Health| {
                vec![it.endpoint.clone(), it.health.to_string(), it.took.clone(), it.error.clone()]
            };
            let rows: Vec<Vec<String>> = healths.iter().map(row).collect();
            print(output::table(&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], &rows).as_bytes())?;
        }
        Format::Json => print_json(&healths)?,
    }
    let healthy = healths.iter().all(|health| health.health);
    if healthy { Ok(()) } else { Err(Failure::error("unhealthy cluster")) }
}

/// A linearizable read of a key of any name, and no alarm.
async fn is_healthy(client: &Client) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    client
        .range(pb::RangeRequest { key: "health".into(), keys_only: true, ..Default::default() })
        .await
        .map_err(text)?;
    let alarms = client.alarms().await.map_err(text)?.alarms;
    let active: Vec<&str> = alarms.iter().map(|alarm| alarm.alarm().as_str_name()).collect();
    if active.is_empty() { Ok(()) } else { Err(format!("Active Alarm(s): {}", active.join(", "))) }
}

/// Asks all endpoints at once. Answers come in the order of the endpoints, with the time that each took.
async fn ask_each<T, E, F>(
    client: &Client,
    ask: impl Fn(Client) -> F,
) -> Vec<(String, Result<T, E>, Duration)>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let asked: Vec<_> = client
        .each()
        .map(|(endpoint, client)| {
            let answer = timed(ask(client));
            (endpoint.to_owned(), tokio::spawn(answer))
        })
        .collect();
    let mut answers = Vec::new();
    for (endpoint, answer) in asked {
        let (answer, took) = answer.await.expect("asking does not panic");
        answers.push((endpoint, answer, took));
    }
    answers
}

#[expect(clippy::disallowed_methods, reason = "how long a person waits is real time")]
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let output = future.await;
    (output, start.elapsed())
}

/// Hands leadership to a member.
pub async fn move_leader(target: u64, client: &Client) -> Result<(), Failure> {
    let answers = ask_each(client, |client| async move { client.status().await }).await;
    let mut endpoints = Vec::new();
    for ((endpoint, answer, _), (_, client)) in answers.into_iter().zip(client.each()) {
        match answer {
            Ok(status)
                if status.leader != 0 && status.header.unwrap_or_default().member_id == status.leader =>
            {
                client.move_leader(target).await?;
                let text = format!("Leadership transferred from {:x} to {target:x}\n", status.leader);
                return print(text.as_bytes());
            }
            Ok(_) => endpoints.push(endpoint),
            Err(error) => endpoints.push(format!("{endpoint}: {error}")),
        }
    }
    Err(Failure::arguments(format!("no leader endpoint given at [{}]", endpoints.join(" "))))
}

/// An endpoint's health in JSON.
#[derive(Serialize)]
struct Health {
    endpoint: String,
    health: bool,
    took: String,
    #[serde(skip_serializing_if = "is_default")]
    error: String,
}

/// An endpoint's status in JSON.
#[derive(Serialize)]
struct Endpoint {
    #[serde(rename = "Endpoint")]
    endpoint: String,
    #[serde(rename = "Status")]
    status: Status,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "is_default")]
    version: String,
    #[serde(skip_serializing_if = "is_default")]
    db_size: i64,
    #[serde(skip_serializing_if = "is_default")]
    leader: u64,
    #[serde(skip_serializing_if = "is_default")]
    raft_index: u64,
    #[serde(skip_serializing_if = "is_default")]
    raft_term: u64,
    #[serde(skip_serializing_if = "is_default")]
    raft_applied_index: u64,
    #[serde(skip_serializing_if = "is_default")]
    errors: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    db_size_in_use: i64,
    #[serde(skip_serializing_if = "is_default")]
    is_learner: bool,
    #[serde(skip_serializing_if = "is_default")]
    storage_version: String,
    #[serde(skip_serializing_if = "is_default")]
    db_size_quota: i64,
}

impl From<pb::StatusResponse> for Status {
    fn from(status: pb::StatusResponse) -> Self {
        Self {
            header: status.header.map(Header::from),
            version: status.version,
            db_size: status.db_size,
            leader: status.leader,
            raft_index: status.raft_index,
            raft_term: status.raft_term,
            raft_applied_index: status.raft_applied_index,
            errors: status.errors,
            db_size_in_use: status.db_size_in_use,
            is_learner: status.is_learner,
            storage_version: status.storage_version,
            db_size_quota: status.db_size_quota,
        }
    }
}
