//! The basic round trip of Milvus' Node SDK, against the real binary.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node")
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The SDK, installed once below `target/`, again when its version changes.
fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node");
    let wanted = fs::read_to_string(folder().join("package.json")).expect("package.json is there");
    let marker = target.join("installed.json");
    if fs::read_to_string(&marker).ok().as_deref() != Some(wanted.as_str()) {
        let _ = fs::remove_dir_all(&target);
        fs::create_dir_all(&target).expect("target/ is writable");
        fs::write(target.join("package.json"), &wanted).expect("target/ is writable");
        let install = ["install", "--no-audit", "--no-fund", "--silent"];
        let run = |_| Command::new("npm").args(install).current_dir(&target).status().expect("npm starts").success();
        // A download may fail for a moment.
        assert!((0..3).any(run), "npm install failed three times");
        fs::write(&marker, &wanted).expect("target/ is writable");
    }
    // Node looks for modules beside the script.
    fs::copy(folder().join("round_trip.mjs"), target.join("round_trip.mjs")).expect("target/ is writable");
    target
}

/// The JavaScript of the README, for a server at another address.
fn readme_script(address: &str) -> String {
    const ADDRESS: &str = "127.0.0.1:19530";
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a README");
    let block =
        readme.split("```js\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of JavaScript");
    assert!(block.contains(ADDRESS), "{block}");
    // An application goes on; this one has done its part.
    block.replace(ADDRESS, address) + "await client.closeConnection();\n"
}

#[test]
fn the_node_sdk_does_its_round_trip_and_what_the_readme_shows() {
    if let Some(missing) = ["node", "npm"].into_iter().find(|program| !is_installed(program)) {
        println!("skipped: {missing} is not installed, so the Node SDK cannot be tried");
        return;
    }
    let target = installed();
    let server = common::Server::start(&["--searchers", "2"]);
    let mut api = server.api();
    api.create("words", 4, "L2");
    api.insert("words", &[71], 0, &[0.1, 0.2, 0.3, 0.4]).expect("a row");
    fs::write(target.join("readme.mjs"), readme_script(&server.address)).expect("target/ is writable");
    for (script, says) in [("round_trip.mjs", "the round trip is done"), ("readme.mjs", "id: '71'")] {
        let output =
            Command::new("node").args([script, &server.address]).current_dir(&target).output().expect("node starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains(says),
            "{script}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
