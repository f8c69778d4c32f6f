//! Messages between members: on their way, and as they arrive.

use quorate_raft::NodeId;
use quorate_replica::{Input, Message};

use super::{Event, Simulation};
use crate::time::Time;
use crate::trace::{Arrow, Event as Traced};

impl Simulation {
    pub(super) fn deliver(&mut self, from: NodeId, to: NodeId, sent: Time, message: Message) {
        let forgotten = self.options.is_forgotten(sent, self.time);
        let delivered = !forgotten && self.network.connected(from, to) && self.member(to).is_up();
        let arrives = Some(self.time);
        self.trace.arrow(|| Arrow {
            sent,
            arrives,
            delivered,
            from,
            to,
            message: crate::messages::line(&message),
        });
        if !delivered {
            return;
        }
        let message =
            if self.codec_random.chance(self.options.codec) { self.recode(message) } else { message };
        self.invariants.on_deliver(from, to, sent, self.time, &message);
        let line = crate::messages::line(&message);
        self.input(to, Input::Message { from, message });
        self.note(Traced::Deliver { from, to, message: line }, Some(to));
    }

    /// A message goes through the product's encoding, and must be the same afterwards.
    fn recode(&mut self, message: Message) -> Message {
        self.buffer.clear();
        quorate_node::encode_message(&message, &mut self.buffer).expect("members send what can be encoded");
        let decoded = quorate_node::decode_message(&self.buffer).expect("what was encoded can be decoded");
        assert!(decoded == message, "a message changed on its way through the codec: {message:?}");
        decoded
    }

    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let sent = self.time;
        let arrivals = self.network.send(sent, from, to);
        let arrivals = self.network.meddle(from, to, || crate::messages::line(&message).kind, arrivals);
        if let Some(at) = arrivals.second {
            self.queue.push(at, Event::Deliver { from, to, sent, message: message.clone() });
        }
        match arrivals.first {
            Some(at) => self.queue.push(at, Event::Deliver { from, to, sent, message }),
            None => self.trace.arrow(|| Arrow {
                sent,
                arrives: None,
                delivered: false,
                from,
                to,
                message: crate::messages::line(&message),
            }),
        }
    }
}
