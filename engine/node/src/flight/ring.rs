//! What a recorder holds in memory.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use quorate_raft::{Index, Instant};
use quorate_replica::{Image, Input, Replica};
use serde::{Deserialize, Serialize};

use super::Digest;
use crate::codec::encode_body;
use crate::limits;

/// The legs, oldest first. The first one has a whole image, or there is nothing to be had.
pub(super) struct Ring {
    leg_bytes: usize,
    legs: VecDeque<Leg>,
    standing: Standing,
    /// An input could not be written down, so that what follows it is worth nothing.
    broken: bool,
}

/// An image, and what happened from then on.
#[derive(Debug)]
pub struct Leg {
    /// `None` while it is in the making.
    image: Option<Arc<Image>>,
    /// Full pieces of records. A record is never spread over two.
    pieces: Vec<Arc<Vec<u8>>>,
    open: Vec<u8>,
    bytes: usize,
}

/// Where a replica stood at the end of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The last index that its store includes.
    pub applied: Index,
    /// `Store::state_hash`.
    pub state_hash: u64,
}

/// What was recorded up to some moment.
#[derive(Debug)]
pub struct Taken {
    pub(super) image: Arc<Image>,
    pub(super) pieces: Vec<Arc<Vec<u8>>>,
    /// At the end of the last turn that is over.
    pub standing: Standing,
}

impl Ring {
    pub fn new(bytes_max: usize) -> Ring {
        let standing = Standing::default();
        Ring { leg_bytes: bytes_max / 2, legs: VecDeque::new(), standing, broken: false }
    }

    pub fn turn(&mut self, now: Instant) {
        self.record(|open| {
            open.push(TURN);
            open.extend_from_slice(&now.0.to_le_bytes());
        });
    }

    pub fn input(&mut self, input: &Input) {
        let mut fits = true;
        self.record(|open| {
            if matches!(input, Input::Wake) {
                return open.push(WAKE);
            }
            let start = open.len();
            open.extend_from_slice(&[INPUT, 0, 0, 0, 0]);
            let body = start + INPUT_HEADER_BYTES;
            fits = encode_body(input, limits::RECORDED_INPUT_BYTES_MAX, open).is_ok();
            let length = u32::try_from(open.len() - body).unwrap_or_default();
            open[start + 1..body].copy_from_slice(&length.to_le_bytes());
        });
        self.broken |= !fits;
    }

    pub fn end(&mut self, digest: Digest, standing: Standing) {
        self.record(|open| {
            open.push(END);
            open.extend_from_slice(&digest.0.to_le_bytes());
        });
        self.standing = standing;
    }

    /// How much there is in the leg that is being flown.
    pub fn bytes(&self) -> usize {
        self.legs.back().map_or(0, |leg| leg.bytes)
    }

    /// Whether the next leg is to begin, when the store takes so many bytes.
    pub fn is_full(&self, store_bytes: u64) -> bool {
        let due = self.leg_bytes.max(usize::try_from(store_bytes).unwrap_or(usize::MAX));
        self.legs.is_empty() || self.bytes() >= due
    }

    /// What has been recorded is worth nothing, if an input could not be written down. Returns it.
    pub fn forget_broken(&mut self) -> Option<VecDeque<Leg>> {
        mem::take(&mut self.broken).then(|| mem::take(&mut self.legs))
    }

    /// Begins a leg between two turns, whose image is going to be made.
    pub fn begin_leg(&mut self, standing: Standing) {
        self.standing = standing;
        if let Some(last) = self.legs.back_mut() {
            last.close_piece(0);
        }
        let open = Vec::with_capacity(PIECE_BYTES + SLACK);
        self.legs.push_back(Leg { image: None, pieces: Vec::new(), open, bytes: 0 });
    }

    /// The image with which the last leg begins is whole. Returns what is forgotten.
    pub fn image_is_whole(&mut self, image: Image) -> Vec<Leg> {
        self.legs.back_mut().expect("an image belongs to a leg").image = Some(Arc::new(image));
        let surplus = self.legs.len().saturating_sub(LEGS);
        self.legs.drain(..surplus).collect()
    }

    /// The last leg is never going to have an image: the one before goes on.
    pub fn image_is_lost(&mut self) {
        let Some(lost) = self.legs.pop_back() else { return };
        let Some(before) = self.legs.back_mut() else { return };
        before.pieces.extend(lost.pieces);
        before.open = lost.open;
        before.bytes += lost.bytes;
    }

    pub fn take(&self) -> Option<Taken> {
        if self.broken {
            return None;
        }
        let image = self.legs.front()?.image.clone()?;
        let pieces =
            self.legs.iter().flat_map(|leg| leg.pieces.iter().cloned().chain([Arc::new(leg.open.clone())]));
        let pieces = pieces.filter(|piece| !piece.is_empty()).collect();
        Some(Taken { image, pieces, standing: self.standing })
    }

    fn record(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(leg) = self.legs.back_mut() else { return };
        let before = leg.open.len();
        write(&mut leg.open);
        leg.bytes += leg.open.len() - before;
        if leg.open.len() >= PIECE_BYTES {
            leg.close_piece(PIECE_BYTES + SLACK);
        }
    }
}

impl Leg {
    fn close_piece(&mut self, next: usize) {
        self.pieces.push(Arc::new(mem::replace(&mut self.open, Vec::with_capacity(next))));
    }
}

impl Standing {
    /// Where this replica stands.
    #[must_use]
    pub fn of(replica: &Replica) -> Standing {
        Standing { applied: replica.status().applied, state_hash: replica.store().state_hash() }
    }
}

/// Kinds of records.
pub(super) const TURN: u8 = 1;
pub(super) const INPUT: u8 = 2;
pub(super) const WAKE: u8 = 3;
pub(super) const END: u8 = 4;

/// How many legs with an image are kept.
const LEGS: usize = 2;

/// What stands before an encoded input: its kind and its length.
const INPUT_HEADER_BYTES: usize = 5;

/// A piece is closed when it is so long.
const PIECE_BYTES: usize = 1 << 20;

/// Room for the record with which it gets there, unless that is unusually long.
const SLACK: usize = 64 << 10;
