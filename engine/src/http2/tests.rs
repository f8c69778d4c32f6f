//! A session as a client sees it: requests, replies within windows, and everything that is forbidden.

use std::borrow::Cow;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::frame::{self, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, PREFACE, Reason, flag, kind, setting};
use super::reply::End;
use super::session::{Event, Session};

/// `POST http /a/b` with gRPC's content type and an authority that is a URL.
fn request_block() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    super::write_field(&mut block, ":path", "/a/b");
    super::write_field(&mut block, ":authority", "http://127.0.0.1:2379");
    super::write_field(&mut block, "content-type", "application/grpc");
    block
}

fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(&mut out, kind, flags, stream, payload);
    out
}

fn request(stream: u32, end: u8) -> Vec<u8> {
    framed(kind::HEADERS, flag::END_HEADERS | end, stream, &request_block())
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_settings(&mut out, settings);
    out
}

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    framed(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// A session after the preface and these settings; its greeting is gone.
fn session(parameters: &[(u16, u32)]) -> Session<()> {
    let mut session = Session::new(100);
    receive(&mut session, &[PREFACE, &settings(parameters)[..]].concat()).expect("a good beginning");
    session.out.clear();
    session
}

fn receive(session: &mut Session<()>, bytes: &[u8]) -> Result<(), Reason> {
    session.receive(bytes).map(|len| assert_eq!(len, bytes.len(), "all of it is whole frames"))
}

/// What the session has sent: the type, the stream, the flags and the length of each frame.
fn sent(session: &mut Session<()>) -> Vec<(u8, u32, u8, usize)> {
    let out = std::mem::take(&mut session.out);
    let mut rest = &out[..];
    let mut frames = Vec::new();
    while let Some(header) = Header::parse(rest) {
        frames.push((header.kind, header.stream, header.flags, header.len));
        rest = &rest[HEADER_BYTES + header.len..];
    }
    assert!(rest.is_empty(), "frames are whole");
    frames
}

/// The reason in the last frame sent, if that was RST_STREAM.
fn reset_reason(session: &mut Session<()>) -> Option<(u32, u32)> {
    let out = std::mem::take(&mut session.out);
    let start = out.len().checked_sub(HEADER_BYTES + 4)?;
    let header = Header::parse(&out[start..]).filter(|header| header.kind == kind::RST_STREAM)?;
    let reason = out[out.len() - 4..].try_into().expect("four bytes");
    Some((header.stream, u32::from_be_bytes(reason)))
}

#[test]
fn a_request_arrives_and_is_answered() {
    let mut session = session(&[]);
    receive(&mut session, &request(1, 0)).expect("valid");
    receive(&mut session, &framed(kind::DATA, flag::END_STREAM, 1, b"body")).expect("valid");
    let [Event::Request(1, head), Event::End(1)] = &session.events[..] else {
        panic!("{:?}", session.events);
    };
    assert!(head.is_grpc);
    assert_eq!(head.path, b"/a/b");
    assert_eq!(session.take_body(1), b"body");
    session.send_headers(1, b"\x88", false);
    session.send_data(1, Bytes::from("reply"));
    session.send_end(1, End::Trailers(Cow::Borrowed(b"\x88")));
    let frames = [
        (kind::HEADERS, 1, flag::END_HEADERS, 1),
        (kind::DATA, 1, 0, 5),
        (kind::HEADERS, 1, flag::END_HEADERS | flag::END_STREAM, 1),
    ];
    assert_eq!(sent(&mut session), frames);
    assert!(session.streams.is_empty());
}

#[test]
fn headers_may_be_continued() {
    let mut session = session(&[]);
    let block = request_block();
    let bytes = [
        framed(kind::HEADERS, flag::END_STREAM, 1, &block[..4]),
        framed(kind::CONTINUATION, 0, 1, &block[4..10]),
        framed(kind::CONTINUATION, flag::END_HEADERS, 1, &block[10..]),
    ];
    receive(&mut session, &bytes.concat()).expect("valid");
    assert!(matches!(session.events[..], [Event::Request(1, _), Event::End(1)]));
}

#[test]
fn replies_are_cut_to_frames_and_windows_and_take_turns() {
    let mut session = session(&[(setting::INITIAL_WINDOW_SIZE, 20_000)]);
    for stream in [1, 3] {
        receive(&mut session, &request(stream, flag::END_STREAM)).expect("valid");
        session.send_data(stream, Bytes::from(vec![0; 40_000]));
        session.send_end(stream, End::Data);
    }
    session.pump();
    let first = [(1, PAYLOAD_BYTES_MAX), (3, PAYLOAD_BYTES_MAX), (1, 3616), (3, 3616)];
    assert_eq!(sent(&mut session), first.map(|(stream, len)| (kind::DATA, stream, 0, len)));
    // SETTINGS widen the streams; the connection has 25,535 bytes left.
    receive(&mut session, &settings(&[(setting::INITIAL_WINDOW_SIZE, 100_000)])).expect("valid");
    session.pump();
    let second = [(1, PAYLOAD_BYTES_MAX), (3, 9151)];
    assert_eq!(sent(&mut session)[1..], second.map(|(stream, len)| (kind::DATA, stream, 0, len)));
    receive(&mut session, &window_update(0, 100_000)).expect("valid");
    session.pump();
    let rest = sent(&mut session);
    assert_eq!(rest.iter().map(|(_, _, _, len)| len).sum::<usize>(), 80_000 - 40_000 - 25_535);
    assert_eq!(rest.iter().filter(|(_, _, flags, _)| *flags == flag::END_STREAM).count(), 2);
    assert!(session.streams.is_empty());
    assert_eq!(session.outgoing.unsent_bytes(), 0);
}

#[test]
fn windows_are_given_back_in_bulk() {
    let mut session = session(&[]);
    receive(&mut session, &request(1, 0)).expect("valid");
    let mut updates = Vec::new();
    for _ in 0..640 {
        receive(&mut session, &framed(kind::DATA, 0, 1, &[0; PAYLOAD_BYTES_MAX])).expect("valid");
        let len = session.take_body(1).len();
        session.credit(1, len);
        updates.extend(sent(&mut session));
    }
    let of = |stream| updates.iter().filter(|(_, id, ..)| *id == stream).count();
    assert_eq!((of(0), of(1)), (2, 20), "ten mebibytes, half a window at a time");
}

#[test]
fn a_reply_that_comes_before_the_end_of_the_request_ends_it() {
    let mut session = session(&[]);
    receive(&mut session, &request(1, 0)).expect("valid");
    session.send_headers(1, b"\x88", true);
    assert_eq!(reset_reason(&mut session), Some((1, Reason::NoError as u32)));
    // What was on its way is ignored.
    receive(&mut session, &framed(kind::DATA, flag::END_STREAM, 1, b"late")).expect("ignored");
    assert_eq!(sent(&mut session), []);
}

#[test]
fn a_reset_drops_the_call() {
    let mut session = session(&[]);
    receive(&mut session, &request(1, flag::END_STREAM)).expect("valid");
    session.streams.get_mut(&1).expect("it is open").call = Some(());
    session.send_data(1, Bytes::from(vec![0; 100_000]));
    receive(&mut session, &framed(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8])).expect("valid");
    assert_eq!(session.dropped, [(1, ())]);
    assert_eq!(session.outgoing.unsent_bytes(), 0);
}

