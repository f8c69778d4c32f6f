//! A cluster under load whose members come and go, and what is true of it at all times.

use std::time::Duration;

use quorate_tests::{Cluster, Deadline, Etcdctl, Exit, ListedMember, Output};

use crate::load::{Load, Ours};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// Members, clients at work on them, and etcdctl.
pub struct World {
    pub cluster: Cluster,
    load: Load<Ours>,
    /// Those who belong to the cluster and run, by their number.
    present: Vec<usize>,
}

/// Who is killed in the middle of a change, and started again behind it.
#[derive(Clone, Copy, Debug)]
pub enum Kill {
    Nobody,
    /// Whoever leads, when clients have got so many more answers.
    Leader(u64),
    /// This member, when clients have got so many more answers.
    Member(usize, u64),
}

impl World {
    pub fn start(members: usize, seed: u64) -> World {
        let cluster = Cluster::start(members, &[]);
        let load = Load::start(&cluster.endpoints(), seed);
        let world = World { cluster, load, present: (0..members).collect() };
        world.load.await_progress();
        world
    }

    /// etcdctl for all who are present.
    pub fn etcdctl(&self) -> Etcdctl {
        Etcdctl::new(&self.endpoints(&self.present))
    }

    /// etcdctl for one member.
    pub fn etcdctl_of(&self, at: usize) -> Etcdctl {
        Etcdctl::new(&self.endpoints(&[at]))
    }

    pub fn endpoints(&self, members: &[usize]) -> Vec<String> {
        let all = self.cluster.endpoints();
        members.iter().map(|at| all[*at].clone()).collect()
    }

    /// Clients get on.
    pub fn await_progress(&self) {
        self.load.await_progress();
    }

    /// A member's line in the list.
    pub fn listed(&mut self, at: usize) -> ListedMember {
        let url = self.cluster.member(at).options().peer_url();
        Deadline::after(PATIENCE).retry("the member is listed", || {
            let list = self.etcdctl().members()?;
            list.iter().find(|row| row.peer_urls == url).cloned().ok_or(format!("no {url} in {list:?}"))
        })
    }

    /// Who leads, by its own account.
    pub fn leader(&self) -> usize {
        let endpoints = self.cluster.endpoints();
        Deadline::after(PATIENCE).retry("a leader is elected", || {
            let statuses = self.etcdctl().statuses();
            let leader = statuses.iter().find(|status| status.id == status.leader);
            let leader = leader.ok_or("no member says that it leads")?;
            Ok::<_, &str>(endpoints.iter().position(|it| *it == leader.endpoint).expect("it was asked"))
        })
    }

