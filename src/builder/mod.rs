//! The builder: makes index files from table files on the writer's orders, at low priority; may be killed at any moment.
//! Start at `build.rs`. Uses `index`, `format`; reaches table files and the directory it builds in, nothing else of the disk.
//! Invariant: a file under the name that the writer expects is whole.

mod build;

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::config::{Instance, ServerConfig};
use crate::ipc::control::{BuildOrder, BuildOutcome, Notice, Notices, Order, RoleContext};
use crate::ipc::progress::{Gauge, ProgressCell};
use crate::sys::files::make_private_dir;
use crate::sys::sandbox::{self, Reach};
use crate::sys::{memory, process};

/// Orders that were given and are not answered yet, oldest first.
type Orders = Arc<Mutex<Vec<BuildOrder>>>;

/// Does the role's work until the supervisor says drain or is gone. What is under way then is given up: the writer orders
/// it again.
pub fn run(context: RoleContext) -> ExitCode {
    if let Err(error) = process::lower_priority() {
        tracing::warn!("indexes are built at normal priority: {error}");
    }
    let RoleContext { config, instance, orders, notices, cell, .. } = context;
    let dir = instance.build_dir();
    if let Err(error) = make_private_dir(&dir) {
        notices.send(Notice::Failed { message: format!("the builder cannot make {}: {error}", dir.display()) });
        return ExitCode::FAILURE;
    }
    confine(&instance);
    let open = Orders::default();
    let config = Arc::new(Mutex::new(config));
    let (queue, queued) = channel();
    let worker = Worker { instance, notices, cell, open: Arc::clone(&open), config: Arc::clone(&config) };
    if let Err(error) = std::thread::Builder::new().spawn(move || worker.run(&queued)) {
        tracing::error!("the builder cannot start its thread: {error}");
        return ExitCode::FAILURE;
    }
    loop {
        match orders.recv() {
            Ok(Order::Build(order)) => enqueue(&open, &queue, order),
            Ok(Order::Reload(changed)) => *config.lock().unwrap_or_else(PoisonError::into_inner) = changed,
            Ok(Order::Drain) | Err(_) => return ExitCode::SUCCESS,
            Ok(_) => {}
        }
    }
}

/// It reads table files and makes index files: whoever breaks into it reaches neither the log nor the catalog, and no table file
/// for writing.
fn confine(instance: &Instance) {
    let read = vec!["/proc".into(), instance.data_dir.join("tables")];
    match sandbox::confine(&Reach { read, make: vec![instance.build_dir()], ..Reach::default() }) {
        Ok(confinement) => tracing::debug!(?confinement, "confined"),
        Err(error) => tracing::warn!("the builder is not confined: {error}"),
    }
}

/// An order that is being worked on is not taken twice: a new writer gives those of the one before again.
fn enqueue(open: &Orders, queue: &Sender<BuildOrder>, order: BuildOrder) {
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    if !open.contains(&order) {
        open.push(order.clone());
        // The worker lives as long as this process.
        let _ = queue.send(order);
    }
}

/// The thread that builds.
struct Worker {
    instance: Instance,
    notices: Notices,
    cell: ProgressCell,
    open: Orders,
    config: Arc<Mutex<ServerConfig>>,
}

impl Worker {
    fn run(&self, queued: &Receiver<BuildOrder>) {
        // Not before: an order is taken then, and memory for this thread was there.
        self.notices.send(Notice::Ready { addresses: Vec::new() });
        while let Ok(order) = queued.recv() {
            let started = Instant::now();
            let result = self.build(&order);
            memory::give_back();
            let elapsed = started.elapsed();
            self.cell.add(Gauge::Requests, 1);
            self.cell.add(Gauge::RequestErrors, u64::from(result.is_err()));
            self.cell.add(Gauge::BusyNs, u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
            match &result {
                Ok(false) => tracing::info!("the index over table file {} was built already", order.file),
                Ok(true) => tracing::info!(
                    "built {} over table file {} ({} rows) in {:.1} s",
                    order.spec.kind.name(),
                    order.file,
                    order.row_count,
                    elapsed.as_secs_f64()
                ),
                Err(message) => tracing::warn!("cannot build an index over table file {}: {message}", order.file),
            }
            self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|open| *open != order);
            self.notices.send(Notice::Built(BuildOutcome { order, result: result.map(|_| ()) }));
        }
    }

    /// Whether it was built; otherwise it was there already.
    fn build(&self, order: &BuildOrder) -> Result<bool, String> {
        let threads = self.config.lock().unwrap_or_else(PoisonError::into_inner).builder_threads;
        self.cell.set(Gauge::BuildRowsDone, 0);
        self.cell.set(Gauge::BuildRowsTotal, order.row_count);
        self.cell.set(Gauge::BuildIndex, order.index.0 as u64);
        self.cell.set(Gauge::BuildFile, order.file.0 as u64 + 1);
        let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            build::build(&self.instance, order, threads, self.cell.clone())
        }));
        let result = match built {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("a thread of the build panicked".to_owned()),
        };
        match result {
            // It stays told as done: the writer has yet to take it over, and progress must not fall back until then.
            Ok(_) => self.cell.set(Gauge::BuildRowsDone, order.row_count),
            Err(_) => self.cell.set(Gauge::BuildFile, 0),
        }
        result
    }
}
