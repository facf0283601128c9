//! What is measured: an index over the vectors, searched in place.

use std::time::Instant;

use memmap2::{Advice, MmapMut};

use super::truth::progress_bar;
use super::vectors::Table;
use crate::index::flat::scan;
use crate::index::graph::{BuildParameters, Builder, Progress};
use crate::index::spec::{BuildSettings, IndexSpec, SearchSettings};
use crate::index::{
    BuildProgress, Hit, IndexRequest, IndexScratch, OpenIndex, Queries, SearchIndex, TopK, VectorColumn, builder,
};
use crate::kernel::{VectorElement, VectorRows};
use crate::types::{DataType, Error, Metric, Result};

/// `NAME[,parameter=value...]` of the command line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IndexName {
    /// In capitals.
    pub name: String,
    /// In the order given.
    pub parameters: Vec<(String, String)>,
}

impl std::str::FromStr for IndexName {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<IndexName, String> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default().to_uppercase();
        let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let parameters: Option<Vec<_>> = parts.map(pair).collect();
        parameters
            .map(|parameters| IndexName { name, parameters })
            .ok_or("expected NAME,parameter=value,...".to_owned())
    }
}

/// An index and the vectors it was built from.
pub(super) struct Subject {
    metric: Metric,
    dim: usize,
    rows: usize,
    column: MmapMut,
    /// `None` for FLAT.
    image: Option<MmapMut>,
    /// The parameter that trades speed for recall; `None` when there is none.
    pub search_parameter: Option<&'static str>,
    /// How long it was built.
    pub build_seconds: f64,
}

/// What one thread of searches needs.
pub(super) struct Searcher<'a> {
    subject: &'a Subject,
    index: Option<OpenIndex<'a>>,
    scratch: IndexScratch,
}

impl Subject {
    /// Builds the index.
    pub fn build(index: &IndexName, metric: Metric, base: &Table<f32>, threads: usize) -> Result<Subject> {
        let map =
            |bytes: usize| MmapMut::map_anon(bytes).map_err(|error| Error::io("map memory for the index", &error));
        let mut column = map(base.values.len() * size_of::<f32>())?;
        column.copy_from_slice(bytemuck::cast_slice(&base.values));
        let started = Instant::now();
        let (image, search_parameter) = match index.name.as_str() {
            "FLAT" => (None, None),
            // The bench varies more of the graph's parameters than users may.
            "RABITQ_GRAPH" | "AUTOINDEX" => {
                let parameters = parameters(index, metric, base.dim, threads)?;
                let bar = progress_bar("building", base.rows());
                let report = |progress: Progress| bar.set_position(progress.done as u64);
                let builder = Builder::new(parameters, &base.values, &report).map_err(Error::invalid)?;
                let mut image = map(builder.image_bytes().ok_or_else(|| Error::invalid("too many vectors"))?)?;
                // A hint: without huge pages it is slower, not wrong.
                let _ = image.advise(Advice::HugePage);
                builder.build(&mut image).map_err(|error| Error::internal(error.to_string()))?;
                bar.finish_and_clear();
                (Some(image), Some("ef"))
            }
            _ => {
                let spec = spec(index, metric, base.dim)?;
                let bar = progress_bar("building", base.rows());
                let progress = BuildProgress::default();
                let builder = builder(&spec, rows_of(&column, base.dim), threads, &progress)?;
                let mut image = map(builder.image_bytes())?;
                let _ = image.advise(Advice::HugePage);
                builder.write(&mut image)?;
                bar.finish_and_clear();
                (Some(image), Some(if matches!(spec.settings, BuildSettings::Ivf(_)) { "nprobe" } else { "ef" }))
            }
        };
        let build_seconds = started.elapsed().as_secs_f64();
        Ok(Subject { metric, dim: base.dim, rows: base.rows(), column, image, search_parameter, build_seconds })
    }

    /// Bytes of the index per vector; the column is not counted.
    pub fn index_bytes_per_vector(&self) -> f64 {
        self.image.as_ref().map_or(0.0, |image| image.len() as f64 / self.rows as f64)
    }

    /// For one thread.
    pub fn searcher(&self) -> Result<Searcher<'_>> {
        let index = self.image.as_ref().map(|image| OpenIndex::open(image)).transpose()?;
        Ok(Searcher { subject: self, index, scratch: IndexScratch::default() })
    }
}

impl Searcher<'_> {
    /// The nearest rows of one query.
    pub fn search(&mut self, query: &[f32], k: usize, parameter: usize) -> Result<Vec<Hit>> {
        let subject = self.subject;
        let mut top = TopK::new(k);
        match &self.index {
            Some(index) => {
                let parameter = Some(parameter);
                let settings = SearchSettings { ef: parameter, nprobe: parameter, ..SearchSettings::default() };
                let source = Some(rows_of(&subject.column, subject.dim));
                let request = IndexRequest { k, settings: &settings, filter: None, range: None, source, file_index: 0 };
                index.search(query, &request, &mut self.scratch, &mut top)?;
            }
            None => {
                let queries = Queries::dense(subject.dim, subject.metric, query.to_vec());
                let column = VectorColumn::of_f32(&subject.column, subject.dim);
                scan(&queries, column, 0..subject.rows, None, None, 0, std::slice::from_mut(&mut top));
            }
        }
        Ok(top.into_sorted())
    }
}

fn rows_of(column: &[u8], dim: usize) -> VectorRows<'_> {
    VectorRows { bytes: column, dim, element: VectorElement::F32 }
}

fn spec(index: &IndexName, metric: Metric, dim: usize) -> Result<IndexSpec> {
    let mut params = index.parameters.clone();
    params.push(("index_type".to_owned(), index.name.clone()));
    params.push(("metric_type".to_owned(), metric.name().to_owned()));
    IndexSpec::of_vectors(DataType::FloatVector, dim, &params)
}

fn parameters(index: &IndexName, metric: Metric, dim: usize, threads: usize) -> Result<BuildParameters> {
    let mut parameters = BuildParameters { threads, ..BuildParameters::new(metric, dim) };
    for (name, value) in &index.parameters {
        let wrong = || Error::invalid(format!("--index: {name}={value} is no number"));
        let number = || value.parse().map_err(|_| wrong());
        match name.as_str() {
            "code_bits" => parameters.code_bits = number()?,
            "ef_construction" => parameters.ef_construction = number()?,
            "rounds" => parameters.rounds = number()?,
            "trees" => parameters.trees = number()?,
            "alpha" => parameters.alpha = value.parse().map_err(|_| wrong())?,
            "seed" => parameters.seed = value.parse().map_err(|_| wrong())?,
            _ => return Err(Error::invalid(format!("--index: {} has no parameter {name}", index.name))),
        }
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_named_with_its_parameters() {
        let index: IndexName = "rabitq_graph,rounds=1,alpha=1.2".parse().unwrap();
        assert_eq!(index.name, "RABITQ_GRAPH");
        let read = parameters(&index, Metric::L2, 8, 1).unwrap();
        assert_eq!((read.rounds, read.alpha), (1, 1.2));
        assert!("X,rounds".parse::<IndexName>().is_err());
        for wrong in ["X,round=1", "X,rounds=a"] {
            assert!(parameters(&wrong.parse().unwrap(), Metric::L2, 8, 1).is_err());
        }
    }
}
