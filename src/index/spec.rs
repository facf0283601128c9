//! What an index is: its kind and parameters as users give them, checked with Milvus' ranges and texts.
//!
//! [`IndexSpec`] says how an index is built, [`SearchSettings`] how one request searches it. `AUTOINDEX` is a name, not a
//! kind: it stands for the kind that suits the field.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::limits::TOP_K_MAX;
use crate::types::{DataType, Error, ErrorKind, FieldSchema, Metric, Result};

/// A kind of index that this server builds or scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IndexKind {
    /// Every row is compared; nothing is built.
    Flat,
    /// The quantised graph of `index/graph`.
    RabitqGraph,
}

impl IndexKind {
    /// Every kind.
    pub const ALL: [IndexKind; 2] = [IndexKind::Flat, IndexKind::RabitqGraph];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            IndexKind::Flat => "FLAT",
            IndexKind::RabitqGraph => "RABITQ_GRAPH",
        }
    }

    /// The kind of an index type as clients write it, `AUTOINDEX` included, for a field.
    fn from_name(name: &str, field: &FieldSchema) -> Option<IndexKind> {
        if name.eq_ignore_ascii_case(AUTOINDEX) {
            return Some(IndexKind::automatic(field.data_type));
        }
        IndexKind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// What `AUTOINDEX` stands for.
    fn automatic(data_type: DataType) -> IndexKind {
        match data_type {
            DataType::FloatVector => IndexKind::RabitqGraph,
            _ => IndexKind::Flat,
        }
    }

    /// Whether it takes vectors of this type.
    fn takes(self, data_type: DataType) -> bool {
        match self {
            IndexKind::Flat => true,
            IndexKind::RabitqGraph => data_type == DataType::FloatVector,
        }
    }
}

/// The index type that leaves the choice to the server.
pub const AUTOINDEX: &str = "AUTOINDEX";

/// Index types of Milvus that this server does not build.
const UNBUILT_TYPES: [&str; 24] = [
    "HNSW",
    "HNSW_SQ",
    "HNSW_PQ",
    "HNSW_PRQ",
    "IVF_FLAT",
    "IVF_SQ8",
    "IVF_PQ",
    "IVF_RABITQ",
    "SCANN",
    "DISKANN",
    "BIN_FLAT",
    "BIN_IVF_FLAT",
    "MINHASH_LSH",
    "SPARSE_INVERTED_INDEX",
    "SPARSE_WAND",
    "GPU_CAGRA",
    "GPU_IVF_FLAT",
    "INVERTED",
    "BITMAP",
    "STL_SORT",
    "TRIE",
    "NGRAM",
    "RTREE",
    "HYBRID",
];

/// Properties of an index that say nothing about how it is built: hints about memory, which this server keeps and returns.
pub const HINTS: [&str; 2] = ["mmap.enabled", "warmup"];

/// How an index is built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexSpec {
    /// Which algorithm.
    pub kind: IndexKind,
    /// How vectors are compared.
    pub metric: Metric,
    /// The field's type.
    pub vector_type: DataType,
    /// Elements of a vector.
    pub dim: usize,
    /// Parameters of the kind.
    pub settings: BuildSettings,
}

/// Parameters of a build, by family of kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum BuildSettings {
    /// There are none.
    Flat,
    /// Of the quantised graph.
    Graph(GraphSettings),
}

/// Parameters of the quantised graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphSettings {
    /// Pool of the searches of a build: more takes longer and finds better neighbours.
    pub ef_construction: usize,
    /// Bits of a neighbour's code; 0 for one per dimension.
    pub code_bits: usize,
    /// Rounds of searches after the first neighbours.
    pub rounds: usize,
    /// Of everything random.
    pub seed: u64,
}

impl Default for GraphSettings {
    fn default() -> GraphSettings {
        GraphSettings { ef_construction: 100, code_bits: 0, rounds: 2, seed: 1 }
    }
}

