//! Alarms: NOSPACE and CORRUPT, and what they forbid.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::command::{AlarmKind, Command};
use crate::error::Error;

/// The alarms that are on, by member and kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Alarms {
    on: BTreeSet<(u64, AlarmKind)>,
}

impl Alarms {
    /// Switches an alarm. False if it was so already.
    pub(crate) fn switch(&mut self, member: u64, kind: AlarmKind, active: bool) -> bool {
        if active { self.on.insert((member, kind)) } else { self.on.remove(&(member, kind)) }
    }

    pub(crate) fn list(&self) -> Vec<(u64, AlarmKind)> {
        self.on.iter().copied().collect()
    }

    /// Why a command may not be applied now. Alarms are part of the replicated state, so every member
    /// refuses the same commands. Without space, what gives space back is still allowed.
    pub(crate) fn check(&self, command: &Command) -> Result<(), Error> {
        if self.on.is_empty() || matches!(command, Command::Alarm { .. }) || command.is_about_members() {
            return Ok(());
        }
        if self.any(AlarmKind::Corrupt) {
            return Err(Error::Corrupt);
        }
        if self.any(AlarmKind::NoSpace) && command.cost() > 0 {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    fn any(&self, kind: AlarmKind) -> bool {
        self.on.iter().any(|(_, on)| *on == kind)
    }
}
