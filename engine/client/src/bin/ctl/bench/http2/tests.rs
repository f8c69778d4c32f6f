//! The connection against frames written by hand.

use super::frame::*;
use super::*;

/// A connection whose peer has sent these settings, with its output cleared.
fn ready(settings: &[(u16, u32)]) -> Connection {
    let mut connection = Connection::new("host:1");
    assert!(!connection.can_open());
    let mut hello = Vec::new();
    frame(SETTINGS, 0, 0, 6 * settings.len(), &mut hello);
    for (setting, value) in settings {
        hello.extend(setting.to_be_bytes());
        hello.extend(value.to_be_bytes());
    }
    assert_eq!(events(&mut connection, &hello), Ok(vec![]));
    connection.output.clear();
    connection
}

/// What the bytes mean, as text.
fn events(connection: &mut Connection, bytes: &[u8]) -> Result<Vec<String>, Broken> {
    let mut events = Vec::new();
    connection.receive(bytes, &mut |event| {
        events.push(match event {
            Event::Message { token, body } => format!("{token}: {}", String::from_utf8_lossy(body)),
            Event::End { token, result } => format!("{token}: {result:?}"),
        });
    })?;
    Ok(events)
}

/// The frames in the output: kind, flags, stream, length.
fn frames(output: &[u8]) -> Vec<(u8, u8, u32, usize)> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < output.len() {
        let length = u32::from_be_bytes([0, output[at], output[at + 1], output[at + 2]]) as usize;
        let id = u32::from_be_bytes([output[at + 5], output[at + 6], output[at + 7], output[at + 8]]);
        frames.push((output[at + 3], output[at + 4], id, length));
        at += FRAME_HEADER + length;
    }
    frames
}

fn response(id: u32, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame(HEADERS, END_HEADERS, id, 1, &mut bytes);
    bytes.push(0x88); // :status 200
    frame(DATA, 0, id, MESSAGE_HEADER + message.len(), &mut bytes);
    message_header(message.len(), &mut bytes);
    bytes.extend_from_slice(message);
    trailers(id, b"0", &mut bytes);
    bytes
}

fn trailers(id: u32, status: &[u8], bytes: &mut Vec<u8>) {
    let name = b"grpc-status";
    let length = 2 + name.len() + 1 + status.len();
    frame(HEADERS, END_HEADERS | END_STREAM, id, length, bytes);
    bytes.extend([0, name.len() as u8]);
    bytes.extend(name);
    bytes.push(status.len() as u8);
    bytes.extend(status);
}

#[test]
fn a_call_is_two_frames_and_its_answer_comes_back_with_its_token() {
    let mut connection = ready(&[]);
    connection.open(Method::Put, 7, b"abc", true);
    let sent = frames(&connection.output);
    assert_eq!((sent[0].0, sent[0].1, sent[0].2), (HEADERS, END_HEADERS, 1));
    assert_eq!(sent[1], (DATA, END_STREAM, 1, MESSAGE_HEADER + 3));
    let answer = response(1, b"xyz");
    assert_eq!(events(&mut connection, &answer), Ok(vec!["7: xyz".into(), "7: Ok(())".into()]));
}

#[test]
fn bytes_may_arrive_one_by_one() {
    let mut connection = ready(&[]);
    connection.open(Method::Put, 7, b"", true);
    let mut seen = Vec::new();
    for byte in response(1, b"xyz") {
        seen.extend(events(&mut connection, &[byte]).expect("well formed"));
    }
    assert_eq!(seen, ["7: xyz", "7: Ok(())"]);
}

#[test]
fn data_waits_for_windows_and_keeps_to_the_frame_size() {
    let mut connection = ready(&[(INITIAL_WINDOW_SIZE, 20_000), (MAX_FRAME_SIZE, 16_384)]);
    connection.open(Method::Put, 1, &[1; 30_000], true);
    let sizes = |connection: &Connection| -> Vec<(u8, usize)> {
        frames(&connection.output).iter().filter(|f| f.0 == DATA).map(|f| (f.1, f.3)).collect()
    };
    assert_eq!(sizes(&connection), [(0, 16_384), (0, 20_000 - 16_384)]);
    connection.output.clear();
    let mut more = Vec::new();
    window_update(1, 50_000, &mut more);
    assert_eq!(events(&mut connection, &more), Ok(vec![]));
    assert_eq!(sizes(&connection), [(END_STREAM, 30_000 + MESSAGE_HEADER - 20_000)]);
}

#[test]
fn the_connection_window_holds_back_small_calls_in_order() {
    let mut connection = ready(&[]);
    for token in 0..3 {
        connection.open(Method::Put, token, &[0; 15_000], true);
    }
    connection.open(Method::Put, 3, &[0; 16_000], true);
    connection.open(Method::Put, 4, &[0; 16_000], true);
    connection.open(Method::Put, 5, b"small", true);
    connection.output.clear();
    let mut more = Vec::new();
    window_update(0, 100_000, &mut more);
    assert_eq!(events(&mut connection, &more), Ok(vec![]));
    let last = frames(&connection.output).last().copied();
    assert_eq!(last, Some((DATA, END_STREAM, 11, MESSAGE_HEADER + 5)));
}

#[test]
fn streams_are_limited_by_the_peer() {
    let mut connection = ready(&[(MAX_CONCURRENT_STREAMS, 1)]);
    connection.open(Method::Put, 7, b"", true);
    assert!(!connection.can_open());
    let answer = response(1, b"");
    assert!(events(&mut connection, &answer).is_ok());
    assert!(connection.can_open());
}

#[test]
fn failures_are_named() {
    let mut connection = ready(&[]);
    connection.open(Method::Put, 1, b"", true);
    connection.open(Method::Put, 2, b"", true);
    let mut answer = Vec::new();
    trailers(1, b"14", &mut answer);
    frame(RST_STREAM, 0, 3, 4, &mut answer);
    answer.extend(7_u32.to_be_bytes());
    assert_eq!(
        events(&mut connection, &answer),
        Ok(vec![
            r#"1: Err("Unavailable: ")"#.into(),
            r#"2: Err("the server reset the stream (HTTP/2 error 7)")"#.into(),
        ])
    );
}

#[test]
fn pings_are_answered() {
    let mut connection = ready(&[]);
    let mut ping = Vec::new();
    frame(PING, 0, 0, 8, &mut ping);
    ping.extend(*b"12345678");
    assert!(events(&mut connection, &ping).is_ok());
    assert_eq!(frames(&connection.output), [(PING, ACK, 0, 8)]);
    assert!(connection.output.ends_with(b"12345678"));
}

#[test]
fn what_is_not_http2_is_refused() {
    let mut connection = Connection::new("host:1");
    assert!(events(&mut connection, b"HTTP/1.1 400 Bad Request\r\n").is_err());
    let mut connection = ready(&[]);
    let mut reason = Vec::new();
    frame(GOAWAY, 0, 0, 8 + 4, &mut reason);
    reason.extend([0, 0, 0, 0, 0, 0, 0, 11]);
    reason.extend(b"calm");
    let broken = events(&mut connection, &reason).expect_err("it says why");
    assert_eq!(broken.to_string(), "the server closed the connection (HTTP/2 error 11) calm");
}
