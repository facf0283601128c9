//! Forking a child, and what the child does first: let go of everything that is the supervisor's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use ipc_channel::ipc::{self, IpcReceiver, IpcSender};

use super::Leave;
use super::child::{State, Up};
use super::watch::Supervisor;
use crate::config::exit;
use crate::ipc::control::{Notice, Notices, Order, Role, RoleContext};
use crate::observe;
use crate::sys::process::{self, Forked};
use crate::types::{Error, Result};

/// What a forked child is besides a copy of the supervisor: which one, and its ends of its channels.
#[derive(Debug)]
pub(super) struct ChildStart {
    at: usize,
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
                let start = ChildStart { at, orders: order_receiver, notices: notice_sender, incarnation };
                Err(Leave::Child(Box::new(start)))
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
        let is_builder_ready = self.children.iter().any(|child| child.role == Role::Builder && child.is_ready());
        if is_builder_ready && self.children[at].role == Role::Writer {
            self.children[at].order(Order::BuilderReady);
        }
        let is_writer_ready = self.children.iter().any(|child| child.role == Role::Writer && child.is_ready());
        if is_writer_ready {
            match self.children[at].role {
                Role::Searcher => self.children[at].order(Order::Published),
                Role::Gateway => self.children[at].order(Order::WriterReady),
                Role::Writer | Role::Builder => {}
            }
        }
    }

    /// The child's side: keeps what is the role's, closes the rest, does the work.
    pub(super) fn become_role(self, start: ChildStart) -> ExitCode {
        let ChildStart { at, orders, notices, incarnation } = start;
        let Supervisor {
            mut ground,
            config,
            roles,
            listeners,
            reads,
            writes,
            board,
            progress,
            signals,
            wake,
            children,
            ..
        } = self;
        let (role, index, cell) = (children[at].role, children[at].index, children[at].cell());
        observe::set_role(&children[at].name());
        drop((signals, children));
        // The writer keeps the lock: while it lives, its files must not be another server's, even if the supervisor is dead.
        let _lock = ground.lock.take().filter(|_| role == Role::Writer);
        let listeners = Some(listeners.sockets).filter(|_| role == Role::Gateway).unwrap_or_default();
        let context = RoleContext {
            role,
            index,
            incarnation,
            config,
            instance: ground.instance,
            orders,
            notices: Notices { sender: notices, wake },
            reads: matches!(role, Role::Searcher | Role::Gateway).then_some(reads),
            writes: matches!(role, Role::Writer | Role::Gateway).then_some(writes),
            board: matches!(role, Role::Searcher).then_some(board),
            listeners,
            cell: progress.start_cell(cell, role, index, std::process::id()),
        };
        let entry = match role {
            Role::Writer => roles.writer,
            Role::Builder => roles.builder,
            Role::Searcher => roles.searcher,
            Role::Gateway => roles.gateway,
        };
        catch_unwind(AssertUnwindSafe(|| entry(context))).unwrap_or(ExitCode::from(exit::BUG))
    }
}
