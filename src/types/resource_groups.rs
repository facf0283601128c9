//! Resource groups: there is one node, in the one group that every Milvus has.

use super::{Error, ErrorKind};

/// The one resource group.
pub const DEFAULT_RESOURCE_GROUP: &str = "__default_resource_group";

/// Milvus' error for any other.
pub fn resource_group_not_found(name: &str) -> Error {
    Error::new(ErrorKind::ResourceGroupNotFound, format!("resource group not found[rg={name}]"))
}
