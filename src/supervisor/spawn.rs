//! Forking a child, and what the child does first: let go of everything that is the supervisor's.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use ipc_channel::ipc::{self, IpcReceiver, IpcSender};

use super::Leave;
use super::child::{State, Up};
use super::watch::Supervisor;
use crate::config::exit;
use crate::ipc::control::{Notice, Notices, Order, Role, RoleContext};
use crate::ipc::pool::PoolFiles;
use crate::observe;
use crate::sys::process::{self, Forked};
use crate::types::{Error, Result};

/// The child's ends of its channels.
struct ChildEnds {
    orders: IpcReceiver<Order>,
    notices: IpcSender<Notice>,
    incarnation: u32,
}

impl Supervisor {
    /// Starts a child. When the kernel has no room for one now, it is tried again later.
    pub(super) fn spawn(&mut self, at: usize) -> Result<(), Leave> {
        match self.fork_child(at) {
            Err(Leave::Failed(error)) => {
                let child = &mut self.children[at];
                let wait = child.schedule_restart(Instant::now());
                tracing::error!("cannot start the {}: {error}; next try in {} ms", child.name(), wait.as_millis());
                Ok(())
            }
            other => other,
        }
    }

    fn fork_child(&mut self, at: usize) -> Result<(), Leave> {
        let channel = |error| Error::io("make a control channel", &error);
        let (order_sender, order_receiver) = ipc::channel().map_err(channel)?;
        let (notice_sender, notice_receiver) = ipc::channel().map_err(channel)?;
        self.incarnation_last += 1;
        let incarnation = self.incarnation_last;
        let name = self.children[at].name();
        let forked = process::fork(&format!("shoal: {name}")).map_err(|error| Error::io("fork", &error))?;
        match forked {
            Forked::Child => {
                drop((order_sender, notice_receiver));
                let ends = ChildEnds { orders: order_receiver, notices: notice_sender, incarnation };
                Err(Leave::Role(self.become_role(at, ends)))
            }
            Forked::Parent(process) => {
                tracing::info!("started the {name}: pid {}", process.pid());
                self.children[at].state = State::Up(Up {
                    process,
                    incarnation,
                    orders: order_sender,
                    notices: notice_receiver,
                    is_ready: false,
                    since: Instant::now(),
                    drain_deadline: None,
                });
                self.brief(at);
                Ok(())
            }
        }
    }

    /// Tells a new child how things stand.
    fn brief(&self, at: usize) {
        let is_writer_ready = self.children.iter().any(|child| child.role == Role::Writer && child.is_ready());
        if is_writer_ready {
            match self.children[at].role {
                Role::Searcher => self.children[at].order(Order::Published),
                Role::Gateway => self.children[at].order(Order::WriterReady),
                Role::Writer => {}
            }
        }
    }

    /// The child's side: keeps what is the role's, closes the rest, does the work.
    fn become_role(&mut self, at: usize, ends: ChildEnds) -> ExitCode {
        let (role, index) = (self.children[at].role, self.children[at].index);
        let (cell_index, name) = (self.children[at].cell(), self.children[at].name());
        observe::set_role(&name);
        self.signals = None;
        self.children.clear();
        let listeners = std::mem::take(&mut self.listeners.sockets);
        let listeners = if role == Role::Gateway { listeners } else { Vec::new() };
        // The writer keeps the lock: while it lives, its files must not be another server's, even if the supervisor is dead.
        if role != Role::Writer {
            self.ground.lock = None;
        }
        let cell = self.progress.start_cell(cell_index, role, index, std::process::id());
        let context = clone_pools(&self.reads, &self.writes).and_then(|(reads, writes)| {
            let notices = Notices { sender: ends.notices, wake: self.wake.try_clone()? };
            Ok(RoleContext {
                role,
                index,
                incarnation: ends.incarnation,
                config: self.config.clone(),
                instance: self.ground.instance.clone(),
                orders: ends.orders,
                notices,
                reads,
                writes,
                board: self.board.try_clone()?,
                listeners,
                cell,
            })
        });
        let context = match context {
            Ok(context) => context,
            Err(error) => {
                tracing::error!("cannot duplicate the descriptors of the {name}: {error}");
                return ExitCode::from(exit::BUG);
            }
        };
        let entry = match role {
            Role::Writer => self.roles.writer,
            Role::Searcher => self.roles.searcher,
            Role::Gateway => self.roles.gateway,
        };
        catch_unwind(AssertUnwindSafe(|| entry(context))).unwrap_or(ExitCode::from(exit::BUG))
    }
}

fn clone_pools(reads: &PoolFiles, writes: &PoolFiles) -> io::Result<(PoolFiles, PoolFiles)> {
    let clone = |pool: &PoolFiles| -> io::Result<PoolFiles> {
        Ok(PoolFiles {
            memory: pool.memory.try_clone()?,
            work: pool.work.try_clone()?,
            done: pool.done.try_clone()?,
            options: pool.options,
        })
    };
    Ok((clone(reads)?, clone(writes)?))
}
