//! The supervisor with real processes and roles that do nothing: who is started, restarted, told and drained, and what is
//! left behind. Has no test harness, because the supervisor forks from a process with one thread: the program starts itself
//! as a server (`serve`), and otherwise runs the claims one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use shoaldb::config::{Instance, Options};
use shoaldb::ipc::control::{Notice, Order, RoleContext};
use shoaldb::ipc::progress::{ProgressBlock, ProgressInfo};
use shoaldb::supervisor::{self, Roles, remove_shared};
use shoaldb::sys::lock;

/// How long a claim is waited for: an end to what would never come.
const PATIENCE: Duration = Duration::from_secs(300);

const CLAIMS: [(&str, fn()); 12] = [
    ("a_start_names_every_process_and_shows_them_in_ps", a_start_names_every_process_and_shows_them_in_ps),
    ("a_second_start_is_refused_and_names_the_owner", a_second_start_is_refused_and_names_the_owner),
    ("a_killed_searcher_comes_back_and_the_gateway_is_told", a_killed_searcher_comes_back_and_the_gateway_is_told),
    ("a_killed_writer_comes_back_and_searchers_stay", a_killed_writer_comes_back_and_searchers_stay),
    ("a_killed_gateway_loses_no_connection", a_killed_gateway_loses_no_connection),
    ("a_stop_drains_in_order_and_leaves_nothing", a_stop_drains_in_order_and_leaves_nothing),
    ("a_killed_supervisor_takes_its_children_and_is_swept", a_killed_supervisor_takes_its_children_and_is_swept),
    ("exit_code_2_stops_the_server", exit_code_2_stops_the_server),
    ("corrupt_data_at_the_start_stops_the_server", corrupt_data_at_the_start_stops_the_server),
    ("systemd_is_told_of_ready_watchdog_reload_and_stopping", systemd_is_told_of_ready_watchdog_reload_and_stopping),
    ("a_reload_changes_the_number_of_searchers", a_reload_changes_the_number_of_searchers),
    ("a_second_signal_kills", a_second_signal_kills),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return serve(Path::new(&arguments[1]));
    }
    if arguments.iter().any(|argument| argument == "--list") {
        CLAIMS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    for (name, claim) in CLAIMS.iter().filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted.as_str()))) {
        println!("test {name} ...");
        claim();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

// ---- the server under test ----

fn serve(home: &Path) -> ExitCode {
    shoaldb::observe::init(shoaldb::config::LogFormat::Text, "supervisor");
    let load = || Options::read(&home.join("shoal.toml"))?.resolve();
    let roles = Roles {
        writer: role,
        builder: role,
        searcher: role,
        gateway: role,
        create_blocks: |_| Ok(()),
        remove_blocks: |_| {},
    };
    let outcome = load().and_then(|config| supervisor::run(&home.join("data"), config, roles, &load));
    outcome.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(if error.kind == shoaldb::types::ErrorKind::InUse { 3 } else { 1 })
    })
}

/// Writes down what it hears, and ends when told to. `<home>/<role>.exit` makes it end at once with that code.
fn role(context: RoleContext) -> ExitCode {
    let home = context.instance.data_dir.parent().expect("a data directory has a parent").to_owned();
    let name = context.role.name();
    let note = |what: &str| {
        let mut events = File::options().append(true).create(true).open(home.join("events")).expect("events open");
        // One write per line: several processes append at once.
        let line = format!("{name} {} {what}\n", context.incarnation);
        events.write_all(line.as_bytes()).expect("an event is written");
    };
    if let Ok(code) = std::fs::read_to_string(home.join(format!("{name}.exit"))) {
        return ExitCode::from(code.trim().parse::<u8>().expect("an exit code"));
    }
    let _kept = &context.listeners;
    assert!(std::env::var_os("TMPDIR").is_some_and(|dir| Path::new(&dir) == context.instance.run_dir()));
    context.notices.send(Notice::Ready { addresses: Vec::new() });
    loop {
        match context.orders.recv() {
            Ok(Order::Drain) if home.join("stubborn").exists() => note("ignores Drain"),
            Ok(Order::Drain) => {
                note("Drain");
                return ExitCode::SUCCESS;
            }
            Ok(Order::Reload(config)) => note(&format!("Reload {}", config.searchers)),
            Ok(order) => note(&format!("{order:?}")),
            Err(_) => return ExitCode::from(1),
        }
    }
}

