//! Runs `tests/python` with the real pymilvus against the real binary, in a virtual environment made below `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The virtual environment's Python; made once, again when the requirements change.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
        let requirements = root().join("tests/python/requirements.txt");
        let wanted = fs::read_to_string(&requirements).expect("the requirements are there");
        let marker = venv.join("installed.txt");
        if fs::read_to_string(&marker).ok().as_deref() != Some(wanted.as_str()) {
            let _ = fs::remove_dir_all(&venv);
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
            run(Command::new(venv.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet", "-r"])
                .arg(&requirements));
            fs::write(&marker, wanted).expect("the environment is writable");
        }
        venv.join("bin/python")
    })
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn pytest(file: &str) {
    run(Command::new(python())
        .args(["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"])
        .arg(root().join("tests/python").join(file))
        .env("SHOAL_BIN", env!("CARGO_BIN_EXE_shoal"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(root()));
}

#[test]
fn quickstart() {
    pytest("test_quickstart.py");
}

#[test]
fn errors() {
    pytest("test_errors.py");
}

#[test]
fn scalars() {
    pytest("test_scalars.py");
}

#[test]
fn processes() {
    pytest("test_processes.py");
}

#[test]
fn search() {
    pytest("test_search.py");
}

#[test]
fn query() {
    pytest("test_query.py");
}

#[test]
fn collections() {
    pytest("test_collections.py");
}

#[test]
fn fields() {
    pytest("test_fields.py");
}

#[test]
fn vectors() {
    pytest("test_vectors.py");
}

#[test]
fn upserts() {
    pytest("test_upsert.py");
}

#[test]
fn every_python_file_has_its_test_here() {
    let this = fs::read_to_string(root().join("tests/pymilvus.rs")).expect("this file");
    for entry in fs::read_dir(root().join("tests/python")).expect("the folder is there") {
        let name = entry.expect("a readable folder").file_name().to_string_lossy().into_owned();
        assert!(!name.starts_with("test_") || this.contains(&format!("\"{name}\"")), "{name} is not run");
    }
}
