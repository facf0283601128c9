//! What an index is: its kind and parameters as users give them, checked with Milvus' ranges and texts.
//!
//! [`IndexSpec`] says how an index is built, [`SearchSettings`] how one request searches it. `AUTOINDEX` is a name, not a
//! kind: it stands for the kind that suits the field.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::hnsw::HnswSettings;
use super::ivf::IvfSettings;
use super::queries::vector_element;
use crate::config::limits::TOP_K_MAX;
use crate::types::{DataType, Error, ErrorKind, FieldSchema, Metric, Result};

/// A kind of index that this server builds or scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IndexKind {
    /// Every row is compared; nothing is built.
    Flat,
    /// The quantised graph of `index/graph`.
    RabitqGraph,
    /// Inverted lists that find what the vectors of the table do; their codes tell which of these need not be read.
    IvfFlat,
    /// Inverted lists of 8-bit codes.
    IvfSq8,
    /// A hierarchical graph over the vectors of the table.
    Hnsw,
    /// A hierarchical graph over 8-bit or 16-bit copies.
    HnswSq,
}

impl IndexKind {
    /// Every kind.
    pub const ALL: [IndexKind; 6] = [
        IndexKind::Flat,
        IndexKind::RabitqGraph,
        IndexKind::IvfFlat,
        IndexKind::IvfSq8,
        IndexKind::Hnsw,
        IndexKind::HnswSq,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            IndexKind::Flat => "FLAT",
            IndexKind::RabitqGraph => "RABITQ_GRAPH",
            IndexKind::IvfFlat => "IVF_FLAT",
            IndexKind::IvfSq8 => "IVF_SQ8",
            IndexKind::Hnsw => "HNSW",
            IndexKind::HnswSq => "HNSW_SQ",
        }
    }

    /// The kind of an index type as clients write it, `AUTOINDEX` included, for vectors of a type.
    fn from_name(name: &str, vector_type: DataType) -> Option<IndexKind> {
        if name.eq_ignore_ascii_case(AUTOINDEX) {
            return Some(IndexKind::automatic(vector_type));
        }
        if name.eq_ignore_ascii_case(BIN_FLAT) {
            return Some(IndexKind::Flat);
        }
        IndexKind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// What `AUTOINDEX` stands for.
    fn automatic(data_type: DataType) -> IndexKind {
        if vector_element(data_type).is_some() { IndexKind::RabitqGraph } else { IndexKind::Flat }
    }

    /// Whether it takes vectors of this type under this name.
    fn takes(self, name: &str, data_type: DataType) -> bool {
        match self {
            IndexKind::Flat if name.eq_ignore_ascii_case(AUTOINDEX) => true,
            // One scan has two names.
            IndexKind::Flat => (data_type == DataType::BinaryVector) == name.eq_ignore_ascii_case(BIN_FLAT),
            IndexKind::RabitqGraph | IndexKind::IvfFlat | IndexKind::IvfSq8 | IndexKind::Hnsw | IndexKind::HnswSq => {
                vector_element(data_type).is_some()
            }
        }
    }
}

/// What FLAT is called on binary vectors.
const BIN_FLAT: &str = "BIN_FLAT";

/// The index type that leaves the choice to the server.
pub const AUTOINDEX: &str = "AUTOINDEX";

/// Index types of Milvus that this server does not build.
const UNBUILT_TYPES: [&str; 19] = [
    "HNSW_PQ",
    "HNSW_PRQ",
    "IVF_PQ",
    "IVF_RABITQ",
    "SCANN",
    "DISKANN",
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

/// The seed of a build that names none.
const SEED_DEFAULT: u64 = 1;

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
    /// Of inverted lists.
    Ivf(IvfSettings),
    /// Of a hierarchical graph.
    Hnsw(HnswSettings),
}

/// Parameters of the quantised graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphSettings {
    /// Pool of the searches of a build: more takes longer and finds better neighbours.
    pub ef_construction: usize,
    /// Bits of a neighbour's code, as [`BuildParameters::code_bits`](super::graph::BuildParameters::code_bits).
    pub code_bits: usize,
    /// Rounds of searches after the first neighbours.
    pub rounds: usize,
    /// Of everything random.
    pub seed: u64,
}

impl Default for GraphSettings {
    fn default() -> GraphSettings {
        GraphSettings { ef_construction: 100, code_bits: 0, rounds: 2, seed: SEED_DEFAULT }
    }
}

