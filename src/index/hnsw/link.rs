//! Which vertices become neighbours, and how neighbours answer.

use super::layout::{Level, LevelMut};
use crate::index::codes::Records;
use crate::index::graph::workers::for_each_piece;
use crate::kernel::CodeKernels;

/// Vertices of one level that a thread takes at once.
const PIECE: usize = 16;

/// A place of a level and its distance to some vertex.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Neighbour {
    pub distance: f32,
    pub place: u32,
}

impl Neighbour {
    fn order(&self, other: &Neighbour) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.place.cmp(&other.place))
    }
}

/// A vertex that chose another one as its neighbour: the other one may link back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub target: u32,
    pub source: Neighbour,
}

/// Keeps, nearest first, at most `degree` neighbours in different directions: a candidate is passed over when one that was
/// kept is nearer to it than the vertex is.
pub(super) fn choose(level: &Level<'_>, records: Records<'_>, candidates: &mut Vec<Neighbour>, degree: usize) {
    let kernels = CodeKernels::get();
    candidates.sort_unstable_by(Neighbour::order);
    candidates.dedup_by_key(|candidate| candidate.place);
    let mut kept = 0;
    for index in 0..candidates.len() {
        if kept == degree {
            break;
        }
        let candidate = candidates[index];
        let row = level.row(candidate.place);
        let is_covered = candidates[..kept]
            .iter()
            .any(|other| records.distance(kernels, level.row(other.place), row) < candidate.distance);
        if !is_covered {
            candidates[kept] = candidate;
            kept += 1;
        }
    }
    candidates.truncate(kept);
}

/// Writes the links of a vertex; places that are left point to itself.
pub(super) fn write_links(level: &mut LevelMut<'_>, place: u32, neighbours: impl Iterator<Item = u32>) {
    let degree = level.degree;
    let links = &mut level.links.as_chunks_mut::<4>().0[place as usize * degree..][..degree];
    for (link, neighbour) in links.iter_mut().zip(neighbours.chain(std::iter::repeat(place))) {
        *link = neighbour.to_le_bytes();
    }
}

/// Gives the targets of `offers` links back, as far as there is room; where there is none, the best are chosen anew.
pub(super) fn answer(level: &mut LevelMut<'_>, records: Records<'_>, offers: &mut [Offer], threads: usize) {
    offers.sort_unstable_by(|left, right| left.target.cmp(&right.target).then(left.source.order(&right.source)));
    let mut answers: Vec<(&[Offer], Vec<u32>)> =
        offers.chunk_by(|left, right| left.target == right.target).map(|offers| (offers, Vec::new())).collect();
    let view = level.view();
    let decide = |candidates: &mut Vec<Neighbour>, _: usize, piece: &mut [(&[Offer], Vec<u32>)]| {
        for (offers, links) in piece {
            decide(&view, records, offers, candidates, links);
        }
    };
    let threads = if answers.len() <= PIECE { 1 } else { threads };
    for_each_piece(threads, &mut answers, PIECE, Vec::new, decide, |_| ());
    for (offers, links) in answers {
        if let Some(offer) = offers.first() {
            write_links(level, offer.target, links.into_iter());
        }
    }
}

fn decide(
    level: &Level<'_>,
    records: Records<'_>,
    offers: &[Offer],
    candidates: &mut Vec<Neighbour>,
    links: &mut Vec<u32>,
) {
    let Some(target) = offers.first().map(|offer| offer.target) else { return };
    let all = level.links(target);
    links.extend(all.iter().map(|link| u32::from_le_bytes(*link)).take_while(|link| *link != target));
    if links.len() + offers.len() <= all.len() {
        links.extend(offers.iter().map(|offer| offer.source.place));
        return;
    }
    let kernels = CodeKernels::get();
    let row = level.row(target);
    candidates.clear();
    candidates.extend(
        links
            .iter()
            .map(|place| Neighbour { distance: records.distance(kernels, row, level.row(*place)), place: *place }),
    );
    candidates.extend(offers.iter().map(|offer| offer.source));
    choose(level, records, candidates, all.len());
    links.clear();
    links.extend(candidates.iter().map(|neighbour| neighbour.place));
}
