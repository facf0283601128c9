//! What clients see of searches and queries: texts of refusals, shapes of replies, pages of iterators.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use prost::Message;

use super::output_fields::OutputFields;
use super::query::query_found;
use super::search::search_found;
use super::session::Found;
use crate::filter::Templates;
use crate::proto::common::{KeyValuePair, PlaceholderGroup, PlaceholderType, PlaceholderValue};
use crate::proto::milvus::search_request::SearchInput;
use crate::proto::milvus::{QueryRequest, QueryResults, SearchRequest, SearchResults};
use crate::proto::schema::{FieldData, IDs, LongArray, field_data, i_ds, scalar_field, vector_field};
use crate::query::tests::world::{DIM, KeyKind, ModelRow, Random, VECTOR, World};
use crate::types::{CollectionSchema, DataType, FieldId, FieldSchema, IndexId, IndexRecord, PartitionRecord, Result};

/// Keys 0..30 at distance key from the zero vector, L2, half sealed and half growing.
fn world() -> World {
    let mut random = Random::new(1);
    let mut world = World::empty(KeyKind::Int);
    world.add_sealed((0..15).map(|key| ModelRow::near(key, key as f32)).collect(), &mut random);
    world.add_growing((15..30).map(|key| ModelRow::near(key, key as f32)).collect());
    let params = vec![("metric_type".to_owned(), "L2".to_owned())];
    world.indexes = vec![IndexRecord { id: IndexId(1), name: "vector".to_owned(), field: VECTOR, params }];
    world
}