#[test]
fn pings_and_settings_are_acknowledged() {
    let mut session = session(&[]);
    let bytes = [framed(kind::PING, 0, 0, b"12345678"), settings(&[])].concat();
    receive(&mut session, &bytes).expect("valid");
    assert_eq!(sent(&mut session), [(kind::PING, 0, flag::ACK, 8), (kind::SETTINGS, 0, flag::ACK, 0)]);
}

#[test]
fn draining_ends_with_the_last_stream() {
    let mut session = session(&[]);
    receive(&mut session, &request(1, flag::END_STREAM)).expect("valid");
    session.drain();
    receive(&mut session, &request(3, flag::END_STREAM)).expect("ignored");
    assert_eq!(session.streams.len(), 1);
    assert!(!session.is_drained());
    session.send_headers(1, b"\x88", true);
    assert!(session.is_drained());
}

#[test]
fn violations_of_streams_cost_the_stream() {
    let open = request(1, 0);
    let ended = request(1, flag::END_STREAM);
    let field = |name: &str| {
        let mut block = request_block();
        super::write_field(&mut block, name, "value");
        framed(kind::HEADERS, flag::END_HEADERS, 1, &block)
    };
    let many: Vec<u8> = (0..101).flat_map(|stream| request(2 * stream + 1, 0)).collect();
    let table = [
        (
            "data after the end",
            [ended.clone(), framed(kind::DATA, 0, 1, b"x")].concat(),
            1,
            Reason::StreamClosed,
        ),
        ("headers after the end", [ended, request(1, 0)].concat(), 1, Reason::StreamClosed),
        ("headers within a request", [open.clone(), request(1, 0)].concat(), 1, Reason::Protocol),
        ("an update by nothing", [open.clone(), window_update(1, 0)].concat(), 1, Reason::Protocol),
        ("a window too wide", [open, window_update(1, 0x7fff_ffff)].concat(), 1, Reason::FlowControl),
        ("an upper-case name", field("Name"), 1, Reason::Protocol),
        ("a field of connections", field("connection"), 1, Reason::Protocol),
        ("no path", framed(kind::HEADERS, flag::END_HEADERS, 1, &[0x83, 0x86]), 1, Reason::Protocol),
        ("headers too large", field(&"n".repeat(16_200)), 1, Reason::EnhanceYourCalm),
        ("too many streams", many, 201, Reason::RefusedStream),
        ("a priority too short", framed(kind::PRIORITY, 0, 1, &[0; 4]), 1, Reason::FrameSize),
    ];
    for (what, bytes, stream, reason) in table {
        let mut session = session(&[]);
        receive(&mut session, &bytes).unwrap_or_else(|reason| panic!("{what}: {reason:?}"));
        assert_eq!(reset_reason(&mut session), Some((stream, reason as u32)), "{what}");
        assert!(!session.streams.contains_key(&stream), "{what}");
    }
}

