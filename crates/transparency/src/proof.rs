//! Checking proofs: the algorithms of RFC 9162, sections 2.1.3.2 and 2.1.4.2.

use crate::hash::{Hash, node_hash};

/// The root that a path leads to; `None` when no tree of this size has such a path to a leaf at this index.
pub fn root_of_path(leaf: &Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut number, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if number & 1 == 1 || number == last {
            hash = node_hash(sibling, &hash);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        number >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

/// Whether a tree of size `new` began as the one of size `old`.
pub fn is_consistent(old: u64, old_root: &Hash, new: u64, new_root: &Hash, path: &[Hash]) -> bool {
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    if old > new {
        return false;
    }
    if old == 0 {
        return path.is_empty() && *old_root == Hash::of_nothing();
    }
    consistent_roots(old, old_root, new, path).is_some_and(|(from, to)| from == *old_root && to == *new_root)
}

/// The roots that a proof leads to, for `0 < old < new`.
fn consistent_roots(old: u64, old_root: &Hash, new: u64, path: &[Hash]) -> Option<(Hash, Hash)> {
    // a complete tree is itself the first of the path
    let (first, rest) = if old.is_power_of_two() {
        (*old_root, path)
    } else {
        let (first, rest) = path.split_first()?;
        (*first, rest)
    };
    let (mut number, mut last) = (old - 1, new - 1);
    while number & 1 == 1 {
        number >>= 1;
        last >>= 1;
    }
    let (mut from, mut to) = (first, first);
    for sibling in rest {
        if last == 0 {
            return None;
        }
        if number & 1 == 1 || number == last {
            from = node_hash(sibling, &from);
            to = node_hash(sibling, &to);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            to = node_hash(&to, sibling);
        }
        number >>= 1;
        last >>= 1;
    }
    (last == 0).then_some((from, to))
}
