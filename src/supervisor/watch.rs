//! The loop: wait for signals, notices, deaths and due times; act; wait again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::child::{Child, SINGLE_CELLS, State};
use super::ground::Ground;
use super::listen::Listeners;
use super::stop::Stop;
use super::{Leave, Roles};
use crate::config::limits::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX, SEARCHERS_MAX};
use crate::config::{ServerConfig, exit};
use crate::ipc::board::create_board;
use crate::ipc::control::{Notice, Order, Role};
use crate::ipc::pool::{PoolFiles, PoolOptions};
use crate::ipc::progress::ProgressBlock;
use crate::sys::process::Exit;
use crate::sys::signals::{Request, Signals};
use crate::sys::{eventfd, notify, title};
use crate::types::{Error, Result};

/// Requests under way at once, in each pool. More wait in the gateway's queue.
const POOL_SLOTS: u32 = 128;
/// Every slot of both pools may be held by a dead process of its own; older deaths hold none.
const DEATHS_REMEMBERED_MAX: usize = 2 * POOL_SLOTS as usize;
/// How long a searcher that is not wanted any more may take to finish its request.
const SEARCHER_PATIENCE: Duration = Duration::from_secs(10);

/// One server's supervisor.
pub struct Supervisor {
    pub(super) ground: Ground,
    pub(super) config: ServerConfig,
    pub(super) roles: Roles,
    pub(super) listeners: Listeners,
    pub(super) reads: PoolFiles,
    pub(super) writes: PoolFiles,
    pub(super) board: File,
    pub(super) progress: ProgressBlock,
    /// `None` in a forked child.
    pub(super) signals: Option<Signals>,
    /// Children signal it with each notice.
    pub(super) wake: OwnedFd,
    pub(super) children: Vec<Child>,
    pub(super) incarnation_last: u32,
    /// The last deaths of searchers and writers, for the next gateway.
    deaths: VecDeque<Order>,
    /// On the way out.
    pub(super) stop: Option<Stop>,
    /// Every role was ready once: the first line was printed.
    is_serving: bool,
    watchdog: Option<(Duration, Instant)>,
}

impl Supervisor {
    /// Makes blocks, sockets and pools; starts nothing. Gives the ground back when that fails.
    pub(super) fn new(
        ground: Ground,
        config: ServerConfig,
        roles: Roles,
        signals: Signals,
    ) -> std::result::Result<Supervisor, Box<(Ground, Error)>> {
        let made = (|| {
            (roles.create_blocks)(&ground.instance)?;
            let progress = ProgressBlock::create(&ground.instance, SINGLE_CELLS + SEARCHERS_MAX)?;
            let pool = |name: &str| {
                let options = PoolOptions {
                    slot_count: POOL_SLOTS,
                    request_bytes_max: REQUEST_BYTES_MAX,
                    reply_bytes_max: REPLY_BYTES_MAX,
                };
                PoolFiles::create(name, options)
                    .map_err(|error| Error::io(format_args!("make the request pool {name}"), &error))
            };
            let (reads, writes) = (pool("shoal-reads")?, pool("shoal-writes")?);
            let board = create_board().map_err(|error| Error::io("make the searchers' help board", &error))?;
            let wake = eventfd::counter().map_err(|error| Error::io("make an eventfd", &error))?;
            Ok((progress, reads, writes, board, wake, Listeners::bind(&config.listen)?))
        })();
        let (progress, reads, writes, board, wake, listeners) = match made {
            Ok(made) => made,
            Err(error) => return Err(Box::new((ground, error))),
        };
        title::prepare();
        title::set(&format!("shoal: supervisor {}", ground.instance.data_dir.display()));
        Ok(Supervisor {
            ground,
            config,
            roles,
            listeners,
            reads,
            writes,
            board,
            progress,
            signals: Some(signals),
            wake,
            children: vec![Child::new(Role::Writer, 0)],
            incarnation_last: 0,
            deaths: VecDeque::new(),
            stop: None,
            is_serving: false,
            watchdog: notify::watchdog_interval().map(|interval| (interval, Instant::now())),
        })
    }

    /// Runs the server; returns its exit code once every child is gone.
    pub(super) fn watch(&mut self, reload: &dyn Fn() -> Result<ServerConfig>) -> Result<u8, Leave> {
        notify::status("starting");
        loop {
            for request in self.signals.as_mut().map(Signals::take).unwrap_or_default() {
                match request {
                    Request::Stop => self.request_stop(),
                    Request::Reload => self.reload(reload),
                }
            }
            self.start_due()?;
            if let Some(code) = self.advance_stop() {
                return Ok(code);
            }
            self.wait()?;
            eventfd::take(&self.wake);
            for at in 0..self.children.len() {
                self.hear(at);
            }
            self.reap()?;
            self.beat();
        }
    }