impl IndexSpec {
    /// Checks the parameters of an index on a vector field: what clients send, or what was stored of it.
    ///
    /// # Errors
    /// With Milvus' texts; index types that are not there are refused by name.
    pub fn parse(field: &FieldSchema, params: &[(String, String)]) -> Result<IndexSpec> {
        IndexSpec::of_vectors(field.data_type, field.dim(), params)
    }

    /// As [`IndexSpec::parse`], for vectors that are no field's.
    ///
    /// # Errors
    /// As for fields.
    pub fn of_vectors(vector_type: DataType, dim: usize, params: &[(String, String)]) -> Result<IndexSpec> {
        let params = Params(params);
        let name = params.get("index_type").unwrap_or(AUTOINDEX);
        let kind = IndexKind::from_name(name, vector_type).ok_or_else(|| unknown_type(name))?;
        if name.eq_ignore_ascii_case(AUTOINDEX) && !params.are_only(&HINTS) {
            return Err(Error::invalid("only metric type can be passed when use AutoIndex"));
        }
        let metric = checked_metric(vector_type, params.get("metric_type"))?;
        if !kind.takes(name, vector_type) {
            return Err(Error::invalid(format_args!(
                "data type {} can't build with this index {}",
                vector_type.name(),
                name.to_ascii_uppercase()
            )));
        }
        let settings = match kind {
            IndexKind::Flat => BuildSettings::Flat,
            IndexKind::RabitqGraph => BuildSettings::Graph(graph_settings(&params)?),
            IndexKind::IvfFlat => BuildSettings::Ivf(IvfSettings::parse(&params, false)?),
            IndexKind::IvfSq8 => BuildSettings::Ivf(IvfSettings::parse(&params, true)?),
            IndexKind::Hnsw => BuildSettings::Hnsw(HnswSettings::parse(&params, false)?),
            IndexKind::HnswSq => BuildSettings::Hnsw(HnswSettings::parse(&params, true)?),
        };
        Ok(IndexSpec { kind, metric, vector_type, dim, settings })
    }

    /// Whether there is something to build: table files with enough rows get an index file.
    pub fn is_built(&self) -> bool {
        self.kind != IndexKind::Flat
    }

    /// Whether hits have the distances that a scan finds. Else a search keeps to the index, so that all pages of an iterator
    /// have distances of one kind.
    pub fn is_refined(&self) -> bool {
        !matches!(&self.settings, BuildSettings::Hnsw(settings) if !settings.is_refined)
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
        seed: params.seed()?,
    })
}

fn unknown_type(name: &str) -> Error {
    let name = name.to_ascii_uppercase();
    if UNBUILT_TYPES.contains(&name.as_str()) {
        let instead =
            if name == "BIN_IVF_FLAT" { "AUTOINDEX or BIN_FLAT" } else { "AUTOINDEX, HNSW, IVF_FLAT or FLAT" };
        return Error::unimplemented(format_args!("index type {name} (use {instead})"));
    }
    let message = format!("invalid parameter[expected=valid index][actual=invalid index type: {name}]");
    Error::new(ErrorKind::InvalidParameter, message)
}

fn checked_metric(vector_type: DataType, name: Option<&str>) -> Result<Metric> {
    let metrics = Metric::of_type(vector_type);
    let Some(own) = metrics.first() else {
        return Err(Error::unimplemented(format_args!("an index on a field of type {}", vector_type.name())));
    };
    let Some(name) = name else { return Ok(*own) };
    Metric::from_name(name).filter(|metric| metrics.contains(metric)).ok_or_else(|| wrong_metric(vector_type, name))
}

fn wrong_metric(data_type: DataType, name: &str) -> Error {
    let kind = match data_type {
        DataType::BinaryVector => "binary",
        DataType::Int8Vector => "int",
        _ => "float",
    };
    let is_of_bits = ["SUBSTRUCTURE", "SUPERSTRUCTURE", "MHJACCARD"].contains(&name.to_ascii_uppercase().as_str());
    let message = if data_type == DataType::BinaryVector && is_of_bits {
        format!("metric type {name} not found or not supported, supported: [HAMMING JACCARD]")
    } else {
        format!("{kind} vector index does not support metric type: {name}")
    };
    let message = format!("{message}: invalid parameter[expected=valid index params][actual=invalid index params]");
    Error::new(ErrorKind::InvalidParameter, message)
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
        let value = text.trim().parse::<i64>().map_err(|_| match text.trim().parse::<f64>() {
            Ok(_) => Error::invalid(format_args!("wrong data type in json, key: '{name}', value: '{text}'")),
            Err(_) => Error::invalid(format_args!("invalid integer value, key: '{name}', value: '{text}'")),
        })?;
        let value = in_range(name, value, range);
        value.map(Some).map_err(Error::invalid)
    }

    /// True or false; `None` when it is not given.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => Err(Error::invalid(format_args!(
                "Type conflict in json: param '{name}' (\"{text}\") should be a boolean"
            ))),
        }
    }

    /// What everything random of a build begins with.
    pub fn seed(&self) -> Result<u64> {
        Ok(self.integer("seed", 0..=u32::MAX as usize)?.map_or(SEED_DEFAULT, |seed| seed as u64))
    }

    /// Whether there is nothing besides type, metric, name and these.
    fn are_only(&self, known: &[&str]) -> bool {
        let is_known = |key: &str| ["index_type", "metric_type", "index_name"].contains(&key) || known.contains(&key);
        self.0.iter().all(|(key, _)| is_known(key))
    }
}