#[test]
fn violations_of_the_connection_cost_the_connection() {
    let cat = |frames: &[Vec<u8>]| frames.concat();
    let begun = framed(kind::HEADERS, 0, 1, &request_block());
    let full = framed(kind::DATA, 0, 1, &[0; PAYLOAD_BYTES_MAX]);
    let unended = |count| framed(kind::CONTINUATION, 0, 1, &[0; PAYLOAD_BYTES_MAX]).repeat(count);
    let table = [
        ("a frame too long", vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1], Reason::FrameSize),
        ("an even stream", request(2, 0), Reason::Protocol),
        ("headers of no stream", request(0, 0), Reason::Protocol),
        ("a stream again", cat(&[request(3, 0), request(1, 0)]), Reason::StreamClosed),
        ("data of an idle stream", full.clone(), Reason::Protocol),
        ("a reset of an idle stream", framed(kind::RST_STREAM, 0, 1, &[0; 4]), Reason::Protocol),
        ("a reset too short", framed(kind::RST_STREAM, 0, 1, &[0; 3]), Reason::FrameSize),
        ("an update of an idle stream", window_update(1, 1), Reason::Protocol),
        ("an update by nothing", window_update(0, 0), Reason::Protocol),
        ("a window too wide", window_update(0, 0x7fff_ffff), Reason::FlowControl),
        ("an initial window too wide", settings(&[(4, 1 << 31)]), Reason::FlowControl),
        ("a frame size too small", settings(&[(5, 100)]), Reason::Protocol),
        ("push that is neither", settings(&[(2, 2)]), Reason::Protocol),
        ("settings of a stream", framed(kind::SETTINGS, 0, 1, &[]), Reason::Protocol),
        ("settings cut off", framed(kind::SETTINGS, 0, 0, &[0; 5]), Reason::FrameSize),
        ("an acknowledgement with content", framed(kind::SETTINGS, flag::ACK, 0, &[0; 6]), Reason::FrameSize),
        ("a ping too short", framed(kind::PING, 0, 0, &[0; 7]), Reason::FrameSize),
        ("a ping of a stream", framed(kind::PING, 0, 1, &[0; 8]), Reason::Protocol),
        ("a push", framed(kind::PUSH_PROMISE, 0, 1, &[0; 8]), Reason::Protocol),
        ("a block that is interrupted", cat(&[begun.clone(), settings(&[])]), Reason::Protocol),
        ("a continuation of nothing", framed(kind::CONTINUATION, 0, 1, &[]), Reason::Protocol),
        ("a block without end", cat(&[begun.clone(), unended(3)]), Reason::EnhanceYourCalm),
        ("more padding than payload", framed(kind::HEADERS, flag::PADDED, 1, &[9, 0]), Reason::Protocol),
        ("a malformed block", framed(kind::HEADERS, flag::END_HEADERS, 1, &[0x80]), Reason::Compression),
        ("pings without end", framed(kind::PING, 0, 0, &[0; 8]).repeat(20_000), Reason::EnhanceYourCalm),
        ("settings without end", settings(&[]).repeat(20_000), Reason::EnhanceYourCalm),
        (
            "empty data without end",
            cat(&[request(1, 0), framed(kind::DATA, 0, 1, &[]).repeat(20_000)]),
            Reason::EnhanceYourCalm,
        ),
        (
            "rapid resets",
            (0..20_000)
                .flat_map(|at| cat(&[request(2 * at + 1, 1), framed(3, 0, 2 * at + 1, &[0; 4])]))
                .collect(),
            Reason::EnhanceYourCalm,
        ),
        (
            "empty continuations without end",
            cat(&[begun, framed(kind::CONTINUATION, 0, 1, &[]).repeat(20_000)]),
            Reason::EnhanceYourCalm,
        ),
    ];
    for (what, bytes, reason) in table {
        let mut session = session(&[]);
        assert_eq!(session.receive(&bytes), Err(reason), "{what}");
        let (last, ..) = *sent(&mut session).last().expect("the reason is sent");
        assert_eq!(last, kind::GOAWAY, "{what}");
    }
}

