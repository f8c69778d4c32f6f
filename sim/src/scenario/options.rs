//! The options of a scenario: one a line, those left out as in [`plain`].

use std::fmt;
use std::time::Duration;

use super::words::{Mistake, Read, Words};
use crate::options::Options;

/// What a scenario runs with unless it says something else: three members, everything fast, nothing wrong.
#[must_use]
pub fn plain() -> Options {
    let millis = Duration::from_millis;
    let mut options = Options::draw(0);
    options.members = 3;
    options.storm = Duration::from_secs(10);
    options.election_timeout = millis(150);
    options.pre_vote = true;
    options.append_bytes_max = 1 << 20;
    options.inflight_max = 256;
    options.snapshot_entries = 100_000;
    options.catchup_entries = 100;
    options.request_timeout = millis(7_000);
    options.turn_delay = Duration::ZERO;
    options.network.delay = millis(1);
    options.network.jitter = Duration::from_micros(200);
    (options.network.loss, options.network.duplication, options.network.reordering) = (0, 0, 0);
    options.disk.sync = millis(1);
    options.disk.jitter = Duration::from_micros(100);
    options.clock_spread = 0;
    options.codec = 10_000;
    options.load.clients = 1;
    options.load.patience = millis(2_000);
    options.load.keys = 3;
    options.load.watchers = 0;
    options.load.watch_pause = Duration::ZERO;
    options.make_calm();
    options
}

/// A place for a value.
enum Slot<'a> {
    Number(&'a mut u64),
    Size(&'a mut usize),
    PerMillion(&'a mut u32),
    Duration(&'a mut Duration),
    Switch(&'a mut bool),
}

/// An option: its name, and where it is kept.
type Entry = (&'static str, fn(&mut Options) -> Slot<'_>);

const ENTRIES: [Entry; 25] = [
    ("seed", |o| Slot::Number(&mut o.seed)),
    ("members", |o| Slot::Number(&mut o.members)),
    ("storm", |o| Slot::Duration(&mut o.storm)),
    ("election-timeout", |o| Slot::Duration(&mut o.election_timeout)),
    ("pre-vote", |o| Slot::Switch(&mut o.pre_vote)),
    ("append-bytes", |o| Slot::Size(&mut o.append_bytes_max)),
    ("inflight", |o| Slot::Size(&mut o.inflight_max)),
    ("snapshot-entries", |o| Slot::Number(&mut o.snapshot_entries)),
    ("catchup-entries", |o| Slot::Number(&mut o.catchup_entries)),
    ("request-timeout", |o| Slot::Duration(&mut o.request_timeout)),
    ("turn-delay", |o| Slot::Duration(&mut o.turn_delay)),
    ("link-delay", |o| Slot::Duration(&mut o.network.delay)),
    ("link-jitter", |o| Slot::Duration(&mut o.network.jitter)),
    ("loss", |o| Slot::PerMillion(&mut o.network.loss)),
    ("duplication", |o| Slot::PerMillion(&mut o.network.duplication)),
    ("reordering", |o| Slot::PerMillion(&mut o.network.reordering)),
    ("disk-sync", |o| Slot::Duration(&mut o.disk.sync)),
    ("disk-jitter", |o| Slot::Duration(&mut o.disk.jitter)),
    ("clock-spread", |o| Slot::Number(&mut o.clock_spread)),
    ("codec", |o| Slot::PerMillion(&mut o.codec)),
    ("clients", |o| Slot::Number(&mut o.load.clients)),
    ("patience", |o| Slot::Duration(&mut o.load.patience)),
    ("keys", |o| Slot::Number(&mut o.load.keys)),
    ("watchers", |o| Slot::Number(&mut o.load.watchers)),
    ("watch-pause", |o| Slot::Duration(&mut o.load.watch_pause)),
];

/// The names of all options.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().map(|(name, _)| *name)
}

/// Reads an option's value. `None` if there is no option of this name.
pub fn read(name: &str, words: &mut Words, options: &mut Options) -> Option<Read<()>> {
    let (_, slot) = ENTRIES.iter().find(|(other, _)| *other == name)?;
    Some(read_value(slot(options), words))
}

fn read_value(slot: Slot<'_>, words: &mut Words) -> Read<()> {
    match slot {
        Slot::Number(value) => *value = words.number("a number")?,
        Slot::Size(value) => *value = words.number("a number")?,
        Slot::PerMillion(value) => *value = words.number("how many of a million")?,
        Slot::Duration(value) => *value = words.duration()?,
        Slot::Switch(value) => {
            *value = words.take("on");
            if !*value {
                words.expect("off").map_err(|mistake| Mistake {
                    what: "expected \"on\" or \"off\"".to_owned(),
                    ..mistake
                })?;
            }
        }
    }
    Ok(())
}

/// Writes every option that is not as in [`plain`].
pub fn write(f: &mut fmt::Formatter<'_>, options: &Options) -> fmt::Result {
    let (mut options, mut usual) = (options.clone(), plain());
    for (name, slot) in ENTRIES {
        let (value, usual) = (text(slot(&mut options)), text(slot(&mut usual)));
        if value != usual {
            writeln!(f, "{name} {value}")?;
        }
    }
    Ok(())
}

fn text(slot: Slot<'_>) -> String {
    match slot {
        Slot::Number(value) => value.to_string(),
        Slot::Size(value) => value.to_string(),
        Slot::PerMillion(value) => value.to_string(),
        Slot::Duration(value) => format!("{value:?}"),
        Slot::Switch(true) => "on".to_owned(),
        Slot::Switch(false) => "off".to_owned(),
    }
}
