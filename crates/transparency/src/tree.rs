//! Small trees that are in memory as a whole: those over the leaves of one batch.

use crate::hash::{Hash, node_hash};

/// The root over hashes of leaves (RFC 6962 section 2.1).
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of_nothing(),
        [only] => *only,
        leaves => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// The audit path of one leaf, from the leaf's sibling upwards (RFC 6962 section 2.1.1); `None` without such a leaf.
pub fn path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut leaves, mut index) = (leaves, index);
    let mut path = Vec::new();
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if index < left.len() {
            path.push(root(right));
            leaves = left;
        } else {
            path.push(root(left));
            index -= left.len();
            leaves = right;
        }
    }
    path.reverse();
    Some(path)
}

/// The largest power of two below a number of leaves, of which there are at least two.
const fn split(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}
