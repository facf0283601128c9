//! The requests of the benches, which have one collection.

use super::data::Set;
use crate::cli::requests;
pub(super) use crate::cli::requests::{check_inserted, connect, flush, send};
use crate::gateway::client::Client;
use crate::types::{Metric, Result};

/// The collection of every bench.
pub(super) const COLLECTION: &str = "bench";
/// Hits per search.
pub(super) const TOP_K: usize = 10;

/// Creates the collection: key `id`, field `vector`; indexed and loaded.
pub(super) async fn create(client: &mut Client, dim: usize, metric: Metric) -> Result<()> {
    requests::create_collection(client, COLLECTION, dim, vec![]).await?;
    let metric = if metric == Metric::Cosine { "COSINE" } else { "L2" };
    let index = vec![requests::pair("index_type", "FLAT"), requests::pair("metric_type", metric)];
    requests::create_index(client, COLLECTION, index).await?;
    requests::load(client, COLLECTION).await
}

/// Drops the collection.
pub(super) async fn drop_collection(client: &mut Client) -> Result<()> {
    requests::drop_collection(client, COLLECTION).await
}

/// An encoded insert of consecutive keys.
pub(super) fn insert(first_key: i64, vectors: Vec<f32>, dim: usize) -> Vec<u8> {
    requests::insert(COLLECTION, first_key, vectors, dim, vec![])
}

/// An encoded search.
pub(super) fn search(set: Set, query: u64) -> Vec<u8> {
    requests::search(COLLECTION, &set.query(query), TOP_K)
}

/// The keys in the reply of a search.
pub(super) fn found_keys(reply: &[u8]) -> Result<Vec<i64>> {
    Ok(requests::found(reply)?.into_iter().map(|(key, _)| key).collect())
}
