//! A tree that only grows, kept as the complete subtrees at its right edge: at most one of each size.

use crate::{
    hash::{Hash, node_hash},
    nodes::Node,
};

/// The complete subtrees of a tree, the largest first, whose sizes are the ones in the binary form of its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// By level.
    subtrees: Vec<(u8, Hash)>,
}

impl Frontier {
    /// A tree without leaves.
    pub const fn new() -> Self {
        Self {
            size: 0,
            subtrees: Vec::new(),
        }
    }

    /// The stored nodes that a tree of this size is resumed from, in the order in which [`Frontier::resume`] takes them.
    pub fn nodes(size: u64) -> Vec<Node> {
        let levels = (0..64_u8).rev().filter(|level| size >> level & 1 == 1);
        let mut start = 0;
        levels
            .map(|level| {
                let node = Node {
                    level,
                    index: start >> level,
                };
                start += 1 << level;
                node
            })
            .collect()
    }

    /// A tree of this size; `None` when the hashes are not as many as its subtrees.
    pub fn resume(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        let nodes = Self::nodes(size);
        (nodes.len() == hashes.len()).then(|| Self {
            size,
            subtrees: nodes.iter().map(|node| node.level).zip(hashes).collect(),
        })
    }

    /// How many leaves there are.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash, and answers every subtree that it completes, the leaf itself first.
    pub fn push(&mut self, leaf: Hash) -> Vec<(Node, Hash)> {
        let mut completed = vec![(
            Node {
                level: 0,
                index: self.size,
            },
            leaf,
        )];
        let (mut level, mut hash) = (0, leaf);
        while let Some((_, left)) = self.subtrees.pop_if(|(other, _)| *other == level) {
            hash = node_hash(&left, &hash);
            level += 1;
            let index = self.size >> level;
            completed.push((Node { level, index }, hash));
        }
        self.subtrees.push((level, hash));
        self.size += 1;
        completed
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        let mut smallest_first = self.subtrees.iter().rev().map(|(_, hash)| *hash);
        let Some(last) = smallest_first.next() else {
            return Hash::of_nothing();
        };
        smallest_first.fold(last, |right, left| node_hash(&left, &right))
    }
}
