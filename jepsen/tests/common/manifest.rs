//! The manifest of real histories, in the folder that `QUORATE_HISTORIES` names.

use std::path::{Path, PathBuf};

/// One history.
pub struct Known {
    pub path: PathBuf,
    pub model: String,
    pub entry: serde_json::Value,
}

impl Known {
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.path).expect("the manifest's file")
    }

    pub fn valid(&self) -> Option<bool> {
        self.entry["valid"].as_bool()
    }
}

/// All histories of these models, by the first word of each model's name.
pub fn known(models: &[&str]) -> Vec<Known> {
    let folder = std::env::var_os("QUORATE_HISTORIES")
        .expect("QUORATE_HISTORIES names a folder with given/MANIFEST.json");
    let given = Path::new(&folder).join("given");
    let manifest =
        std::fs::read_to_string(given.join("MANIFEST.json")).expect("QUORATE_HISTORIES has a manifest");
    let entries: Vec<serde_json::Value> = serde_json::from_str(&manifest).expect("a JSON array");
    let known: Vec<Known> = entries
        .into_iter()
        .filter_map(|entry| {
            let model = entry["model"].as_str()?.split_whitespace().next()?.to_owned();
            let path = given.join(entry["file"].as_str().expect("a name"));
            models.contains(&model.as_str()).then_some(Known { path, model, entry })
        })
        .collect();
    assert!(!known.is_empty(), "the manifest names no history for {models:?}");
    known
}
