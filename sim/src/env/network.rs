//! Links between members, and between clients and members: what happens to a message on its way.
//!
//! A link is directed: the way back may be fine while the way there is cut, which is what fells systems that
//! survive every symmetric partition (Cloudflare's outage of November 2020 was one). Each link delays, loses,
//! duplicates and reorders on its own, can be cut, and can be clogged: a clogged link keeps everything and
//! delivers it in one burst when it opens.

use std::time::Duration;

use quorate_raft::NodeId;

use crate::random::Random;
use crate::time::Time;

/// Most members of a simulated cluster.
pub const MEMBERS_MAX: usize = 8;

/// What the links of a run are like when nobody meddles with them, or while somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// The shortest time a message takes.
    pub delay: Duration,
    /// The mean of what comes on top.
    pub jitter: Duration,
    /// How many of a million messages are lost.
    pub loss: u32,
    /// How many of a million messages arrive twice, the second time after a detour of ten jitters or many more.
    pub duplication: u32,
    /// How many of a million messages may be overtaken, after a detour of ten jitters.
    pub reordering: u32,
}

/// One direction between two members.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// How many faults cut it now.
    cuts: u8,
    /// Nothing arrives before then.
    clogged_until: Time,
    /// When the latest message that keeps the order arrives.
    last: Time,
    /// The present stretch of time, and how many messages were sent in it: what befalls a message is drawn
    /// from these and its link, so that it does not depend on what other links carry.
    stretch: u64,
    sent: u64,
}

impl Link {
    /// The source of everything that befalls the message that is sent now.
    fn dice(&mut self, place: usize, time: Time, random: &Random) -> Random {
        let stretch = time.0 >> STRETCH_BITS;
        if self.stretch != stretch {
            (self.stretch, self.sent) = (stretch, 0);
        }
        self.sent += 1;
        random.at((place as u64) << 56 ^ self.sent << 44 ^ stretch)
    }
}

/// A stretch of time is about a millisecond.
const STRETCH_BITS: u32 = 20;

/// When a message arrives: not at all, once or twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// The message, unless it is lost.
    pub first: Option<Time>,
    /// Its duplicate.
    pub second: Option<Time>,
}

/// All links between members; and of clients to members.
#[derive(Clone, Debug)]
pub struct Network {
    quality: Quality,
    peers: [[Link; MEMBERS_MAX]; MEMBERS_MAX],
    /// How many faults keep clients from each member.
    client_cuts: [u8; MEMBERS_MAX],
    /// What befalls messages of single kinds.
    meddled: Vec<Meddling>,
    /// The way between clients and each member.
    clients: [Link; MEMBERS_MAX],
    random: Random,
}

impl Network {
    /// A whole network.
    #[must_use]
    pub fn new(quality: Quality, random: Random) -> Network {
        Network {
            quality,
            peers: [[Link::default(); MEMBERS_MAX]; MEMBERS_MAX],
            client_cuts: [0; MEMBERS_MAX],
            meddled: Vec::new(),
            clients: [Link::default(); MEMBERS_MAX],
            random,
        }
    }

    /// When a message sent now from one member to another arrives.
    pub fn send(&mut self, time: Time, from: NodeId, to: NodeId) -> Arrivals {
        let quality = self.quality;
        let place = slot(from) * MEMBERS_MAX + slot(to);
        let link = &mut self.peers[slot(from)][slot(to)];
        let mut dice = link.dice(place, time, &self.random);
        if link.cuts > 0 || dice.chance(quality.loss) {
            return Arrivals::default();
        }
        let travel = quality.delay + dice.exponential_duration(quality.jitter);
        let mut arrival = (time + travel).max(link.clogged_until);
        if dice.chance(quality.reordering) {
            // Later ones may overtake: `last` stays.
            arrival += dice.exponential_duration(quality.jitter * 10);
        } else {
            arrival = arrival.max(Time(link.last.0 + 1));
            link.last = arrival;
        }
        let second = dice.chance(quality.duplication).then(|| {
            // Some come when nobody thinks of them any more: terms, leaders and processes later.
            let detour = dice.pick(&[10, 10, 40, 400]);
            arrival + dice.exponential_duration(quality.jitter * detour)
        });
        Arrivals { first: Some(arrival), second }
    }

