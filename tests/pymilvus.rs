//! Runs `tests/python` with the real pymilvus against the real binary, in virtual environments made below `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A virtual environment.
struct Environment {
    name: &'static str,
    requirements: &'static str,
    python: OnceLock<PathBuf>,
}

/// The newest pymilvus, and everything else that the tests use.
static NEWEST: Environment = Environment { name: "venv", requirements: "requirements.txt", python: OnceLock::new() };
/// The newest pymilvus of the series before.
static BEFORE: Environment =
    Environment { name: "venv-2.6", requirements: "requirements-2.6.txt", python: OnceLock::new() };

impl Environment {
    /// Its Python; made once, again when the requirements change.
    fn python(&self) -> &Path {
        self.python.get_or_init(|| {
            let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.name);
            let requirements = root().join("tests/python").join(self.requirements);
            let wanted = fs::read_to_string(&requirements).expect("the requirements are there");
            let marker = venv.join("installed.txt");
            if fs::read_to_string(&marker).ok().as_deref() != Some(wanted.as_str()) {
                let _ = fs::remove_dir_all(&venv);
                run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
                install(
                    Command::new(venv.join("bin/python"))
                        .args(["-m", "pip", "install", "--quiet", "-r"])
                        .arg(&requirements),
                );
                fs::write(&marker, wanted).expect("the environment is writable");
            }
            venv.join("bin/python")
        })
    }

    fn pytest(&self, arguments: &[&str]) {
        run(Command::new(self.python())
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"])
            .args(arguments)
            .env("SHOAL_BIN", env!("CARGO_BIN_EXE_shoal"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(root().join("tests/python")));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// A download may fail for a moment.
fn install(command: &mut Command) {
    const ATTEMPTS: usize = 3;
    let is_installed = |_| command.status().is_ok_and(|status| status.success());
    assert!((0..ATTEMPTS).any(is_installed), "{command:?} failed {ATTEMPTS} times");
}

fn pytest(file: &str) {
    NEWEST.pytest(&[file]);
}

#[test]
fn quickstart() {
    pytest("test_quickstart.py");
}

#[test]
fn readme() {
    pytest("test_readme.py");
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
fn every_method() {
    pytest("test_api.py");
}

#[test]
fn orm() {
    pytest("test_orm.py");
}

#[test]
fn langchain() {
    pytest("test_langchain.py");
}

/// What applications do, but for what is marked as being about the server or the newest client.
#[test]
fn the_same_with_pymilvus_2_6() {
    BEFORE.pytest(&[
        "-m",
        "not once",
        "test_api.py",
        "test_collections.py",
        "test_errors.py",
        "test_fields.py",
        "test_orm.py",
        "test_query.py",
        "test_quickstart.py",
        "test_scalars.py",
        "test_search.py",
        "test_vectors.py",
    ]);
}

#[test]
fn index_types() {
    pytest("test_index_types.py");
}

#[test]
fn indexes() {
    pytest("test_indexes.py");
}

#[test]
fn built_indexes() {
    pytest("test_built_indexes.py");
}

#[test]
fn growth() {
    pytest("test_growth.py");
}

#[test]
fn partial_update() {
    pytest("test_partial_update.py");
}

#[test]
fn partition_key() {
    pytest("test_partition_key.py");
}

#[test]
fn ttl() {
    pytest("test_ttl.py");
}

#[test]
fn random() {
    pytest("test_random.py");
}

#[test]
fn every_python_file_has_its_test_here() {
    let this = fs::read_to_string(root().join("tests/pymilvus.rs")).expect("this file");
    for entry in fs::read_dir(root().join("tests/python")).expect("the folder is there") {
        let name = entry.expect("a readable folder").file_name().to_string_lossy().into_owned();
        assert!(!name.starts_with("test_") || this.contains(&format!("\"{name}\"")), "{name} is not run");
    }
}
