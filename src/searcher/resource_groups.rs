//! Resource groups, as one node has them: there is the default group, and nothing can be moved.

use std::collections::HashMap;

use super::session::Session;
use crate::proto::common::{NodeInfo, Status};
use crate::proto::milvus::{
    CreateResourceGroupRequest, DescribeResourceGroupRequest, DescribeResourceGroupResponse, DropResourceGroupRequest,
    ListResourceGroupsRequest, ListResourceGroupsResponse, ResourceGroup, TransferNodeRequest, TransferReplicaRequest,
    UpdateResourceGroupsRequest,
};
use crate::proto::rg::{ResourceGroupConfig, ResourceGroupLimit};
use crate::proto::status::success;
use crate::types::resource_groups::{DEFAULT_RESOURCE_GROUP, resource_group_not_found};
use crate::types::{Error, Result};

/// The one node that there is.
pub(super) const NODE_ID: i64 = 1;

/// CreateResourceGroup.
pub(super) fn create(request: &CreateResourceGroupRequest) -> Result<Status> {
    match request.resource_group.as_str() {
        "" => Err(Error::invalid("resource group name couldn't be empty")),
        DEFAULT_RESOURCE_GROUP => Ok(success()),
        name => Err(Error::unimplemented(format_args!("creating resource group {name} (there is one node)"))),
    }
}

/// DropResourceGroup: of one that does not exist it is done already.
pub(super) fn drop(request: &DropResourceGroupRequest) -> Result<Status> {
    match request.resource_group.as_str() {
        DEFAULT_RESOURCE_GROUP => Err(Error::invalid("delete default rg is not permitted")),
        _ => Ok(success()),
    }
}

/// UpdateResourceGroups.
pub(super) fn update(request: &UpdateResourceGroupsRequest) -> Result<Status> {
    request.resource_groups.keys().try_for_each(|name| check(name))?;
    Err(Error::unimplemented("changing the configuration of a resource group (there is one node)"))
}

/// ListResourceGroups.
pub(super) fn list(_request: &ListResourceGroupsRequest) -> Result<ListResourceGroupsResponse> {
    let resource_groups = vec![DEFAULT_RESOURCE_GROUP.to_owned()];
    Ok(ListResourceGroupsResponse { status: Some(success()), resource_groups })
}

/// DescribeResourceGroup.
pub(super) fn describe(
    session: &Session<'_>,
    request: &DescribeResourceGroupRequest,
) -> Result<DescribeResourceGroupResponse> {
    check(&request.resource_group)?;
    let one = || Some(ResourceGroupLimit { node_num: 1 });
    let mut loaded = HashMap::new();
    for entry in &session.catalog()?.collections {
        if session.reader.summary_of(entry).is_ok_and(|summary| summary.is_loaded) {
            loaded.insert(entry.name.clone(), 1);
        }
    }
    let resource_group = ResourceGroup {
        name: request.resource_group.clone(),
        capacity: 1,
        num_available_node: 1,
        num_loaded_replica: loaded,
        config: Some(ResourceGroupConfig { requests: one(), limits: one(), ..Default::default() }),
        nodes: vec![NodeInfo { node_id: NODE_ID, ..Default::default() }],
        ..Default::default()
    };
    Ok(DescribeResourceGroupResponse { status: Some(success()), resource_group: Some(resource_group) })
}

/// TransferNode.
pub(super) fn transfer_node(request: &TransferNodeRequest) -> Result<Status> {
    Err(transfer(&request.source_resource_group, &request.target_resource_group))
}

/// TransferReplica.
pub(super) fn transfer_replica(session: &Session<'_>, request: &TransferReplicaRequest) -> Result<Status> {
    session.find(&request.db_name, &request.collection_name)?;
    Err(transfer(&request.source_resource_group, &request.target_resource_group))
}

/// Why nothing can be moved: there is no second group.
fn transfer(source: &str, target: &str) -> Error {
    match [source, target].into_iter().find_map(|name| check(name).err()) {
        Some(error) => error,
        None => Error::invalid(format_args!(
            "source resource group and target resource group should not be the same, resource group: {source}"
        )),
    }
}

fn check(name: &str) -> Result<()> {
    if name == DEFAULT_RESOURCE_GROUP { Ok(()) } else { Err(resource_group_not_found(name)) }
}
