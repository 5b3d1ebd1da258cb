use super::awaited;

fn check(cases: &[(&str, Result<u32, ()>)]) {
    for (names, expected) in cases {
        assert_eq!(awaited(names).map_err(|_| ()), *expected, "{names}");
    }
}

#[test]
fn what_a_commit_waits_for_is_read_as_the_server_reads_it() {
    check(&[
        ("", Ok(0)),
        (" \t\n", Ok(0)),
        ("one", Ok(1)),
        ("*", Ok(1)),
        ("one, two ,three", Ok(1)),
        ("2 (one, two)", Ok(2)),
        ("FIRST 2 (one, two, three)", Ok(2)),
        ("first 1(one)", Ok(1)),
        ("Any 3 (*)", Ok(3)),
        ("ANY 12 (\"a, b (c\", \"two \"\"quotes\"\"\", d$1)", Ok(12)),
        ("\"FIRST\"", Ok(1)),
        ("\"any\", \"2 (x)\"", Ok(1)),
        ("10", Ok(1)),
        ("1, 2", Ok(1)),
        ("FIRST 1 (1, 2)", Ok(1)),
        ("knoten_süd", Ok(1)),
    ]);
}

#[test]
fn what_the_server_would_not_take_is_not_guessed_at() {
    check(&[
        ("ANY", Err(())),
        ("ANY 2", Err(())),
        ("ANY (one)", Err(())),
        ("FIRST 2 ()", Err(())),
        ("2 (one", Err(())),
        ("2 one)", Err(())),
        ("one two", Err(())),
        ("one,", Err(())),
        (",one", Err(())),
        ("one,,two", Err(())),
        ("\"one", Err(())),
        ("one; two", Err(())),
        ("ANY 2 (any)", Err(())),
        ("MOST 2 (one)", Err(())),
        ("ANY 99999999999 (one)", Err(())),
    ]);
}
