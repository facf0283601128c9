//! The parameters of inverted lists, as users give them.

use serde::{Deserialize, Serialize};

use super::IvfParameters;
use crate::index::spec::{IndexSpec, Params};
use crate::types::Result;

/// Checked parameters of a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IvfSettings {
    /// Lists per file.
    pub list_count: usize,
    /// Whether 8-bit codes decide which rows are near.
    pub is_coarse: bool,
    /// Of everything random.
    pub seed: u64,
}

impl IvfSettings {
    /// Milvus' ranges and defaults.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub(in crate::index) fn parse(params: &Params<'_>, is_coarse: bool) -> Result<IvfSettings> {
        Ok(IvfSettings {
            list_count: params.integer("nlist", 1..=65_536)?.unwrap_or(128),
            is_coarse,
            seed: params.seed()?,
        })
    }

    /// What the builder takes.
    pub(in crate::index) fn parameters(&self, spec: &IndexSpec, threads: usize) -> IvfParameters {
        let IvfSettings { list_count, is_coarse, seed } = *self;
        IvfParameters { metric: spec.metric, list_count, is_coarse, seed, threads }
    }
}
