//! What members ask each other before either knows that the other is a member: who founds the cluster, and how
//! to join it.
//!
//! A question and its answer are one frame each, over a connection of their own. Whoever asks may be a stranger,
//! so nothing here is believed that matters to safety: a founder's directory commits to one genesis for ever
//! (`meeting.rs`), and joining is a command in the log.

use quorate_raft::{Configuration, NodeId};
use quorate_replica::Founder;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::codec::{self, CodecError, Kind};
use crate::limits;
use crate::meta::ClusterId;

/// The members that a cluster began with, each with its data directory. All members know the same one, those that
/// joined later too; it is the state at log position zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    founders: Vec<Founder>,
}

impl Genesis {
    /// A cluster that these members begin.
    #[must_use]
    pub fn new(mut founders: Vec<Founder>) -> Genesis {
        founders.sort_by_key(|founder| founder.id);
        Genesis { founders }
    }

    /// The founders, in the order of their ids.
    #[must_use]
    pub fn founders(&self) -> &[Founder] {
        &self.founders
    }

    /// The founder with this id.
    #[must_use]
    pub fn founder(&self, id: NodeId) -> Option<&Founder> {
        self.founders.iter().find(|founder| founder.id == id)
    }

    /// Whether this directory is that of the founder with this id.
    #[must_use]
    pub fn names(&self, id: NodeId, owner: u64) -> bool {
        self.founder(id).is_some_and(|founder| founder.owner == owner)
    }

    /// The configuration that the log begins with: all founders vote.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        let voters = self.founders.iter().map(|founder| founder.id).collect();
        Configuration { voters, ..Configuration::default() }
    }

    /// Tells clusters apart that have the same id because they were started with the same flags: a number made of
    /// all that the genesis says (FNV-1a).
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut bytes = Vec::new();
        codec::encode_body(self, limits::QUESTION_BYTES_MAX, &mut bytes).expect("a genesis fits a question");
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
    }
}

/// What somebody asks who is not a member yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// A founder to every other one, until the cluster has begun: this is me, and this is what I have committed to.
    Meet {
        /// The cluster to begin.
        cluster: ClusterId,
        /// Who asks.
        founder: Founder,
        /// The genesis that its directory has durably accepted. It will never accept another.
        accepted: Option<Genesis>,
    },
    /// A new data directory to any member: make me one, too.
    Join {
        /// The directory's number.
        owner: u64,
        /// The name it will have.
        name: String,
        /// Where the others will reach it; a member with these URLs has been added, or was there before.
        peer_urls: Vec<String>,
    },
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// From a founder in the meeting: this is me, and this is what I have committed to.
    Met {
        /// Who answers.
        founder: Founder,
        /// The genesis that its directory has durably accepted.
        accepted: Option<Genesis>,
    },
    /// The cluster has begun with these members. A directory among them may begin, another one must join.
    Begun {
        /// The founders.
        genesis: Genesis,
    },
    /// Now it is a member; for ever, under this id.
    Joined {
        /// The cluster.
        cluster: ClusterId,
        /// The new member's id.
        id: NodeId,
        /// What the cluster began with.
        genesis: Genesis,
    },
    /// Not now, for this reason; ask again.
    Later(String),
    /// No, for this reason; asking again will not help.
    Refused(String),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// A question that has arrived, and the way back.
#[derive(Debug)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// Where a network puts the questions that it receives; cheap to clone.
#[derive(Clone, Debug)]
pub struct Questions(mpsc::Sender<Asked>);

/// Where they are taken out to be answered: by the meeting, and later by the node.
#[derive(Debug)]
pub struct QuestionReceiver(pub(crate) mpsc::Receiver<Asked>);

/// Makes the queue of questions.
#[must_use]
pub fn questions() -> (Questions, QuestionReceiver) {
    let (sender, receiver) = mpsc::channel(limits::QUESTIONS_MAX);
    (Questions(sender), QuestionReceiver(receiver))
}

impl Questions {
    /// Asks this member. The answer is `Later` if it has too many questions already, or stops.
    pub async fn ask(&self, question: Question) -> Answer {
        let (answer, receiver) = oneshot::channel();
        if self.0.try_send(Asked { question, answer }).is_err() {
            return Answer::Later("it has too many questions to answer".into());
        }
        receiver.await.unwrap_or_else(|_| Answer::Later("it is stopping".into()))
    }
}

impl QuestionReceiver {
    /// The next question; `None` when nobody can ask any more.
    pub async fn next(&mut self) -> Option<Asked> {
        self.0.recv().await
    }
}

/// A question as one frame.
pub fn encode_question(question: &Question) -> Result<Vec<u8>, CodecError> {
    encode(Kind::Question, question)
}

/// Reads a question that is exactly one frame.
pub fn decode_question(bytes: &[u8]) -> Result<Question, CodecError> {
    codec::decode_whole(Kind::Question, bytes)
}

/// An answer as one frame.
pub fn encode_answer(answer: &Answer) -> Result<Vec<u8>, CodecError> {
    encode(Kind::Answer, answer)
}

/// Reads an answer that is exactly one frame.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, CodecError> {
    codec::decode_whole(Kind::Answer, bytes)
}

fn encode<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut frame = Vec::new();
    codec::encode_frame(kind, value, &mut frame)?;
    match frame.len() - codec::HEADER_BYTES {
        length if length > limits::QUESTION_BYTES_MAX => {
            Err(CodecError::TooLong { length, max: limits::QUESTION_BYTES_MAX })
        }
        _ => Ok(frame),
    }
}
