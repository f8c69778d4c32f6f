//! Latency and rate over time as SVG, with what was done to the cluster above and behind.
//!
//! Each fault is a bar in a strip above the plot, with its words, and a band of the same colour behind it; faults that
//! overlap have bars below each other. Latency is a map of how many answers took how long, as dark as they are many, with
//! the median and the 99th percentile as lines; questions without an answer stand in a row of their own on top.

use std::fmt::Write as _;

use quorate_jepsen::explain::Band;

use crate::record::TICKS_PER_SECOND;
use crate::timeline::{BINS, Column, End, Timeline};

/// Size of a plot, and room around what is drawn.
const WIDTH: f64 = 1100.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const BOTTOM: f64 = 34.0;
const TITLE: f64 = 30.0;
/// A bar of the strip.
const LANE: f64 = 15.0;
/// What a letter of a label takes, about.
const LETTER: f64 = 6.1;

/// How many columns of the timeline make one point of a rate.
const TOGETHER: usize = 3;

const ENDS: [(End, &str, &str); 3] = [
    (End::Answered, "answered", "#0969da"),
    (End::Refused, "refused", "#6e7781"),
    (End::Unknown, "outcome unknown", "#cf222e"),
];

/// The colours of the faults, by the first word of their labels.
const FAULTS: [(&str, &str); 7] = [
    ("kill", "#d1242f"),
    ("pause", "#bf8700"),
    ("partition", "#8250df"),
    ("clock", "#1b7c83"),
    ("disk", "#9a6700"),
    ("corrupt", "#bf3989"),
    ("members", "#2da44e"),
];

/// What is drawn.
pub struct Plots<'a> {
    timeline: &'a Timeline,
    /// The faults, each with its lane.
    bands: Vec<(&'a Band, usize)>,
    lanes: usize,
    /// In seconds.
    length: f64,
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND as f64
}