fn in_range(name: &str, value: i64, range: std::ops::RangeInclusive<usize>) -> Result<usize, String> {
    usize::try_from(value).ok().filter(|value| range.contains(value)).ok_or_else(|| {
        let (low, high) = range.clone().into_inner();
        format!("Out of range in json: param '{name}' ({value}) should be in range [{low}, {high}]")
    })
}

/// How one request searches an index. What a kind does not know is checked and ignored, as Milvus does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchSettings {
    /// Size of a graph search's pool.
    pub ef: Option<usize>,
    /// Lists of an inverted file that are looked into.
    pub nprobe: Option<usize>,
    /// Lists in a row without a hit after which a range search of an inverted file ends.
    pub empty_lists_max: Option<usize>,
    /// 1 (fast) to 10 (thorough).
    pub level: Option<u8>,
    /// Hits whose exact distances are computed, per hit that is wanted.
    pub refine_k: Option<f32>,
    /// No row may be missed: an index is used only where it has the last word on distances, and then all of it.
    pub is_exhaustive: bool,
}

/// Pool of a graph search for ten hits by level: each step searches about a third more.
const EF_OF_LEVEL: [usize; 10] = [24, 32, 48, 64, 96, 128, 192, 288, 448, 768];
/// The level of a request that names none.
const LEVEL_DEFAULT: u8 = 5;

impl SearchSettings {
    /// Checks the search parameters of a request for `top_k` hits.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub fn parse(kind: IndexKind, params: &Map<String, Value>, top_k: usize) -> Result<SearchSettings> {
        let (is_graph, is_lists) = match kind {
            IndexKind::Flat => (false, false),
            IndexKind::RabitqGraph | IndexKind::Hnsw | IndexKind::HnswSq => (true, false),
            IndexKind::IvfFlat | IndexKind::IvfSq8 => (false, true),
        };
        let of_kind = |is_known: bool, name, range| if is_known { number(params, name, range) } else { Ok(None) };
        let settings = SearchSettings {
            ef: of_kind(is_graph, "ef", 1..=i32::MAX as usize)?,
            nprobe: of_kind(is_lists, "nprobe", 1..=65_536)?,
            empty_lists_max: of_kind(is_lists, "max_empty_result_buckets", 1..=65_536)?,
            level: of_kind(is_graph, "level", 1..=10)?.and_then(|level| u8::try_from(level).ok()),
            refine_k: if kind == IndexKind::Flat { None } else { refine_k(params)? },
            is_exhaustive: false,
        };
        match settings.ef {
            Some(ef) if ef < top_k => Err(refused(format!("ef({ef}) should be larger than k({top_k})"))),
            _ => Ok(settings),
        }
    }

    /// Those of a search that misses nothing.
    pub fn exhaustive() -> SearchSettings {
        let all = Some(usize::MAX);
        SearchSettings { ef: all, nprobe: all, is_exhaustive: true, ..SearchSettings::default() }
    }

    /// The pool of a graph search for `k` hits: `ef` as asked for; else by level, larger by the root of what more than ten hits
    /// are wanted, which finds about as many of a hundred as of ten, and at least half as large again as is wanted.
    pub fn graph_ef(&self, k: usize) -> usize {
        let level = usize::from(self.level.unwrap_or(LEVEL_DEFAULT).clamp(1, 10));
        let by_level = EF_OF_LEVEL[level - 1] as f32 * (k as f32 / 10.0).sqrt().max(1.0);
        self.ef.unwrap_or_else(|| (by_level as usize).max(k + k / 2)).max(k)
    }
}

/// Milvus finds out about these while it searches, so their code is that of an unexpected error.
fn refused(message: String) -> Error {
    Error::new(ErrorKind::Unexpected, message)
}

