//! What a machine can hold of the house style: layers, sizes, fences, words that must not be there.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders of `src/` by layer: one uses its own layer and those below.
const LAYERS: &[(&str, usize)] = &[
    ("types", 0),
    ("config", 0),
    ("observe", 0),
    ("sys", 1),
    ("kernel", 1),
    ("filter", 1),
    ("format", 2),
    ("index", 2),
    ("ipc", 2),
    ("proto", 2),
    ("storage", 3),
    ("shm", 3),
    ("query", 4),
    ("reader", 4),
    ("supervisor", 5),
    ("writer", 5),
    ("builder", 5),
    ("searcher", 5),
    ("gateway", 5),
    ("cli", 5),
];

/// What a folder must not use although its layer would allow it: (folder, what, why).
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("supervisor", &["query", "storage", "index", "format", "writer", "searcher", "gateway"], "it maps no data"),
    ("gateway", &["storage", "index", "shm", "query", "reader", "format", "writer", "searcher"], "it holds no data"),
    ("searcher", &["storage", "writer", "gateway"], "it cannot write"),
    (
        "builder",
        &["storage", "shm", "query", "writer", "searcher", "gateway"],
        "it reads table files and writes one file",
    ),
    ("reader", &["storage"], "it cannot write"),
    ("query", &["storage"], "it cannot write"),
    ("shm", &["storage"], "readers link it"),
];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    path: PathBuf,
    /// The first folder below `src/`, or empty.
    folder: String,
    text: String,
    /// Lines before the first `#[cfg(test)]`, or none when the whole file is tests.
    code: Vec<String>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "bin", "benches", "examples", "tests"] {
        collect(&root.join(folder), &mut paths);
    }
    assert!(paths.len() > 20, "the walk found only {} files", paths.len());
    paths.into_iter().map(|path| read_source(root, path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn read_source(root: &Path, path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).expect("a readable source");
    let relative = path.strip_prefix(root).expect("below the root").to_path_buf();
    let mut parts = relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let top = parts.next().unwrap_or_default();
    let folder =
        if top == "src" { parts.next().filter(|part| !part.ends_with(".rs")).unwrap_or_default() } else { top };
    let is_test = relative.components().any(|part| part.as_os_str() == "tests")
        || relative.ends_with("tests.rs")
        || is_test_module(&path);
    let code = if is_test {
        Vec::new()
    } else {
        text.lines().take_while(|line| !line.trim_start().starts_with("#[cfg(test)]")).map(str::to_owned).collect()
    };
    Source { path: relative, folder, text, code }
}

/// Whether the module above declares this file behind `#[cfg(test)]`.
fn is_test_module(path: &Path) -> bool {
    let (Some(stem), Some(folder)) = (path.file_stem(), path.parent()) else { return false };
    let declaration = format!("mod {};", stem.to_string_lossy());
    [folder.join("mod.rs"), folder.with_extension("rs")].iter().any(|parent| {
        let text = fs::read_to_string(parent).unwrap_or_default();
        let after_test_mark = text.split("#[cfg(test)]").skip(1).filter_map(|rest| rest.trim_start().lines().next());
        after_test_mark.into_iter().any(|line| line.ends_with(&declaration))
    })
}

fn layer(folder: &str) -> Option<usize> {
    LAYERS.iter().find(|(name, _)| *name == folder).map(|(_, layer)| *layer)
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "{} places:\n{}", problems.len(), problems.join("\n"));
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn every_file_says_what_it_is() {
    report(
        sources()
            .iter()
            .filter(|source| !source.text.starts_with("//!"))
            .map(|source| source.path.display().to_string())
            .collect(),
    );
}

#[test]
fn every_folder_has_a_layer() {
    let folders: std::collections::BTreeSet<String> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .expect("src is there")
        .map(|entry| entry.expect("a readable folder"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    report(folders.into_iter().filter(|folder| layer(folder).is_none()).collect());
}

#[test]
fn a_folder_uses_its_own_layer_and_those_below() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| layer(&source.folder).is_some()) {
        let own = layer(&source.folder).expect("filtered");
        for (number, line) in source.code.iter().enumerate().filter(|(_, line)| !is_comment(line)) {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let is_above = layer(&used).is_some_and(|used| used > own);
                let is_forbidden =
                    FORBIDDEN.iter().any(|(name, what, _)| *name == source.folder && what.contains(&used.as_str()));
                if is_above || is_forbidden {
                    problems.push(format!("{}:{}: {} uses {used}", source.path.display(), number + 1, source.folder));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn only_the_gateway_uses_tokio_and_only_storage_opens_sqlite() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| layer(&source.folder).is_some()) {
        for (word, owner) in [("tokio::", "gateway"), ("rusqlite::", "storage"), ("tonic::", "gateway")] {
            let is_used = source.code.iter().any(|line| !is_comment(line) && line.contains(word));
            if is_used && source.folder != owner && !(source.folder == "cli" && owner == "gateway") {
                problems.push(format!("{} uses {word}", source.path.display()));
            }
        }
    }
    report(problems);
}

#[test]
fn unsafe_stays_inside_its_fence() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| !["sys", "kernel", "tests"].contains(&source.folder.as_str())) {
        for (number, line) in source.code.iter().enumerate() {
            if !is_comment(line)
                && (line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
            {
                problems.push(format!("{}:{}", source.path.display(), number + 1));
            }
        }
    }
    report(problems);
}

#[test]
fn nothing_unwraps_prints_or_is_left_to_do_outside_tests() {
    let mut problems = Vec::new();
    for source in sources() {
        let may_print = ["cli", "bin", "benches", "examples"].contains(&source.folder.as_str());
        for (number, line) in source.code.iter().enumerate().filter(|(_, line)| !is_comment(line)) {
            let place = format!("{}:{}", source.path.display(), number + 1);
            if line.contains(".unwrap()") {
                problems.push(format!("{place}: unwrap"));
            }
            if !may_print && (line.contains("println!") || line.contains("eprintln!")) {
                problems.push(format!("{place}: print"));
            }
            if ["todo!(", "unimplemented!(", "dbg!("].iter().any(|word| line.contains(word)) {
                problems.push(format!("{place}: unfinished"));
            }
        }
        let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
        for (number, line) in source.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                problems.push(format!("{}:{}: a mark", source.path.display(), number + 1));
            }
        }
    }
    report(problems);
}

