//! The flight recorder: what happened to a replica, to be replayed when something went wrong.
//!
//! A replica is a pure value. Its state between two turns (an *image*) and the inputs of the turns that follow, each
//! with the time at which it came, determine everything that it does. The driver writes the inputs down as it feeds
//! them; `quorate-sim replay-node` feeds them to the same code again, and arrives at the same state, or at the same
//! panic.
//!
//! # The ring
//!
//! Inputs are encoded at once, into pieces of memory of bounded size. The oldest must be forgotten some day, and a
//! recording without its beginning is worth nothing. So the ring consists of *legs*. Each begins with an image of its own,
//! and the ring holds two: the one that is being flown, and the one before. When the current leg is full, the next
//! begins with an image of the replica as it is, and the oldest is forgotten when that image is whole.
//!
//! - **An image is made in steps**, a bounded number after every turn, while the replica goes on: however large the store
//!   is, the driver never stands still for it. (The first one is made before the node begins, which has just read all of
//!   the store from the disk.)
//! - An image shares keys and values with the live store, so it costs about as much time and memory as the store has
//!   versions, not bytes. To keep that a small part of all work, a leg is never ended before it is as long as the store
//!   is large. The ring is thus bounded by the size it was given, or by twice the store's size if that is more
//!   (which the quota bounds), and by what comes in while an image is made.
//! - Images are dropped by the owner of the [`FlightRecorder`], on a thread of its own.
//!
//! # Replays check themselves
//!
//! Every turn ends with a [`Digest`] of what the replica asked for and of where it stands, the running checksum of its
//! store included. So a replay notices in which turn it leaves the recorded path, if it does.
//!
//! # Records
//!
//! ```text
//!  1 | now u64                 a turn begins
//!  2 | length u32 | bincode    an input
//!  3 |                         the input `Wake`, which every turn of a node has
//!  4 | digest u64              the turn is over
//! ```
//!
//! A panic leaves a turn without an end. How records become a file is told in `recording.rs`.

mod recording;
mod ring;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use quorate_raft::Instant;
use quorate_replica::{Image, Input, Output, Replica, Status};

pub use recording::{Header, Record, Recording, RecordingError, Records};
use ring::Ring;
pub use ring::{Leg, Standing, Taken};

/// A flight recorder, which a node writes and its owner reads; cheap to clone.
#[derive(Clone)]
pub struct FlightRecorder {
    ring: Arc<Mutex<Ring>>,
    image_steps: usize,
    discard: Arc<dyn Fn(Leg) + Send + Sync>,
}

impl FlightRecorder {
    /// A recorder that holds about this many bytes of inputs. `discard` is given what is forgotten: dropping that takes a
    /// while, and is best done on another thread.
    #[must_use]
    pub fn new(bytes_max: usize, discard: impl Fn(Leg) + Send + Sync + 'static) -> FlightRecorder {
        let ring = Arc::new(Mutex::new(Ring::new(bytes_max)));
        FlightRecorder { ring, image_steps: IMAGE_STEPS, discard: Arc::new(discard) }
    }

    /// The same with images that grow by so many steps in every turn, for simulators: their stores are small.
    #[must_use]
    pub fn with_image_steps(self, image_steps: usize) -> FlightRecorder {
        FlightRecorder { image_steps, ..self }
    }

    /// What is recorded at this moment. `None` before the node has begun. The node goes on meanwhile.
    #[must_use]
    pub fn take(&self) -> Option<Taken> {
        self.lock().take()
    }