    /// What becomes of a message's arrivals if somebody meddles with messages of its kind.
    #[must_use]
    pub fn meddle(
        &self,
        from: NodeId,
        to: NodeId,
        kind: impl FnOnce() -> &'static str,
        mut arrivals: Arrivals,
    ) -> Arrivals {
        if self.meddled.is_empty() {
            return arrivals;
        }
        let kind = kind();
        let meant = |it: &&Meddling| it.links.contains(from, to) && it.letter.is(kind);
        for meddling in self.meddled.iter().filter(meant) {
            match meddling.late {
                None => return Arrivals::default(),
                // Others overtake it: the order of the link is not this message's business any more.
                Some(by) => arrivals.first = arrivals.first.map(|at| at + by),
            }
        }
        arrivals
    }

    /// Meddles with messages from now on.
    pub fn begin_meddling(&mut self, meddling: Meddling) {
        self.meddled.push(meddling);
    }

    /// Undoes one `begin_meddling` with the same.
    pub fn end_meddling(&mut self, meddling: Meddling) {
        let at = self.meddled.iter().position(|other| *other == meddling);
        self.meddled.remove(at.expect("nobody ends what has not begun"));
    }

    /// Whether a message that is arriving now is let through: a cut also stops what is under way.
    #[must_use]
    pub fn connected(&self, from: NodeId, to: NodeId) -> bool {
        self.peers[slot(from)][slot(to)].cuts == 0
    }

    /// When a client's message to a member (or a member's to a client) arrives; `None` if the way is cut.
    /// Clients speak over connections: nothing is duplicated, and what is lost is the connection.
    pub fn send_client(&mut self, time: Time, member: NodeId) -> Option<Time> {
        let place = MEMBERS_MAX * MEMBERS_MAX + slot(member);
        let mut dice = self.clients[slot(member)].dice(place, time, &self.random);
        let travel = self.quality.delay + dice.exponential_duration(self.quality.jitter);
        self.client_connected(member).then_some(time + travel)
    }

    /// Whether clients reach a member.
    #[must_use]
    pub fn client_connected(&self, member: NodeId) -> bool {
        self.client_cuts[slot(member)] == 0
    }

    /// The present quality of all links.
    #[must_use]
    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// Changes the quality of all links.
    pub fn set_quality(&mut self, quality: Quality) {
        self.quality = quality;
    }

    /// Cuts links.
    pub fn cut(&mut self, links: LinkSet) {
        links.each(|from, to| self.peers[slot(from)][slot(to)].cuts += 1);
    }

    /// Undoes one `cut` of the same links.
    pub fn mend(&mut self, links: LinkSet) {
        links.each(|from, to| {
            let cuts = &mut self.peers[slot(from)][slot(to)].cuts;
            assert!(*cuts > 0, "mending a link that is not cut");
            *cuts -= 1;
        });
    }

    /// Keeps everything on these links until then.
    pub fn clog(&mut self, links: LinkSet, until: Time) {
        links.each(|from, to| {
            let link = &mut self.peers[slot(from)][slot(to)];
            link.clogged_until = link.clogged_until.max(until);
        });
    }

    /// Lets these links carry again.
    pub fn unclog(&mut self, links: LinkSet) {
        links.each(|from, to| self.peers[slot(from)][slot(to)].clogged_until = Time::ZERO);
    }

    /// Keeps clients from a member.
    pub fn cut_clients(&mut self, member: NodeId) {
        self.client_cuts[slot(member)] += 1;
    }

    /// Undoes one `cut_clients`.
    pub fn mend_clients(&mut self, member: NodeId) {
        assert!(self.client_cuts[slot(member)] > 0, "mending clients' way to a member that is not cut");
        self.client_cuts[slot(member)] -= 1;
    }
}

/// Every member that a cluster can have.
fn everybody() -> impl Iterator<Item = NodeId> {
    (1..MEMBERS_MAX as u64).map(NodeId)
}

