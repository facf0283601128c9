//! Tests of `index/graph/routes`: a search finds its way from any start, so what the start is has to be looked at itself.

use std::collections::HashSet;

use super::*;
use crate::index::graph::space::Space;
use crate::index::graph::{BuildParameters, Builder};
use crate::types::Metric;

const DIM: usize = 24;
const CLUSTERS: usize = 20;
const ROWS: usize = 3000;

/// Row `r` lies near the centre of cluster `r % CLUSTERS`; the centres are far from each other.
fn clusters() -> Vec<f32> {
    let number = |value: u64| (mix(value) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let value = |index: usize| {
        let (row, at) = (index / DIM, (index % DIM) as u64);
        100.0 * number(mix((row % CLUSTERS) as u64) ^ mix(at)) + number((row as u64) << 20 | at << 1 | 1)
    };
    (0..ROWS * DIM).map(value).collect()
}

fn image(values: &[f32]) -> Vec<u8> {
    let builder = Builder::new(BuildParameters::new(Metric::L2, DIM), values, &|_| ()).unwrap();
    let mut image = vec![0; builder.image_bytes().unwrap()];
    builder.build(&mut image).unwrap();
    image
}

fn ids(block: &Block<'_>) -> Vec<u32> {
    block.ids.iter().map(|id| u32::from_le_bytes(*id)).collect()
}

#[test]
fn every_part_of_the_space_has_a_block_with_the_vector_of_its_middle_and_vertices_around_it() {
    let image = image(&clusters());
    let graph = Graph::open(&image).unwrap();
    let root = graph.route(0).unwrap();
    assert_eq!(root.vector, graph.block(graph.shape.entry).unwrap().vector);
    let cluster = |row: u32| row as usize % CLUSTERS;
    let covered: HashSet<usize> = ids(&root).into_iter().map(cluster).collect();
    assert_eq!(covered.len(), CLUSTERS, "a cluster without a start is found by chance only");
    let mut vertices = HashSet::new();
    for (index, middle) in ids(&root).into_iter().enumerate() {
        let part = graph.route(index + 1).unwrap();
        assert_eq!(part.vector, graph.block(middle).unwrap().vector, "part {index}");
        assert!(ids(&part).into_iter().all(|id| cluster(id) == cluster(middle)), "part {index}");
        vertices.extend(ids(&part));
    }
    assert!(vertices.len() > 600, "{} vertices in 32 parts of up to 32", vertices.len());
}

#[test]
fn a_search_begins_in_the_parts_nearest_to_its_query() {
    let values = clusters();
    let image = image(&values);
    let graph = Graph::open(&image).unwrap();
    let kernels = CodeKernels::get();
    let space = Space { shape: &graph.shape, signs: graph.signs, centre: graph.centre };
    for row in (0..ROWS).step_by(37) {
        let mut query = PlacedQuery::default();
        query.place(&space, &values[row * DIM..][..DIM]);
        let parts: Vec<_> = graph.near_parts(kernels, &query).collect();
        assert_eq!(parts.len(), PARTS_NEAR);
        // Which one is the first, an estimate says.
        let is_own = |(_, middle): &(Block<'_>, u32)| *middle as usize % CLUSTERS == row % CLUSTERS;
        assert!(parts.iter().any(is_own), "row {row}: {:?}", parts.iter().map(|part| part.1).collect::<Vec<_>>());
        for (part, middle) in &parts {
            assert_eq!(part.vector, graph.block(*middle).unwrap().vector, "row {row}");
        }
        let distance = |block: &Block<'_>| query.distance(kernels, block, &[]);
        let mut all: Vec<f32> = (1..ROUTE_BLOCKS).map(|index| distance(&graph.route(index).unwrap())).collect();
        all.sort_by(f32::total_cmp);
        let first = distance(&parts[0].0);
        assert!(first <= all[2 * PARTS_NEAR], "row {row}: {first} of {all:?}");
    }
}