    /// Some voter that does not lead.
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        let learners: Vec<String> = self.learners();
        let endpoints = self.cluster.endpoints();
        let follower = self.present.iter().find(|at| **at != leader && !learners.contains(&endpoints[**at]));
        *follower.expect("there are several voters")
    }

    /// Endpoints of those who say that they do not vote.
    fn learners(&self) -> Vec<String> {
        let statuses = self.etcdctl().statuses();
        statuses.into_iter().filter(|status| status.is_learner).map(|status| status.endpoint).collect()
    }

    /// Runs a command until the member list shows that it has done what it should: its outcome may be unknown, the
    /// cluster may be between two leaders, a learner may have to catch up. Returns what it printed if it succeeded.
    pub fn change(
        &mut self,
        arguments: &[&str],
        kill: Kill,
        done: impl Fn(&[ListedMember]) -> bool,
    ) -> Option<String> {
        let mut printed = self.run_and_kill(arguments, kill);
        Deadline::after(PATIENCE).retry(&format!("etcdctl {}", arguments.join(" ")), || {
            if printed.code == Some(0) {
                return Ok(());
            }
            if self.etcdctl().members().is_ok_and(|list| done(&list)) {
                return Ok(());
            }
            let before = printed.stderr.clone();
            printed = self.etcdctl().run(arguments);
            if printed.code == Some(0) { Ok(()) } else { Err(format!("{before}{}", printed.stderr)) }
        });
        // The member that was asked may be behind the one that answered.
        Deadline::after(PATIENCE).retry("the list shows it", || match self.etcdctl().members()? {
            list if done(&list) => Ok(()),
            list => Err(format!("{arguments:?} has succeeded, and {list:?}")),
        });
        self.load.await_progress();
        self.statuses_are_true();
        (printed.code == Some(0)).then_some(printed.stdout)
    }

    /// Runs the command to its end, and meanwhile kills somebody with `kill -9`, who is started again.
    fn run_and_kill(&mut self, arguments: &[&str], kill: Kill) -> Output {
        let (victim, answers) = match kill {
            Kill::Nobody => return self.etcdctl().run(arguments),
            Kill::Leader(answers) => (self.leader(), answers),
            Kill::Member(at, answers) => (at, answers),
        };
        let command = self.etcdctl().spawn(arguments);
        self.load.await_answers(answers);
        self.cluster.member(victim).kill();
        let Exit { code, stdout, stderr } = command.wait(Deadline::after(PATIENCE));
        self.load.await_progress();
        self.cluster.member(victim).start();
        Output { code, stdout, stderr }
    }

    /// Adds a member and starts it.
    pub fn add(&mut self, learner: bool, kill: Kill) -> usize {
        let at = self.cluster.prepare_another();
        let options = self.cluster.member(at).options();
        let (name, url) = (options.name.clone(), options.peer_url());
        let mut arguments = vec!["member", "add", &name, "--peer-urls", &url];
        if learner {
            arguments.push("--learner");
        }
        let printed = self.change(&arguments, kill, |list| list.iter().any(|row| row.peer_urls == url));
        let initial_cluster = match printed {
            Some(printed) => {
                let variable = "ETCD_INITIAL_CLUSTER=\"";
                let rest =
                    printed.split_once(variable).unwrap_or_else(|| panic!("no {variable} in {printed}")).1;
                rest.split('"').next().expect("split yields something").to_owned()
            }
            // The answer is lost: as a person would, make it from the list.
            None => {
                let list = self.etcdctl().members().expect("it was listed a moment ago");
                let name_of = |row: &ListedMember| if row.started { row.name.clone() } else { name.clone() };
                let parts = list.iter().map(|row| format!("{}={}", name_of(row), row.peer_urls));
                parts.collect::<Vec<_>>().join(",")
            }
        };
        self.cluster.member(at).options().initial_cluster = initial_cluster;
        self.cluster.member(at).start();
        self.present.push(at);
        self.load.add(&self.cluster.endpoints()[at]);
        self.statuses_are_true();
        at
    }

    /// Makes a learner a voter, as soon as it has caught up.
    pub fn promote(&mut self, at: usize, kill: Kill) {
        let id = self.listed(at).id;
        self.change(&["member", "promote", &id], kill, |list| {
            list.iter().any(|row| row.id == id && !row.is_learner)
        });
    }

    /// Removes a member, whose process then ends by itself.
    pub fn remove(&mut self, at: usize, kill: Kill) -> Exit {
        let id = self.listed(at).id;
        self.present.retain(|present| *present != at);
        self.change(&["member", "remove", &id], kill, |list| list.iter().all(|row| row.id != id));
        let exit = self.cluster.member(at).await_end();
        self.statuses_are_true();
        exit
    }

    /// Hands leadership to a member, again if a slow machine lets it lose what it got.
    pub fn move_leader(&mut self, at: usize) {
        let id = self.listed(at).id;
        let etcdctl = self.etcdctl();
        Deadline::after(PATIENCE).retry("leadership is handed over", || {
            let output = etcdctl.run(&["move-leader", &id]);
            match output.code {
                Some(0) if self.leader() == at => Ok(()),
                _ => Err(output.stderr),
            }
        });
        self.load.await_progress();
    }

    /// Asks the leader to hand over to a member, and kills somebody meanwhile: somebody leads afterwards.
    pub fn disturb_hand_over(&mut self, to: usize, kill: Kill) {
        let id = self.listed(to).id;
        self.run_and_kill(&["move-leader", &id], kill);
        self.load.await_progress();
        self.statuses_are_true();
    }

    /// Everybody present answers, agrees on one leader, who votes, and knows of itself what the list says.
    pub fn statuses_are_true(&self) {
        let etcdctl = self.etcdctl();
        Deadline::after(PATIENCE).retry("every member tells the truth about itself", || {
            let list = etcdctl.members()?;
            let statuses = etcdctl.statuses();
            let leader = statuses.first().map(|status| status.leader.clone()).unwrap_or_default();
            let is_true = |status: &quorate_tests::MemberStatus| {
                let row = list.iter().find(|row| row.id == status.id);
                row.is_some_and(|row| row.is_learner == status.is_learner)
                    && status.leader == leader
                    && status.errors.is_empty()
            };
            let leads = list.iter().any(|row| row.id == leader && !row.is_learner);
            if statuses.len() == self.present.len() && leads && statuses.iter().all(is_true) {
                Ok(())
            } else {
                Err(format!("{statuses:#?}\n{list:#?}"))
            }
        });
    }

    /// Waits until the member list is so.
    pub fn await_list(&self, wanted: impl Fn(&[ListedMember]) -> bool) {
        Deadline::after(PATIENCE).retry("the members are as they should be", || {
            let list = self.etcdctl().members()?;
            if wanted(&list) { Ok(()) } else { Err(format!("{list:#?}")) }
        });
    }

    /// Ends the load and judges what the clients saw.
    pub fn judge(self) {
        self.load.await_progress();
        self.statuses_are_true();
        let learners = self.learners();
        let mut endpoints = self.endpoints(&self.present);
        endpoints.retain(|endpoint| !learners.contains(endpoint));
        let verdict = self.load.judge(&endpoints);
        assert!(verdict.is_valid(), "judged by its history: {verdict}");
    }
}