    /// The same, for a panic hook: `None` if the recorder itself is what has panicked.
    #[must_use]
    pub fn take_in_panic(&self) -> Option<Taken> {
        match self.ring.try_lock() {
            Ok(ring) => ring.take(),
            Err(TryLockError::Poisoned(ring)) => ring.into_inner().take(),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Begins to record this replica. What it returns is told everything that the replica is given from now on.
    #[must_use]
    pub fn begin(&self, replica: &mut Replica) -> Recorder {
        let mut recorder = Recorder { shared: self.clone(), digest: Digest::default(), making: None };
        recorder.begin_leg(replica);
        recorder.go_on_with_image(replica, usize::MAX);
        recorder
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FlightRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightRecorder").finish_non_exhaustive()
    }
}

/// The recording end, for whoever drives the replica.
#[derive(Debug)]
pub struct Recorder {
    shared: FlightRecorder,
    digest: Digest,
    /// The image with which the current leg begins, and how much was recorded when it last grew.
    making: Option<(Image, usize)>,
}

impl Recorder {
    /// A turn begins.
    pub fn turn(&mut self, now: Instant) {
        self.digest = Digest::default();
        self.shared.lock().turn(now);
    }

    /// The replica is about to be given this. (Before it is: a panic comes later.)
    pub fn input(&mut self, input: &Input) {
        self.shared.lock().input(input);
    }

    /// The replica has asked for this.
    pub fn output(&mut self, output: &Output) {
        self.digest.output(output);
    }

    /// The turn is over.
    pub fn end(&mut self, replica: &mut Replica) {
        self.digest.standing(replica);
        let (full, broken) = {
            let mut ring = self.shared.lock();
            ring.end(self.digest, Standing::of(replica));
            (ring.is_full(replica.store().size_bytes()), ring.forget_broken())
        };
        if let Some(legs) = broken {
            legs.into_iter().for_each(|leg| (self.shared.discard)(leg));
            self.making = None;
            replica.abandon_image();
            self.begin_leg(replica);
        } else if self.making.is_some() {
            self.go_on_with_image(replica, self.shared.image_steps);
        } else if full {
            self.begin_leg(replica);
        }
    }

    /// Begins a leg, unless the replica cannot be copied right now.
    fn begin_leg(&mut self, replica: &mut Replica) {
        if let Some(image) = replica.begin_image() {
            self.shared.lock().begin_leg(Standing::of(replica));
            self.making = Some((image, 0));
        }
    }

    /// Makes some more of the image: so many steps, and more if much has been recorded since, so that it is whole long
    /// before the leg is full.
    fn go_on_with_image(&mut self, replica: &mut Replica, steps: usize) {
        let Some((image, before)) = &mut self.making else { return };
        if !replica.is_being_copied() {
            // The store is another one: a snapshot from the leader.
            self.making = None;
            return self.shared.lock().image_is_lost();
        }
        let now = self.shared.lock().bytes();
        let recorded = now - std::mem::replace(before, now);
        if !image.go_on(replica, steps.saturating_add(recorded / IMAGE_STEP_BYTES)) {
            return;
        }
        let (image, _) = self.making.take().expect("it has just been made");
        let forgotten = self.shared.lock().image_is_whole(image);
        forgotten.into_iter().for_each(|leg| (self.shared.discard)(leg));
    }
}

/// A fingerprint of what a replica did in a turn, and of where it stands afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Digest {
    /// The replica has asked for this.
    pub fn output(&mut self, output: &Output) {
        let (kind, which) = match output {
            Output::Send { to, .. } => (1, to.0),
            Output::Persist(write) => (2, write.id.0 ^ (write.entries.len() as u64) << 48),
            Output::SaveSnapshot { chunk, .. } => (3, u64::from(chunk.sequence)),
            Output::Respond { id, result } => (4 + u64::from(result.is_ok()), id.sequence),
            Output::Watch { watch, .. } => (6, watch.0),
            Output::Peers(peers) => (7, peers.len() as u64),
            Output::Removed => (8, 0),
            Output::Disowned => (9, 0),
            Output::Changed(_) => (10, 0),
        };
        self.word(kind << 60 ^ which);
    }

    /// The replica stands like this when the turn is over.
    pub fn standing(&mut self, replica: &Replica) {
        let Status { raft, applied, revision, pending, .. } = replica.status();
        let words = [
            raft.term.0,
            raft.role as u64,
            raft.commit.0,
            raft.last.index.0,
            applied.0,
            revision.0.cast_unsigned(),
        ];
        words.into_iter().for_each(|word| self.word(word));
        self.word(*pending as u64);
        self.word(replica.store().state_hash());
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// How much of an image is made after every turn, in steps of [`Image::go_on`]: some dozen microseconds' work.
const IMAGE_STEPS: usize = 2048;

/// One step more for so many bytes that were recorded meanwhile.
const IMAGE_STEP_BYTES: usize = 4;
