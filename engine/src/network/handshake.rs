//! The first words on a connection: who calls whom, or a question and its answer.
//!
//! ```text
//!   Hello ─────▶            Question ─────▶
//!   ◀──── Greeting          ◀─────── Answer
//!   messages ──▶            (end)
//! ```

use std::time::Duration;

use quorate_node::codec::{self, HEADER_BYTES, Kind};
use quorate_node::limits::QUESTION_BYTES_MAX;
use quorate_node::{Answer, CodecError, Greeting, Hello, Question, Verdict, decode_answer, encode_question};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ConnectionError, HANDSHAKE_TIMEOUT, Me};

/// Connects, and makes sure that the other side is whom we mean, and takes us.
pub(super) async fn connect(address: &str, hello: &Hello) -> Result<TcpStream, ConnectionError> {
    let connecting = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&codec::encode_hello(hello)).await?;
        let bytes = read_frame(&mut stream).await?;
        let greeting: Greeting = frame(&bytes)?.decode(Kind::Greeting)?;
        let theirs = greeting.hello;
        if theirs.cluster != hello.cluster {
            return Err(ConnectionError::OtherCluster { found: theirs.cluster, expected: hello.cluster });
        }
        if theirs.genesis != hello.genesis {
            return Err(ConnectionError::OtherGenesis);
        }
        if theirs.from != hello.to {
            return Err(ConnectionError::UnexpectedPeer(theirs.from.0));
        }
        match greeting.verdict {
            Verdict::Welcome => Ok(stream),
            Verdict::Removed => Err(ConnectionError::Removed),
            Verdict::WrongPlace => Err(ConnectionError::WrongPlace),
        }
    };
    timeout(HANDSHAKE_TIMEOUT, connecting).await.map_err(|_| ConnectionError::Timeout)?
}

/// Whether a hello is for us.
pub(super) fn check(hello: &Hello, me: &Me) -> Result<(), ConnectionError> {
    if hello.cluster != me.cluster {
        return Err(ConnectionError::OtherCluster { found: hello.cluster, expected: me.cluster });
    }
    if hello.genesis != me.genesis {
        return Err(ConnectionError::OtherGenesis);
    }
    if hello.to != me.id {
        return Err(ConnectionError::OtherMember { sought: hello.to.0, id: me.id.0 });
    }
    Ok(())
}

/// Asks whoever is there.
pub(super) async fn ask(address: &str, question: &Question) -> Result<Answer, ConnectionError> {
    let connecting = timeout(HANDSHAKE_TIMEOUT, TcpStream::connect(address)).await;
    let mut stream = connecting.map_err(|_| ConnectionError::Timeout)??;
    let asking = async {
        stream.set_nodelay(true)?;
        stream.write_all(&encode_question(question)?).await?;
        Ok(decode_answer(&read_frame(&mut stream).await?)?)
    };
    timeout(ASK_TIMEOUT, asking).await.map_err(|_| ConnectionError::Timeout)?
}

/// Reads one of the first frames, and not a byte more.
pub(super) async fn read_frame(stream: &mut TcpStream) -> Result<Vec<u8>, ConnectionError> {
    let mut bytes = vec![0; HEADER_BYTES];
    stream.read_exact(&mut bytes).await.map_err(|_| ConnectionError::Closed)?;
    let (kind, total) = codec::frame_header(&bytes)?.expect("a header is there");
    let max = match kind {
        Kind::Question | Kind::Answer => QUESTION_BYTES_MAX,
        _ => HELLO_BYTES_MAX,
    };
    let length = total - HEADER_BYTES;
    if length > max {
        return Err(CodecError::TooLong { length, max }.into());
    }
    bytes.resize(total, 0);
    stream.read_exact(&mut bytes[HEADER_BYTES..]).await.map_err(|_| ConnectionError::Closed)?;
    Ok(bytes)
}

/// The frame that these bytes are.
pub(super) fn frame(bytes: &[u8]) -> Result<codec::Frame<'_>, ConnectionError> {
    let length = CodecError::Length { found: bytes.len(), expected: HEADER_BYTES };
    Ok(codec::decode_frame(bytes)?.ok_or(length)?)
}

/// A greeting is a few numbers and URLs.
const HELLO_BYTES_MAX: usize = 4096;
/// How long an answer may take. To join takes a command, which may wait for a leader.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(15);
