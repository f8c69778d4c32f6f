//! Latency and rate over time, with what was done to the cluster behind, as SVG.

use std::fmt::Write as _;

use quorate_jepsen::etcd::EtcdHistory;
use quorate_jepsen::explain::Band;

use crate::record::TICKS_PER_SECOND;

/// Size of a plot, and room for the labels of its axes.
const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 24.0;
/// Points of a scatter; more look like a blot and make the file large.
const POINTS_MAX: usize = 6000;
/// Steps of a line.
const STEPS: usize = 150;

/// How an operation ended.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Answered,
    Refused,
    Unknown,
}

const ENDS: [(End, &str, &str); 3] = [
    (End::Answered, "answered", "#4a90c4"),
    (End::Refused, "refused", "#8a8f98"),
    (End::Unknown, "unknown", "#d1242f"),
];

/// One operation: when it was called, how long it took (in seconds), and how it ended.
struct Sample {
    at: f64,
    took: f64,
    end: End,
}

/// The samples of a run.
pub struct Plots {
    samples: Vec<Sample>,
    bands: Vec<Band>,
    length: f64,
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND as f64
}

impl Plots {
    /// From a history, with what was done to the cluster.
    pub fn new(history: &EtcdHistory, bands: &[Band], timeout: f64) -> Plots {
        let sample = |operation: &quorate_jepsen::Operation<_, quorate_jepsen::etcd::Response>| {
            let end = match operation.output() {
                Some(response) if response.result.is_ok() => End::Answered,
                Some(_) => End::Refused,
                None => End::Unknown,
            };
            let took = match operation.returned {
                Some(_) => seconds(operation.return_time() - operation.call),
                None => timeout,
            };
            Sample { at: seconds(operation.call), took, end }
        };
        let samples: Vec<Sample> = history.operations.operations.iter().map(sample).collect();
        let length = samples.iter().map(|sample| sample.at + sample.took).fold(1.0, f64::max);
        Plots { samples, bands: bands.to_vec(), length }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (WIDTH - LEFT - 30.0) * at / self.length
    }

    /// How long operations took: a point each, and the quantiles of the answered ones.
    pub fn latency(&self) -> String {
        let (low, high) =
            (0.0001_f64, self.samples.iter().map(|sample| sample.took).fold(0.1, f64::max) * 1.5);
        let y = |took: f64| {
            let part = (took.max(low) / low).ln() / (high / low).ln();
            HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * part
        };
        let mut svg = self.frame("latency: points, median, 99th percentile");
        let mut decade = low;
        while decade < high {
            let label = if decade < 1.0 { format!("{} ms", decade * 1000.0) } else { format!("{decade} s") };
            grid(&mut svg, y(decade), &label);
            decade *= 10.0;
        }
        let skip = self.samples.len() / POINTS_MAX + 1;
        for (end, _, colour) in ENDS {
            // Only the many are thinned out.
            let step = if end == End::Answered { skip } else { 1 };
            for sample in
                self.samples.iter().filter(|sample| sample.end == end).step_by(step).take(POINTS_MAX)
            {
                let (x, y) = (self.x(sample.at), y(sample.took));
                write!(
                    svg,
                    r#"<circle cx="{x:.1}" cy="{y:.1}" r="1.4" fill="{colour}" fill-opacity="0.5"/>"#
                )
                .expect("a string takes everything");
            }
        }
        for (quantile, colour) in [(0.5, "#0a3069"), (0.99, "#bc4c00")] {
            let line = self.buckets().into_iter().map(|(at, mut bucket)| {
                bucket.sort_by(f64::total_cmp);
                let place = ((bucket.len() as f64 * quantile) as usize).min(bucket.len().saturating_sub(1));
                bucket.get(place).map(|took| (self.x(at), y(*took)))
            });
            polyline(&mut svg, line, colour);
        }
        svg + "</svg>\n"
    }