impl IndexSpec {
    /// Checks the parameters of an index on a vector field: what clients send, or what was stored of it.
    ///
    /// # Errors
    /// With Milvus' texts; index types that are not there are refused by name.
    pub fn parse(field: &FieldSchema, params: &[(String, String)]) -> Result<IndexSpec> {
        let params = Params(params);
        let name = params.get("index_type").unwrap_or(AUTOINDEX);
        let kind = IndexKind::from_name(name, field).ok_or_else(|| unknown_type(name))?;
        if name.eq_ignore_ascii_case(AUTOINDEX) && !params.are_only(&HINTS) {
            return Err(Error::invalid("only metric type can be passed when use AutoIndex"));
        }
        let metric = checked_metric(field, params.get("metric_type"))?;
        if !kind.takes(field.data_type) {
            return Err(Error::invalid(format_args!(
                "data type {} can't build with this index {}",
                field.data_type.name(),
                kind.name()
            )));
        }
        let settings = match kind {
            IndexKind::Flat => BuildSettings::Flat,
            IndexKind::RabitqGraph => BuildSettings::Graph(graph_settings(&params)?),
        };
        Ok(IndexSpec { kind, metric, vector_type: field.data_type, dim: field.dim(), settings })
    }

    /// Whether there is something to build: table files with enough rows get an index file.
    pub fn is_built(&self) -> bool {
        self.kind != IndexKind::Flat
    }
}

fn graph_settings(params: &Params<'_>) -> Result<GraphSettings> {
    let defaults = GraphSettings::default();
    // 32 neighbours fill the registers that estimate their distances together; any other number would only waste some.
    params.integer("M", 32..=32)?;
    Ok(GraphSettings {
        ef_construction: params.integer("efConstruction", 1..=4096)?.unwrap_or(defaults.ef_construction),
        code_bits: params.integer("code_bits", 0..=65_536)?.unwrap_or(defaults.code_bits),
        rounds: params.integer("rounds", 0..=8)?.unwrap_or(defaults.rounds),
        seed: params.integer("seed", 0..=u32::MAX as usize)?.map_or(defaults.seed, |seed| seed as u64),
    })
}

fn unknown_type(name: &str) -> Error {
    let name = name.to_ascii_uppercase();
    if UNBUILT_TYPES.contains(&name.as_str()) {
        return Error::unimplemented(format_args!("index type {name} (use AUTOINDEX or FLAT)"));
    }
    let message = format!("invalid parameter[expected=valid index][actual=invalid index type: {name}]");
    Error::new(ErrorKind::InvalidParameter, message)
}

fn checked_metric(field: &FieldSchema, name: Option<&str>) -> Result<Metric> {
    let is_dense = matches!(
        field.data_type,
        DataType::FloatVector | DataType::Float16Vector | DataType::BFloat16Vector | DataType::Int8Vector
    );
    if !is_dense {
        return Err(Error::unimplemented(format_args!("an index on a field of type {}", field.data_type.name())));
    }
    let Some(name) = name else { return Ok(Metric::Cosine) };
    Metric::from_name(name).ok_or_else(|| {
        let message = format!(
            "float vector index does not support metric type: {name}: invalid parameter[expected=valid index \
             params][actual=invalid index params]"
        );
        Error::new(ErrorKind::InvalidParameter, message)
    })
}

/// Parameters of a build as text; an empty value counts as absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Params<'a>(pub &'a [(String, String)]);

impl<'a> Params<'a> {
    /// A value by key.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(name, value)| name == key && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// A whole number within a range; `None` when it is not given.
    pub fn integer(&self, name: &str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        in_range(name, text.trim().parse::<i64>().map_err(|_| wrong_type(name, text))?, range).map(Some)
    }

    /// Whether there is nothing besides type, metric, name and these.
    fn are_only(&self, known: &[&str]) -> bool {
        let is_known = |key: &str| ["index_type", "metric_type", "index_name"].contains(&key) || known.contains(&key);
        self.0.iter().all(|(key, _)| is_known(key))
    }
}