#[test]
fn files_and_functions_are_short() {
    let mut problems = Vec::new();
    for source in sources() {
        if source.code.len() > FILE_LINES_MAX {
            problems.push(format!("{}: {} lines", source.path.display(), source.code.len()));
        }
        problems.extend(long_functions(&source));
    }
    report(problems);
}

/// Functions of more than the allowed lines: from the line with `fn` to the closing brace at its indentation (rustfmt).
fn long_functions(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (number, line) in source.code.iter().enumerate() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let words = line.trim_start();
        let is_function = [
            "fn ",
            "pub fn ",
            "pub(crate) fn ",
            "pub(super) fn ",
            "async fn ",
            "pub async fn ",
            "unsafe fn ",
            "const fn ",
        ]
        .iter()
        .any(|start| words.starts_with(start));
        match &open {
            None if is_function && !line.ends_with(';') => open = Some((number, indent, words.to_owned())),
            Some((start, start_indent, name)) if line.starts_with(&format!("{start_indent}}}")) => {
                let lines = number - start + 1;
                if lines > FUNCTION_LINES_MAX {
                    problems.push(format!("{}:{}: {lines} lines: {name}", source.path.display(), start + 1));
                }
                open = None;
            }
            _ => {}
        }
    }
    problems
}

#[test]
fn every_option_of_serve_is_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("a README");
    let help =
        std::process::Command::new(env!("CARGO_BIN_EXE_shoal")).args(["serve", "--help"]).output().expect("shoal runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let options: Vec<&str> = help
        .split_whitespace()
        .filter(|word| word.starts_with("--") && word.len() > 3)
        .map(|word| word.trim_end_matches([',', '.', ';', ')', '`']))
        .filter(|word| !["--help", "--version"].contains(word))
        .collect();
    assert!(options.len() >= 8, "the help names only {options:?}");
    report(
        options
            .into_iter()
            .filter(|option| !readme.contains(option))
            .map(|option| format!("README.md lacks {option}"))
            .collect(),
    );
}
