//! Proofs in a large tree whose complete subtrees are stored: which of them a proof needs, and what it is made of.
//! Everything else follows from them, because the subtrees at the right edge are made of complete ones.

use crate::hash::{Hash, node_hash};

/// A complete subtree: `2^level` leaves from leaf `index * 2^level` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// 0 for a leaf.
    pub level: u8,
    /// The number of the subtree among those of its level.
    pub index: u64,
}

/// The hashes of stored subtrees.
pub type NodeLookup<'a> = &'a dyn Fn(Node) -> Option<Hash>;

/// Leaves from `start` on, up to before `end`; `start` is a multiple of the smallest power of two that is not less than
/// their number.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    const fn split(self) -> (Self, Self) {
        let half = self.start + (self.end - self.start).next_power_of_two() / 2;
        (
            Self {
                start: self.start,
                end: half,
            },
            Self {
                start: half,
                end: self.end,
            },
        )
    }

    /// The stored subtree that it is; `None` when it is at the right edge.
    fn stored(self) -> Option<Node> {
        let leaves = self.end - self.start;
        leaves.is_power_of_two().then(|| {
            // a power of two below 2^64 has fewer than 64 zeros
            let level = u8::try_from(leaves.trailing_zeros()).unwrap_or(0);
            Node {
                level,
                index: self.start >> level,
            }
        })
    }

    fn needs(self, nodes: &mut Vec<Node>) {
        match self.stored() {
            Some(node) => nodes.push(node),
            None => {
                let (left, right) = self.split();
                left.needs(nodes);
                right.needs(nodes);
            }
        }
    }

    fn hash(self, lookup: NodeLookup<'_>) -> Option<Hash> {
        if let Some(node) = self.stored() {
            return lookup(node);
        }
        let (left, right) = self.split();
        Some(node_hash(&left.hash(lookup)?, &right.hash(lookup)?))
    }
}

/// The subtrees beside the way to a leaf, from the bottom upwards.
fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range>> {
    if index >= size {
        return None;
    }
    let mut whole = Range { start: 0, end: size };
    let mut ranges = Vec::new();
    while whole.end - whole.start > 1 {
        let (left, right) = whole.split();
        let (inside, beside) = if index < left.end { (left, right) } else { (right, left) };
        ranges.push(beside);
        whole = inside;
    }
    ranges.reverse();
    Some(ranges)
}

/// The subtrees that show that a tree of size `old` is how one of size `new` began (RFC 6962 section 2.1.2).
fn consistency_ranges(old: u64, new: u64) -> Option<Vec<Range>> {
    if old > new {
        return None;
    }
    if old == 0 || old == new {
        return Some(Vec::new());
    }
    let mut whole = Range { start: 0, end: new };
    let mut ranges = Vec::new();
    while whole.end != old {
        let (left, right) = whole.split();
        if old <= left.end {
            ranges.push(right);
            whole = left;
        } else {
            ranges.push(left);
            whole = right;
        }
    }
    // who asks has the root of the old tree already
    if whole.start > 0 {
        ranges.push(whole);
    }
    ranges.reverse();
    Some(ranges)
}

fn all_needed(ranges: &[Range]) -> Vec<Node> {
    let mut nodes = Vec::new();
    ranges.iter().for_each(|range| range.needs(&mut nodes));
    nodes
}

/// What [`inclusion_path`] looks up; nothing without such a leaf.
pub fn inclusion_nodes(index: u64, size: u64) -> Vec<Node> {
    all_needed(&inclusion_ranges(index, size).unwrap_or_default())
}

/// The audit path of a leaf in a tree of this size; `None` when there is no such leaf, or a node is missing.
pub fn inclusion_path(index: u64, size: u64, lookup: NodeLookup<'_>) -> Option<Vec<Hash>> {
    let ranges = inclusion_ranges(index, size)?;
    ranges.into_iter().map(|range| range.hash(lookup)).collect()
}

/// What [`consistency_path`] looks up; nothing when the old tree is the larger one.
pub fn consistency_nodes(old: u64, new: u64) -> Vec<Node> {
    all_needed(&consistency_ranges(old, new).unwrap_or_default())
}

/// The proof that the first `old` leaves of a tree of size `new` are those of the tree of size `old`; `None` when that is
/// the larger one, or a node is missing.
pub fn consistency_path(old: u64, new: u64, lookup: NodeLookup<'_>) -> Option<Vec<Hash>> {
    let ranges = consistency_ranges(old, new)?;
    ranges.into_iter().map(|range| range.hash(lookup)).collect()
}
