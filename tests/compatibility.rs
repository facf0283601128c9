//! `docs/compatibility.md` lists every method of the Milvus service, once, and says of each whether it is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use shoaldb::ipc::method::{Method, Route};

/// Methods that a role refuses itself: they are on their way.
const REFUSED_BY_THEIR_ROLE: [Method; 1] = [Method::HybridSearch];

/// Name and state of each row of the table below `## Methods`.
fn listed() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
    let text = fs::read_to_string(path).expect("the document is there");
    let section = text.split("## Methods").nth(1).expect("a section on methods");
    let table = section.split("\n## ").next().expect("split gives at least one part");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|line| {
        let mut cells = line.split('|').skip(1).map(|cell| cell.trim().to_owned());
        (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
    })
    .collect()
}

#[test]
fn every_method_is_listed_with_what_becomes_of_it() {
    let listed = listed();
    let states: BTreeMap<&str, &str> = listed.iter().map(|(name, state)| (name.as_str(), state.as_str())).collect();
    assert_eq!(states.len(), listed.len(), "a method is listed twice");
    assert_eq!(states.len(), Method::ALL.len(), "methods that are no longer there are listed");
    for method in Method::ALL {
        let state = states.get(method.name()).unwrap_or_else(|| panic!("{} is not listed", method.name()));
        let is_refused = method.route() == Route::Refused || REFUSED_BY_THEIR_ROLE.contains(method);
        let wanted: &[&str] = if is_refused { &["refused"] } else { &["works", "differs"] };
        assert!(wanted.contains(state), "{} is listed as {state}", method.name());
    }
}