fn found(world: &World) -> Found {
    let snapshot = world.snapshot(world.last_timestamp);
    Found { database: "default".to_owned(), name: "items".to_owned(), snapshot }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<KeyValuePair> {
    pairs.iter().map(|(key, value)| KeyValuePair { key: (*key).to_owned(), value: (*value).to_owned() }).collect()
}

fn placeholder(vectors: &[Vec<f32>]) -> SearchInput {
    let values = vectors.iter().map(|vector| vector.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let value = PlaceholderValue {
        tag: "$0".to_owned(),
        r#type: PlaceholderType::FloatVector.into(),
        values,
        ..Default::default()
    };
    SearchInput::PlaceholderGroup(PlaceholderGroup { placeholders: vec![value] }.encode_to_vec())
}

/// A search for the zero vector.
fn search_with(world: &World, params: &[(&str, &str)], output_fields: &[&str]) -> Result<SearchResults> {
    search_in(found(world), params, output_fields)
}

fn search_in(found: Found, params: &[(&str, &str)], output_fields: &[&str]) -> Result<SearchResults> {
    let request = SearchRequest {
        search_input: Some(placeholder(&[vec![0.0; DIM]])),
        nq: 1,
        search_params: pairs(params),
        output_fields: output_fields.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    search_found(found, request)
}

fn query_with(world: &World, params: &[(&str, &str)], output_fields: &[&str]) -> Result<QueryResults> {
    let request = QueryRequest {
        query_params: pairs(params),
        output_fields: output_fields.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    query_found(found(world), &request)
}

fn hit_ids(results: &SearchResults) -> Vec<i64> {
    match results.results.as_ref().unwrap().ids.as_ref().unwrap().id_field.as_ref().unwrap() {
        i_ds::IdField::IntId(ids) => ids.data.clone(),
        i_ds::IdField::StrId(_) => panic!("text ids"),
    }
}

fn integers(field: &FieldData) -> Vec<i64> {
    let Some(field_data::Field::Scalars(scalars)) = &field.field else { panic!("no scalars in {field:?}") };
    let Some(scalar_field::Data::LongData(data)) = &scalars.data else { panic!("no integers in {field:?}") };
    data.data.clone()
}

fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().message
}

#[test]
fn a_search_answers_ids_scores_and_fields_in_one_order() {
    let answer = search_with(&world(), &[("topk", "3"), ("offset", "2")], &["number", "vector"]).unwrap();
    assert_eq!(hit_ids(&answer), [2, 3, 4]);
    let results = answer.results.unwrap();
    assert_eq!((results.scores.as_slice(), results.topks.as_slice()), ([4.0, 9.0, 16.0].as_slice(), [3].as_slice()));
    assert_eq!((results.num_queries, results.top_k, results.primary_field_name.as_str()), (1, 3, "id"));
    assert_eq!(results.output_fields, ["number", "vector"]);
    assert_eq!(integers(&results.fields_data[0]), [2, 3, 4]);
    let Some(field_data::Field::Vectors(vectors)) = &results.fields_data[1].field else { panic!("no vectors") };
    assert_eq!(vectors.dim, DIM as i64);
}

#[test]
fn a_search_without_hits_still_answers_typed_fields() {
    let params = [("topk", "3"), ("params", r#"{"radius": -1.0}"#)];
    let answer = search_with(&world(), &params, &["number", "vector"]).unwrap();
    assert!(hit_ids(&answer).is_empty());
    let results = answer.results.unwrap();
    assert_eq!(results.topks, [0]);
    assert!(integers(&results.fields_data[0]).is_empty());
    let Some(field_data::Field::Vectors(vectors)) = &results.fields_data[1].field else { panic!("no vectors") };
    assert_eq!(vectors.dim, DIM as i64);
    assert!(matches!(vectors.data, Some(vector_field::Data::FloatVector(_))));
}

#[test]
fn a_range_search_keeps_hits_from_the_filter_up_to_the_radius() {
    let params = [("topk", "30"), ("params", r#"{"radius": 25.0, "range_filter": 4.0}"#)];
    assert_eq!(hit_ids(&search_with(&world(), &params, &[]).unwrap()), [2, 3, 4]);
}

#[test]
fn scores_are_rounded_as_asked() {
    let mut world = World::empty(KeyKind::Int);
    world.add_growing(vec![ModelRow { vector: [1.0, 1.0, 1.0, 0.0], ..ModelRow::near(1, 0.0) }]);
    let request = SearchRequest {
        search_input: Some(placeholder(&[vec![1.0, 0.0, 0.0, 0.0]])),
        search_params: pairs(&[("topk", "1"), ("round_decimal", "2")]),
        ..Default::default()
    };
    let answer = search_found(found(&world), request).unwrap();
    assert_eq!(answer.results.unwrap().scores, [0.58], "cosine is the metric where no index says another");
}

#[test]
fn a_search_by_ids_uses_their_vectors() {
    let ids = |keys: &[i64]| {
        let id_field = Some(i_ds::IdField::IntId(LongArray { data: keys.to_vec() }));
        let request = SearchRequest {
            search_input: Some(SearchInput::Ids(IDs { id_field })),
            search_params: pairs(&[("topk", "1")]),
            ..Default::default()
        };
        search_found(found(&world()), request)
    };
    assert_eq!(hit_ids(&ids(&[20, 4]).unwrap()), [20, 4]);
    assert!(refusal(ids(&[1, 77, 78])).contains("do not exist: missing IDs = [77 78]"));
    assert!(refusal(ids(&[1, 1])).contains("duplicate IDs found in search request"));
    assert!(refusal(ids(&[])).contains("`ids` value [] is illegal"));
}

#[test]
fn refused_searches_say_what_milvus_says() {
    let world = world();
    let refused = |params: &[(&str, &str)]| refusal(search_with(&world, params, &[]));
    let out_of_range = "topk [16385] is invalid, it should be in range [1, 16384], but got 16385";
    assert_eq!(refused(&[("topk", "16385")]), out_of_range);
    assert_eq!(refused(&[("topk", "0")]), "topk [0] is invalid, it should be in range [1, 16384], but got 0");
    assert!(refused(&[("topk", "ten")]).contains("topk [ten] is invalid"));
    assert!(refused(&[("topk", "16000"), ("offset", "1000")]).contains("offset+topk [17000] is invalid"));
    assert!(refused(&[("topk", "1"), ("offset", "-1")]).contains("offset [-1] is invalid, it should be in range"));
    let metric = [("topk", "1"), ("metric_type", "ip")];
    assert_eq!(refused(&metric), "metric type not match: invalid parameter[expected=L2][actual=IP]");
    let range = [("topk", "1"), ("params", r#"{"radius": 1, "range_filter": 5}"#)];
    assert!(refused(&range).contains("metric type (L2), range_filter(5) must be less than radius(1)"));
    let alone = [("topk", "1"), ("params", r#"{"range_filter": 5}"#)];
    assert!(refused(&alone).contains("range_filter requires radius to be set"));
    assert!(refused(&[("topk", "1"), ("params", r#"{"radius": "x"}"#)]).contains("type must be number"));
    assert!(refused(&[("topk", "1"), ("anns_field", "none")]).contains("fieldName(none) not found"));
    assert!(refused(&[("topk", "1"), ("anns_field", "color")]).contains("is not of vector data type"));
    assert!(refused(&[("topk", "1"), ("order_by_fields", "color")]).contains("order_by_fields is not supported"));
    assert!(refused(&[("topk", "1"), ("round_decimal", "7")]).contains("round_decimal [7] is invalid"));
    assert_eq!(refusal(search_with(&world, &[("topk", "1")], &["none"])), "field none not exist");
}

#[test]
fn query_vectors_that_do_not_fit_the_field_are_refused() {
    let world = world();
    let refused = |input: SearchInput, nq: i64| {
        let search_params = pairs(&[("topk", "1")]);
        let request = SearchRequest { search_input: Some(input), nq, search_params, ..Default::default() };
        refusal(search_found(found(&world), request))
    };
    let mismatch = "vector dimension mismatch, expected vector size(byte) 16, actual 12";
    assert!(refused(placeholder(&[vec![0.0; 3]]), 1).contains(mismatch));
    assert!(refused(placeholder(&[vec![f32::NAN; 4]]), 1).contains("value 'NaN' is not a number or infinity"));
    assert!(
        refused(placeholder(&[]), 0).contains("nq [0] is invalid, nq (number of search vector per search request)")
    );
    assert_eq!(refused(placeholder(&vec![vec![0.0; 4]; 3]), 1), "queries count (3) != nq count (1)");
    assert!(refused(SearchInput::PlaceholderGroup(vec![0xff]), 1).contains("cannot be read"));
    let half = PlaceholderValue {
        r#type: PlaceholderType::Float16Vector.into(),
        values: vec![vec![0; 8]],
        ..Default::default()
    };
    let half = PlaceholderGroup { placeholders: vec![half] }.encode_to_vec();
    assert!(refused(SearchInput::PlaceholderGroup(half), 1).contains("vector type must be the same"));
}

/// The pages of an iterator from the zero vector.
fn pages_of(world: &World, batch_size: &str) -> Result<Vec<Vec<i64>>> {
    let found = found(world);
    let (mut pages, mut bound, mut token) = (Vec::new(), None, None);
    loop {
        let batch = [("topk", batch_size), ("search_iter_batch_size", batch_size)];
        let mut params = vec![("iterator", "True"), ("search_iter_v2", "True")];
        params.extend(batch);
        let bound_text: Option<String> = bound.map(|bound: f32| bound.to_string());
        params.extend(bound_text.as_deref().map(|bound| ("search_iter_last_bound", bound)));
        params.extend(token.as_deref().map(|token: &str| ("search_iter_id", token)));
        let answer = search_in(found.clone(), &params, &[])?;
        let page = hit_ids(&answer);
        let state = answer.results.unwrap().search_iterator_v2_results.unwrap();
        assert_eq!(state.token.len(), 36);
        assert!(token.is_none_or(|token| token == state.token), "the token stays");
        if page.is_empty() {
            return Ok(pages);
        }
        (bound, token) = (Some(state.last_bound), Some(state.token));
        pages.push(page);
    }
}

#[test]
fn a_second_generation_iterator_gives_every_row_once() {
    let pages = pages_of(&world(), "7").unwrap();
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [7, 7, 7, 7, 2]);
    assert_eq!(pages.concat(), (0..30).collect::<Vec<_>>());
}

/// Rows whose distances to the zero vector are as given, half of them in a table file.
fn world_of(distances: &[f32]) -> World {
    let mut world = World::empty(KeyKind::Int);
    world.indexes = self::world().indexes;
    let rows = |part: std::ops::Range<usize>| part.map(|row| ModelRow::near(row as i64, distances[row])).collect();
    world.add_sealed(rows(0..distances.len() / 2), &mut Random::new(2));
    world.add_growing(rows(distances.len() / 2..distances.len()));
    world
}

#[test]
fn rows_that_are_equally_far_come_on_one_page_of_an_iterator_however_many_they_are() {
    // Fewer than are found at once, as many, and more.
    for tied in [6, 9, 40, 1020, 1024, 1500] {
        let mut distances = vec![1.0; tied + 15];
        distances[..8].fill(0.5);
        distances[tied + 8..].fill(2.0);
        let mut pages = pages_of(&world_of(&distances), "5").unwrap();
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [8, tied, 7], "{tied} tied rows");
        pages.iter_mut().for_each(|page| page.sort_unstable());
        assert_eq!(pages.concat(), (0..tied as i64 + 15).collect::<Vec<_>>());
    }
}

#[test]
fn an_iterator_that_is_asked_for_more_than_is_found_at_once_comes_to_every_row() {
    let distances: Vec<f32> = (0..5_000).map(|row| (row / 2) as f32).collect();
    let world = world_of(&distances);
    for batch_size in ["50", "1000"] {
        let pages = pages_of(&world, batch_size).unwrap();
        let found = pages.concat();
        assert!(found.iter().map(|row| row / 2).is_sorted(), "nearest first");
        assert_eq!(found.iter().collect::<std::collections::HashSet<_>>().len(), found.len());
        assert_eq!(found.len(), 5_000, "{} pages", pages.len());
    }
}

#[test]
fn a_query_answers_rows_in_key_order_with_their_keys() {
    let answer = query_with(&world(), &[("limit", "4"), ("offset", "13")], &["number"]).unwrap();
    assert_eq!(answer.output_fields, ["number", "id"]);
    assert_eq!(answer.fields_data.iter().map(|field| field.field_name.as_str()).collect::<Vec<_>>(), ["number", "id"]);
    assert_eq!(integers(&answer.fields_data[1]), [13, 14, 15, 16]);
    let every = query_with(&world(), &[("limit", "1")], &["*"]).unwrap();
    assert_eq!(every.output_fields, ["id", "number", "color", "vector"]);
}

#[test]
fn count_counts_and_takes_no_pages() {
    let answer = query_with(&world(), &[], &["count(*)"]).unwrap();
    assert_eq!((answer.fields_data[0].field_name.as_str(), integers(&answer.fields_data[0])), ("count(*)", vec![30]));
    let paged = query_with(&world(), &[("limit", "3")], &["count(*)"]);
    assert_eq!(refusal(paged), "count entities with pagination is not allowed");
}

#[test]
fn refused_queries_say_what_milvus_says() {
    let world = world();
    let refused = |params: &[(&str, &str)]| refusal(query_with(&world, params, &[]));
    assert_eq!(refused(&[]), "empty expression should be used with limit: invalid parameter");
    let window = "invalid max query result window, ";
    assert_eq!(refused(&[("limit", "0")]), format!("{window}limit [0] is invalid, should be greater than 0"));
    let negative = [("limit", "1"), ("offset", "-1")];
    assert_eq!(refused(&negative), format!("{window}offset [-1] is invalid, should be gte than 0"));
    let large = [("limit", "16384"), ("offset", "1")];
    assert_eq!(refused(&large), format!("{window}(offset+limit) should be in range [1, 16384], but got 16385"));
    assert!(refused(&[("limit", "many")]).contains("limit [many] is invalid"));
}

#[test]
fn an_iterator_reads_at_the_timestamp_it_sends_back() {
    const NOW: u64 = 1_700_000_000_000 << 18;
    let mut world = World::empty(KeyKind::Int);
    world.last_timestamp = NOW;
    world.add_growing((0..5).map(|key| ModelRow::near(key, 1.0)).collect());
    let session_ts = world.last_timestamp;
    world.add_growing((5..9).map(|key| ModelRow::near(key, 1.0)).collect());
    let ids_at = |guarantee_timestamp: u64| {
        let query_params = pairs(&[("limit", "100"), ("iterator", "True")]);
        let request = QueryRequest { query_params, guarantee_timestamp, ..Default::default() };
        let answer = query_found(found(&world), &request).unwrap();
        (integers(&answer.fields_data[0]).len(), answer.session_ts)
    };
    assert_eq!(ids_at(session_ts), (5, session_ts));
    for level in [0, 1, 2, u64::MAX] {
        assert_eq!(ids_at(level), (9, world.last_timestamp), "{level} is no timestamp that was given out");
    }
}

#[test]
fn partitions_are_checked_by_name() {
    let mut found = found(&world());
    let record = |id: i64, name: &str, is_loaded: bool| PartitionRecord {
        id: crate::types::PartitionId(id),
        name: name.to_owned(),
        created: Default::default(),
        flushed_lsn: Default::default(),
        is_loaded,
    };
    let mut view = crate::shm::attach::CollectionView {
        manifest: found.view().manifest.clone(),
        sealed: Vec::new(),
        growing: Vec::new(),
    };
    view.manifest.partitions = vec![record(1, "_default", true), record(2, "cold", false)];
    found.snapshot.view = std::sync::Arc::new(view);
    let names = |names: &[&str]| {
        found.searched_partitions(
            &names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(),
            &found.plan("", &Templates::default()).unwrap(),
        )
    };
    assert_eq!(names(&["_default"]).unwrap(), [crate::types::PartitionId(1)]);
    assert!(refusal(names(&["none"])).contains("partition name none not found"));
    assert!(refusal(names(&["cold"])).contains("partition not loaded"));
    assert!(refusal(names(&[""])).contains("Partition name should not be empty"));
}

fn dynamic_schema() -> CollectionSchema {
    let mut schema = world().schema.clone();
    schema.enable_dynamic_field = true;
    schema.fields.push(FieldSchema { is_dynamic: true, ..FieldSchema::new(FieldId(104), "$meta", DataType::Json) });
    schema
}

#[test]
fn unknown_output_fields_are_keys_of_the_dynamic_field() {
    let schema = dynamic_schema();
    let names = |requested: &[&str]| {
        let requested: Vec<String> = requested.iter().map(|name| (*name).to_owned()).collect();
        OutputFields::new(&schema, &requested).map(|output| output.names)
    };
    assert_eq!(names(&["color", "size"]).unwrap(), ["color", "size"]);
    assert_eq!(names(&["$meta[\"size\"]"]).unwrap(), ["size"]);
    assert_eq!(names(&["*"]).unwrap(), ["id", "number", "color", "vector", "$meta"]);
    assert!(refusal(names(&["size[0"])).contains("parse output field name failed: size[0"));
}

#[test]
fn every_read_method_has_a_handler() {
    use crate::ipc::method::{Method, Route};
    let text = include_str!("requests.rs");
    for method in Method::ALL.iter().filter(|method| method.route() == Route::Read) {
        assert!(text.contains(&format!("Method::{} =>", method.name())), "{} has no handler", method.name());
    }
}
