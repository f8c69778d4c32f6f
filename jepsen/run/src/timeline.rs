//! How many operations ended in which way, when, and how long they took: counted by columns of time and by magnitude, so
//! that a run of hours takes no more memory than one of seconds.

use std::time::Duration;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an answer.
    Answered,
    /// For certain without effect.
    Refused,
    /// Nobody knows how.
    Unknown,
}

/// Counts of a run.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// How much time a column stands for.
    width: Duration,
    /// By the time of the call.
    pub columns: Vec<Column>,
}

/// What was called in one stretch of time.
#[derive(Clone, Debug)]
pub struct Column {
    /// How many ended in each way, in the order of [`End`].
    pub ends: [u32; 3],
    /// How long the answered ones took: how many by magnitude (see [`Timeline::bin`]).
    pub took: [u32; BINS],
}

impl Timeline {
    /// Of a run that is planned to last so long.
    pub fn new(planned: Duration) -> Timeline {
        Timeline { width: (planned / COLUMNS).max(WIDTH_MIN), columns: Vec::new() }
    }

    /// How much time a column stands for, in seconds.
    pub fn width(&self) -> f64 {
        self.width.as_secs_f64()
    }

    /// An operation that was called at a time, and ended so much later.
    pub fn add(&mut self, called: Duration, took: Duration, end: End) {
        let at = usize::try_from(called.as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX);
        // A run may last longer than planned, but not for ever.
        let at = at.min(2 * COLUMNS as usize);
        if self.columns.len() <= at {
            self.columns.resize(at + 1, Column { ends: [0; 3], took: [0; BINS] });
        }
        let column = &mut self.columns[at];
        column.ends[end as usize] += 1;
        if end == End::Answered {
            column.took[Self::bin(took)] += 1;
        }
    }

    /// The magnitude of a time: ten to a factor of ten.
    fn bin(took: Duration) -> usize {
        let magnitude = (took.as_secs_f64() / SHORTEST).log10() * BINS_PER_DECADE;
        // (Of zero, the logarithm is below everything.)
        magnitude.clamp(0.0, (BINS - 1) as f64) as usize
    }

    /// The shortest time of a magnitude, in seconds.
    pub fn shortest(bin: usize) -> f64 {
        SHORTEST * 10_f64.powf(bin as f64 / BINS_PER_DECADE)
    }
}

impl Column {
    /// The magnitude below which this part of the answered ones lies.
    pub fn quantile(&self, part: f64) -> Option<usize> {
        let all: u32 = self.took.iter().sum();
        let mut left = (f64::from(all) * part).ceil().max(1.0) as u32;
        (all > 0).then(|| {
            let found = self.took.iter().position(|count| {
                left = left.saturating_sub(*count);
                left == 0
            });
            found.expect("there are as many as were counted")
        })
    }
}

/// How many columns a run has that lasts as long as planned.
const COLUMNS: u32 = 280;
const WIDTH_MIN: Duration = Duration::from_millis(50);
/// How many magnitudes there are: from ten microseconds to a hundred seconds.
pub const BINS: usize = 70;
const BINS_PER_DECADE: f64 = 10.0;
const SHORTEST: f64 = 1e-5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_nothing_is_lost() {
        let mut timeline = Timeline::new(Duration::from_secs(10));
        for step in 0..10_000 {
            let end = [End::Answered, End::Refused, End::Unknown][step % 3];
            timeline.add(Duration::from_millis(step as u64 * 20), Duration::from_micros(step as u64), end);
        }
        assert_eq!(timeline.columns.len(), 2 * COLUMNS as usize + 1);
        let counted: u32 = timeline.columns.iter().flat_map(|column| column.ends).sum();
        assert_eq!(counted, 10_000);
    }

    #[test]
    fn quantiles_are_right_up_to_their_magnitude() {
        let mut timeline = Timeline::new(Duration::from_secs(10));
        for took in 1..=100 {
            timeline.add(Duration::ZERO, Duration::from_millis(took), End::Answered);
        }
        for (part, expected) in [(0.0, 0.001), (0.5, 0.050), (0.99, 0.099), (1.0, 0.1)] {
            let bin = timeline.columns[0].quantile(part).expect("there are answers");
            let (low, high) = (Timeline::shortest(bin) * 0.99, Timeline::shortest(bin + 1) * 1.01);
            assert!((low..high).contains(&expected), "{part}: {low} {high}");
        }
        let mut none = Timeline::new(Duration::from_secs(10));
        none.add(Duration::ZERO, Duration::ZERO, End::Unknown);
        assert_eq!(none.columns[0].quantile(0.5), None);
    }
}
