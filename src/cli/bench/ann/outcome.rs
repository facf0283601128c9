//! What was measured: printed, stored as JSON, drawn.

use std::path::Path;

use serde::Serialize;

use super::filtered::Filtered;
use super::plot::{self, Curve};
use super::processes::Together;
use super::subject::Built;
use super::sweep::Point;
use super::while_building::WhileBuilding;
use crate::cli::bench::report::Report;
use crate::types::{Error, Result};

/// Everything that was measured of an index.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Its type.
    pub index: String,
    /// Of its build.
    pub parameters: Vec<(String, String)>,
    /// How vectors are compared.
    pub metric: &'static str,
    /// Indexed vectors.
    pub rows: usize,
    /// Their dimensions.
    pub dim: usize,
    /// Hits per query.
    pub k: usize,
    /// That search.
    pub threads: usize,
    /// That build.
    pub build_threads: usize,
    /// What it took.
    #[serde(flatten)]
    pub built: Built,
    /// What trades speed for recall.
    pub search_parameter: Option<&'static str>,
    /// One per setting.
    pub points: Vec<Point>,
    /// Interpolated.
    pub qps_at_recall: Vec<(f64, Option<f64>)>,
    /// Under filters.
    pub filtered: Vec<Filtered>,
    /// Several processes.
    pub together: Option<Together>,
    /// Beside the builder.
    pub while_building: Option<WhileBuilding>,
}

impl Outcome {
    /// Prints tables.
    pub fn print(&self) {
        let built = &self.built;
        println!(
            "{} of {} x {}, {}: built in {:.1} s on {} threads ({:.1} s until a reader had it; rows in {} file(s) after {:.1} s), \
             {:.0} bytes per vector beside the vectors, {} MiB in huge pages",
            self.index,
            self.rows,
            self.dim,
            self.metric,
            built.build_seconds,
            self.build_threads,
            built.wait_seconds,
            built.files,
            built.load_seconds,
            built.index_bytes_per_vector,
            built.huge_page_bytes >> 20,
        );
        if let (Some(view), Some(answer)) = (built.view_us, built.first_answer_us) {
            println!("from its publication to a reader's view of it {view:.0} us, to the first answer {answer:.0} us");
        }
        let title = format!("attached, {} thread(s), each query once", self.threads);
        print_points(&title, self.search_parameter, self.k, &self.points);
        for (recall, qps) in &self.qps_at_recall {
            match qps {
                Some(qps) => println!("at recall {recall}: {qps:.0} queries/s"),
                None => println!("at recall {recall}: not reached"),
            }
        }
        println!();
        self.filtered.iter().for_each(|filtered| filtered.print(self.search_parameter, self.k));
        self.together.iter().for_each(Together::print);
        self.while_building.iter().for_each(WhileBuilding::print);
    }

    /// Writes JSON and plot, if wanted.
    pub fn write(&self, json: Option<&Path>, plot: Option<&Path>) -> Result<()> {
        let store = |path: &Path, text: String| {
            std::fs::write(path, text).map_err(|error| Error::io(format_args!("write {}", path.display()), &error))
        };
        if let Some(path) = json {
            let text = serde_json::to_string_pretty(self).map_err(|error| Error::internal(error.to_string()))?;
            store(path, text)?;
        }
        if let Some(path) = plot {
            let points = self.points.iter().map(|point| (point.recall, point.qps)).collect();
            let title = format!("{} x {}, {}, recall@{}", self.rows, self.dim, self.metric, self.k);
            let drawn = plot::draw(&title, &[Curve { name: self.index.clone(), points }]);
            store(path, drawn.ok_or_else(|| Error::invalid("there is nothing to plot: every recall is below 0.8"))?)?;
        }
        Ok(())
    }
}

/// A table of the settings of a search parameter.
pub(super) fn print_points(title: &str, search_parameter: Option<&str>, k: usize, points: &[Point]) {
    let rows = points.iter().map(|point| {
        vec![
            point.parameter.to_string(),
            format!("{:.4}", point.recall),
            format!("{:.0}", point.qps),
            format!("{:.1}", point.p50_us),
            format!("{:.1}", point.p99_us),
            point.queries.to_string(),
        ]
    });
    let recall = format!("recall@{k}");
    let header = [search_parameter.unwrap_or("-"), &recall, "queries/s", "p50 us", "p99 us", "queries"];
    Report::default().add(title, &header, rows.collect());
}
