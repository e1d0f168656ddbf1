//! Neighbourhoods: stretches of the key space whose nodes a walk has found, and that were told of files of ours.
//!
//! A walk that found the [`K`] nodes nearest to its target, the last of them at distance `d`, knows *all* nodes that are
//! nearer than `d`. The greatest aligned stretch within that, the ids that share the first bits of the target, looks the same
//! from each of its keys:
//!
//! ```text
//!  target     0110 1001 ..            K nearest nodes share 5 bits or more with it
//!  stretch    0110 10** ..            all nodes in it are known, half of K or more
//!  other key  0110 1011 ..            the same nodes are the nearest to it, and the others are not far
//! ```
//!
//! So all keys of a stretch are told to the same nodes, without a walk of their own, for as long as enough of these answer.
//!
//! **Security.** Who makes a stretch look emptier or fuller than it is, by lying on the way of the walk, gains what it would
//! gain with each of the keys. Stretches and the nodes of each are bounded.

use std::collections::BTreeMap;

use super::{
    contact::Contact,
    id::{Distance, Id},
    table::K,
};

/// Most stretches that are remembered.
const MAX_STRETCHES: usize = 8192;

/// Most nodes of one family that are told.
const MAX_NODES: usize = 12;

/// A stretch that holds so many times the nodes that it held is walked to anew.
const MAX_OUTGROWN: u64 = 4;

/// The nodes of one stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbourhood {
    start: Id,
    bits: usize,
    nodes: Vec<Known>,
}

/// A node that is told, and the token that it gave out last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who.
    pub contact: Contact,
    /// Good for any key.
    pub token: Option<Vec<u8>>,
}

impl Neighbourhood {
    /// What a walk found around its target, by [`super::contact::Family::index`], nearest first.
    pub fn found(target: &Id, nearest: [Vec<Contact>; 2]) -> Self {
        // Where a family has no K nodes all of it is known.
        let bits = |nodes: &Vec<Contact>| {
            let last = nodes.get(K - 1).map(|last| target.distance(&last.id).shared_bits() + 1);
            last.unwrap_or(0)
        };
        let bits = nearest.iter().map(bits).max().expect("two families");
        let told = nearest.into_iter().flat_map(|nodes| nodes.into_iter().take(MAX_NODES));
        let nodes = told.map(|contact| Known { contact, token: None }).collect();
        Self { start: target.first_of(bits), bits, nodes }
    }

    /// Whether a key lies in it.
    pub fn covers(&self, key: &Id) -> bool {
        self.start.distance(key).shared_bits() >= self.bits
    }

    /// Who is told.
    pub fn nodes(&self) -> &[Known] {
        &self.nodes
    }

    /// The same stretch when only these nodes answered; `None` when they are too few to find its files by.
    pub fn answered_by(self, nodes: Vec<Known>) -> Option<Self> {
        // A network of less than K nodes is walked through in no time, and its next node counts.
        let enough =
            nodes.len() >= K && nodes.len() * 8 >= self.nodes.len() * 5 || self.bits > 0 && nodes.len() > K / 2;
        enough.then_some(Self { nodes, ..self })
    }

    /// Whether the network has grown so much that it is not these who are asked any more, where some nodes are to be expected
    /// within `reach`.
    fn is_outgrown(&self, reach: Distance) -> bool {
        let part = u64::MAX.checked_shr(u32::try_from(self.bits).expect("an id has 160 bits")).unwrap_or(0);
        part / MAX_OUTGROWN > reach.part()
    }
}

/// All stretches that are remembered; no two have a key in common.
#[derive(Debug, Default)]
pub struct Neighbourhoods {
    by_start: BTreeMap<Id, Neighbourhood>,
}

impl Neighbourhoods {
    /// Takes out the stretch that a key lies in, if it is known and still looks as it did; whoever takes it puts it back.
    pub fn take(&mut self, key: &Id, reach: Option<Distance>) -> Option<Neighbourhood> {
        let start = *self.covering(key)?.0;
        let known = self.by_start.remove(&start)?;
        reach.is_none_or(|reach| !known.is_outgrown(reach)).then_some(known)
    }

