//! Which vertices become neighbours, and how neighbours answer.

use super::layout::{Level, LevelMut};
use crate::index::codes::{RecordDistances, Records};
use crate::index::graph::workers::for_each_piece;

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

/// Memory in which neighbours are chosen.
#[derive(Default)]
pub(super) struct Chooser {
    /// Who may become a neighbour; afterwards who did, nearest first.
    pub candidates: Vec<Neighbour>,
    kept: Vec<Neighbour>,
    rows: Vec<u32>,
    distances: RecordDistances,
}

impl Chooser {
    /// Keeps at most `degree` neighbours in different directions: a candidate is passed over when one that was kept is nearer
    /// to it than the vertex is.
    pub fn choose(&mut self, level: &Level<'_>, records: Records<'_>, degree: usize) {
        let Chooser { candidates, kept, rows, distances } = self;
        candidates.sort_unstable_by(Neighbour::order);
        candidates.dedup_by_key(|candidate| candidate.place);
        kept.clear();
        // What a kept one covers is found for all that are left at once.
        while let Some(nearest) = candidates.first().copied().filter(|_| kept.len() < degree) {
            kept.push(nearest);
            rows.clear();
            rows.extend(candidates.iter().map(|candidate| level.row(candidate.place)));
            records.distances(level.row(nearest.place), rows, distances);
            let mut others = distances.list.iter();
            candidates.retain(|candidate| {
                let is_covered = others.next().is_none_or(|distance| *distance < candidate.distance);
                !is_covered && candidate.place != nearest.place
            });
        }
        std::mem::swap(candidates, kept);
    }
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
    let decide = |chooser: &mut Chooser, _: usize, piece: &mut [(&[Offer], Vec<u32>)]| {
        for (offers, links) in piece {
            decide(&view, records, offers, chooser, links);
        }
    };
    let threads = if answers.len() <= PIECE { 1 } else { threads };
    for_each_piece(threads, &mut answers, PIECE, Chooser::default, decide, |_| ());
    for (offers, links) in answers {
        if let Some(offer) = offers.first() {
            write_links(level, offer.target, links.into_iter());
        }
    }
}

fn decide(level: &Level<'_>, records: Records<'_>, offers: &[Offer], chooser: &mut Chooser, links: &mut Vec<u32>) {
    let Some(target) = offers.first().map(|offer| offer.target) else { return };
    let all = level.links(target);
    links.extend(all.iter().map(|link| u32::from_le_bytes(*link)).take_while(|link| *link != target));
    if links.len() + offers.len() <= all.len() {
        links.extend(offers.iter().map(|offer| offer.source.place));
        return;
    }
    let Chooser { candidates, rows, distances, .. } = chooser;
    rows.clear();
    rows.extend(links.iter().map(|place| level.row(*place)));
    records.distances(level.row(target), rows, distances);
    candidates.clear();
    let linked = links.iter().zip(&distances.list);
    candidates.extend(linked.map(|(place, distance)| Neighbour { distance: *distance, place: *place }));
    candidates.extend(offers.iter().map(|offer| offer.source));
    chooser.choose(level, records, all.len());
    links.clear();
    links.extend(chooser.candidates.iter().map(|neighbour| neighbour.place));
}