fn wrong_type(name: &str, shown: &str) -> Error {
    Error::invalid(format_args!("wrong data type in json, key: '{name}', value: '{shown}' should be an integer"))
}

fn in_range(name: &str, value: i64, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
    usize::try_from(value).ok().filter(|value| range.contains(value)).ok_or_else(|| {
        let (low, high) = range.clone().into_inner();
        Error::invalid(format_args!(
            "Out of range in json: param '{name}' ({value}) should be in range [{low}, {high}]"
        ))
    })
}

/// How one request searches an index. What a kind does not know is checked and ignored, as Milvus does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchSettings {
    /// Size of a graph search's pool.
    pub ef: Option<usize>,
    /// Lists of an inverted file that are looked into.
    pub nprobe: Option<usize>,
    /// 1 (fast) to 10 (thorough).
    pub level: Option<u8>,
    /// Hits whose exact distances are computed, per hit that is wanted.
    pub refine_k: Option<f32>,
}

/// Pool of a graph search by level: each step searches about a third more.
const EF_OF_LEVEL: [usize; 10] = [24, 32, 48, 64, 96, 128, 192, 288, 448, 768];
/// The level of a request that names none.
const LEVEL_DEFAULT: u8 = 5;

impl SearchSettings {
    /// Checks the search parameters of a request for `top_k` hits.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub fn parse(kind: IndexKind, params: &Map<String, Value>, top_k: usize) -> Result<SearchSettings> {
        let settings = SearchSettings {
            ef: number(params, "ef", 1..=i32::MAX as usize)?,
            nprobe: number(params, "nprobe", 1..=65_536)?,
            level: number(params, "level", 1..=10)?.and_then(|level| u8::try_from(level).ok()),
            refine_k: refine_k(params)?,
        };
        match settings.ef {
            Some(ef) if ef < top_k && kind != IndexKind::Flat => {
                Err(Error::invalid(format_args!("ef({ef}) should be larger than k({top_k})")))
            }
            _ => Ok(settings),
        }
    }

    /// The pool of a graph search for `k` hits: `ef` as asked for; else by level, with half as much again as is wanted.
    pub fn graph_ef(&self, k: usize) -> usize {
        let level = usize::from(self.level.unwrap_or(LEVEL_DEFAULT).clamp(1, 10));
        self.ef.unwrap_or_else(|| EF_OF_LEVEL[level - 1].max(k + k / 2)).max(k)
    }
}

fn number(params: &Map<String, Value>, name: &str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>> {
    let value = match params.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().map_err(|_| wrong_type(name, text))?,
        Some(value) => value.as_i64().ok_or_else(|| wrong_type(name, &value.to_string()))?,
    };
    in_range(name, value, range).map(Some)
}

