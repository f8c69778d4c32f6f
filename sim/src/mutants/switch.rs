//! All mutants in one program, and a switch that says which one it is.
//!
//! Building a program for each of a hundred mutants takes hours, and running one takes a blink. So every function
//! that some entry changes is written several times into its own body, once as each entry wants it and once as it
//! is:
//!
//! ```text
//! fn majority(...) -> u64 {                fn majority(...) -> u64 {
//!     2 * supporters > voters         =>       if crate::mutant::is(17) {
//! }                                                2 * supporters >= voters
//!                                              } else {
//!                                                  2 * supporters > voters
//!                                              }
//!                                          }
//! ```
//!
//! That is done on text: all that has to be known of Rust is where a function begins and ends.

use std::ops::Range;

use super::Hunk;

/// A module for the end of a crate's first file: which mutant this process is.
pub const MODULE: &str = r#"
#[allow(missing_docs, clippy::all)]
pub mod mutant {
    extern crate std;
    static NUMBER: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
    pub fn is(number: u32) -> bool {
        *NUMBER.get_or_init(|| std::env::var("QUORATE_MUTANT").ok()?.parse().ok()) == Some(number)
    }
}
"#;

/// What tells a program which mutant it is.
pub const VARIABLE: &str = "QUORATE_MUTANT";

/// A file with all these changes in it, each behind the switch. The changes have numbers.
pub fn switched(text: &str, hunks: &[(usize, &Hunk)]) -> Result<String, String> {
    let functions = functions(text);
    // Which function each change is in.
    let mut places = Vec::new();
    for (number, hunk) in hunks {
        let lines = hunk.place(text)?;
        let function = functions
            .iter()
            .position(|function| function.body.start < lines.start && lines.end < function.body.end);
        let Some(function) = function.filter(|function| functions[*function].can_be_repeated) else {
            return Err(format!(
                "{}: {:?} is not in the body of a function that could be written twice (one that is not const, \
                 and returns no `impl`)",
                hunk.file, hunk.before
            ));
        };
        places.push((function, *number, lines, hunk));
    }
    let mut changed = String::new();
    let mut written = 0;
    for (at, function) in functions.iter().enumerate() {
        let body = &text[function.body.clone()];
        let mut numbers: Vec<usize> =
            places.iter().filter(|place| place.0 == at).map(|place| place.1).collect();
        numbers.dedup();
        if numbers.is_empty() {
            continue;
        }
        changed.push_str(&text[written..function.body.start]);
        changed.push('{');
        for number in numbers {
            let mut other = body.to_owned();
            let mut ours: Vec<_> = places.iter().filter(|place| place.0 == at && place.1 == number).collect();
            ours.sort_by_key(|(_, _, lines, _)| std::cmp::Reverse(lines.start));
            for (_, _, lines, hunk) in ours {
                let lines = lines.start - function.body.start..lines.end - function.body.start;
                other.replace_range(lines, &(hunk.after.join("\n") + "\n"));
            }
            changed.push_str(&format!("if crate::mutant::is({number}) {other} else "));
        }
        changed.push_str(body);
        changed.push('}');
        written = function.body.end;
    }
    changed.push_str(&text[written..]);
    Ok(changed)
}

/// A function that is not inside of another one.
#[derive(Debug)]
struct Function {
    /// From its opening brace to behind the closing one.
    body: Range<usize>,
    /// Whether its body may be a choice between two bodies.
    can_be_repeated: bool,
}

/// All functions of a file, in order.
fn functions(text: &str) -> Vec<Function> {
    let words = words(text);
    let mut functions: Vec<Function> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let is_function = words[at].1 == "fn" && words.get(at + 1).is_some_and(|(_, word)| is_name(word));
        if !is_function {
            at += 1;
            continue;
        }
        let constant = at > 0 && words[at - 1].1 == "const";
        let (mut depth, mut returns, mut opaque) = (0_i32, false, false);
        let mut open = at;
        while let Some((_, word)) = words.get(open) {
            match *word {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "->" if depth == 0 => returns = true,
                "impl" => opaque |= returns,
                "{" | ";" if depth == 0 => break,
                _ => {}
            }
            open += 1;
        }
        let Some((start, "{")) = words.get(open).copied() else {
            at = open + 1; // A declaration without a body.
            continue;
        };
        let close = closing(&words, open);
        functions.push(Function { body: start..words[close].0 + 1, can_be_repeated: !constant && !opaque });
        at = close + 1;
    }
    functions
}

/// Where the brace closes that opens there.
fn closing(words: &[(usize, &str)], open: usize) -> usize {
    let mut depth = 0_i32;
    for (at, (_, word)) in words.iter().enumerate().skip(open) {
        match *word {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    words.len() - 1
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names and signs of a source text with their places: no comments, no contents of strings.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = string(rest) {
            length
        } else if is_name(rest) {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            words.push((at, &rest[..length]));
            length
        } else if rest.starts_with("->") {
            words.push((at, "->"));
            2
        } else {
            if !first.is_whitespace() {
                words.push((at, &rest[..first.len_utf8()]));
            }
            first.len_utf8()
        };
        at += length;
    }
    words
}

/// How long the string or character is that the text begins with, if it does.
fn string(text: &str) -> Option<usize> {
    let plain = text.trim_start_matches(['b', 'c', 'r']);
    let prefix = text.len() - plain.len();
    if prefix > 2 {
        return None;
    }
    let raw = text[..prefix].contains('r');
    let hashes = plain.len() - plain.trim_start_matches('#').len();
    if raw && plain[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let length = plain[hashes + 1..].find(&end)?;
        return Some(prefix + hashes + 1 + length + end.len());
    }
    if plain.starts_with('"') {
        return Some(prefix + quoted(plain, '"')?);
    }
    // A lifetime looks like a character that never ends.
    let mut letters = plain.strip_prefix('\'')?.chars();
    let escaped = letters.next()? == '\\';
    if escaped || letters.next()? == '\'' { Some(prefix + quoted(plain, '\'')?) } else { None }
}

/// How long the text is until the quotation that it begins with ends.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            letter if letter == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunk(before: &str, after: &str) -> Hunk {
        Hunk { file: "f.rs".to_owned(), before: vec![before.to_owned()], after: vec![after.to_owned()] }
    }

    #[test]
    fn each_entry_has_a_body_of_its_own() {
        let text = "/// Not fn a() {\nfn one<'a>(x: &'a str) -> bool {\n    x == \"}\" || x.contains('{')\n}\n\
                    fn two() {\n    three();\n    four();\n}\n";
        let (first, second) = (hunk("three();", "five();"), hunk("four();", "six();"));
        let changed = switched(text, &[(1, &first), (2, &second)]).expect("it fits");
        let start = text.find("fn two").expect("it is there");
        assert_eq!(changed[..start], text[..start]);
        let squeezed = changed[start..].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            squeezed,
            "fn two() {if crate::mutant::is(1) { five(); four(); } else if crate::mutant::is(2) { three(); \
             six(); } else { three(); four(); }}"
        );
    }

    #[test]
    fn what_is_no_ordinary_function_is_refused() {
        let text = "const LIMIT: u32 =\n    5;\nfn all() -> impl Iterator<Item = u32> {\n    0..5\n}\n";
        for before in ["5;", "0..5"] {
            let change = hunk(before, "6");
            assert!(switched(text, &[(1, &change)]).is_err(), "{before} was accepted");
        }
    }
}
