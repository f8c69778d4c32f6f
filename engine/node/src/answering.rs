//! The task of a member that answers those who are none yet: founders that are late, and directories that want to
//! join.

use crate::establish::Identity;
use crate::question::{Answer, Question, QuestionReceiver};

/// Answers questions for as long as it is polled.
#[derive(Debug)]
pub struct Answering {
    pub(crate) identity: Identity,
    pub(crate) questions: QuestionReceiver,
}

impl Answering {
    /// Runs until nobody can ask any more.
    pub async fn run(mut self) {
        while let Some(asked) = self.questions.next().await {
            // Whoever asked may have gone.
            let _ = asked.answer.send(self.answer(asked.question));
        }
    }

    fn answer(&self, question: Question) -> Answer {
        let Identity { cluster: ours, genesis, .. } = &self.identity;
        match question {
            Question::Meet { cluster, .. } if cluster != *ours => Answer::Refused(format!(
                "this is cluster {ours}, not {cluster}: --initial-cluster and --initial-cluster-token must be the same \
                 for all members"
            )),
            Question::Meet { .. } => Answer::Begun { genesis: genesis.clone() },
            Question::Join { .. } => Answer::Later("it takes nobody in yet".into()),
        }
    }
}