    /// Remembers a stretch in the place of all that it overlaps.
    pub fn put(&mut self, neighbourhood: Neighbourhood) {
        if let Some((start, _)) = self.covering(&neighbourhood.start) {
            let start = *start;
            self.by_start.remove(&start);
        }
        let within = self.by_start.range(neighbourhood.start..);
        let within: Vec<Id> = within.map(|(start, _)| *start).take_while(|start| neighbourhood.covers(start)).collect();
        within.iter().for_each(|start| drop(self.by_start.remove(start)));
        if self.by_start.len() >= MAX_STRETCHES {
            self.by_start.pop_first();
        }
        self.by_start.insert(neighbourhood.start, neighbourhood);
    }

    /// Nodes that are known near a key.
    pub fn around(&self, key: &Id) -> impl Iterator<Item = Contact> {
        self.covering(key).into_iter().flat_map(|(_, known)| known.nodes.iter().map(|node| node.contact))
    }

    fn covering(&self, key: &Id) -> Option<(&Id, &Neighbourhood)> {
        self.by_start.range(..=*key).next_back().filter(|(_, known)| known.covers(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id that begins with these bytes.
    fn id(bytes: &[u8]) -> Id {
        let mut id = [0; 20];
        id[..bytes.len()].copy_from_slice(bytes);
        Id::new(id)
    }

    fn nodes(ids: impl IntoIterator<Item = Id>) -> Vec<Contact> {
        ids.into_iter().zip(1..).map(|(id, host)| Contact { id, addr: ([20, 0, host, 1], 1000).into() }).collect()
    }

    /// Eight nodes that share the first byte and, but for the last, the first four bits of the second one.
    fn eight(first: u8) -> Vec<Contact> {
        nodes((0..7).map(|n| id(&[first, n])).chain([id(&[first, 0x13])]))
    }

    #[test]
    fn a_walk_knows_all_nodes_of_the_greatest_stretch_within_the_last_that_it_found() {
        let found = Neighbourhood::found(&id(&[7, 1]), [eight(7), Vec::new()]);
        assert!(found.covers(&id(&[7, 0])) && found.covers(&id(&[7, 0x0f, 255])));
        assert!(!found.covers(&id(&[7, 0x10])) && !found.covers(&id(&[6, 0x0f])));
        let few = Neighbourhood::found(&id(&[7, 1]), [eight(7)[..7].to_vec(), Vec::new()]);
        assert!(few.covers(&id(&[255])), "that is the whole network");
        assert_eq!((found.nodes().len(), few.nodes().len()), (8, 7));
    }

    #[test]
    fn a_stretch_is_remembered_in_the_place_of_all_that_it_overlaps() {
        let mut known = Neighbourhoods::default();
        let [narrow, beside] = [7, 9].map(|first| Neighbourhood::found(&id(&[first, 1]), [eight(first), Vec::new()]));
        known.put(narrow.clone());
        known.put(beside.clone());
        assert_eq!(known.around(&id(&[7, 5])).count(), 8);
        assert_eq!(known.around(&id(&[8, 5])).count(), 0);
        let wide: Vec<Contact> = nodes((0..8).map(|n| id(&[if n == 7 { 4 } else { 7 }, n])));
        let wide = Neighbourhood::found(&id(&[6, 1]), [wide, Vec::new()]);
        known.put(wide.clone());
        assert_eq!(known.take(&id(&[7, 5]), None), Some(wide));
        assert_eq!(known.take(&id(&[7, 5]), None), None, "the narrow one went, and the wide one is taken");
        assert_eq!(
            known.take(&id(&[9, 0]), Some(Distance::of_part(1 << 40))),
            None,
            "thousands of nodes live there now"
        );
        assert!(known.by_start.is_empty());
    }

    #[test]
    fn too_few_answers_end_it() {
        let found = Neighbourhood::found(&id(&[7, 1]), [eight(7), Vec::new()]);
        let answered = |count: usize| found.clone().answered_by(found.nodes()[..count].to_vec());
        assert_eq!(answered(5).map(|left| left.nodes().len()), Some(5));
        assert_eq!(answered(4), None);
        let few = Neighbourhood::found(&id(&[7, 1]), [eight(7)[..7].to_vec(), Vec::new()]);
        assert_eq!(few.clone().answered_by(few.nodes().to_vec()), None);
    }
}
