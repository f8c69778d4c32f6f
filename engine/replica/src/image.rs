//! Images: a replica as it is between two turns, copied while it goes on.
//!
//! A replica can be cloned, and that takes time for every version in its store, all of it at once. An image is the same in
//! two parts. What is not in the store (Raft and the log in memory, sessions, requests, and the store's own leases and watchers) is copied when
//! the image begins; what is in the store, some at a time, later (`Store::begin_copy`). The replica does not notice.

use core::mem;

use quorate_store::{ImportError, Store, StoreCopy};
use serde::{Deserialize, Serialize};

use crate::replica::Replica;
use crate::status::Status;

/// A replica at one moment, whole or in the making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// With an empty store.
    rest: Replica,
    store: StoreCopy,
}

impl Image {
    /// Copies some more of a replica, as long as it [is being copied](Replica::is_being_copied); returns whether the image
    /// is whole. The work is proportional to the steps.
    pub fn go_on(&mut self, of: &mut Replica, steps: usize) -> bool {
        of.store.go_on_with_copy(&mut self.store, steps)
    }

    /// How the replica was.
    #[must_use]
    pub fn status(&self) -> &Status {
        self.rest.status()
    }

    /// The replica as it was when the image was begun.
    ///
    /// # Errors
    /// The image is not whole, or damaged.
    pub fn into_replica(self) -> Result<Replica, ImportError> {
        let Image { rest: mut replica, store } = self;
        replica.store = store.restore()?;
        Ok(replica)
    }
}

impl Replica {
    /// Begins an image, between two turns. `None` while a whole store from the leader waits to be
    /// judged, which is a matter of a few turns: to copy that, too, would take too long.
    pub fn begin_image(&mut self) -> Option<Image> {
        if self.snapshots.holds_a_store() {
            return None;
        }
        let store = self.store.begin_copy();
        let live = mem::replace(&mut self.store, Store::new());
        let rest = self.clone();
        self.store = live;
        Some(Image { rest, store })
    }

    /// Gives up the image that is in the making.
    pub fn abandon_image(&mut self) {
        self.store.abandon_copy();
    }

    /// Whether the image that was begun can go on. It cannot once a snapshot from the leader has taken the store's place.
    #[must_use]
    pub fn is_being_copied(&self) -> bool {
        self.store.is_being_copied()
    }
}
