//! The guide keeps what the alerts promise: each links to a section of it. And what it tells people
//! to type is there.

use std::collections::BTreeSet;

use crate::{
    promtool::rules,
    tools::{k8s, read},
};

#[test]
fn every_alert_links_to_its_section_of_the_guide() {
    let guide = read("SLO_DEPLOYMENT_GUIDE.md");
    let anchors: BTreeSet<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| heading.trim_matches('`').to_lowercase())
        .collect();
    let mut told = BTreeSet::new();
    for rule in rules() {
        let Some(alert) = rule["alert"].as_str() else {
            continue;
        };
        let link = rule["annotations"]["runbook_url"].as_str().unwrap();
        let (page, anchor) = link.split_once('#').unwrap();
        assert_eq!(page, "k8s/SLO_DEPLOYMENT_GUIDE.md", "of this repository");
        assert_eq!(anchor, alert.to_lowercase());
        assert!(anchors.contains(anchor), "the guide has no section {alert}");
        for part in ["summary", "description"] {
            assert!(
                rule["annotations"][part].as_str().unwrap().len() > 10,
                "{alert}"
            );
        }
        assert!(rule["labels"]["severity"].is_string(), "{alert}");
        told.insert(alert.to_lowercase());
    }
    // And no section is of an alert that is gone.
    for anchor in anchors.iter().filter(|anchor| anchor.starts_with("aegis")) {
        assert!(told.contains(anchor), "{anchor} is no alert");
    }
}

#[test]
fn the_checklist_has_all_fifteen_steps() {
    let guide = read("SLO_DEPLOYMENT_GUIDE.md");
    for step in 1..=15 {
        let heading = format!("### Step {step}:");
        let (_, rest) = guide
            .split_once(&heading)
            .unwrap_or_else(|| panic!("no {heading}"));
        let section = rest.split("\n### ").next().unwrap();
        assert!(section.contains("```sh"), "step {step} has no command");
        assert!(
            section.to_lowercase().contains("expect"),
            "step {step} does not say what to expect"
        );
    }
}

#[test]
fn every_file_that_the_pages_name_is_there() {
    for page in ["SLO_DEPLOYMENT_GUIDE.md", "CHANGES_FROM_SEEDS.md"] {
        let text = read(page);
        for word in text.split(|c: char| c.is_whitespace() || "()`'\"|,;".contains(c)) {
            let word = word.trim_end_matches(['.', ':']);
            if let Some(path) = word.strip_prefix("k8s/") {
                assert!(k8s().join(path).exists(), "{page}: {word}");
            }
        }
    }
}