fn number(params: &Map<String, Value>, name: &str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>> {
    let value = match params.get(name) {
        None => return Ok(None),
        Some(Value::String(text)) => {
            let invalid = || refused(format!("invalid integer value, key: '{name}', value: '{text}'"));
            text.trim().parse().map_err(|_| invalid())?
        }
        Some(value) => value
            .as_i64()
            .ok_or_else(|| refused(format!("Type conflict in json: param '{name}' ({value}) should be integer")))?,
    };
    in_range(name, value, range).map(Some).map_err(refused)
}

fn refine_k(params: &Map<String, Value>) -> Result<Option<f32>> {
    let value = match params.get("refine_k") {
        None => return Ok(None),
        Some(Value::String(text)) => {
            let invalid = || refused(format!("invalid float value, key: 'refine_k', value: '{text}'"));
            text.trim().parse::<f64>().map_err(|_| invalid())?
        }
        Some(value) => value
            .as_f64()
            .ok_or_else(|| refused(format!("Type conflict in json: param 'refine_k' ({value}) should be a number")))?,
    };
    if (1.0..=f64::from(f32::MAX)).contains(&value) {
        return Ok(Some(value.min(TOP_K_MAX as f64) as f32));
    }
    let high = f32::MAX;
    Err(refused(format!("Out of range in json: param 'refine_k' ({value:?}) should be in range [1.000000, {high:.6}]")))
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
        for dense in [DataType::Float16Vector, DataType::BFloat16Vector, DataType::Int8Vector] {
            let automatic = IndexSpec::parse(&field(dense), &[]).unwrap();
            assert_eq!((automatic.kind, automatic.is_built()), (IndexKind::RabitqGraph, true));
        }
        let bits = IndexSpec::parse(&field(DataType::BinaryVector), &[]).unwrap();
        assert_eq!((bits.kind, bits.is_built()), (IndexKind::Flat, false));
        let error =
            IndexSpec::parse(&field(DataType::BinaryVector), &pairs(&[("index_type", "RABITQ_GRAPH")])).unwrap_err();
        assert!(
            error.message.starts_with("data type BinaryVector can't build with this index RABITQ_GRAPH"),
            "{error}"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_texts_of_milvus() {
        let refused: [(&[(&str, &str)], &str); 8] = [
            (&[("efConstruction", "8")], "only metric type can be passed when use AutoIndex"),
            (
                &[("index_type", "DISKANN")],
                "index type DISKANN (use AUTOINDEX, HNSW, IVF_FLAT or FLAT) is not supported yet",
            ),
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
            (
                &[("index_type", "RABITQ_GRAPH"), ("rounds", "True")],
                "invalid integer value, key: 'rounds', value: 'True': invalid parameter",
            ),
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
        assert_eq!(settings("{\"ef\": \"64\", \"nprobe\": 0}", 10).unwrap().nprobe, None);
        assert_eq!(settings("{\"level\": 7}", 10).unwrap().level, Some(7));
        let refused = [
            ("{\"ef\": 7}", "ef(7) should be larger than k(10)"),
            ("{\"ef\": 0}", "Out of range in json: param 'ef' (0) should be in range [1, 2147483647]"),
            ("{\"ef\": 16.0}", "Type conflict in json: param 'ef' (16.0) should be integer"),
            ("{\"ef\": true}", "Type conflict in json: param 'ef' (true) should be integer"),
            ("{\"ef\": null}", "Type conflict in json: param 'ef' (null) should be integer"),
            ("{\"ef\": \"many\"}", "invalid integer value, key: 'ef', value: 'many'"),
            ("{\"level\": 11}", "Out of range in json: param 'level' (11) should be in range [1, 10]"),
            ("{\"refine_k\": 0.5}", "Out of range in json: param 'refine_k' (0.5)"),
            ("{\"refine_k\": [15]}", "Type conflict in json: param 'refine_k' ([15]) should be a number"),
            ("{\"refine_k\": \"\"}", "invalid float value"),
        ];
        for (json, text) in refused {
            let error = settings(json, 10).unwrap_err();
            assert!(error.message.starts_with(text), "{json}: {error}");
        }
    }

    #[test]
    fn inverted_lists_and_hierarchies_have_the_ranges_and_defaults_of_milvus() {
        let taken = [
            ("IVF_FLAT", "nlist", "65536"),
            ("IVF_SQ8", "nlist", "1"),
            ("HNSW", "M", "2048"),
            ("HNSW_SQ", "M", "2"),
            ("HNSW", "efConstruction", "2147483647"),
            ("HNSW", "not_defined_param", "nothing"),
            ("HNSW_SQ", "sq_type", "bf16"),
            ("HNSW_SQ", "sq_type", "SQ4U"),
            ("HNSW_SQ", "sq_type", "sq6"),
            ("HNSW_SQ", "refine", "True"),
            ("HNSW_SQ", "refine_type", "FP32"),
        ];
        for (kind, name, value) in taken {
            spec(&[("index_type", kind), (name, value)]).unwrap();
        }
        let refused = [
            ("IVF_FLAT", "nlist", "0", "Out of range in json: param 'nlist' (0) should be in range [1, 65536]"),
            ("HNSW", "M", "1", "Out of range in json: param 'M' (1) should be in range [2, 2048]"),
            ("HNSW_SQ", "M", "2049", "Out of range in json: param 'M' (2049) should be in range [2, 2048]"),
            ("HNSW", "M", "[16]", "invalid integer value, key: 'M', value: '[16]': invalid parameter"),
            ("HNSW", "M", "16.0", "wrong data type in json"),
            ("HNSW", "efConstruction", "0", "Out of range in json: param 'efConstruction' (0)"),
            ("HNSW_SQ", "sq_type", "FP32", "invalid scalar quantizer type: invalid parameter"),
            ("HNSW_SQ", "sq_type", "SQ4", "invalid scalar quantizer type: invalid parameter"),
            ("HNSW_SQ", "refine", "1", "Type conflict in json: param 'refine' (\"1\") should be a boolean"),
            ("HNSW_SQ", "refine_type", "INT8", "invalid refine type : INT8, optional types are [sq4u, sq6, sq8,"),
        ];
        for (kind, name, value, text) in refused {
            let error = spec(&[("index_type", kind), (name, value)]).unwrap_err();
            assert!(error.message.starts_with(text), "{kind} {name} {value}: {error}");
        }
        let hnsw = spec(&[("index_type", "HNSW")]).unwrap().settings;
        let BuildSettings::Hnsw(HnswSettings { m, ef_construction, .. }) = hnsw else { panic!("{hnsw:?}") };
        assert_eq!((m, ef_construction), (30, 360));
        let ivf = spec(&[("index_type", "IVF_SQ8")]).unwrap().settings;
        assert!(matches!(ivf, BuildSettings::Ivf(IvfSettings { list_count: 128, is_coarse: true, .. })), "{ivf:?}");
    }

    #[test]
    fn a_search_parameter_of_another_kind_is_ignored() {
        let settings = |kind, json: &str| SearchSettings::parse(kind, &serde_json::from_str(json).unwrap(), 10);
        assert_eq!(settings(IndexKind::IvfFlat, "{\"ef\": 1, \"nprobe\": \"32\"}").unwrap().nprobe, Some(32));
        assert!(settings(IndexKind::Hnsw, "{\"nprobe\": -1}").is_ok());
        assert!(settings(IndexKind::Flat, "{\"nprobe\": -1, \"ef\": 1}").is_ok());
        let error = settings(IndexKind::IvfSq8, "{\"nprobe\": 65537}").unwrap_err();
        assert_eq!(error.message, "Out of range in json: param 'nprobe' (65537) should be in range [1, 65536]");
        assert_eq!(error.kind, ErrorKind::Unexpected);
        let lists = "{\"max_empty_result_buckets\": 100}";
        assert_eq!(settings(IndexKind::IvfFlat, lists).unwrap().empty_lists_max, Some(100));
        assert!(settings(IndexKind::IvfFlat, "{\"max_empty_result_buckets\": 0}").is_err());
        assert_eq!(settings(IndexKind::Hnsw, lists).unwrap(), SearchSettings::default());
    }

    #[test]
    fn a_higher_level_never_searches_less_and_the_pool_holds_the_hits() {
        let ef = |level: u8, k| SearchSettings { level: Some(level), ..SearchSettings::default() }.graph_ef(k);
        for k in [1, 10, 100, TOP_K_MAX] {
            let pools: Vec<usize> = (1..=10).map(|level| ef(level, k)).collect();
            assert!(pools.is_sorted() && pools[0] >= k, "{pools:?}");
        }
        for k in [10, 100] {
            assert!(ef(1, k) < ef(5, k) && ef(5, k) < ef(10, k), "a level is not without effect");
        }
        assert_eq!(SearchSettings::default().graph_ef(10), ef(LEVEL_DEFAULT, 10));
    }
}
