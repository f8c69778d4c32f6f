//! Changes of members: which cluster shall be, and the calls of etcd's cluster service that make it so.
//!
//! A call under faults may fail, or succeed without an answer, so nothing is concluded from answers: the list of members
//! is read again and again, and each time the next step is made that it lacks. Whoever joins is added as a learner,
//! started without data, and promoted when it has caught up.

use std::time::Duration;

use quorate_client::proto::etcdserverpb as pb;
use quorate_client::{Client, Error};
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::local::{Local, LocalError};

/// Another cluster than the present one: with one member more, or with one less. What it is called, and who belongs to it.
pub fn another(local: &Local, random: &mut StdRng) -> (String, Vec<usize>) {
    let mut members = local.belonging();
    match local.spare() {
        // Two members tolerate nothing, one cannot be left.
        Some(spare) if members.len() < 3 || random.random() => {
            members.push(spare);
            (format!("members: {} joins", local.name(spare)), members)
        }
        _ => {
            let gone = members.remove(random.random_range(0..members.len()));
            (format!("members: {} is removed", local.name(gone)), members)
        }
    }
}

/// Makes the cluster consist of these members, voters all.
pub async fn become_(local: &mut Local, shall: &[usize], patience: Duration) -> Result<(), LocalError> {
    let mut left = patience;
    let mut obstacle;
    loop {
        match step(local, shall).await {
            Ok(true) => return Ok(()),
            Ok(false) => continue,
            Err(StepError::Local(error)) => return Err(error),
            Err(StepError::Wire(error)) => obstacle = error.to_string(),
        }
        if left.is_zero() {
            let names: Vec<&str> = shall.iter().map(|at| local.name(*at)).collect();
            let what = format!("the members cannot be made to be {}: {obstacle}", names.join(", "));
            return Err(LocalError::Members(what, local.folder().to_path_buf()));
        }
        tokio::time::sleep(REST).await;
        left = left.saturating_sub(REST);
    }
}

enum StepError {
    Local(LocalError),
    /// It may work the next time.
    Wire(Error),
}

/// One step towards it; true if there is none left.
async fn step(local: &mut Local, shall: &[usize]) -> Result<bool, StepError> {
    let stay: Vec<usize> = local.belonging().into_iter().filter(|at| shall.contains(at)).collect();
    let (client, list) = list(local, &stay).await.map_err(StepError::Wire)?;
    let listed = |at: usize| {
        let url = local.peer_url(at);
        list.iter().find(|member| member.peer_ur_ls.iter().any(|it| it == url))
    };
    if let Some(at) = local.belonging().into_iter().find(|at| !shall.contains(at)) {
        if let Some(member) = listed(at) {
            client.member_remove(member.id).await.map_err(StepError::Wire)?;
        }
        local.leave(at).map_err(StepError::Local)?;
        return Ok(false);
    }
    for at in shall.iter().copied() {
        match listed(at) {
            None => {
                // What was here before is not the member that is added now.
                local.leave(at).map_err(StepError::Local)?;
                let url = local.peer_url(at).to_owned();
                client.member_add(vec![url], true).await.map_err(StepError::Wire)?;
                return Ok(false);
            }
            Some(_) if !local.belonging().contains(&at) => {
                let mut all = stay.clone();
                all.push(at);
                let initial_cluster = local.initial_cluster(&all);
                local.join(at, initial_cluster).map_err(StepError::Local)?;
                return Ok(false);
            }
            Some(member) if member.is_learner => {
                client.member_promote(member.id).await.map_err(StepError::Wire)?;
                return Ok(false);
            }
            Some(_) => {}
        }
    }
    Ok(true)
}

/// The list of members, not older than this call, and a client of the member that gave it.
async fn list(local: &Local, members: &[usize]) -> Result<(Client, Vec<pb::Member>), Error> {
    let mut last = Error::Unreachable { reason: "no member stays".to_owned() };
    for at in members {
        let client = local.ask(&[*at]);
        // Old versions of etcd list what the member knows: a linearizable read brings it up to date.
        let read = pb::RangeRequest { key: vec![0].into(), ..Default::default() };
        match client.range(read).await {
            Ok(_) => return Ok((client.clone(), client.member_list(true).await?.members)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Between two attempts.
const REST: Duration = Duration::from_millis(300);
