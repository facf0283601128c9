//! The benches' requests, and calls that check the status of a reply.

use std::time::Duration;

use prost::Message;

use super::data::Set;
use crate::gateway::client::Client;
use crate::proto::{common, milvus, schema};
use crate::types::{Error, ErrorKind, Metric, Result};

/// The collection of every bench.
pub(super) const COLLECTION: &str = "bench";
/// Hits per search.
pub(super) const TOP_K: usize = 10;

/// How often something that takes its time is asked after.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(super) fn pair(key: &str, value: impl ToString) -> common::KeyValuePair {
    common::KeyValuePair { key: key.to_owned(), value: value.to_string() }
}

/// Connects.
pub(super) async fn connect(address: &str) -> Result<Client> {
    let error = |error| Error::new(ErrorKind::Unavailable, format!("cannot connect to {address}: {error}"));
    Client::connect(address).await.map_err(error)
}

/// Sends an encoded request; the encoded reply.
pub(super) async fn send(client: &mut Client, method: &str, body: Vec<u8>) -> Result<Vec<u8>> {
    let error = |error| Error::new(ErrorKind::Unavailable, format!("{method}: {error}"));
    client.call_bytes(method, body).await.map_err(error)
}

fn checked(method: &str, status: Option<common::Status>) -> Result<()> {
    match status.unwrap_or_default() {
        status if status.code == 0 => Ok(()),
        status => Err(Error::new(ErrorKind::Unexpected, format!("{method}: {}", status.reason))),
    }
}

async fn change<Req: Message>(client: &mut Client, method: &str, request: &Req) -> Result<()> {
    let reply = send(client, method, request.encode_to_vec()).await?;
    checked(method, Some(decoded(&reply)?))
}

fn decoded<Res: Message + Default>(reply: &[u8]) -> Result<Res> {
    Res::decode(reply).map_err(|error| Error::internal(format!("a reply cannot be read: {error}")))
}

/// Creates the collection: key `id`, field `vector`; indexed and loaded.
pub(super) async fn create(client: &mut Client, dim: usize, metric: Metric) -> Result<()> {
    create_collection(client, COLLECTION, dim, &[]).await?;
    let metric = if metric == Metric::Cosine { "COSINE" } else { "L2" };
    create_index(client, COLLECTION, vec![pair("index_type", "FLAT"), pair("metric_type", metric)]).await?;
    load(client, COLLECTION).await
}

/// Creates a collection: key `id`, field `vector`, and integer fields.
pub(super) async fn create_collection(client: &mut Client, name: &str, dim: usize, integers: &[&str]) -> Result<()> {
    let field = |name: &str, data_type: schema::DataType, params: Vec<common::KeyValuePair>| schema::FieldSchema {
        name: name.to_owned(),
        data_type: data_type as i32,
        type_params: params,
        ..Default::default()
    };
    let mut key = field("id", schema::DataType::Int64, vec![]);
    key.is_primary_key = true;
    let mut fields = vec![key, field("vector", schema::DataType::FloatVector, vec![pair("dim", dim)])];
    fields.extend(integers.iter().map(|name| field(name, schema::DataType::Int64, vec![])));
    let collection = schema::CollectionSchema { name: name.to_owned(), fields, ..Default::default() };
    let request = milvus::CreateCollectionRequest {
        collection_name: name.to_owned(),
        schema: collection.encode_to_vec(),
        ..Default::default()
    };
    change(client, "CreateCollection", &request).await
}

/// Creates an index on `vector`.
pub(super) async fn create_index(client: &mut Client, name: &str, params: Vec<common::KeyValuePair>) -> Result<()> {
    let request = milvus::CreateIndexRequest {
        collection_name: name.to_owned(),
        field_name: "vector".to_owned(),
        extra_params: params,
        ..Default::default()
    };
    change(client, "CreateIndex", &request).await
}

/// Has a collection answer searches.
pub(super) async fn load(client: &mut Client, name: &str) -> Result<()> {
    let request = milvus::LoadCollectionRequest { collection_name: name.to_owned(), ..Default::default() };
    change(client, "LoadCollection", &request).await
}

/// What the server says of the index on `vector`.
pub(super) async fn describe_index(client: &mut Client, name: &str) -> Result<milvus::IndexDescription> {
    let request = milvus::DescribeIndexRequest { collection_name: name.to_owned(), ..Default::default() };
    let reply: milvus::DescribeIndexResponse = decoded(&send(client, "DescribeIndex", request.encode_to_vec()).await?)?;
    checked("DescribeIndex", reply.status)?;
    let described = reply.index_descriptions.into_iter().next();
    described.ok_or_else(|| Error::internal("an index that was created is not described"))
}

