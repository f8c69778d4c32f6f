//! Every scenario of `sim/scenarios` becomes what it says.

use std::path::Path;

use quorate_sim::core::{self, Plan, Watch};
use quorate_sim::scenario;

#[test]
fn every_scenario_becomes_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the scenarios are there") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        assert!(name.ends_with(".scn"), "{name} is not a scenario");
        let text = std::fs::read_to_string(&path).expect("a readable file");
        count += 1;
        match scenario::parse(&text) {
            Err(mistake) => wrong.push(format!("{name}: {mistake}")),
            Ok(scenario) => {
                let finished = core::execute(&Plan::Scripted(&scenario), Watch::default());
                if let Err(what) = scenario.judge(finished.violation.as_ref()) {
                    wrong.push(format!("{name}: {what}"));
                }
            }
        }
    }
    assert!(count >= 40, "only {count} scenarios were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
