//! `quoratectl member …`: who belongs to the cluster, with etcdctl's output.

use clap::{Args, Subcommand};
use quorate_client::proto::etcdserverpb as pb;
use quorate_client::{Client, Error};
use serde::Serialize;
use tonic::Code;

use crate::failure::Failure;
use crate::output::{self, Format, Header, is_default, print, print_json};

/// Members.
#[derive(Args, Debug)]
pub struct MemberArguments {
    #[command(subcommand)]
    command: MemberCommand,
    /// How to print the result.
    #[arg(short = 'w', long, global = true, value_enum, default_value = "simple", value_name = "FORMAT")]
    write_out: Format,
}

#[derive(Debug, Subcommand)]
enum MemberCommand {
    /// All members, with their ids.
    List {
        /// Linearizable, or what the asked member knows.
        #[arg(long, value_enum, default_value = "l")]
        consistency: super::commands::Consistency,
    },
    /// Make room for a new member, and say how to start it.
    Add {
        /// Its name.
        name: String,
        /// Where the others will reach it: http://host:port,…
        #[arg(long, required = true, value_delimiter = ',', value_name = "URL,...")]
        peer_urls: Vec<String>,
        /// It gets all data and has no say, until it is promoted.
        #[arg(long)]
        learner: bool,
    },
    /// Remove a member for ever.
    Remove {
        #[command(flatten)]
        member: Id,
    },
    /// Change where the others reach a member.
    Update {
        #[command(flatten)]
        member: Id,
        /// http://host:port,…
        #[arg(long, required = true, value_delimiter = ',', value_name = "URL,...")]
        peer_urls: Vec<String>,
    },
    /// Make a learner a voter, when it has caught up.
    Promote {
        #[command(flatten)]
        member: Id,
    },
    /// Make a voter a learner (not in etcd).
    Demote {
        #[command(flatten)]
        member: Id,
    },
}

#[derive(Args, Debug)]
struct Id {
    /// The member's id in hexadecimal digits, as `member list` prints it.
    #[arg(value_name = "MEMBER_ID", value_parser = parse_id)]
    id: u64,
}

/// Reads a member's id.
pub fn parse_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16)
        .map_err(|_| "a member id is a hexadecimal number; `quoratectl member list` prints them".to_owned())
}

/// Carries out a command and prints to standard output.
pub async fn run(arguments: MemberArguments, client: &Client) -> Result<(), Failure> {
    let format = arguments.write_out;
    if format == Format::Table && !matches!(arguments.command, MemberCommand::List { .. }) {
        return Err(Failure::arguments("only `member list` prints a table"));
    }
    match arguments.command {
        MemberCommand::List { consistency } => {
            let response = client.member_list(consistency.is_linearizable()).await?;
            list(format, response)
        }
        MemberCommand::Add { name, peer_urls, learner } => {
            let response = client.member_add(peer_urls, learner).await.map_err(explained)?;
            added(format, &name, response)
        }
        MemberCommand::Remove { member: Id { id } } => {
            let response = client.member_remove(id).await?;
            let done = Done { id, what: "removed from", header: response.header, members: response.members };
            done.print(format)
        }
        MemberCommand::Update { member: Id { id }, peer_urls } => {
            let response = client.member_update(id, peer_urls).await.map_err(explained)?;
            let done = Done { id, what: "updated in", header: response.header, members: response.members };
            done.print(format)
        }
        MemberCommand::Promote { member: Id { id } } => {
            let response = client.member_promote(id).await?;
            let done = Done { id, what: "promoted in", header: response.header, members: response.members };
            done.print(format)
        }
        MemberCommand::Demote { member: Id { id } } => {
            let response = client.member_demote(id).await.map_err(explained)?;
            let done = Done { id, what: "demoted in", header: response.header, members: response.members };
            done.print(format)
        }
    }
}

