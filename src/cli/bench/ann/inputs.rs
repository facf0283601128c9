//! What is searched, what is searched for, and what must be found.

use super::vectors::{self, Part, Table};
use super::{Options, clusters, truth};
use crate::types::{Error, Result};

/// Vectors and truth.
pub(super) struct Inputs {
    /// What is searched.
    pub base: Table<f32>,
    /// What is searched for.
    pub queries: Table<f32>,
    /// The rows nearest to each query.
    pub truth: Table<u32>,
}

impl Inputs {
    /// Reads files; without a file of queries, the last rows of the base are the queries.
    pub fn load(options: &Options) -> Result<Inputs> {
        let (mut base, mut queries) = Inputs::vectors(options)?;
        base.values.truncate(options.rows.unwrap_or(base.rows()).saturating_mul(base.dim));
        queries.values.truncate(options.query_count.saturating_mul(queries.dim));
        if queries.dim != base.dim || queries.rows() == 0 || base.rows() == 0 {
            let found = format!("{} rows of {} and {} of {}", base.rows(), base.dim, queries.rows(), queries.dim);
            return Err(Error::invalid(format!("base and queries must have rows of one length, not {found}")));
        }
        let truth = match &options.truth {
            Some(path) => truth::read(path, options.metric, base.rows(), queries.rows(), options.k)?,
            None => truth::compute(options.metric, &base, &queries, options.k, None)?,
        };
        Ok(Inputs { base, queries, truth })
    }

    /// For a process that searches what another one built: there is no base.
    pub fn of_searcher(options: &Options) -> Result<Inputs> {
        let (Some(queries), Some(truth)) = (&options.queries, &options.truth) else {
            return Err(Error::invalid("--attach needs --queries and --truth"));
        };
        let queries = vectors::load(queries, Part::Queries, options.metric)?;
        let truth = truth::read(truth, options.metric, u32::MAX as usize, queries.rows(), options.k)?;
        Ok(Inputs { base: Table { dim: queries.dim, values: Vec::new() }, queries, truth })
    }

    fn vectors(options: &Options) -> Result<(Table<f32>, Table<f32>)> {
        let path = options.base.as_ref().ok_or_else(|| Error::invalid("--base is missing"))?;
        let held_out = |mut base: Table<f32>, count: usize| {
            let values = base.values.split_off((base.rows() - count) * base.dim);
            let dim = base.dim;
            (base, Table { dim, values })
        };
        let made = path.to_str().and_then(clusters::parse);
        if let Some(shape) = made {
            let (rows, dim) = shape?;
            return Ok(held_out(
                clusters::rows(rows.saturating_add(options.query_count), rows, dim)?,
                options.query_count,
            ));
        }
        let base = vectors::load(path, Part::Base, options.metric)?;
        match &options.queries {
            Some(path) => Ok((base, vectors::load(path, Part::Queries, options.metric)?)),
            None => {
                let count = options.query_count.min(base.rows() / 2);
                Ok(held_out(base, count))
            }
        }
    }
}
