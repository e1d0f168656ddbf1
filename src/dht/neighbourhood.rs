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
    contact::{Contact, Family},
    id::{Distance, ID_LEN, Id},
    table::K,
};

/// Most stretches that are remembered.
const MAX_STRETCHES: usize = 8192;

/// Most nodes of one family that are told.
const MAX_NODES: usize = 12;

/// Most nodes of a saved stretch: of both families.
const MAX_SAVED_NODES: usize = 2 * MAX_NODES;

/// Most bytes of stretches that are saved.
const MAX_SAVED_LEN: usize = 512 * 1024;

/// Longest token that is saved, in bytes.
const MAX_TOKEN: usize = 40;

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

    /// Appends what [`Neighbourhood::read`] reads.
    fn write(&self, out: &mut Vec<u8>) {
        let byte =
            |number: usize| u8::try_from(number).expect("lengths here are bounded below a hundred and sixty-one");
        out.extend_from_slice(self.start.as_bytes());
        out.extend_from_slice(&[byte(self.bits), byte(self.nodes.len())]);
        for Known { contact, token } in &self.nodes {
            let token = token.as_deref().filter(|token| token.len() <= MAX_TOKEN).unwrap_or_default();
            out.push(byte(Family::of(&contact.addr).contact_len()));
            contact.write(out);
            out.push(byte(token.len()));
            out.extend_from_slice(token);
        }
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let start = Id::read(bytes.split_off(..ID_LEN)?)?;
        let [bits, count] = *bytes.split_off(..2)? else { return None };
        let (bits, count) = (usize::from(bits), usize::from(count));
        if bits > 8 * ID_LEN || count > MAX_SAVED_NODES {
            return None;
        }
        let mut nodes = Vec::new();
        for _ in 0..count {
            let contact = cut(bytes)?;
            let family = Family::BOTH.into_iter().find(|family| family.contact_len() == contact.len())?;
            let contact = Contact::read_all(contact, family).next()?;
            let token = cut(bytes)?;
            nodes.push(Known { contact, token: (!token.is_empty()).then(|| token.to_vec()) });
        }
        Some(Self { start: start.first_of(bits), bits, nodes })
    }

    /// Whether the network has grown so much that it is not these who are asked any more, where some nodes are to be expected
    /// within `reach`.
    fn is_outgrown(&self, reach: Distance) -> bool {
        let part = u64::MAX.checked_shr(u32::try_from(self.bits).expect("an id has 160 bits")).unwrap_or(0);
        part / MAX_OUTGROWN > reach.part()
    }
}

/// As many bytes from the front as the first one says.
fn cut<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::from(*bytes.split_off_first()?);
    bytes.split_off(..len)
}

/// All stretches that are remembered; no two have a key in common.
///
/// ```text
///  saved: of each stretch   start 20 | bits 1 | nodes 1 | of each node  26 or 38 | contact | length 1 | token
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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

    /// Reads what was saved, as far as it can be read.
    pub fn read(mut bytes: &[u8]) -> Self {
        let mut known = Self::default();
        while let Some(neighbourhood) = Neighbourhood::read(&mut bytes) {
            known.put(neighbourhood);
        }
        known
    }

    /// What is saved: of too many every so manieth, as each spares one walk.
    pub fn write(&self) -> Vec<u8> {
        let mut whole = Vec::new();
        self.by_start.values().for_each(|known| known.write(&mut whole));
        let every = whole.len().div_ceil(MAX_SAVED_LEN).max(1);
        if every == 1 {
            return whole;
        }
        let mut part = Vec::new();
        self.by_start.values().step_by(every).for_each(|known| known.write(&mut part));
        part.truncate(MAX_SAVED_LEN);
        part
    }

    /// Tokens that nodes of a family gave out to an address that is the own no more.
    pub fn forget_tokens(&mut self, family: Family) {
        let nodes = self.by_start.values_mut().flat_map(|known| &mut known.nodes);
        nodes.filter(|node| Family::of(&node.contact.addr) == family).for_each(|node| node.token = None);
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
    fn what_was_saved_comes_back_within_bounds() {
        let mut known = Neighbourhoods::default();
        let mut found = Neighbourhood::found(&id(&[7, 1]), [eight(7), Vec::new()]);
        found.nodes[2].token = Some(b"token".to_vec());
        found.nodes[3].contact.addr = "[2600::1]:7".parse().unwrap();
        known.put(found);
        known.put(Neighbourhood::found(&id(&[9, 1]), [eight(9), Vec::new()]));
        let saved = known.write();
        assert_eq!(Neighbourhoods::read(&saved), known);
        for end in 0..saved.len() {
            assert!(Neighbourhoods::read(&saved[..end]).by_start.len() < 2, "torn at {end}");
        }
        let mut many = Neighbourhoods::default();
        for n in 0..6000_u32 {
            let [_, _, a, b] = n.to_be_bytes();
            let near = nodes((0..8).map(|last| id(&[a, b, last])));
            many.put(Neighbourhood::found(&id(&[a, b]), [near, Vec::new()]));
        }
        let saved = many.write();
        assert!(saved.len() <= MAX_SAVED_LEN && saved.len() > MAX_SAVED_LEN / 3);
        assert!(many.by_start.len() == 6000 && Neighbourhoods::read(&saved).by_start.len() > 1500);
        known.forget_tokens(Family::V4);
        assert!(known.by_start.values().all(|known| known.nodes.iter().all(|node| node.token.is_none())));
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
