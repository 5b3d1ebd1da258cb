//! One file of several.

use super::{CHAIN, MergeError, Merged, file, merge, section, sections};
use crate::testing::validator;

fn merged(files: &[String]) -> Result<(String, Merged), MergeError> {
    let readers = files.iter().map(|file| file.as_bytes()).collect();
    let mut out = Vec::new();
    let merged = merge(readers, &mut out)?;
    Ok((String::from_utf8(out).unwrap(), merged))
}

#[test]
fn a_merge_is_the_union_with_the_highest_of_all() {
    let files = [
        file(vec![
            section(validator(1), &[(5, 1), (7, 1)], &[(1, 2, 1), (2, 3, 1)]),
            section(validator(3), &[], &[(1, 2, 1)]),
        ]),
        // Pruned: the ratchet of validator 1 is synthetic here.
        file(vec![
            section(validator(1), &[(7, 0)], &[(2, 3, 0)]),
            section(validator(2), &[(9, 2)], &[]),
        ]),
        file(vec![
            section(validator(1), &[(8, 4)], &[(3, 9, 4)]),
            section(validator(4), &[], &[]),
        ]),
    ];
    let (text, outcome) = merged(&files).unwrap();
    let all = sections(&text);
    let blocks = vec![(5, 1), (7, 1), (8, 4)];
    let votes = vec![(1, 2, 1), (2, 3, 1), (3, 9, 4)];
    assert_eq!(all[&validator(1)], (blocks, votes));
    assert_eq!(all[&validator(2)], (vec![(9, 2)], vec![]));
    assert_eq!(all[&validator(3)], (vec![], vec![(1, 2, 1)]));
    assert_eq!(all[&validator(4)], (vec![], vec![]));
    let expected = Merged {
        genesis_validators_root: CHAIN,
        validators: 4,
        entries: 8,
        minified: Vec::new(),
    };
    assert_eq!(outcome, expected);
    // In any order, and merged with itself, it is the same file.
    let mut reversed = files.to_vec();
    reversed.reverse();
    reversed.push(text.clone());
    assert_eq!(merged(&reversed).unwrap().0, text);
}

#[test]
fn what_is_slashable_across_files_is_minified_and_reported() {
    let files = [
        file(vec![section(validator(1), &[(5, 1)], &[(1, 9, 1)])]),
        file(vec![section(validator(1), &[(4, 1)], &[(2, 3, 1)])]),
    ];
    let (text, outcome) = merged(&files).unwrap();
    assert_eq!(
        sections(&text)[&validator(1)],
        (vec![(5, 0)], vec![(2, 9, 0)])
    );
    assert_eq!(outcome.minified, [validator(1)]);
}

#[test]
fn a_file_of_another_chain_and_a_malformed_one_are_named_and_nothing_is_written() {
    let good = file(vec![section(validator(1), &[], &[(1, 2, 1)])]);
    let other = good.replace(&CHAIN.to_string(), &format!("0x{}", "08".repeat(32)));
    for (files, says) in [
        (vec![], "no file to merge"),
        (
            vec![good.clone(), other],
            "file 2: nothing was imported: the file is for",
        ),
        (
            vec![good.replace("\"2\"", "\"x\""), good],
            "file 1: nothing was imported: data[0]",
        ),
    ] {
        let mut out = Vec::new();
        let readers = files.iter().map(|file: &String| file.as_bytes()).collect();
        let error = merge(readers, &mut out).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(out.is_empty());
    }
}