// ---- the world of a test ----

struct World {
    home: tempfile::TempDir,
    instance: Instance,
}

struct Server<'a> {
    world: &'a World,
    process: Child,
    first_line: String,
}

impl World {
    fn new(searchers: usize) -> World {
        let home = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(home.path().join("data")).expect("made");
        std::fs::create_dir(home.path().join("shm")).expect("made");
        let instance = Instance::new(&home.path().join("data"), &home.path().join("shm")).expect("an instance");
        let world = World { home, instance };
        world.configure(searchers);
        world
    }

    fn configure(&self, searchers: usize) {
        let shm = self.path("shm");
        let text = format!(
            "searchers = {searchers}\nshm_dir = \"{}\"\nlisten = [\"127.0.0.1:0\", \"unix:{}\"]\n",
            shm.display(),
            self.path("socket").display()
        );
        std::fs::write(self.path("shoal.toml"), text).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn launch(&self) -> Child {
        let program = std::env::current_exe().expect("this program");
        let log = File::options().append(true).create(true).open(self.path("log")).expect("a log");
        Command::new(program)
            .arg("serve")
            .arg(self.home.path())
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("WATCHDOG_USEC", "100000")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("started")
    }

    fn start(&self) -> Server<'_> {
        let mut process = self.launch();
        let mut first_line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut first_line).expect("a line");
        Server { world: self, process, first_line }
    }

    fn events(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("events")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn cells(&self) -> Vec<ProgressInfo> {
        ProgressBlock::read(&self.instance).unwrap_or_default()
    }

    fn pid(&self, role: &str, index: usize) -> u32 {
        let cells = self.cells();
        let cell = cells.iter().find(|cell| cell.role.name() == role && cell.index == index);
        cell.map_or(0, |cell| cell.pid)
    }

    fn has_event(&self, event: &str) -> bool {
        self.events().iter().any(|line| line.ends_with(event))
    }

    fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
                panic!("not in time: {what}\nevents: {:#?}\nlog:\n{log}", self.events());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn assert_clean(&self) {
        let count = |dir: PathBuf| std::fs::read_dir(&dir).map_or(0, |entries| entries.count());
        assert_eq!(count(self.path("shm")), 0, "shared memory");
        assert_eq!(count(self.instance.run_dir()), 0, "run directory");
        assert!(!self.instance.lock_path().exists(), "LOCK");
        assert!(!self.path("socket").exists(), "socket");
        assert!(ProgressBlock::read(&self.instance).is_err(), "progress block");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        remove_shared(&self.instance, |_| {});
    }
}

