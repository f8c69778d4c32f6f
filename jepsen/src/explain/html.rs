//! The picture as a page: one file that any browser shows, without a network.
//!
//! The page draws on a canvas, and only what is in view, so that ten thousand operations scroll and zoom
//! smoothly. Its script and style are the files beside this one; the picture is the JSON between them.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::picture::{Break, Picture};

/// The page.
#[must_use]
pub fn page(picture: &Picture) -> String {
    let data = compact(picture).to_string();
    // Only a tag could end the script element that holds it.
    let data = data.replace('<', "\\u003c");
    let title = picture.title.replace('&', "&amp;").replace('<', "&lt;");
    let (before, rest) = TEMPLATE.split_once("/*STYLE*/").expect("the template has a place for the style");
    let (middle, rest) = rest.split_once("/*DATA*/").expect("the template has a place for the data");
    let (last, after) = rest.split_once("/*SCRIPT*/").expect("the template has a place for the script");
    let before = before.replace("{title}", &title);
    [&before, STYLE, middle, &data, last, SCRIPT, after].concat()
}

/// The picture with every text once and without the names of fields: a third of the size.
fn compact(picture: &Picture) -> Value {
    let mut texts = Texts::default();
    let bars = picture.bars.iter().map(|bar| {
        let text = texts.number(&bar.text);
        json!([bar.id, bar.process, bar.call, bar.end, text, bar.kind as u8, bar.part, bar.core])
    });
    let bars: Vec<Value> = bars.collect();
    let stuck =
        |stuck: &Break| json!({"bar": stuck.bar, "states": stuck.states, "exhaustive": stuck.exhaustive});
    let mut parts = Vec::new();
    for part in &picture.parts {
        let order: Vec<(usize, usize)> =
            part.order.iter().map(|step| (step.bar, texts.number(&step.state))).collect();
        parts.push(json!({"name": part.name, "order": order, "stuck": part.stuck.as_ref().map(stuck)}));
    }
    json!({
        "title": picture.title, "model": picture.model, "verdict": picture.verdict, "rule": picture.rule,
        "why": picture.why, "label": picture.label, "ticks_per_second": picture.ticks_per_second, "texts": texts.all, "bars": bars,
        "parts": parts, "bands": picture.bands, "cycles": picture.cycles,
    })
}

/// Texts by number.
#[derive(Default)]
struct Texts<'p> {
    all: Vec<&'p str>,
    numbers: HashMap<&'p str, usize>,
}

impl<'p> Texts<'p> {
    fn number(&mut self, text: &'p str) -> usize {
        *self.numbers.entry(text).or_insert_with(|| {
            self.all.push(text);
            self.all.len() - 1
        })
    }
}

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_a_history_leaves_its_place() {
        let picture = Picture {
            title: "<b>&".to_owned(),
            why: vec!["</script><script>alert(1)</script><!--".to_owned()],
            ..Picture::default()
        };
        let page = page(&picture);
        assert!(page.contains("<title>&lt;b>&amp;</title>"));
        assert_eq!(page.matches("</script>").count(), 2, "the end of the data and that of the script");
        assert!(!page.contains("<!--"));
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let page = page(&Picture::default());
        for word in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