#[test]
fn a_client_that_sends_more_than_it_may_is_cut_off() {
    let mut session = session(&[]);
    receive(&mut session, &request(1, 0)).expect("valid");
    // A mebibyte that nobody has dealt with.
    for _ in 0..64 {
        receive(&mut session, &framed(kind::DATA, 0, 1, &[0; PAYLOAD_BYTES_MAX])).expect("valid");
    }
    receive(&mut session, &framed(kind::DATA, 0, 1, &[0])).expect("the connection goes on");
    assert_eq!(reset_reason(&mut session), Some((1, Reason::FlowControl as u32)));
}

#[test]
fn a_connection_begins_with_the_preface_and_settings() {
    let mut session: Session<()> = Session::new(100);
    assert_eq!(session.receive(b"PRI * HTTP/1"), Err(Reason::Protocol));
    let mut session: Session<()> = Session::new(100);
    let bytes = [PREFACE, &framed(kind::PING, 0, 0, &[0; 8])[..]].concat();
    assert_eq!(session.receive(&bytes), Err(Reason::Protocol));
}

/// Frames that are nearly right.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        3 => Just(request_block()),
        1 => vec(any::<u8>(), 0..40),
        1 => vec(any::<u8>(), 4),
        1 => vec(any::<u8>(), 8),
        1 => Just(vec![0; PAYLOAD_BYTES_MAX]),
    ];
    (0_u8..11, any::<u8>(), 0_u32..12, payload)
        .prop_map(|(kind, flags, stream, payload)| framed(kind, flags & 0x2d, stream, &payload))
}

/// What the other side of the session may do meanwhile.
fn act(session: &mut Session<()>, action: u8, stream: u32) {
    match action {
        0 => session.send_headers(stream, b"\x88", false),
        1 => session.send_data(stream, Bytes::from(vec![0; 30_000])),
        2 => session.send_end(stream, End::Data),
        3 => session.send_headers(stream, b"\x88", true),
        4 => {
            let len = session.take_body(stream).len();
            session.credit(stream, len);
        }
        5 => session.drain(),
        _ => session.pump(),
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_session_panic(bytes in vec(any::<u8>(), 0..400), settled in any::<bool>()) {
        let mut session = if settled { session(&[]) } else { Session::new(10) };
        let _ = session.receive(&bytes);
    }

    #[test]
    fn no_frames_make_a_session_panic(
        steps in vec((any_frame(), 0_u8..12, 0_u32..12), 0..60),
        cut in 1_usize..60_000,
    ) {
        let mut session = session(&[]);
        let mut waiting = Vec::new();
        'steps: for (frame, action, stream) in steps {
            for piece in frame.chunks(cut) {
                waiting.extend_from_slice(piece);
                let Ok(taken) = session.receive(&waiting) else { break 'steps };
                waiting.drain(..taken);
                prop_assert!(waiting.len() < HEADER_BYTES + PAYLOAD_BYTES_MAX);
            }
            act(&mut session, action, stream);
        }
        sent(&mut session);
        let ids: Vec<u32> = session.streams.keys().copied().collect();
        ids.into_iter().for_each(|id| _ = session.forget(id));
        prop_assert_eq!(session.outgoing.unsent_bytes(), 0);
    }
}
