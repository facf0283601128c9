//! The parameters of a hierarchical graph, as users give them.

use serde::{Deserialize, Serialize};

use super::{Encoding, HnswParameters};
use crate::index::spec::{IndexSpec, Params};
use crate::types::{Error, Result};

/// Checked parameters of a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HnswSettings {
    /// Links of a vertex on upper levels; twice as many on level 0.
    pub m: usize,
    /// Pool of the searches for neighbours.
    pub ef_construction: usize,
    /// Where searches find the vectors.
    pub encoding: Encoding,
    /// Whether distances are those of the column, though there are copies.
    #[serde(default = "refined")]
    pub is_refined: bool,
    /// Of everything random.
    pub seed: u64,
}

/// Indexes of which nothing else is known are.
fn refined() -> bool {
    true
}

/// What exact distances may be computed from in Milvus. Here it is always the table's own column.
const REFINE_TYPES: [&str; 7] = ["sq4u", "sq6", "sq8", "fp16", "bf16", "fp32", "flat"];

impl HnswSettings {
    /// Milvus' ranges and defaults.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub(in crate::index) fn parse(params: &Params<'_>, is_quantised: bool) -> Result<HnswSettings> {
        let encoding = if is_quantised { quantiser(params)? } else { Encoding::Column };
        Ok(HnswSettings {
            m: params.integer("M", 2..=2048)?.unwrap_or(30),
            ef_construction: params.integer("efConstruction", 1..=i32::MAX as usize)?.unwrap_or(360),
            encoding,
            is_refined: !is_quantised || params.boolean("refine")?.unwrap_or(true),
            seed: params.seed()?,
        })
    }

    /// What the builder takes.
    pub(in crate::index) fn parameters(&self, spec: &IndexSpec, threads: usize) -> HnswParameters {
        let HnswSettings { m, ef_construction, encoding, is_refined, seed } = *self;
        HnswParameters { metric: spec.metric, m, ef_construction, encoding, is_refined, seed, threads }
    }
}

/// `refine_type` is checked and changes nothing: what is refined is compared exactly.
fn quantiser(params: &Params<'_>) -> Result<Encoding> {
    if let Some(given) = params.get("refine_type")
        && !REFINE_TYPES.iter().any(|name| name.eq_ignore_ascii_case(given))
    {
        let names = REFINE_TYPES.join(", ");
        return Err(Error::invalid(format_args!("invalid refine type : {given}, optional types are [{names}]")));
    }
    match params.get("sq_type").unwrap_or("SQ8").to_ascii_uppercase().as_str() {
        "SQ4U" => Ok(Encoding::Codes4),
        "SQ6" => Ok(Encoding::Codes6),
        "SQ8" => Ok(Encoding::Codes8),
        "FP16" => Ok(Encoding::F16),
        "BF16" => Ok(Encoding::Bf16),
        _ => Err(Error::invalid("invalid scalar quantizer type")),
    }
}