impl Plots<'_> {
    /// What happened when, and what was done to the cluster.
    pub fn new<'a>(timeline: &'a Timeline, bands: &'a [Band]) -> Plots<'a> {
        let columns = timeline.columns.len() as f64 * timeline.width();
        let length = bands.iter().map(|band| seconds(band.to)).fold(columns.max(1.0), f64::max);
        // Each fault goes to the first lane where the one before has ended.
        let mut ends: Vec<u64> = Vec::new();
        let placed: Vec<(&Band, usize)> = bands
            .iter()
            .map(|band| {
                let lane = ends.iter().position(|end| *end <= band.from).unwrap_or(ends.len());
                ends.resize(ends.len().max(lane + 1), 0);
                ends[lane] = band.to;
                (band, lane)
            })
            .collect();
        Plots { timeline, bands: placed, lanes: ends.len(), length }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * at / self.length
    }

    /// Where the plot begins below the strip of faults.
    fn top(&self) -> f64 {
        TITLE + LANE * self.lanes as f64 + 6.0
    }

    fn bottom(&self) -> f64 {
        self.top() + HEIGHT
    }

    /// How long operations took.
    pub fn latency(&self) -> String {
        let columns = &self.timeline.columns;
        let took = |bin: &usize| columns.iter().any(|column| column.took[*bin] > 0);
        let low = (0..BINS).find(took).unwrap_or(20).saturating_sub(1) / 10 * 10;
        let high = ((0..BINS).rfind(took).unwrap_or(50) + 2).max(low + 10) as f64;
        // The row on top is for those that took for ever.
        let (top, bottom) = (self.top() + LANE, self.bottom());
        let y = |bin: f64| bottom - (bottom - top) * (bin - low as f64) / (high - low as f64);
        let mut svg = self.frame("latency", &[("median", "#0a3069"), ("99th percentile", "#bc4c00")]);
        for bin in (low..high as usize).step_by(10) {
            grid(&mut svg, y(bin as f64), &duration(Timeline::shortest(bin)));
        }
        self.heat(&mut svg, &y);
        self.without_answer(&mut svg);
        for (part, colour) in [(0.5, "#0a3069"), (0.99, "#bc4c00")] {
            let line = columns.iter().enumerate().map(|(at, column)| {
                let bin = column.quantile(part)? as f64 + 0.5;
                Some((self.x((at as f64 + 0.5) * self.timeline.width()), y(bin)))
            });
            polyline(&mut svg, line, colour);
        }
        svg + "</svg>\n"
    }

    /// A rectangle for each column and magnitude, as dark as there are many.
    fn heat(&self, svg: &mut String, y: &dyn Fn(f64) -> f64) {
        let columns = &self.timeline.columns;
        let most = columns.iter().flat_map(|column| column.took).max().unwrap_or(1).max(1);
        let height = y(0.0) - y(1.0);
        for (at, column) in columns.iter().enumerate() {
            let (from, width) = self.column(at);
            for (bin, count) in column.took.iter().enumerate().filter(|(_, count)| **count > 0) {
                // By the logarithm: a single answer that took long is what one looks for.
                let part = f64::from(1 + count).ln() / f64::from(1 + most).ln();
                let (opacity, y) = (0.15 + 0.65 * part, y(bin as f64 + 1.0));
                add(
                    svg,
                    format_args!(
                        r##"<rect x="{from:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="#0969da" fill-opacity="{opacity:.2}"/>"##
                    ),
                );
            }
        }
    }

    /// The row of those without an answer.
    fn without_answer(&self, svg: &mut String) {
        let (from, top) = (LEFT - 5.0, self.top() + 1.0);
        add(
            svg,
            format_args!(
                r##"<text x="{from}" y="{:.1}" text-anchor="end" fill="#57606a">no answer</text>"##,
                top + 10.0
            ),
        );
        let unknown = |column: &Column| column.ends[End::Unknown as usize];
        let most = self.timeline.columns.iter().map(unknown).max().unwrap_or(1).max(1);
        for (at, column) in self.timeline.columns.iter().enumerate().filter(|(_, it)| unknown(it) > 0) {
            let (from, width) = self.column(at);
            let part = f64::from(1 + unknown(column)).ln() / f64::from(1 + most).ln();
            let (height, opacity) = (LANE - 3.0, 0.35 + 0.65 * part);
            add(
                svg,
                format_args!(
                    r##"<rect x="{from:.1}" y="{top:.1}" width="{width:.1}" height="{height}" fill="#cf222e" fill-opacity="{opacity:.2}"><title>{} of unknown outcome</title></rect>"##,
                    unknown(column)
                ),
            );
        }
    }

    /// How many operations ended in which way, per second.
    pub fn rate(&self) -> String {
        // A few columns make a point: single ones show little but chance.
        let width = self.timeline.width() * TOGETHER as f64;
        let count = |columns: &[Column], end: End| -> u32 {
            columns.iter().map(|column| column.ends[end as usize]).sum()
        };
        let points = |end: End| {
            self.timeline.columns.chunks(TOGETHER).map(move |columns| f64::from(count(columns, end)) / width)
        };
        let most = ENDS.iter().flat_map(|(end, ..)| points(*end)).fold(1.0, f64::max);
        let step = round_up(most / 6.0);
        let lines = (most * 1.02 / step).ceil() as u32;
        let high = step * f64::from(lines);
        let (top, bottom) = (self.top(), self.bottom());
        let y = |rate: f64| bottom - (bottom - top) * rate / high;
        let legend: Vec<(&str, &str)> = ENDS.map(|(_, name, colour)| (name, colour)).to_vec();
        let mut svg = self.frame("operations per second", &legend);
        for line in 0..=lines {
            let rate = step * f64::from(line);
            grid(&mut svg, y(rate), &format!("{}", (rate * 10.0).round() / 10.0));
        }
        for (end, _, colour) in ENDS {
            if points(end).all(|rate| rate == 0.0) {
                continue;
            }
            let point = |(at, rate)| Some((self.x((at as f64 + 0.5) * width).min(WIDTH - RIGHT), y(rate)));
            polyline(&mut svg, points(end).enumerate().map(point), colour);
        }
        svg + "</svg>\n"
    }

    /// Where a column begins, and how wide it is.
    fn column(&self, at: usize) -> (f64, f64) {
        let (from, to) =
            (self.x(at as f64 * self.timeline.width()), self.x((at + 1) as f64 * self.timeline.width()));
        (from, (to - from).max(0.5))
    }

    /// Title, legend, faults and the axis of time.
    fn frame(&self, title: &str, legend: &[(&str, &str)]) -> String {
        let (bottom, end) = (self.bottom(), WIDTH - RIGHT);
        let height = bottom + BOTTOM;
        let mut svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui,sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/><text x="{LEFT}" y="18" font-size="14" font-weight="600">{title}</text>"##
        );
        let mut x = end;
        for (name, colour) in legend.iter().rev() {
            x -= name.len() as f64 * LETTER + 26.0;
            add(
                &mut svg,
                format_args!(
                    r#"<path d="M{x},14h14" stroke="{colour}" stroke-width="3"/><text x="{}" y="18">{name}</text>"#,
                    x + 18.0
                ),
            );
        }
        self.faults(&mut svg);
        let step = time_step(self.length / 8.0);
        let marks = (0..=8).map(|mark| step * f64::from(mark)).take_while(|at| *at <= self.length);
        for at in marks {
            let x = self.x(at);
            let text = if step >= 60.0 { format!("{} min", at / 60.0) } else { format!("{at} s") };
            add(
                &mut svg,
                format_args!(
                    r##"<path d="M{x:.1},{bottom}v5" stroke="#57606a"/><text x="{x:.1}" y="{}" text-anchor="middle" fill="#57606a">{text}</text>"##,
                    bottom + 18.0
                ),
            );
        }
        add(&mut svg, format_args!(r##"<path d="M{LEFT},{bottom}H{end}" stroke="#57606a"/>"##));
        svg
    }

    /// The strip of faults, and the bands below it.
    fn faults(&self, svg: &mut String) {
        for (band, lane) in &self.bands {
            let (from, to) = (self.x(seconds(band.from)), self.x(seconds(band.to)));
            let (width, y) = ((to - from).max(1.0), TITLE + LANE * *lane as f64);
            let word = band.label.split([' ', ':']).next().unwrap_or_default();
            let colour =
                FAULTS.iter().find(|(name, _)| *name == word).map_or("#57606a", |(_, colour)| colour);
            let (below, height) = (y + LANE - 2.0, self.bottom() - y - LANE + 2.0);
            let label = escaped(&band.label);
            add(
                svg,
                format_args!(
                    r#"<g><title>{label}: {:.1} s to {:.1} s</title><rect x="{from:.1}" y="{y}" width="{width:.1}" height="{}" rx="2" fill="{colour}"/><rect x="{from:.1}" y="{below}" width="{width:.1}" height="{height:.1}" fill="{colour}" fill-opacity="0.09"/>"#,
                    seconds(band.from),
                    seconds(band.to),
                    LANE - 2.0
                ),
            );
            if let Some(text) = shortened(&band.label, width - 6.0) {
                add(
                    svg,
                    format_args!(
                        r##"<text x="{:.1}" y="{}" fill="#fff" font-size="10">{}</text>"##,
                        from + 3.0,
                        y + 10.0,
                        escaped(&text)
                    ),
                );
            }
            svg.push_str("</g>");
        }
    }
}

