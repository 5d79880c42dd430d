//! Trees and their proofs against a reference that is the definition of RFC 6962 word for word, and against the vectors
//! that implementations of Certificate Transparency share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use transparency::{
    Frontier, Hash, Node, consistency_nodes, consistency_path, inclusion_nodes, inclusion_path, leaf_hash, path, proof,
    root,
};

/// The definition: MTH, PATH and PROOF of RFC 6962 sections 2.1 to 2.1.2, over leaves and not over their hashes.
mod reference {
    use super::*;

    fn sha(parts: &[&[u8]]) -> Hash {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        Hash(hash.finalize().into())
    }

    fn largest_power_below(n: usize) -> usize {
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        k
    }

    pub fn mth(d: &[Vec<u8>]) -> Hash {
        match d.len() {
            0 => sha(&[]),
            1 => sha(&[&[0], &d[0]]),
            n => {
                let k = largest_power_below(n);
                sha(&[&[1], &mth(&d[..k]).0, &mth(&d[k..]).0])
            }
        }
    }

    pub fn path(m: usize, d: &[Vec<u8>]) -> Vec<Hash> {
        if d.len() == 1 {
            return Vec::new();
        }
        let k = largest_power_below(d.len());
        if m < k {
            [path(m, &d[..k]), vec![mth(&d[k..])]].concat()
        } else {
            [path(m - k, &d[k..]), vec![mth(&d[..k])]].concat()
        }
    }

    pub fn proof(m: usize, d: &[Vec<u8>]) -> Vec<Hash> {
        sub_proof(m, d, true)
    }

    fn sub_proof(m: usize, d: &[Vec<u8>], is_whole: bool) -> Vec<Hash> {
        let n = d.len();
        if m == n {
            return if is_whole { Vec::new() } else { vec![mth(d)] };
        }
        let k = largest_power_below(n);
        if m <= k {
            [sub_proof(m, &d[..k], is_whole), vec![mth(&d[k..])]].concat()
        } else {
            [sub_proof(m - k, &d[k..], false), vec![mth(&d[..k])]].concat()
        }
    }
}

fn leaves(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("leaf {number}").into_bytes()).collect()
}

/// A tree that was grown leaf by leaf, with the nodes that were stored on the way.
fn grown(leaves: &[Vec<u8>]) -> (Frontier, BTreeMap<Node, Hash>) {
    let mut frontier = Frontier::new();
    let mut nodes = BTreeMap::new();
    for leaf in leaves {
        for (node, hash) in frontier.push(leaf_hash(leaf)) {
            assert!(nodes.insert(node, hash).is_none(), "{node:?} was completed twice");
        }
    }
    (frontier, nodes)
}

fn hashes(leaves: &[Vec<u8>]) -> Vec<Hash> {
    leaves.iter().map(|leaf| leaf_hash(leaf)).collect()
}

#[test]
fn every_tree_up_to_70_leaves_is_the_definition() {
    for size in 0..70 {
        let all = leaves(size);
        let expected = reference::mth(&all);
        let (frontier, nodes) = grown(&all);
        assert_eq!(frontier.root(), expected, "grown to {size}");
        assert_eq!(root(&hashes(&all)), expected, "whole, {size}");
        let stored = Frontier::nodes(size as u64).iter().map(|node| nodes[node]).collect();
        assert_eq!(
            Frontier::resume(size as u64, stored),
            Some(frontier),
            "resumed at {size}"
        );
    }
}

#[test]
fn every_proof_in_trees_up_to_40_leaves_is_the_definition_and_holds() {
    for size in 1..40_usize {
        let all = leaves(size);
        let new_root = reference::mth(&all);
        let (_, nodes) = grown(&all);
        let lookup = |node| nodes.get(&node).copied();
        for index in 0..size {
            let expected = reference::path(index, &all);
            assert_eq!(path(&hashes(&all), index).as_ref(), Some(&expected));
            let stored = inclusion_path(index as u64, size as u64, &lookup);
            assert_eq!(stored.as_ref(), Some(&expected), "{index} in {size}");
            let led = proof::root_of_path(&leaf_hash(&all[index]), index as u64, size as u64, &expected);
            assert_eq!(led, Some(new_root), "{index} in {size}");
        }
        for old in 1..=size {
            let old_root = reference::mth(&all[..old]);
            let expected = reference::proof(old, &all);
            let stored = consistency_path(old as u64, size as u64, &lookup);
            assert_eq!(stored.as_ref(), Some(&expected), "{old} to {size}");
            let holds = proof::is_consistent(old as u64, &old_root, size as u64, &new_root, &expected);
            assert!(holds, "{old} to {size}");
        }
    }
}