impl Server<'_> {
    fn signal(&self, name: &str) {
        kill(name, self.process.id());
    }

    fn exit_code(&mut self) -> Option<i32> {
        let mut code = None;
        let process = &mut self.process;
        self.world.wait_until("the server ends", || {
            code = process.try_wait().expect("waited");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.world
            .wait_until("the lock is released", || matches!(lock::holder(&self.world.instance.lock_path()), Ok(None)));
    }
}

fn kill(signal: &str, pid: u32) {
    assert!(pid > 1, "a process to kill");
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().expect("kill runs");
    assert!(status.success(), "kill -{signal} {pid}");
}

fn is_alive(pid: u32) -> bool {
    shoaldb::sys::procfs::read(pid).is_ok_and(|facts| !facts.is_zombie)
}

fn title(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

// ---- the claims ----

fn a_start_names_every_process_and_shows_them_in_ps() {
    let world = World::new(2);
    let server = world.start();
    let line = &server.first_line;
    assert!(line.starts_with("shoal: serving 127.0.0.1:") && line.contains("unix:"), "{line}");
    for part in [
        format!("from {}", world.instance.data_dir.display()),
        format!("supervisor {}", server.process.id()),
        format!("writer {}", world.pid("writer", 0)),
        format!("2 searchers {} {}", world.pid("searcher", 0), world.pid("searcher", 1)),
        format!("gateway {}", world.pid("gateway", 0)),
    ] {
        assert!(line.contains(&part), "{part} in {line}");
    }
    assert_eq!(title(world.pid("searcher", 1)), "shoal: searcher 1");
    assert_eq!(title(world.pid("writer", 0)), "shoal: writer");
    assert!(title(server.process.id()).starts_with("shoal: supervisor "));
}

fn a_second_start_is_refused_and_names_the_owner() {
    let world = World::new(1);
    let server = world.start();
    let refusal = || {
        let begun = Instant::now();
        let output = world.launch().wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(3));
        begun.elapsed()
    };
    // A lock whose holder is dead is waited for, this one is not. The machine may be busy with something else.
    let least = (0..5).map(|_| refusal()).min().expect("five");
    assert!(least < Duration::from_secs(5), "{least:?}");
    let log = std::fs::read_to_string(world.path("log")).expect("a log");
    assert!(log.contains(&format!("it is in use by pid {}", server.process.id())), "{log}");
    assert!(is_alive(world.pid("writer", 0)), "the first server is untouched");
}

fn a_killed_searcher_comes_back_and_the_gateway_is_told() {
    let world = World::new(2);
    let _server = world.start();
    let (dead, other) = (world.pid("searcher", 0), world.pid("searcher", 1));
    kill("KILL", dead);
    world.wait_until("the gateway hears of it", || world.has_event("SearcherDied { incarnation: 2 }"));
    world.wait_until("a new searcher", || ![0, dead].contains(&world.pid("searcher", 0)));
    assert_eq!(world.pid("searcher", 1), other);
    world.wait_until("its restart is counted", || {
        let cells = world.cells();
        let cell = cells.iter().find(|cell| cell.role.name() == "searcher" && cell.index == 0);
        cell.is_some_and(|cell| cell.restarts == 1)
    });
}

fn a_killed_writer_comes_back_and_searchers_stay() {
    let world = World::new(1);
    let _server = world.start();
    let (dead, searcher) = (world.pid("writer", 0), world.pid("searcher", 0));
    let ready = || world.events().iter().filter(|line| line.ends_with("WriterReady")).count();
    world.wait_until("the gateway knows the first writer", || ready() == 1);
    kill("KILL", dead);
    world.wait_until("the gateway hears of it", || world.has_event("WriterDied { incarnation: 1 }"));
    world.wait_until("the gateway hears of the new one", || ready() == 2);
    assert_ne!(world.pid("writer", 0), dead);
    assert_eq!(world.pid("searcher", 0), searcher);
}

fn a_killed_gateway_loses_no_connection() {
    let world = World::new(1);
    let server = world.start();
    let address = server.first_line.split([' ', ',']).nth(2).expect("an address").to_owned();
    let dead = world.pid("gateway", 0);
    world.wait_until("it is told that there is a writer", || world.has_event("WriterReady"));
    kill("KILL", dead);
    world.wait_until("it is gone", || !is_alive(dead));
    TcpStream::connect(address).expect("the supervisor holds the socket");
    world.wait_until("a new gateway", || ![0, dead].contains(&world.pid("gateway", 0)));
    let gateway_ready = || world.events().iter().filter(|line| line.ends_with("WriterReady")).count() == 2;
    world.wait_until("the new gateway is told that there is a writer", gateway_ready);
}

fn a_stop_drains_in_order_and_leaves_nothing() {
    let world = World::new(2);
    let mut server = world.start();
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    let drained: Vec<String> = world.events().into_iter().filter(|line| line.ends_with("Drain")).collect();
    let roles: Vec<&str> = drained.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(roles, ["builder", "gateway", "searcher", "searcher", "writer"]);
    world.assert_clean();
}

fn a_killed_supervisor_takes_its_children_and_is_swept() {
    let world = World::new(2);
    let mut server = world.start();
    let pids: Vec<u32> = world.cells().iter().map(|cell| cell.pid).collect();
    assert_eq!(pids.len(), 5);
    server.process.kill().expect("killed");
    server.process.wait().expect("reaped");
    world.wait_until("every child is gone", || pids.iter().all(|pid| !is_alive(*pid)));
    assert!(world.instance.shm_dir.exists() && world.path("socket").exists(), "something is left to sweep");
    std::fs::write(world.instance.shm_dir.join("stale"), b"x").expect("written");
    std::fs::write(world.instance.data_dir.join("precious"), b"x").expect("written");
    drop(server);
    let mut second = world.start();
    assert!(second.first_line.starts_with("shoal: serving"), "{}", second.first_line);
    assert!(!world.instance.shm_dir.join("stale").exists());
    second.signal("INT");
    assert_eq!(second.exit_code(), Some(0));
    world.assert_clean();
    assert!(world.instance.data_dir.join("precious").exists(), "durable data is not swept");
}

fn exit_code_2_stops_the_server() {
    let world = World::new(1);
    std::fs::write(world.path("gateway.exit"), "2").expect("written");
    let mut server = world.start();
    assert_eq!(server.first_line, "");
    assert_eq!(server.exit_code(), Some(2));
    world.assert_clean();
}

fn corrupt_data_at_the_start_stops_the_server() {
    let world = World::new(1);
    std::fs::write(world.path("writer.exit"), "5").expect("written");
    let mut server = world.start();
    assert_eq!(server.exit_code(), Some(5));
    world.assert_clean();
}

fn systemd_is_told_of_ready_watchdog_reload_and_stopping() {
    let world = World::new(1);
    let socket = UnixDatagram::bind(world.path("notify")).expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let hear = |wanted: &str| {
        let mut bytes = [0; 4096];
        loop {
            let len = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
            if String::from_utf8_lossy(&bytes[..len]).contains(wanted) {
                return;
            }
        }
    };
    let mut server = world.start();
    ["READY=1", "WATCHDOG=1", "WATCHDOG=1"].iter().for_each(|wanted| hear(wanted));
    world.configure(2);
    server.signal("HUP");
    hear("with 2 searchers");
    server.signal("TERM");
    hear("STOPPING=1");
    assert_eq!(server.exit_code(), Some(0));
}

fn a_reload_changes_the_number_of_searchers() {
    let world = World::new(1);
    let server = world.start();
    world.configure(3);
    server.signal("HUP");
    world.wait_until("three searchers", || (0..3).all(|index| world.pid("searcher", index) != 0));
    world.wait_until("every role is told", || world.has_event("Reload 3"));
    world.configure(1);
    server.signal("HUP");
    world.wait_until("one searcher", || world.cells().len() == 4);
    assert_ne!(world.pid("searcher", 0), 0);
    std::fs::write(world.path("shoal.toml"), "searchers = \"many\"").expect("written");
    server.signal("HUP");
    let log = || std::fs::read_to_string(world.path("log")).unwrap_or_default();
    world.wait_until("a bad file is refused", || log().contains("the configuration stays as it was"));
    assert_eq!(world.cells().len(), 4);
}

fn a_second_signal_kills() {
    let world = World::new(1);
    std::fs::write(world.path("stubborn"), b"").expect("written");
    let mut server = world.start();
    server.signal("INT");
    world.wait_until("the gateway ignores the order", || world.has_event("ignores Drain"));
    server.signal("INT");
    world.wait_until("it is killed and the next is told", || {
        world.events().iter().filter(|line| line.ends_with("ignores Drain")).count() >= 1
            && world.pid("gateway", 0) == 0
    });
    // Searcher and writer were killed by the same signal.
    assert_eq!(server.exit_code(), Some(0));
    world.assert_clean();
}