    /// How many operations ended in which way, per second.
    pub fn rate(&self) -> String {
        let width = self.length / STEPS as f64;
        let mut counts = [[0_u32; STEPS]; 3];
        for sample in &self.samples {
            let step = ((sample.at / width) as usize).min(STEPS - 1);
            let kind = ENDS.iter().position(|(end, ..)| *end == sample.end).expect("all ends are listed");
            counts[kind][step] += 1;
        }
        let most = counts.iter().flatten().copied().max().unwrap_or(1).max(1);
        let high = f64::from(most) / width * 1.1;
        let y = |rate: f64| HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * rate / high;
        let mut svg = self.frame("operations per second");
        for part in 0..=4 {
            let rate = high * f64::from(part) / 4.0;
            grid(&mut svg, y(rate), &format!("{rate:.1}"));
        }
        for ((_, _, colour), counts) in ENDS.into_iter().zip(&counts) {
            let point = |(step, count): (usize, &u32)| {
                Some((self.x((step as f64 + 0.5) * width), y(f64::from(*count) / width)))
            };
            polyline(&mut svg, counts.iter().enumerate().map(point), colour);
        }
        svg + "</svg>\n"
    }

    /// The latencies of answered operations by time.
    fn buckets(&self) -> Vec<(f64, Vec<f64>)> {
        let width = self.length / STEPS as f64;
        let mut buckets: Vec<(f64, Vec<f64>)> =
            (0..STEPS).map(|step| ((step as f64 + 0.5) * width, Vec::new())).collect();
        for sample in self.samples.iter().filter(|sample| sample.end == End::Answered) {
            buckets[((sample.at / width) as usize).min(STEPS - 1)].1.push(sample.took);
        }
        buckets
    }

    /// The axes, the bands and the legend.
    fn frame(&self, title: &str) -> String {
        let mut svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui,sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/><text x="{LEFT}" y="14" font-weight="600">{title}</text>"##
        );
        let mut write = |text: String| svg.push_str(&text);
        for band in &self.bands {
            let (from, to) = (self.x(seconds(band.from)), self.x(seconds(band.to).min(self.length)));
            let hue = match band.label.split([' ', ':']).next() {
                Some("kill") => 0,
                Some("pause") => 40,
                Some("partition") => 270,
                _ => 180,
            };
            let (width, height) = ((to - from).max(1.0), HEIGHT - BOTTOM - TOP);
            write(format!(
                r#"<rect x="{from:.1}" y="{TOP}" width="{width:.1}" height="{height}" fill="hsl({hue} 70% 50%)" fill-opacity="0.15"><title>{}</title></rect>"#,
                band.label
            ));
        }
        for (place, (_, name, colour)) in ENDS.into_iter().enumerate() {
            let x = WIDTH - 230.0 + 75.0 * place as f64;
            write(format!(
                r#"<circle cx="{x}" cy="10" r="4" fill="{colour}"/><text x="{}" y="14">{name}</text>"#,
                x + 8.0
            ));
        }
        for part in 0..=6 {
            let at = self.length * f64::from(part) / 6.0;
            let (x, y) = (self.x(at), HEIGHT - 10.0);
            write(format!(r##"<text x="{x:.1}" y="{y}" text-anchor="middle" fill="#555">{at:.1} s</text>"##));
        }
        svg
    }
}

fn grid(svg: &mut String, y: f64, label: &str) {
    let (end, under) = (WIDTH - 30.0, y + 4.0);
    write!(
        svg,
        r##"<path d="M{LEFT},{y:.1}H{end}" stroke="#ddd"/><text x="{}" y="{under:.1}" text-anchor="end" fill="#555">{label}</text>"##,
        LEFT - 5.0
    )
    .expect("a string takes everything");
}

/// A line with gaps where there is no point.
fn polyline(svg: &mut String, points: impl Iterator<Item = Option<(f64, f64)>>, colour: &str) {
    let mut path = String::new();
    let mut pen = 'M';
    for point in points {
        let Some((x, y)) = point else {
            pen = 'M';
            continue;
        };
        write!(path, "{pen}{x:.1},{y:.1}").expect("a string takes everything");
        pen = 'L';
    }
    write!(svg, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#)
        .expect("a string takes everything");
}