#[test]
fn the_nodes_that_are_asked_for_are_enough() {
    let all = leaves(300);
    let (_, nodes) = grown(&all);
    for (index, size) in [(0, 1), (5, 6), (131, 300), (299, 300), (255, 256), (256, 257)] {
        let asked = inclusion_nodes(index, size);
        let lookup = |node| nodes.get(&node).copied().filter(|_| asked.contains(&node));
        assert!(inclusion_path(index, size, &lookup).is_some(), "{index} in {size}");
        assert!(asked.len() < 20, "{} nodes for {index} in {size}", asked.len());
    }
    for (old, new) in [(0, 300), (1, 300), (255, 256), (129, 300), (300, 300)] {
        let asked = consistency_nodes(old, new);
        let lookup = |node| nodes.get(&node).copied().filter(|_| asked.contains(&node));
        assert!(consistency_path(old, new, &lookup).is_some(), "{old} to {new}");
    }
    assert_eq!(inclusion_path(300, 300, &|node| nodes.get(&node).copied()), None);
    assert_eq!(consistency_path(301, 300, &|node| nodes.get(&node).copied()), None);
}

#[test]
fn the_shared_vectors_of_certificate_transparency_hold() {
    let leaves = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    .map(|leaf| hex::decode(leaf).expect("hexadecimal digits"));
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    for (count, expected) in (1..).zip(roots) {
        assert_eq!(grown(&leaves[..count]).0.root().to_string(), expected);
    }
    assert_eq!(
        Frontier::new().root().to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let (_, nodes) = grown(&leaves);
    let lookup = |node| nodes.get(&node).copied();
    let texts = |path: Option<Vec<Hash>>| {
        path.expect("there is one")
            .iter()
            .map(Hash::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        texts(inclusion_path(0, 8, &lookup)),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
    );
    assert_eq!(
        texts(consistency_path(6, 8, &lookup)),
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
}

/// Every way of changing a path a little: a bit flipped, one left out, one too many, two swapped.
fn spoilt(path: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = vec![[path, &[Hash([7; 32])]].concat()];
    for place in 0..path.len() {
        let mut flipped = path.to_vec();
        flipped[place].0[13] ^= 4;
        let mut shorter = path.to_vec();
        shorter.remove(place);
        all.extend([flipped, shorter]);
        if place > 0 && path[place] != path[place - 1] {
            let mut swapped = path.to_vec();
            swapped.swap(place, place - 1);
            all.push(swapped);
        }
    }
    all
}

proptest! {
    #[test]
    fn no_other_path_leads_to_the_root(size in 1_usize..200, at in any::<prop::sample::Index>()) {
        let all = leaves(size);
        let index = at.index(size);
        let (frontier, nodes) = grown(&all);
        let right = inclusion_path(index as u64, size as u64, &|node| nodes.get(&node).copied()).expect("a leaf");
        let leaf = leaf_hash(&all[index]);
        let leads = |leaf: &Hash, index: usize, size: usize, path: &[Hash]| {
            proof::root_of_path(leaf, index as u64, size as u64, path) == Some(frontier.root())
        };
        prop_assert!(leads(&leaf, index, size, &right));
        for wrong in spoilt(&right) {
            prop_assert!(!leads(&leaf, index, size, &wrong));
        }
        for other in (0..size).filter(|other| *other != index) {
            prop_assert!(!leads(&leaf, other, size, &right), "{index} passes for {other}");
            prop_assert!(!leads(&leaf_hash(&all[other]), index, size, &right));
        }
    }

    #[test]
    fn no_fork_is_consistent(old in 1_usize..150, more in 1_usize..150, fork in any::<prop::sample::Index>()) {
        let all = leaves(old + more);
        let mut forked = all.clone();
        forked[fork.index(old)].push(b'!');
        let (new, nodes) = grown(&all);
        let (honest, _) = grown(&all[..old]);
        let (other, _) = grown(&forked[..old]);
        let (old, size) = (old as u64, (old + more) as u64);
        let right = consistency_path(old, size, &|node| nodes.get(&node).copied()).expect("it is older");
        prop_assert!(proof::is_consistent(old, &honest.root(), size, &new.root(), &right));
        prop_assert!(!proof::is_consistent(old, &other.root(), size, &new.root(), &right));
        for wrong in spoilt(&right) {
            prop_assert!(!proof::is_consistent(old, &honest.root(), size, &new.root(), &wrong));
        }
    }

    #[test]
    fn nothing_from_outside_panics(index in any::<u64>(), size in any::<u64>(), count in 0_usize..70) {
        let path = vec![Hash([3; 32]); count];
        let led = proof::root_of_path(&Hash([1; 32]), index, size, &path);
        prop_assert!(led.is_none() || index < size);
        let holds = proof::is_consistent(index, &Hash([1; 32]), size, &Hash([2; 32]), &path);
        prop_assert!(!holds, "{index} {size} {count}");
    }
}
