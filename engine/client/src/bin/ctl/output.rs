//! How results are printed: as lines, as a table, as JSON; each as etcdctl does it.
//!
//! JSON is what Go makes of etcd's messages: fields in the order of the message, those that are zero or empty left out,
//! ids as numbers.

use std::io::Write;

use clap::ValueEnum;
use quorate_client::proto::etcdserverpb as pb;
use serde::Serialize;

use crate::failure::Failure;

/// `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for scripts.
    Simple,
    /// A table for people.
    Table,
    /// One JSON value.
    Json,
}

/// Prints to standard output. Scripts may close the pipe when they have seen enough.
pub fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        // As if by the signal that other programs are ended with then.
        std::io::ErrorKind::BrokenPipe => std::process::exit(ENDED_BY_SIGPIPE),
        _ => Failure::error(format!("cannot write the output: {error}")),
    })
}

/// Prints a value as one line of JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::error(error.to_string()))?;
    print(format!("{text}\n").as_bytes())
}

/// Rows as lines, their cells separated by a comma and a space.
pub fn lines(rows: &[Vec<String>]) -> String {
    rows.iter().map(|row| row.join(", ") + "\n").collect()
}

/// Rows as a table: titles in the middle, cells to the right.
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width_of = |text: &str| text.chars().count();
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(at, title)| rows.iter().map(|row| width_of(&row[at])).fold(width_of(title), usize::max))
        .collect();
    let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    let rule = rule + "+\n";
    let title: String =
        titles.iter().zip(&widths).map(|(title, width)| format!("| {title:^width$} ")).collect();
    let mut text = format!("{rule}{title}|\n{rule}");
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            text += &format!("| {cell:>width$} ");
        }
        text += "|\n";
    }
    if rows.is_empty() { text } else { text + &rule }
}

/// A number of bytes as people read it, in powers of a thousand.
pub fn human_bytes(bytes: i64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let Ok(bytes) = u64::try_from(bytes) else { return format!("{bytes} B") };
    let unit = bytes.checked_ilog(1000).unwrap_or(0);
    let whole = 1000_u64.pow(unit);
    let tenths = (u128::from(bytes) * 10 + u128::from(whole) / 2) / u128::from(whole);
    let name = UNITS[unit as usize];
    if bytes >= 10 && tenths < 100 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        // Go rounds a half to the even number.
        format!("{} {name}", (tenths + 4 + tenths / 10 % 2) / 10)
    }
}

/// A response's header in JSON.
#[derive(Serialize)]
pub struct Header {
    #[serde(skip_serializing_if = "is_default")]
    cluster_id: u64,
    #[serde(skip_serializing_if = "is_default")]
    member_id: u64,
    #[serde(skip_serializing_if = "is_default")]
    revision: i64,
    #[serde(skip_serializing_if = "is_default")]
    raft_term: u64,
}

impl From<pb::ResponseHeader> for Header {
    fn from(header: pb::ResponseHeader) -> Self {
        let pb::ResponseHeader { cluster_id, member_id, revision, raft_term } = header;
        Self { cluster_id, member_id, revision, raft_term }
    }
}

/// Whether Go would leave the field out.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What shells say of a program that SIGPIPE ended: 128 and the signal's number.
const ENDED_BY_SIGPIPE: i32 = 141;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_etcdctl() {
        let table = [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (20_480, "20 kB"),
            (21_500, "22 kB"),
            (36_864, "37 kB"),
            (2_147_483_648, "2.1 GB"),
            (i64::MAX, "9.2 EB"),
        ];
        for (bytes, text) in table {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn a_table_is_as_wide_as_it_must_be() {
        let rows = [vec!["1".to_owned(), "started".to_owned()]];
        let expected =
            "+----+---------+\n| ID | STATUS  |\n+----+---------+\n|  1 | started |\n+----+---------+\n";
        assert_eq!(table(&["ID", "STATUS"], &rows), expected);
    }
}
