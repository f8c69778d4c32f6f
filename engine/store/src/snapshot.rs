//! Exporting and importing the whole state in parts.

use serde::{Deserialize, Serialize};

/// How far an export has come.
#[derive(Debug)]
pub struct SnapshotCursor {}

/// A piece of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotPart {}
