//! Which partitions a filter leaves, in a collection whose rows go by a partition key.

use crate::filter::Plan;
use crate::shm::manifest::Manifest;
use crate::types::{PartitionId, partition_places};

/// The partitions that rows matching the filter can be in; empty = all, as in a [`super::Selection`].
pub fn partitions_of_keys(manifest: &Manifest, plan: &Plan) -> Vec<PartitionId> {
    let Some(field) = manifest.schema.partition_key() else { return Vec::new() };
    let Some(keys) = plan.values_of(field.id) else { return Vec::new() };
    let mut places = partition_places(&keys, manifest.partitions.len());
    places.sort_unstable();
    places.dedup();
    places.into_iter().filter_map(|place| Some(manifest.partitions.get(place)?.id)).collect()
}
