//! Durations in buckets that double, as etcd has them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Text;

/// How many buckets there are before the one without a bound.
const BUCKETS: usize = 14;
/// The bound of the first; each has twice the bound of the one before.
const FIRST_BOUND: Duration = Duration::from_millis(1);

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulative; the last has no bound.
    buckets: [AtomicU64; BUCKETS + 1],
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// Something took this long.
    pub fn observe(&self, duration: Duration) {
        let bucket = (0..BUCKETS).find(|bucket| duration <= FIRST_BOUND * (1 << bucket)).unwrap_or(BUCKETS);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn render(&self, text: &mut Text, name: &str, help: &str) {
        text.head(name, help, "histogram");
        let mut count = 0;
        for (bucket, observed) in self.buckets.iter().enumerate() {
            count += observed.load(Ordering::Relaxed);
            if bucket < BUCKETS {
                let bound = (FIRST_BOUND * (1 << bucket)).as_secs_f64();
                text.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
            } else {
                text.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
            }
        }
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)).as_secs_f64();
        text.line(format_args!("{name}_sum {sum}"));
        text.line(format_args!("{name}_count {count}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_bounds_inclusive() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 3, 9000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut text = Text::default();
        histogram.render(&mut text, "h", "help");
        let lines: Vec<&str> = text.0.lines().collect();
        assert_eq!(
            lines[2..5],
            [r#"h_bucket{le="0.001"} 2"#, r#"h_bucket{le="0.002"} 3"#, r#"h_bucket{le="0.004"} 4"#]
        );
        assert_eq!(
            lines[15..],
            [r#"h_bucket{le="8.192"} 4"#, r#"h_bucket{le="+Inf"} 5"#, "h_sum 9.006", "h_count 5"]
        );
    }
}
