//! What the demo and the benches ask of a server, and calls that check the status of a reply.

use std::time::Duration;

use prost::Message;

use crate::gateway::client::Client;
use crate::proto::{common, milvus, schema};
use crate::types::{Error, ErrorKind, Result};

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

/// A field of integers.
pub(super) fn integer_field(name: &str) -> schema::FieldSchema {
    field(name, schema::DataType::Int64, vec![])
}

/// A field of texts.
pub(super) fn text_field(name: &str, bytes_max: usize) -> schema::FieldSchema {
    field(name, schema::DataType::VarChar, vec![pair("max_length", bytes_max)])
}

fn field(name: &str, data_type: schema::DataType, params: Vec<common::KeyValuePair>) -> schema::FieldSchema {
    schema::FieldSchema {
        name: name.to_owned(),
        data_type: data_type as i32,
        type_params: params,
        ..Default::default()
    }
}

/// Creates a collection: key `id`, field `vector`, and others.
pub(super) async fn create_collection(
    client: &mut Client,
    name: &str,
    dim: usize,
    others: Vec<schema::FieldSchema>,
) -> Result<()> {
    let key = schema::FieldSchema { is_primary_key: true, ..integer_field("id") };
    let mut fields = vec![key, field("vector", schema::DataType::FloatVector, vec![pair("dim", dim)])];
    fields.extend(others);
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

/// Drops a collection.
pub(super) async fn drop_collection(client: &mut Client, name: &str) -> Result<()> {
    let request = milvus::DropCollectionRequest { collection_name: name.to_owned(), ..Default::default() };
    change(client, "DropCollection", &request).await
}

/// The values of a field of integers.
pub(super) fn integers(name: &str, data: Vec<i64>) -> schema::FieldData {
    scalars(name, schema::DataType::Int64, schema::scalar_field::Data::LongData(schema::LongArray { data }))
}

/// The values of a field of texts.
pub(super) fn texts(name: &str, data: Vec<String>) -> schema::FieldData {
    scalars(name, schema::DataType::VarChar, schema::scalar_field::Data::StringData(schema::StringArray { data }))
}

fn scalars(name: &str, data_type: schema::DataType, data: schema::scalar_field::Data) -> schema::FieldData {
    let scalars = schema::ScalarField { data: Some(data) };
    column(name, data_type, schema::field_data::Field::Scalars(scalars))
}

fn column(name: &str, data_type: schema::DataType, field: schema::field_data::Field) -> schema::FieldData {
    schema::FieldData {
        r#type: data_type as i32,
        field_name: name.to_owned(),
        field: Some(field),
        ..Default::default()
    }
}

/// An encoded insert of consecutive keys, with the values of the other fields.
pub(super) fn insert(
    name: &str,
    first_key: i64,
    vectors: Vec<f32>,
    dim: usize,
    others: Vec<schema::FieldData>,
) -> Vec<u8> {
    let row_count = vectors.len() / dim;
    let vectors = schema::VectorField {
        dim: dim as i64,
        data: Some(schema::vector_field::Data::FloatVector(schema::FloatArray { data: vectors })),
    };
    let mut fields_data = vec![
        integers("id", (first_key..first_key + row_count as i64).collect()),
        column("vector", schema::DataType::FloatVector, schema::field_data::Field::Vectors(vectors)),
    ];
    fields_data.extend(others);
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
pub(super) fn search(name: &str, query: &[f32], top_k: usize) -> Vec<u8> {
    let bytes = query.iter().flat_map(|value| value.to_le_bytes()).collect();
    let group = common::PlaceholderGroup {
        placeholders: vec![common::PlaceholderValue {
            tag: "$0".to_owned(),
            r#type: common::PlaceholderType::FloatVector as i32,
            values: vec![bytes],
            ..Default::default()
        }],
    };
    let request = milvus::SearchRequest {
        collection_name: name.to_owned(),
        dsl_type: common::DslType::BoolExprV1 as i32,
        nq: 1,
        search_input: Some(milvus::search_request::SearchInput::PlaceholderGroup(group.encode_to_vec())),
        search_params: vec![pair("topk", top_k), pair("params", "{}")],
        ..Default::default()
    };
    request.encode_to_vec()
}

/// Keys and scores in the reply of a search.
pub(super) fn found(reply: &[u8]) -> Result<Vec<(i64, f32)>> {
    let reply: milvus::SearchResults = decoded(reply)?;
    checked("Search", reply.status)?;
    let results = reply.results.unwrap_or_default();
    match results.ids.and_then(|ids| ids.id_field) {
        Some(schema::i_ds::IdField::IntId(ids)) => Ok(ids.data.into_iter().zip(results.scores).collect()),
        _ => Err(Error::internal("the reply of a search has no keys")),
    }
}