fn refine_k(params: &Map<String, Value>) -> Result<Option<f32>> {
    let value = match params.get("refine_k") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_f64(),
    };
    let refine_k = value.map(|value| value as f32).filter(|value| (1.0..=TOP_K_MAX as f32).contains(value));
    refine_k.map(Some).ok_or_else(|| {
        Error::invalid(format_args!("Out of range in json: param 'refine_k' should be in range [1, {TOP_K_MAX}]"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples;

    fn field(data_type: DataType) -> FieldSchema {
        let schema = samples::schema(DataType::Int64);
        let field = schema.fields.iter().find(|field| field.data_type == DataType::FloatVector).unwrap();
        FieldSchema { data_type, ..field.clone() }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn spec(given: &[(&str, &str)]) -> Result<IndexSpec> {
        IndexSpec::parse(&field(DataType::FloatVector), &pairs(given))
    }

    fn settings(json: &str, top_k: usize) -> Result<SearchSettings> {
        SearchSettings::parse(IndexKind::RabitqGraph, &serde_json::from_str(json).unwrap(), top_k)
    }

    #[test]
    fn autoindex_is_the_graph_where_it_can_be_and_a_scan_elsewhere() {
        let automatic = spec(&[("index_type", "AUTOINDEX"), ("metric_type", "l2")]).unwrap();
        assert_eq!(
            (automatic.kind, automatic.metric, automatic.is_built()),
            (IndexKind::RabitqGraph, Metric::L2, true)
        );
        assert_eq!(spec(&[]).unwrap(), spec(&[("index_type", "RABITQ_GRAPH"), ("metric_type", "COSINE")]).unwrap());
        let halves = IndexSpec::parse(&field(DataType::Float16Vector), &[]).unwrap();
        assert_eq!((halves.kind, halves.is_built()), (IndexKind::Flat, false));
        let error =
            IndexSpec::parse(&field(DataType::Int8Vector), &pairs(&[("index_type", "RABITQ_GRAPH")])).unwrap_err();
        assert!(error.message.starts_with("data type Int8Vector can't build with this index RABITQ_GRAPH"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_texts_of_milvus() {
        let refused: [(&[(&str, &str)], &str); 8] = [
            (&[("efConstruction", "8")], "only metric type can be passed when use AutoIndex"),
            (&[("index_type", "DISKANN")], "index type DISKANN (use AUTOINDEX or FLAT) is not supported yet"),
            (&[("index_type", "tree")], "invalid parameter[expected=valid index][actual=invalid index type: TREE]"),
            (&[("metric_type", "HAMMING")], "float vector index does not support metric type: HAMMING"),
            (
                &[("index_type", "RABITQ_GRAPH"), ("M", "16")],
                "Out of range in json: param 'M' (16) should be in range [32, 32]",
            ),
            (
                &[("index_type", "RABITQ_GRAPH"), ("efConstruction", "-1")],
                "Out of range in json: param 'efConstruction' (-1)",
            ),
            (&[("index_type", "RABITQ_GRAPH"), ("rounds", "1.5")], "wrong data type in json, key: 'rounds'"),
            (&[("index_type", "RABITQ_GRAPH"), ("rounds", "true")], "wrong data type in json, key: 'rounds'"),
        ];
        for (given, text) in refused {
            let error = spec(given).unwrap_err();
            assert!(error.message.starts_with(text), "{given:?}: {error}");
        }
        let hinted = spec(&[("index_type", "AUTOINDEX"), ("mmap.enabled", "true")]).unwrap();
        assert_eq!(hinted, spec(&[]).unwrap());
    }

    #[test]
    fn search_parameters_are_checked_against_the_hits_that_are_wanted() {
        assert_eq!(settings("{\"ef\": 200}", 10).unwrap().graph_ef(10), 200);
        assert_eq!(settings("{\"ef\": \"64\", \"nprobe\": 3}", 10).unwrap().nprobe, Some(3));
        let refused = [
            ("{\"ef\": 7}", "ef(7) should be larger than k(10)"),
            ("{\"ef\": 0}", "Out of range in json: param 'ef' (0) should be in range [1, 2147483647]"),
            ("{\"ef\": 16.5}", "wrong data type in json, key: 'ef'"),
            ("{\"ef\": true}", "wrong data type in json, key: 'ef'"),
            ("{\"nprobe\": 65537}", "Out of range in json: param 'nprobe' (65537)"),
            ("{\"level\": 11}", "Out of range in json: param 'level' (11) should be in range [1, 10]"),
            ("{\"refine_k\": 0.5}", "Out of range in json: param 'refine_k'"),
        ];
        for (json, text) in refused {
            let error = settings(json, 10).unwrap_err();
            assert!(error.message.starts_with(text), "{json}: {error}");
        }
    }

    #[test]
    fn a_higher_level_never_searches_less_and_the_pool_holds_the_hits() {
        let ef = |level: u8, k| SearchSettings { level: Some(level), ..SearchSettings::default() }.graph_ef(k);
        for k in [1, 10, 100, TOP_K_MAX] {
            let pools: Vec<usize> = (1..=10).map(|level| ef(level, k)).collect();
            assert!(pools.is_sorted() && pools[0] >= k, "{pools:?}");
        }
        assert_eq!(SearchSettings::default().graph_ef(10), ef(LEVEL_DEFAULT, 10));
    }
}
