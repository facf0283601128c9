//! The control plane between the supervisor and its children, over `ipc-channel`: small messages, both ways.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use ipc_channel::ipc::{IpcReceiver, IpcSender};
use serde::{Deserialize, Serialize};

use super::pool::PoolFiles;
use crate::config::{Instance, ServerConfig};
use crate::index::IndexHeader;
use crate::index::spec::IndexSpec;
use crate::types::{CollectionId, DurableFile, FieldSchema, FileId, IndexId};

/// A kind of child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The only one that writes.
    Writer,
    /// Builds indexes.
    Builder,
    /// Answers reads.
    Searcher,
    /// Speaks to clients.
    Gateway,
}

impl Role {
    /// The name in logs, `ps` and status.
    pub fn name(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Builder => "builder",
            Role::Searcher => "searcher",
            Role::Gateway => "gateway",
        }
    }
}

/// What the supervisor tells a child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Finish what is under way, make everything durable, exit with 0. The gateway stops accepting first.
    Drain,
    /// The configuration file was read again; what can change while running does.
    Reload(ServerConfig),
    /// To the gateway: a searcher of this incarnation died; its requests go to another.
    SearcherDied {
        /// The dead one's claimant id.
        incarnation: u32,
    },
    /// To the gateway: the writer of this incarnation died; its claimed requests fail as "retry".
    WriterDied {
        /// The dead one's claimant id.
        incarnation: u32,
    },
    /// To the gateway: a writer is ready (again).
    WriterReady,
    /// To the searchers: the writer has published; there is something to attach to.
    Published,
    /// To the builder, from the writer.
    Build(BuildOrder),
    /// To the writer: the builder takes orders (again).
    BuilderReady,
    /// To the writer: the builder died, and with it what it was building.
    BuilderDied {
        /// How.
        reason: String,
    },
    /// To the writer, from the builder.
    Built(BuildOutcome),
}

/// An index to be built over one table file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildOrder {
    /// Whose.
    pub collection: CollectionId,
    /// Over which table file.
    pub file: FileId,
    /// Its checksum.
    pub table_checksum: u64,
    /// Its rows.
    pub row_count: u64,
    /// Which index.
    pub index: IndexId,
    /// Over which field.
    pub field: FieldSchema,
    /// How.
    pub spec: IndexSpec,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildOutcome {
    /// The order.
    pub order: BuildOrder,
    /// Whether the file is there; else why not.
    pub result: std::result::Result<(), String>,
}

impl BuildOrder {
    /// Where the builder puts the index file, whole.
    pub fn made_path(&self, instance: &Instance) -> PathBuf {
        instance.build_dir().join(format!("{}-{}", self.collection, DurableFile::Index(self.file, self.index)))
    }

    /// What the file says about itself.
    pub fn header(&self) -> IndexHeader {
        IndexHeader {
            spec: self.spec.clone(),
            index: self.index,
            field: self.field.id,
            table: self.file,
            table_checksum: self.table_checksum,
            row_count: self.row_count,
        }
    }
}

/// What a child tells the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    /// It does its work from now on. The gateway says at which addresses.
    Ready {
        /// `host:port` or `unix:<path>` (gateway only).
        addresses: Vec<String>,
    },
    /// It cannot go on; the message is for the operator.
    Failed {
        /// One sentence.
        message: String,
    },
    /// From the writer to the builder.
    Build(BuildOrder),
    /// From the builder to the writer.
    Built(BuildOutcome),
}

/// A child's line to the supervisor: a message and a wake-up of its poll loop.
#[derive(Debug)]
pub struct Notices {
    /// Messages.
    pub sender: IpcSender<Notice>,
    /// The eventfd the supervisor polls.
    pub wake: OwnedFd,
}

/// What a role is started with: made by the supervisor before the fork, used in the child.
pub struct RoleContext {
    /// Which role.
    pub role: Role,
    /// Its number among those of its role: 0 for writer, builder and gateway.
    pub index: usize,
    /// Unique among all children this supervisor ever started; the claimant id in slot pools. Never 0.
    pub incarnation: u32,
    /// The configuration.
    pub config: ServerConfig,
    /// Paths.
    pub instance: Instance,
    /// Orders from the supervisor; when the other end is gone, the supervisor is.
    pub orders: IpcReceiver<Order>,
    /// Notices to the supervisor.
    pub notices: Notices,
    /// The pool of reads (searchers and gateway).
    pub reads: Option<PoolFiles>,
    /// The pool of writes (writer and gateway).
    pub writes: Option<PoolFiles>,
    /// The help board (searchers).
    pub board: Option<File>,
    /// Listening sockets, bound by the supervisor (gateway only), with the address each was bound to.
    pub listeners: Vec<(String, OwnedFd)>,
    /// This child's progress cell.
    pub cell: super::progress::ProgressCell,
}

impl Notices {
    /// Another handle of the same line.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> std::io::Result<Notices> {
        Ok(Notices { sender: self.sender.clone(), wake: self.wake.try_clone()? })
    }

    /// Sends a notice and wakes the supervisor. A supervisor that is gone is no error: its children end by themselves.
    pub fn send(&self, notice: Notice) {
        let _ = self.sender.send(notice);
        crate::sys::eventfd::add(&self.wake, 1);
    }
}