fn slot(node: NodeId) -> usize {
    let slot = node.0 as usize;
    assert!(slot < MEMBERS_MAX, "member {node} is beyond the largest simulated cluster");
    slot
}

/// Messages of one kind on some links are lost, or come late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meddling {
    /// On which links.
    pub links: LinkSet,
    /// Which messages.
    pub letter: Letter,
    /// How much later they arrive; never, if `None`.
    pub late: Option<Duration>,
}

/// A kind of messages between members, as scenarios name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter(usize);

impl Letter {
    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Letter> {
        LETTERS.iter().position(|(other, _)| *other == name).map(Letter)
    }

    /// One of them, but for all of them together.
    pub fn any_of(random: &mut Random) -> Letter {
        Letter(random.between(1, LETTERS.len() as u64 - 1) as usize)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        LETTERS[self.0].0
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        LETTERS.iter().map(|(name, _)| *name)
    }

    /// Whether a message of this kind (see [`crate::messages`]) is meant.
    fn is(self, kind: &str) -> bool {
        let kinds = LETTERS[self.0].1;
        kinds.is_empty() || kinds.contains(&kind)
    }
}

/// Names of kinds of messages, and the messages; every one, if none is named.
const LETTERS: [(&str, &[&str]); 13] = [
    ("any", &[]),
    ("vote", &["PreVote", "Vote"]),
    ("vote-reply", &["PreVoteReply", "VoteReply"]),
    ("append", &["Append"]),
    ("append-ack", &["AppendAck", "AppendReject"]),
    ("heartbeat", &["Heartbeat"]),
    ("heartbeat-ack", &["HeartbeatAck"]),
    ("read", &["ReadIndex"]),
    ("read-reply", &["ReadIndexReply"]),
    ("snapshot", &["Chunk"]),
    ("snapshot-ack", &["ChunkAck", "ChunkUnknown"]),
    ("forward", &["Forward", "KeepAlive", "TimeToLive"]),
    ("hand-over", &["CampaignNow"]),
];

/// A set of directed links between members, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSet(u64);

impl LinkSet {
    /// No link.
    #[must_use]
    pub fn none() -> LinkSet {
        LinkSet(0)
    }

    /// Adds a link.
    #[must_use]
    pub fn with(self, from: NodeId, to: NodeId) -> LinkSet {
        LinkSet(self.0 | 1 << (slot(from) * MEMBERS_MAX + slot(to)))
    }

    /// Every link from a member.
    #[must_use]
    pub fn from(node: NodeId) -> LinkSet {
        LinkSet::between(&[node], &everybody().collect::<Vec<_>>())
    }

    /// Every link to a member.
    #[must_use]
    pub fn to(node: NodeId) -> LinkSet {
        LinkSet::between(&everybody().collect::<Vec<_>>(), &[node])
    }

    /// Every link from one of `from` to one of `to`.
    #[must_use]
    pub fn between(from: &[NodeId], to: &[NodeId]) -> LinkSet {
        let mut links = LinkSet::none();
        for &a in from {
            for &b in to {
                if a != b {
                    links = links.with(a, b);
                }
            }
        }
        links
    }

    /// Both sets.
    #[must_use]
    pub fn and(self, other: LinkSet) -> LinkSet {
        LinkSet(self.0 | other.0)
    }

    /// The same links between others.
    #[must_use]
    pub fn map(self, other: impl Fn(NodeId) -> NodeId) -> LinkSet {
        let mut links = LinkSet::none();
        self.each(|from, to| links = links.with(other(from), other(to)));
        links
    }

    /// Whether it has a link.
    #[must_use]
    pub fn contains(self, from: NodeId, to: NodeId) -> bool {
        self.0 & LinkSet::none().with(from, to).0 != 0
    }

    /// Whether there is no link.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The links among the first members.
    #[must_use]
    pub fn among(self, members: u64) -> LinkSet {
        let mut left = LinkSet::none();
        self.each(|from, to| {
            if from.0 <= members && to.0 <= members {
                left = left.with(from, to);
            }
        });
        left
    }

    /// The members at either end of a link, ascending.
    #[must_use]
    pub fn members(self) -> std::collections::BTreeSet<NodeId> {
        let mut members = std::collections::BTreeSet::new();
        self.each(|from, to| members.extend([from, to]));
        members
    }

