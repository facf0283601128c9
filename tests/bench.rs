//! `shoal-bench`, as a user starts it.

use std::process::{Command, Stdio};

/// Just enough for an index.
const ROWS: usize = 4_400;
const DIM: usize = 8;

fn vectors() -> Vec<u8> {
    let mut state = 1u64;
    let mut value = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 2001) as f32 / 1000.0 - 1.0
    };
    let row =
        |_| [(DIM as u32).to_le_bytes()].into_iter().chain((0..DIM).map(|_| value().to_le_bytes())).flatten().collect();
    (0..ROWS).flat_map::<Vec<u8>, _>(row).collect()
}

#[test]
fn an_index_of_a_real_server_is_built_measured_through_an_attached_reader_and_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("base.fvecs"), vectors()).expect("the base is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal-bench"));
    command.arg("ann").arg("--dir").arg(dir.path()).arg("--base").arg(file("base.fvecs"));
    command.args(["--query-count", "100", "--k", "5", "--metric", "cosine", "--sweep", "1,16", "--threads", "2"]);
    command.args(["--index", "IVF_FLAT,nlist=16", "--build-threads", "1", "--processes", "2", "--filter-share", "0.1"]);
    command.arg("--json").arg(file("out.json")).arg("--plot").arg(file("out.svg"));
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(file("out.json")).expect("it is stored");
    let outcome: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((outcome["rows"].as_u64(), outcome["files"].as_u64()), (Some(ROWS as u64 - 100), Some(1)));
    assert_eq!(outcome["points"][1]["queries"].as_u64(), Some(100));
    assert!(outcome["points"][1]["recall"].as_f64() > Some(0.95), "{text}");
    assert!(outcome["build_seconds"].as_f64() > Some(0.0) && outcome["index_bytes_per_vector"].as_f64() > Some(4.0));
    assert!(outcome["together"]["qps_together"].as_f64() > Some(0.0), "{text}");
    assert!(outcome["filtered"][0]["points"][7]["recall"].as_f64() > Some(0.95), "{text}");
    assert!(std::fs::read_to_string(file("out.svg")).expect("it is drawn").starts_with("<svg"));
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).expect("a directory").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left.len(), 3, "the server's directory is removed: {left:?}");
}