/// As much of a label as fits; nothing if that says nothing.
fn shortened(label: &str, room: f64) -> Option<String> {
    let letters = (room / LETTER).max(0.0) as usize;
    if label.chars().count() <= letters {
        return Some(label.to_owned());
    }
    (letters >= 4).then(|| label.chars().take(letters - 1).collect::<String>() + "…")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The next of 1, 2, 5, 10, 20, …: steps of an axis.
fn round_up(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-3).log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|nice| nice * power >= least).unwrap_or(10.0);
    nice * power
}

/// Steps of the axis of time, where minutes are counted in sixties.
fn time_step(least: f64) -> f64 {
    match round_up(least) {
        50.0 => 60.0,
        100.0 => 120.0,
        200.0 => 300.0,
        500.0 => 600.0,
        1000.0 => 1200.0,
        2000.0 => 3600.0,
        other => other,
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        small if small < 0.0009 => format!("{:.0} µs", small * 1e6),
        small if small < 0.9 => format!("{:.0} ms", small * 1e3),
        other => format!("{other:.0} s"),
    }
}

fn grid(svg: &mut String, y: f64, label: &str) {
    let (end, under) = (WIDTH - RIGHT, y + 4.0);
    add(
        svg,
        format_args!(
            r##"<path d="M{LEFT},{y:.1}H{end}" stroke="#d0d7de"/><text x="{}" y="{under:.1}" text-anchor="end" fill="#57606a">{label}</text>"##,
            LEFT - 5.0
        ),
    );
}

/// A line with gaps where there is no point; a point alone is a short line.
fn polyline(svg: &mut String, points: impl Iterator<Item = Option<(f64, f64)>>, colour: &str) {
    let mut path = String::new();
    let mut pen = 'M';
    for point in points {
        let Some((x, y)) = point else {
            pen = 'M';
            continue;
        };
        add(&mut path, format_args!("{pen}{x:.1},{y:.1}"));
        if pen == 'M' {
            path.push_str("h.1");
        }
        pen = 'L';
    }
    add(
        svg,
        format_args!(
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round" stroke-linecap="round"/>"#
        ),
    );
}

fn add(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a string takes everything");
}