    /// The members that it is about: those at an end of a link, or at the centre of a star of links.
    #[must_use]
    pub fn about(self) -> std::collections::BTreeSet<NodeId> {
        let (stars, left) = self.stars();
        left.members().into_iter().chain(stars.into_iter().map(|(id, _)| id)).collect()
    }

    /// The members all of whose links in one direction are part of it (true: from the member), and what is left.
    fn stars(self) -> (Vec<(NodeId, bool)>, LinkSet) {
        let mut left = self;
        let mut stars = Vec::new();
        for id in everybody() {
            for (links, all_from) in [(LinkSet::from(id), true), (LinkSet::to(id), false)] {
                if self.0 & links.0 == links.0 {
                    stars.push((id, all_from));
                    left = LinkSet(left.0 & !links.0);
                }
            }
        }
        (stars, left)
    }

    fn each(self, mut visit: impl FnMut(NodeId, NodeId)) {
        let mut bits = self.0;
        while bits != 0 {
            let bit = bits.trailing_zeros() as usize;
            visit(NodeId((bit / MEMBERS_MAX) as u64), NodeId((bit % MEMBERS_MAX) as u64));
            bits &= bits - 1;
        }
    }
}

impl std::fmt::Display for LinkSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let (stars, left) = self.stars();
        let mut names: Vec<String> = stars
            .iter()
            .map(|(id, all_from)| if *all_from { format!("n{id}>*") } else { format!("*>n{id}") })
            .collect();
        left.each(|from, to| names.push(format!("n{from}>n{to}")));
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn network(loss: u32, duplication: u32, reordering: u32) -> Network {
        let quality = Quality {
            delay: Duration::from_millis(1),
            jitter: Duration::from_millis(2),
            loss,
            duplication,
            reordering,
        };
        Network::new(quality, Random::new(3, Stream::Network))
    }

    #[test]
    fn a_link_without_faults_keeps_the_order_and_loses_nothing() {
        let mut network = network(0, 0, 0);
        let mut last = Time::ZERO;
        for step in 0..1_000 {
            let arrivals = network.send(Time(step), A, B);
            let first = arrivals.first.expect("nothing is lost");
            assert!(first > last, "overtaken");
            assert_eq!(arrivals.second, None);
            last = first;
        }
    }

    #[test]
    fn a_cut_is_directed_and_counts() {
        let mut network = network(0, 0, 0);
        let links = LinkSet::between(&[A], &[B]);
        network.cut(links);
        network.cut(links);
        network.mend(links);
        assert_eq!(network.send(Time::ZERO, A, B), Arrivals::default());
        assert!(network.send(Time::ZERO, B, A).first.is_some());
        network.mend(links);
        assert!(network.send(Time::ZERO, A, B).first.is_some());
    }

    #[test]
    fn a_clogged_link_delivers_everything_later_in_order() {
        let mut network = network(0, 0, 0);
        let until = Time(5_000_000_000);
        network.clog(LinkSet::between(&[A], &[B]), until);
        let arrivals: Vec<Time> = (0..10).filter_map(|step| network.send(Time(step), A, B).first).collect();
        assert_eq!(arrivals.len(), 10);
        assert!(arrivals.iter().all(|&at| at >= until));
        assert!(arrivals.is_sorted());
    }

    #[test]
    fn rates_are_about_what_was_asked_for() {
        let mut network = network(100_000, 200_000, 300_000);
        let (mut lost, mut doubled, mut overtaken) = (0, 0, 0);
        let mut last = Time::ZERO;
        for step in 0..10_000 {
            let arrivals = network.send(Time(step * 10_000_000), A, B);
            match arrivals.first {
                None => lost += 1,
                Some(at) if at < last => overtaken += 1,
                Some(at) => last = at,
            }
            doubled += u64::from(arrivals.second.is_some());
        }
        assert!((900..1_100).contains(&lost), "{lost} lost");
        assert!((1_600..2_000).contains(&doubled), "{doubled} doubled");
        assert!(overtaken > 500, "{overtaken} overtaken");
    }
}
