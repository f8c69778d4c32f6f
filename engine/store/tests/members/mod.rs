//! Members, in the words of scripts.

use std::error::Error;

use quorate_store::{Command, Member};

/// A command in words: `add ID URLS [learner] [auto]`, `remove ID`, `update ID URLS`, `promote ID`,
/// `demote ID`, `publish ID NAME CLIENT_URLS PRIORITY`, `join ID OWNER NAME URLS` or `refused`; URLs are joined by
/// slashes.
pub fn parse(words: &[String]) -> Result<Command, Box<dyn Error>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(match words[..] {
        ["add", id, peer_urls, ref how @ ..] => Command::MemberAdd {
            id: id.parse()?,
            peer_urls: urls(peer_urls),
            learner: how.contains(&"learner"),
            auto_promote: how.contains(&"auto"),
        },
        ["remove", id] => Command::MemberRemove { id: id.parse()? },
        ["update", id, peer_urls] => Command::MemberUpdate { id: id.parse()?, peer_urls: urls(peer_urls) },
        ["promote", id] => Command::MemberPromote { id: id.parse()? },
        ["demote", id] => Command::MemberDemote { id: id.parse()? },
        ["publish", id, name, client_urls, priority] => Command::MemberPublish {
            id: id.parse()?,
            name: name.into(),
            client_urls: urls(client_urls),
            priority: priority.parse()?,
        },
        ["join", id, owner, name, peer_urls] => Command::MemberJoin {
            id: id.parse()?,
            owner: owner.parse()?,
            name: name.into(),
            peer_urls: urls(peer_urls),
        },
        ["refused"] => Command::MemberRefused { error: quorate_store::Error::LearnerNotReady },
        ref other => return Err(format!("no such change of the members: {other:?}").into()),
    })
}

pub fn print(member: &Member) -> String {
    let Member { id, owner, name, peer_urls, client_urls, learner, auto_promote, priority } = member;
    let kind = if *learner { "learner" } else { "voter" };
    let mut line = format!("{id} {kind}");
    if *owner != 0 {
        line += &format!(" {name} owner={owner}");
    }
    line += &format!(" peers={}", peer_urls.join("/"));
    if !client_urls.is_empty() {
        line += &format!(" clients={}", client_urls.join("/"));
    }
    if *priority > 0 {
        line += &format!(" priority={priority}");
    }
    if *auto_promote {
        line += " auto";
    }
    line + "\n"
}

fn urls(list: &str) -> Vec<String> {
    list.split('/').filter(|url| !url.is_empty()).map(String::from).collect()
}
