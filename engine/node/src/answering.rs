//! The task of a member that answers those who are none yet: founders that are late, and directories that want to
//! join.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use quorate_raft::NodeId;
use quorate_replica::{Body, Error, Request};
use quorate_store::Response;

use crate::establish::Identity;
use crate::handle::NodeHandle;
use crate::limits;
use crate::question::{Answer, Asked, Question, QuestionReceiver};

/// Answers questions for as long as it is polled.
#[derive(Debug)]
pub struct Answering {
    pub(crate) identity: Identity,
    pub(crate) node: NodeHandle,
    pub(crate) questions: QuestionReceiver,
}

/// A directory that waits for the cluster to take it in.
type Joining = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Answering {
    /// Runs until nobody can ask any more.
    pub async fn run(mut self) {
        let mut joining: Vec<Joining> = Vec::new();
        poll_fn(|context| self.poll(&mut joining, context)).await;
    }

    fn poll(&mut self, joining: &mut Vec<Joining>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            joining.retain_mut(|join| join.as_mut().poll(context).is_pending());
            let Poll::Ready(asked) = self.questions.0.poll_recv(context) else { return Poll::Pending };
            let Some(Asked { question, answer }) = asked else { return Poll::Ready(()) };
            // Whoever asked may have gone.
            match self.answer(&question) {
                Some(now) => drop(answer.send(now)),
                None if joining.len() >= limits::JOINING_MAX => {
                    drop(answer.send(Answer::Later("others are joining".into())));
                }
                None => {
                    let (identity, node) = (self.identity.clone(), self.node.clone());
                    joining.push(Box::pin(async move {
                        drop(answer.send(join(&identity, &node, question).await))
                    }));
                }
            }
        }
    }

    /// What can be answered at once.
    fn answer(&self, question: &Question) -> Option<Answer> {
        let Identity { cluster: ours, genesis, .. } = &self.identity;
        match question {
            Question::Meet { cluster, .. } if cluster != ours => Some(Answer::Refused(format!(
                "this is cluster {ours}, not {cluster}: --initial-cluster and --initial-cluster-token must be the same \
                 for all members"
            ))),
            Question::Meet { .. } => Some(Answer::Begun { genesis: genesis.clone() }),
            Question::Join { .. } => None,
        }
    }
}

/// Has the cluster take in a directory. That is a command in the log, and may wait for a leader.
async fn join(identity: &Identity, node: &NodeHandle, question: Question) -> Answer {
    let Question::Join { owner, name, peer_urls } = question else {
        unreachable!("others are answered at once")
    };
    match node.request(Request::Join { owner, name, peer_urls }).await {
        Ok(quorate_replica::Response { body: Body::Store(Response::Joined { id }), .. }) => {
            Answer::Joined { cluster: identity.cluster, id: NodeId(id), genesis: identity.genesis.clone() }
        }
        Ok(other) => unreachable!("to join is answered with an id, not {other:?}"),
        Err(Error::Store(error @ quorate_store::Error::NoMemberToJoin)) => Answer::Refused(error.to_string()),
        Err(error) => Answer::Later(error.to_string()),
    }
}
