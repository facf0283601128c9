//! The files of `packaging/`: what the unit promises is what the server does.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// (section, key) -> values, in order.
fn unit() -> BTreeMap<(String, String), Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/shoal.service");
    let text = std::fs::read_to_string(path).expect("the unit is there");
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line:?} is no setting"));
        found.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
    }
    found
}

#[test]
fn the_unit_says_what_the_server_relies_on() {
    let unit = unit();
    let expected = [
        // sd_notify: READY, WATCHDOG, STATUS, STOPPING come from the supervisor.
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "30s"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("Restart", "on-failure"),
        // The supervisor drains its children itself.
        ("KillMode", "mixed"),
        ("TimeoutStopSec", "120s"),
        ("User", "shoal"),
        ("RemoveIPC", "no"),
        ("UMask", "0077"),
        ("StateDirectory", "shoal"),
        ("StateDirectoryMode", "0700"),
        ("ReadWritePaths", "/dev/shm"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
        ("RestrictNamespaces", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("SystemCallFilter", "@system-service landlock_create_ruleset landlock_add_rule landlock_restrict_self"),
        ("LimitCORE", "0"),
    ];
    for (key, value) in expected {
        let found = unit.get(&("Service".to_owned(), key.to_owned()));
        assert_eq!(found, Some(&vec![value.to_owned()]), "{key}");
    }
    let start = &unit[&("Service".to_owned(), "ExecStart".to_owned())][0];
    assert_eq!(start, "/usr/local/bin/shoal serve /var/lib/shoal --config /etc/shoal/shoal.toml");
}

#[test]
fn exit_codes_that_no_restart_mends_end_the_service() {
    use shoaldb::config::exit;
    let codes = unit()[&("Service".to_owned(), "RestartPreventExitStatus".to_owned())][0].clone();
    assert_eq!(codes, format!("{} {} {}", exit::USAGE, exit::IN_USE, exit::CORRUPT));
}

#[test]
fn systemd_accepts_the_unit() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/shoal.service");
    let home = tempfile::tempdir().expect("a directory");
    // The program need not be installed where the unit says: only that line may be complained about.
    let copy = home.path().join("shoal.service");
    let text = std::fs::read_to_string(&unit).expect("read").replace("/usr/local/bin/shoal ", "/bin/true ");
    std::fs::write(&copy, text).expect("written");
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&copy).output() else {
        eprintln!("systemd-analyze is not installed: the unit is not checked by it");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaints: Vec<&str> = said.lines().filter(|line| line.contains("shoal.service")).collect();
    assert!(complaints.is_empty(), "{said}");
}