/// Says more, where the server's words are too few.
fn explained(error: Error) -> Failure {
    let advice = match &error {
        Error::Refused { code: Code::Unimplemented, .. } => "etcd cannot demote a member",
        Error::Refused { message, .. } if message.contains("member URLs are invalid") => {
            "each must be http://host:port, without a path"
        }
        _ => return error.into(),
    };
    Failure::from(error).with(advice)
}

fn list(format: Format, response: pb::MemberListResponse) -> Result<(), Failure> {
    const TITLES: [&str; 6] = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
    let rows: Vec<Vec<String>> = response.members.iter().map(row).collect();
    match format {
        Format::Simple => print(output::lines(&rows).as_bytes()),
        Format::Table => print(output::table(&TITLES, &rows).as_bytes()),
        Format::Json => print_json(&Changed::new(response.header, None, response.members)),
    }
}

fn row(member: &pb::Member) -> Vec<String> {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    vec![
        format!("{:x}", member.id),
        status.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

fn added(format: Format, name: &str, response: pb::MemberAddResponse) -> Result<(), Failure> {
    let pb::MemberAddResponse { header, member, members } = response;
    let Some(member) = member else {
        return Err(Failure::error("the server has not said which member it added: see `member list`"));
    };
    match format {
        Format::Json => print_json(&Changed::new(header, Some(member), members)),
        Format::Simple | Format::Table => {
            let cluster = header.unwrap_or_default().cluster_id;
            let learner = if member.is_learner { "as learner " } else { "" };
            // What the new member must be told: everybody's addresses, under their names.
            let known = members.iter().flat_map(|other| {
                let name = if other.id == member.id { name } else { &other.name };
                other.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
            });
            let text = format!(
                "Member {:16x} added {learner}to cluster {cluster:16x}\n\n\
                 ETCD_NAME={name:?}\n\
                 ETCD_INITIAL_CLUSTER={:?}\n\
                 ETCD_INITIAL_ADVERTISE_PEER_URLS={:?}\n\
                 ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
                member.id,
                known.collect::<Vec<_>>().join(","),
                member.peer_ur_ls.join(","),
            );
            print(text.as_bytes())
        }
    }
}

/// A change that is answered with all members.
struct Done {
    id: u64,
    what: &'static str,
    header: Option<pb::ResponseHeader>,
    members: Vec<pb::Member>,
}

impl Done {
    fn print(self, format: Format) -> Result<(), Failure> {
        let cluster = self.header.unwrap_or_default().cluster_id;
        match format {
            Format::Simple | Format::Table => {
                print(format!("Member {:16x} {} cluster {cluster:16x}\n", self.id, self.what).as_bytes())
            }
            Format::Json => print_json(&Changed::new(self.header, None, self.members)),
        }
    }
}

/// The answer to any command about members, in JSON.
#[derive(Serialize)]
struct Changed {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<Member>,
    #[serde(skip_serializing_if = "is_default")]
    members: Vec<Member>,
}

impl Changed {
    fn new(
        header: Option<pb::ResponseHeader>,
        member: Option<pb::Member>,
        members: Vec<pb::Member>,
    ) -> Changed {
        Changed {
            header: header.map(Header::from),
            member: member.map(Member::from),
            members: members.into_iter().map(Member::from).collect(),
        }
    }
}

#[derive(PartialEq, Serialize)]
struct Member {
    #[serde(rename = "ID", skip_serializing_if = "is_default")]
    id: u64,
    #[serde(skip_serializing_if = "is_default")]
    name: String,
    #[serde(rename = "peerURLs", skip_serializing_if = "is_default")]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs", skip_serializing_if = "is_default")]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner", skip_serializing_if = "is_default")]
    is_learner: bool,
}

impl From<pb::Member> for Member {
    fn from(member: pb::Member) -> Self {
        let pb::Member { id, name, peer_ur_ls: peer_urls, client_ur_ls: client_urls, is_learner } = member;
        Self { id, name, peer_urls, client_urls, is_learner }
    }
}