/// Merges the table files of a collection as far as they may be merged, and waits until that is done.
pub(super) async fn compact(client: &mut Client, name: &str) -> Result<()> {
    let request = milvus::ManualCompactionRequest { collection_name: name.to_owned(), ..Default::default() };
    let reply: milvus::ManualCompactionResponse =
        decoded(&send(client, "ManualCompaction", request.encode_to_vec()).await?)?;
    checked("ManualCompaction", reply.status)?;
    let request = milvus::GetCompactionStateRequest { compaction_id: reply.compaction_id };
    loop {
        let reply: milvus::GetCompactionStateResponse =
            decoded(&send(client, "GetCompactionState", request.encode_to_vec()).await?)?;
        checked("GetCompactionState", reply.status.clone())?;
        if reply.state() == common::CompactionState::Completed {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Drops the collection.
pub(super) async fn drop_collection(client: &mut Client) -> Result<()> {
    let request = milvus::DropCollectionRequest { collection_name: COLLECTION.to_owned(), ..Default::default() };
    change(client, "DropCollection", &request).await
}

/// An encoded insert of consecutive keys.
pub(super) fn insert(first_key: i64, vectors: Vec<f32>, dim: usize) -> Vec<u8> {
    insert_into(COLLECTION, first_key, vectors, dim, &[])
}

/// An encoded insert of consecutive keys; the integer fields have a value per row.
pub(super) fn insert_into(
    name: &str,
    first_key: i64,
    vectors: Vec<f32>,
    dim: usize,
    integers: &[(&str, Vec<i64>)],
) -> Vec<u8> {
    use schema::field_data::Field;
    use schema::scalar_field::Data;
    let row_count = vectors.len() / dim;
    let column = |name: &str, data_type: schema::DataType, field: Field| schema::FieldData {
        r#type: data_type as i32,
        field_name: name.to_owned(),
        field: Some(field),
        ..Default::default()
    };
    let whole = |name: &str, data: Vec<i64>| {
        let data = Some(Data::LongData(schema::LongArray { data }));
        column(name, schema::DataType::Int64, Field::Scalars(schema::ScalarField { data }))
    };
    let vectors = schema::VectorField {
        dim: dim as i64,
        data: Some(schema::vector_field::Data::FloatVector(schema::FloatArray { data: vectors })),
    };
    let mut fields_data = vec![
        whole("id", (first_key..first_key + row_count as i64).collect()),
        column("vector", schema::DataType::FloatVector, Field::Vectors(vectors)),
    ];
    fields_data.extend(integers.iter().map(|(name, values)| whole(name, values.clone())));
    let collection_name = name.to_owned();
    milvus::InsertRequest { collection_name, fields_data, num_rows: row_count as u32, ..Default::default() }
        .encode_to_vec()
}

/// Checks the reply of an insert.
pub(super) fn check_inserted(reply: &[u8]) -> Result<()> {
    checked("Insert", decoded::<milvus::MutationResult>(reply)?.status)
}

/// Makes every acknowledged row part of a table file.
pub(super) async fn flush(client: &mut Client, name: &str) -> Result<()> {
    let request = milvus::FlushRequest { collection_names: vec![name.to_owned()], ..Default::default() };
    let reply = send(client, "Flush", request.encode_to_vec()).await?;
    checked("Flush", decoded::<milvus::FlushResponse>(&reply)?.status)
}

/// An encoded search.
pub(super) fn search(set: Set, query: u64) -> Vec<u8> {
    let bytes = set.query(query).iter().flat_map(|value| value.to_le_bytes()).collect();
    let group = common::PlaceholderGroup {
        placeholders: vec![common::PlaceholderValue {
            tag: "$0".to_owned(),
            r#type: common::PlaceholderType::FloatVector as i32,
            values: vec![bytes],
            ..Default::default()
        }],
    };
    let request = milvus::SearchRequest {
        collection_name: COLLECTION.to_owned(),
        dsl_type: common::DslType::BoolExprV1 as i32,
        nq: 1,
        search_input: Some(milvus::search_request::SearchInput::PlaceholderGroup(group.encode_to_vec())),
        search_params: vec![pair("topk", TOP_K), pair("params", "{}")],
        ..Default::default()
    };
    request.encode_to_vec()
}

/// The keys in the reply of a search.
pub(super) fn found_keys(reply: &[u8]) -> Result<Vec<i64>> {
    let reply: milvus::SearchResults = decoded(reply)?;
    checked("Search", reply.status)?;
    match reply.results.and_then(|results| results.ids).and_then(|ids| ids.id_field) {
        Some(schema::i_ds::IdField::IntId(ids)) => Ok(ids.data),
        _ => Err(Error::internal("the reply of a search has no keys")),
    }
}
