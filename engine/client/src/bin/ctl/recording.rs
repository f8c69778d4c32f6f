//! `quoratectl endpoint flight-recording`: every endpoint asked to write down what its flight recorder holds.
//!
//! A recording holds all keys and values, so it stays on the member's machine: the answer is the name of a file there. The request
//! is plain HTTP on the port that serves clients, which is small enough to be written here: one POST, one answer, a
//! connection for itself.

use std::time::Duration;

use quorate_client::Client;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::output::{self, Format, print, print_json};

/// What a member says of its recording.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    /// Where it is, on the member's machine.
    file: String,
    /// The last index of the log that the member's state includes.
    applied: u64,
    /// The state's checksum, which a replay arrives at.
    state: String,
}

#[derive(Serialize)]
struct Recorded {
    endpoint: String,
    #[serde(flatten)]
    written: Written,
}

/// Asks all endpoints at once, and prints where the recordings are.
pub async fn run(format: Format, client: &Client, patience: Duration) -> Result<(), Failure> {
    let ask = |endpoint: String| async move {
        let answer = tokio::time::timeout(patience, request(&endpoint)).await;
        let late = || Err(format!("no answer within {patience:?}; give it longer with --command-timeout"));
        (answer.unwrap_or_else(|_| late()), endpoint)
    };
    let asked: Vec<_> = client.each().map(|(endpoint, _)| tokio::spawn(ask(endpoint.to_owned()))).collect();
    let (mut recorded, mut failed) = (Vec::new(), false);
    for answer in asked {
        match answer.await.expect("asking does not panic") {
            (Ok(written), endpoint) => recorded.push(Recorded { endpoint, written }),
            (Err(error), endpoint) => {
                eprintln!("{endpoint} has written no recording: {error}");
                failed = true;
            }
        }
    }
    let row = |it: &Recorded| {
        let Written { file, applied, state } = &it.written;
        vec![it.endpoint.clone(), file.clone(), applied.to_string(), state.clone()]
    };
    let rows: Vec<Vec<String>> = recorded.iter().map(row).collect();
    match format {
        Format::Simple => print(output::lines(&rows).as_bytes())?,
        Format::Table => {
            print(output::table(&["ENDPOINT", "FILE", "RAFT APPLIED INDEX", "STATE"], &rows).as_bytes())?;
        }
        Format::Json => print_json(&recorded)?,
    }
    if failed { Err(Failure::error("not every endpoint has written a recording")) } else { Ok(()) }
}

/// Asks one member.
async fn request(endpoint: &str) -> Result<Written, String> {
    let address = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
    if address.contains("://") {
        return Err("only http:// is spoken".to_owned());
    }
    // (HTTP/1.0: the answer comes in one piece and ends with the connection.)
    let request = format!("POST /flight-recorder HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
    let mut answer = Vec::new();
    let exchange = async {
        let mut connection = TcpStream::connect(address).await?;
        connection.write_all(request.as_bytes()).await?;
        connection.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await
    };
    exchange.await.map_err(|error| error.to_string())?;
    read(&String::from_utf8_lossy(&answer))
}

/// What an answer says.
fn read(answer: &str) -> Result<Written, String> {
    let strange = || "what answers is not a member of Quorate".to_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(strange)?;
    let status = head.split(' ').nth(1).ok_or_else(strange)?;
    match (status, body.trim()) {
        ("200", body) => serde_json::from_str(body).map_err(|_| strange()),
        ("404", body) if !body.contains("--flight-recorder") => Err(strange()),
        (_, reason) => Err(reason.to_owned()),
    }
}

/// A file's name is not longer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_what_is_no_answer_is_refused() {
        let answer = |status: &str, body: &str| read(&format!("HTTP/1.0 {status}\r\nx: y\r\n\r\n{body}"));
        let written = Written { file: "/d/a.recording".to_owned(), applied: 7, state: "0a".to_owned() };
        let body = r#"{"file":"/d/a.recording","applied":7,"state":"0a"}"#;
        assert_eq!(answer("200 OK", body), Ok(written));
        let off = "this member records nothing: start it with --flight-recorder 64MiB\n";
        assert_eq!(answer("404 Not Found", off), Err(off.trim().to_owned()));
        assert_eq!(answer("500 Oops", "no room\n"), Err("no room".to_owned()));
        for strange in
            [answer("404 Not Found", "404 page not found"), answer("200 OK", "{}"), read(""), read("x")]
        {
            assert!(strange.expect_err("no member says this").contains("not a member of Quorate"));
        }
    }
}