    /// Sleeps until something happens or is due.
    fn wait(&self) -> Result<()> {
        let children = self.children.iter().filter_map(Child::up).map(|up| up.process.pidfd());
        let signals = self.signals.iter().flat_map(Signals::fds);
        let mut polled: Vec<PollFd<'_>> = std::iter::once(self.wake.as_fd())
            .chain(signals)
            .chain(children)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let dues = self.children.iter().filter_map(Child::due).chain(self.watchdog.map(|(_, due)| due));
        let timeout = dues.min().map(|due| due.saturating_duration_since(Instant::now()));
        // Rounded up: a wait that ends just before its time would spin.
        let timeout = timeout.and_then(|wait| Timespec::try_from(wait + Duration::from_millis(1)).ok());
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Error::io("wait for children", &error.into())),
        }
    }

    /// Starts what is due. Searchers and gateway come once the writer has published.
    fn start_due(&mut self) -> Result<(), Leave> {
        let now = Instant::now();
        for at in 0..self.children.len() {
            let is_due = matches!(self.children[at].state, State::Down(Some(due)) if due <= now);
            if is_due && self.stop.is_none() {
                self.spawn(at)?;
            }
        }
        Ok(())
    }

    /// Reads what a child has to say.
    fn hear(&mut self, at: usize) {
        while let Some(notice) = self.children[at].up().and_then(|up| up.notices.try_recv().ok()) {
            let name = self.children[at].name();
            match notice {
                Notice::Failed { message } => tracing::error!("the {name} cannot go on: {message}"),
                Notice::Ready { .. } => {
                    if let Some(up) = self.children[at].up_mut() {
                        up.is_ready = true;
                        tracing::info!("the {name} is ready after {} ms", up.since.elapsed().as_millis());
                    }
                    match self.children[at].role {
                        Role::Writer => self.writer_is_ready(),
                        Role::Gateway => self.deaths.iter().for_each(|death| self.children[at].order(death.clone())),
                        Role::Builder => self.tell(Role::Writer, &Order::BuilderReady),
                        Role::Searcher => {}
                    }
                    self.announce();
                }
                // One that is down loses the order; the writer hears of its death and gives it again.
                Notice::Build(order) => self.tell(Role::Builder, &Order::Build(order)),
                Notice::Built(outcome) => self.tell(Role::Writer, &Order::Built(outcome)),
            }
        }
    }

    /// There is something to attach to: searchers start or look again, and the gateway may pass writes.
    fn writer_is_ready(&mut self) {
        self.fit_searchers();
        for role in [Role::Gateway, Role::Builder] {
            if !self.children.iter().any(|child| child.role == role) {
                self.children.push(Child::new(role, 0));
            }
        }
        self.tell(Role::Searcher, &Order::Published);
        self.tell(Role::Gateway, &Order::WriterReady);
    }

    /// Sends an order to every child of a role.
    pub(super) fn tell(&self, role: Role, order: &Order) {
        for child in self.children.iter().filter(|child| child.role == role) {
            child.order(order.clone());
        }
    }

    /// Tells the gateway, and remembers it for the next one: slots claimed by the dead while no gateway lived stay taken
    /// until their client hears of the death. Hearing it twice does no harm.
    fn tell_of_death(&mut self, death: Order) {
        self.tell(Role::Gateway, &death);
        if self.deaths.len() == DEATHS_REMEMBERED_MAX {
            self.deaths.pop_front();
        }
        self.deaths.push_back(death);
    }

    /// Has as many searchers as configured: adds missing ones, drains those above.
    fn fit_searchers(&mut self) {
        let wanted = self.config.searchers;
        for index in 0..wanted {
            if !self.children.iter().any(|child| child.role == Role::Searcher && child.index == index) {
                self.children.push(Child::new(Role::Searcher, index));
            }
        }
        for child in self.children.iter_mut().filter(|child| child.role == Role::Searcher && child.index >= wanted) {
            child.is_wanted = false;
            child.drain(SEARCHER_PATIENCE);
        }
        self.forget_unwanted();
    }

    fn forget_unwanted(&mut self) {
        for child in self.children.iter().filter(|child| !child.is_wanted && child.up().is_none()) {
            self.progress.clear_cell(child.cell());
        }
        self.children.retain(|child| child.is_wanted || child.up().is_some());
    }

    /// Prints the first line, once every role is ready for the first time.
    fn announce(&mut self) {
        let has_gateway = self.children.iter().any(|child| child.role == Role::Gateway);
        if self.is_serving || !has_gateway || !self.children.iter().all(Child::is_ready) {
            return;
        }
        self.is_serving = true;
        let addresses = self.addresses();
        let pids = |role: Role| {
            let ups = self.children.iter().filter(|child| child.role == role).filter_map(Child::up);
            ups.map(|up| up.process.pid().to_string()).collect::<Vec<_>>().join(" ")
        };
        // A closed stdout is no reason to stop serving.
        let _ = writeln!(
            std::io::stdout(),
            "shoal: serving {addresses} from {}; supervisor {}, writer {}, {} searchers {}, gateway {}, builder {}",
            self.ground.instance.data_dir.display(),
            std::process::id(),
            pids(Role::Writer),
            self.config.searchers,
            pids(Role::Searcher),
            pids(Role::Gateway),
            pids(Role::Builder),
        );
        notify::ready(&self.status_line());
    }

    fn addresses(&self) -> String {
        let addresses: Vec<&str> = self.listeners.sockets.iter().map(|(address, _)| address.as_str()).collect();
        addresses.join(", ")
    }

    /// What `systemctl status` shows of a server that serves.
    fn status_line(&self) -> String {
        format!("serving {} with {} searchers", self.addresses(), self.config.searchers)
    }

    /// Reaps the dead and decides what follows.
    fn reap(&mut self) -> Result<()> {
        let now = Instant::now();
        for at in 0..self.children.len() {
            let Some(up) = self.children[at].up() else { continue };
            let exit = up.process.try_wait().map_err(|error| Error::io("reap a child", &error))?;
            match exit {
                Some(exit) => {
                    self.hear(at);
                    self.bury(at, exit, now);
                }
                None if up.drain_deadline.is_some_and(|deadline| deadline <= now) => {
                    tracing::warn!("the {} did not end in time; it is killed", self.children[at].name());
                    up.process.kill();
                }
                None => {}
            }
        }
        self.forget_unwanted();
        if self.is_serving && self.stop.is_none() {
            self.fit_searchers();
        }
        Ok(())
    }

    fn bury(&mut self, at: usize, exit: Exit, now: Instant) {
        let child = &self.children[at];
        let (name, role) = (child.name(), child.role);
        let Some((incarnation, was_draining)) = child.up().map(|up| (up.incarnation, up.drain_deadline.is_some()))
        else {
            return;
        };
        self.progress.stop_cell(child.cell());
        match role {
            Role::Searcher => self.tell_of_death(Order::SearcherDied { incarnation }),
            Role::Writer => self.tell_of_death(Order::WriterDied { incarnation }),
            // One that was told to end failed at nothing.
            Role::Builder if was_draining => {}
            Role::Builder => {
                let reason = format!("{exit}{}", exit.hint());
                self.tell(Role::Writer, &Order::BuilderDied { reason });
            }
            Role::Gateway => {}
        }
        let is_stopping = self.stop.is_some();
        let child = &mut self.children[at];
        if is_stopping || was_draining {
            tracing::info!("the {name} ended: {exit}");
            child.state = State::Down(None);
            self.note_end(exit);
            return;
        }
        if let Some(code) = final_code(exit, self.is_serving) {
            tracing::error!("the {name} ended with {exit}: the server stops");
            child.state = State::Down(None);
            self.begin_stop(code);
            return;
        }
        let wait = child.schedule_restart(now);
        tracing::warn!("the {name} died: {exit}; it is started again in {} ms", wait.as_millis());
    }

    /// Reads the configuration again; what can change while running does.
    fn reload(&mut self, reload: &dyn Fn() -> Result<ServerConfig>) {
        let mut config = match reload() {
            Ok(config) => config,
            Err(error) => {
                tracing::error!("the configuration stays as it was: {error}");
                return;
            }
        };
        let old = &self.config;
        if (&config.listen, &config.shm_dir, config.log_format) != (&old.listen, &old.shm_dir, old.log_format) {
            tracing::warn!("listen, shm_dir and log_format change at the next start only");
            (config.listen, config.shm_dir) = (old.listen.clone(), old.shm_dir.clone());
            config.log_format = old.log_format;
        }
        self.config = config;
        for child in &self.children {
            child.order(Order::Reload(self.config.clone()));
        }
        if self.is_serving && self.stop.is_none() {
            self.fit_searchers();
            notify::status(&self.status_line());
        }
        tracing::info!("the configuration was read again: {} searchers", self.config.searchers);
    }

    fn beat(&mut self) {
        if let Some((interval, due)) = &mut self.watchdog
            && *due <= Instant::now()
        {
            *due = Instant::now() + *interval;
            notify::watchdog();
        }
    }
}

/// The code the server ends with because a child ended so: bad configuration always, a full disk and damaged data while
/// starting. Later, the other roles still answer what they can.
fn final_code(ended: Exit, is_serving: bool) -> Option<u8> {
    let Exit::Code(code) = ended else { return None };
    let code = u8::try_from(code).ok()?;
    let is_final = code == exit::USAGE || (!is_serving && [exit::DISK_FULL, exit::CORRUPT].contains(&code));
    is_final.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_restart_cannot_mend_ends_the_server() {
        assert_eq!(final_code(Exit::Code(2), true), Some(2));
        assert_eq!(final_code(Exit::Code(5), false), Some(5));
        assert_eq!(final_code(Exit::Code(4), true), None);
        assert_eq!(final_code(Exit::Code(70), false), None);
        assert_eq!(final_code(Exit::Signal(9), false), None);
    }
}
