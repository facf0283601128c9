//! The real `shoal` binary: one server per directory, killed processes, stops, what is left behind, what each process holds.

mod common;

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{Server, is_alive, signal, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use shoaldb::config::Instance;
use shoaldb::ipc::progress::ProgressBlock;

fn status(server: &Server) -> Value {
    let output = server.run("status", &["--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn instance(server: &Server, shm_dir: &Path) -> Instance {
    Instance::new(&server.data_dir, shm_dir).expect("an instance")
}

/// Only durable files are left.
fn assert_clean(server: &Server) {
    assert_eq!(server.shm_left(), Vec::<String>::new(), "/dev/shm");
    assert_eq!(fs::read_dir(server.data_dir.join("run")).map_or(0, |entries| entries.count()), 0, "run directory");
    assert!(!server.data_dir.join("LOCK").exists(), "LOCK");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn a_second_server_on_a_directory_exits_with_3_and_names_the_first() {
    let server = Server::start(&["--searchers", "1"]);
    let refusal = || {
        let begun = Instant::now();
        let output = server.run("serve", &["--listen", "127.0.0.1:0"]);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(said(&output).contains(&format!("in use by pid {}", server.pid())), "{}", said(&output));
        begun.elapsed()
    };
    // A lock whose holder is dead is waited for, this one is not. The machine may be busy with something else.
    let least = (0..5).map(|_| refusal()).min().expect("five");
    assert!(least < Duration::from_secs(5), "{least:?}");
}

#[test]
fn the_first_line_says_address_directory_and_processes() {
    let server = Server::start(&["--searchers", "2"]);
    let line = &server.first_line;
    let words: Vec<&str> = line.split(|letter: char| !letter.is_alphanumeric() && !"./:_".contains(letter)).collect();
    for (role, count) in [("writer", 1), ("searcher", 2), ("gateway", 1)] {
        let pids = server.pids(role);
        assert_eq!(pids.len(), count, "{role}");
        pids.iter().for_each(|pid| assert!(words.contains(&pid.to_string().as_str()), "{role} {pid}: {line}"));
    }
    assert!(line.starts_with(&format!("shoal: serving {} from ", server.address)), "{line}");
    assert!(line.contains(&server.data_dir.display().to_string()), "{line}");
    assert!(line.contains(&format!("supervisor {}", server.pid())), "{line}");
}

#[test]
fn a_stopped_server_leaves_only_durable_files() {
    let mut server = Server::start(&["--searchers", "2"]);
    assert!(TcpStream::connect(&server.address).is_ok());
    let output = server.run("stop", &[]);
    assert!(output.status.success(), "{}{}", said(&output), server.log());
    assert_eq!(server.ended().code(), Some(0));
    assert_clean(&server);
    assert!(server.data_dir.join("meta.sqlite").exists());
}

#[test]
fn a_server_told_to_stop_in_the_middle_of_its_start_leaves_nothing() {
    let mut server = Server::unstarted();
    for file in ["LOCK", "run/instance.json", "meta.sqlite", "log"] {
        server.launch();
        let path = server.data_dir.join(file);
        // No pause: the moment after it is the one that matters.
        let deadline = Instant::now() + common::DEADLINE;
        while !path.exists() {
            assert!(Instant::now() < deadline, "{file} is not made: {}", server.log());
        }
        assert_eq!(server.terminate().code(), Some(0), "after {file}: {}", server.log());
        assert_clean(&server);
        fs::remove_dir_all(&server.data_dir).expect("removed");
    }
}

#[test]
fn a_killed_server_is_swept_by_the_next_start() {
    let mut server = Server::start(&["--searchers", "2"]);
    server.kill();
    assert!(!server.shm_left().is_empty(), "there is something to sweep");
    server.start_again();
    assert!(server.run("stop", &[]).status.success());
    assert_eq!(server.ended().code(), Some(0));
    assert_clean(&server);
}

#[test]
fn gc_removes_what_dead_servers_left_and_touches_no_living_one() {
    // Other tests' dead servers are theirs to sweep.
    let shm_dir = tempfile::tempdir().expect("a directory");
    let shm_path = shm_dir.path().display().to_string();
    let mut dead = Server::start(&["--searchers", "1", "--shm-dir", &shm_path]);
    dead.kill();
    let living = Server::start(&["--searchers", "1", "--shm-dir", &shm_path]);
    let count = || fs::read_dir(&shm_path).expect("listed").count();
    assert_eq!(count(), 2);
    let output = Command::new(env!("CARGO_BIN_EXE_shoal")).args(["gc", "--shm-dir", &shm_path]).output().expect("ran");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(count(), 1, "{}", said(&output));
    let progress = |server: &Server| ProgressBlock::read(&instance(server, shm_dir.path()));
    assert!(progress(&dead).is_err() && progress(&living).is_ok());
}

#[test]
fn killed_searcher_writer_and_gateway_come_back() {
    let server = Server::start(&["--searchers", "2"]);
    for role in ["searcher", "writer", "gateway"] {
        let before = server.pids(role);
        signal(before[0], Signal::SIGKILL);
        wait_until(role, || server.pids(role).iter().any(|pid| !before.contains(pid)) && !is_alive(before[0]));
    }
    let restarts = || {
        let status = status(&server);
        let processes = status["processes"].as_array().expect("processes").iter();
        processes.map(|process| process["restarts"].as_u64().expect("a number")).sum::<u64>()
    };
    wait_until("three restarts are counted", || restarts() == 3);
    wait_until("the gateway accepts", || TcpStream::connect(&server.address).is_ok());
    assert!(server.run("stop", &[]).status.success());
    assert_clean(&server);
}

#[test]
fn a_unix_socket_is_served_and_removed() {
    let home = tempfile::tempdir().expect("a directory");
    let socket = home.path().join("shoal.sock");
    let address = format!("unix:{}", socket.display());
    let server = Server::start(&["--searchers", "1", "--listen", &address]);
    assert!(server.first_line.contains(&address), "{}", server.first_line);
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    assert!(server.run("stop", &[]).status.success());
    assert!(!socket.exists());
}

#[test]
fn bad_options_exit_with_2_and_say_what_is_wrong() {
    let server = Server::unstarted();
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("shoal.toml");
    fs::write(&file, "serchers = 2\n").expect("written");
    let path = file.display().to_string();
    for (options, word) in [
        (vec!["--config", path.as_str()], "serchers"),
        (vec!["--searchers", "0"], "searchers"),
        (vec!["--insert-buffer-size", "lots"], "lots"),
        (vec!["--listen", "nowhere"], "nowhere"),
        (vec!["--shm-dir", "/no/such/dir"], "/no/such/dir"),
    ] {
        let output = server.run("serve", &options);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {}", said(&output));
        assert!(text(&output.stderr).contains(word), "{options:?}: {}", said(&output));
    }
    assert_clean(&server);
}

#[test]
fn commands_on_a_directory_without_a_server_say_so() {
    let server = Server::unstarted();
    fs::create_dir(&server.data_dir).expect("made");
    for command in ["status", "stop"] {
        let output = server.run(command, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("shoal serve"), "{}", said(&output));
    }
    assert_eq!(server.run("doctor", &[]).status.code(), Some(2));
}

#[test]
fn doctor_finds_a_stopped_servers_directory_sound() {
    let mut server = Server::start(&["--searchers", "1"]);
    assert!(server.doctor().0, "while it runs");
    server.stop();
    let (is_sound, report) = server.doctor();
    assert!(is_sound && report.contains("is sound") && !report.contains("remark"), "{report}");
    let left = fs::read_dir(&server.data_dir).expect("listed").flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("meta")).collect();
    assert_eq!(left, ["meta.sqlite"], "it only reads");
}

#[test]
fn status_shows_everything_it_promises() {
    let server = Server::start(&["--searchers", "1", "--auto-flush-interval", "1h"]);
    let mut api = server.api();
    api.create("shown", 4, "L2");
    api.insert("shown", &[1, 2], 1, &[0.0; 8]).expect("inserted");
    api.flush("shown");
    api.insert("shown", &[3], 1, &[0.0; 4]).expect("inserted");
    let status = status(&server);
    let process = &status["processes"][0];
    for field in
        ["role", "pid", "up_ms", "restarts", "rss_bytes", "pss_bytes", "requests", "busy_share", "index", "cpu_ms"]
    {
        assert!(!process[field].is_null(), "{field} of a process: {process}");
    }
    let collection = &status["collections"][0];
    assert_eq!((&collection["name"], &collection["sealed_rows"]), (&"shown".into(), &2.into()), "{collection}");
    assert_eq!(collection["growing_rows"].as_u64(), Some(1), "{collection}");
    assert_eq!(collection["files"][0][1].as_u64(), Some(1), "{collection}");
    assert!(collection["disk_bytes"].as_u64() > Some(0) && collection["shm_bytes"].as_u64() > Some(0), "{collection}");
    for field in ["log_bytes", "buffer_bytes", "buffer_bytes_max", "shm_table_bytes", "shm_live_bytes", "limbo_bytes"] {
        assert!(status["engine"][field].is_u64(), "{field} of the engine: {}", status["engine"]);
    }
    let shown = text(&server.run("status", &[]).stdout);
    for word in ["writer", "gateway", "searcher", "shown", "still mapped"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
}

#[test]
fn status_tells_of_a_writer_that_is_stuck() {
    let server = Server::start(&["--searchers", "1"]);
    let is_told = || text(&server.run("status", &[]).stdout).contains("the writer recovers or is stuck");
    wait_until("it is heard", || !is_told() && status(&server)["writer_silent_ms"].as_u64() < Some(5_000));
    let writer = server.pids("writer")[0];
    signal(writer, Signal::SIGSTOP);
    wait_until("its silence is told", is_told);
    signal(writer, Signal::SIGCONT);
    wait_until("it is heard again", || !is_told());
}

#[test]
fn everything_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start(&["--searchers", "1"]);
    let mut api = server.api();
    api.create("private", 4, "L2");
    api.insert("private", &[1], 1, &[0.0; 4]).expect("inserted");
    api.flush("private");
    api.delete("private", "id == 1").expect("deleted");
    let mut paths: Vec<_> = server.shm_left().into_iter().map(|name| Path::new("/dev/shm").join(name)).collect();
    paths.push(server.data_dir.clone());
    let mut seen = 0;
    while let Some(path) = paths.pop() {
        // A file may be replaced while this looks.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        // 0644 is what LOCK must not be either: it names a command line.
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{}", path.display());
        seen += 1;
        paths.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    assert!(seen > 15, "{seen} files and directories");
}

/// What a descriptor is, without what changes from run to run.
fn kind(server: &Server, link: &Path) -> String {
    let shared = server.shm_left().into_iter().find(|name| Path::new("/dev/shm").join(name).is_dir());
    let shared = Path::new("/dev/shm").join(shared.expect("a directory in shared memory"));
    let link = link.display().to_string().replace(" (deleted)", "");
    let named =
        link.replace(&server.data_dir.display().to_string(), "data").replace(&shared.display().to_string(), "shm");
    match named.split_once(":[") {
        Some((kind @ ("socket" | "pipe"), _)) => kind.to_owned(),
        _ => named.chars().map(|letter| if letter.is_ascii_digit() { '#' } else { letter }).collect(),
    }
}

/// Kinds of the descriptors besides stdin, stdout and stderr.
fn descriptors(server: &Server, pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("listed").flatten();
    let others = entries.filter(|entry| !["0", "1", "2"].contains(&entry.file_name().to_string_lossy().as_ref()));
    let mut kinds: Vec<String> =
        others.filter_map(|entry| fs::read_link(entry.path()).ok()).map(|link| kind(server, &link)).collect();
    kinds.sort();
    kinds
}

/// What each role holds: the two ends of its control channel, its wake-ups, its progress cell, and what its work takes.
const DESCRIPTORS: [(&str, &[&str]); 4] = [
    (
        "writer",
        &[
            "anon_inode:[eventfd]",
            "anon_inode:[eventpoll]",
            "data/LOCK",
            "data/log/############.log",
            "data/meta.sqlite",
            "data/meta.sqlite-shm",
            "data/meta.sqlite-wal",
            "shm-progress",
            "socket",
        ],
    ),
    ("builder", &["anon_inode:[eventfd]", "shm-progress", "socket"]),
    (
        "searcher",
        &[
            "anon_inode:[eventfd]",
            "anon_inode:[eventpoll]",
            "shm-progress",
            "shm-readers",
            "shm/readers.lock",
            "socket",
        ],
    ),
    (
        "gateway",
        &[
            "/memfd:shoal-reads",
            "/memfd:shoal-writes",
            "anon_inode:[eventfd]",
            "anon_inode:[eventpoll]",
            "shm-progress",
            "socket",
        ],
    ),
];

#[test]
fn every_process_holds_its_own_descriptors_and_no_others() {
    let server = Server::start(&["--searchers", "2"]);
    let mut api = server.api();
    api.create("held", 4, "L2");
    api.insert("held", &[1], 1, &[0.0; 4]).expect("inserted");
    api.flush("held");
    assert_eq!(api.count("held"), 1);
    for (role, expected) in DESCRIPTORS {
        for pid in server.pids(role) {
            let holds = || {
                let mut found = descriptors(&server, pid);
                let sockets = found.iter().filter(|kind| *kind == "socket").count();
                found.dedup();
                (found, sockets)
            };
            let is_right = |(found, sockets): &(Vec<String>, usize)| {
                found.as_slice() == expected && (role == "gateway" || *sockets == 2)
            };
            // A table file is open while it is being mapped or written.
            let deadline = Instant::now() + Duration::from_secs(60);
            let mut held = holds();
            while !is_right(&held) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
                held = holds();
            }
            assert!(is_right(&held), "{role} {pid} holds {held:?}");
        }
    }
}

#[test]
fn no_process_can_gain_privileges() {
    let server = Server::start(&["--searchers", "1"]);
    for pid in server.pids("") {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read");
        assert!(status.contains("NoNewPrivs:\t1"), "{pid}: {status}");
    }
}
