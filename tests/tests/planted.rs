//! The simulation is tested by bugs that are planted in a copy of production's source: each must be
//! found within so many seeds. A text that is not there any more fails the test: then the bug has
//! to be written anew.

#[path = "planted/bugs.rs"]
mod bugs;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bugs::{BUGS, Bug};

/// Each bug is found within so many.
const SEEDS: &str = "4000";

/// How a bug knows whether it is in force.
const SWITCH: &str = r#"
/// Whether a planted bug is in force.
#[must_use]
pub fn planted(name: &str) -> bool {
    static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    PLANTED.get_or_init(|| std::env::var("PLANTED").ok()).as_deref() == Some(name)
}
"#;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Where this test was built: what does not differ is not built again.
fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        let to = to.join(&name);
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn plant(tree: &Path, bug: &Bug) {
    let in_force = format!("duty::planted({:?})", bug.name);
    for (file, text, then) in bug.edits {
        let path = tree.join(file);
        let source = fs::read_to_string(&path).unwrap();
        let name = bug.name;
        assert_eq!(
            source.matches(text).count(),
            1,
            "{name}: {text:?} in {file}"
        );
        let then = then.replace("BUG", &in_force);
        fs::write(&path, source.replace(text, &then)).unwrap();
    }
}

/// Builds the simulation with all the bugs in it, none of them in force.
fn build() -> PathBuf {
    let tree = target().join("planted");
    let _none_before = fs::remove_dir_all(&tree);
    copy(workspace(), &tree);
    // Its other tests, and the name of what is built, are the original's.
    fs::remove_dir_all(tree.join("tests/tests")).unwrap();
    let examples = tree.join("tests/examples");
    fs::rename(examples.join("simulate.rs"), examples.join("planted.rs")).unwrap();
    let duty = tree.join("crates/duty/src/lib.rs");
    let source = fs::read_to_string(&duty).unwrap();
    fs::write(&duty, source + SWITCH).unwrap();
    BUGS.iter().for_each(|bug| plant(&tree, bug));
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--offline",
            "--locked",
            "--workspace",
            "--example",
            "planted",
        ])
        .current_dir(&tree)
        .env("CARGO_TARGET_DIR", target())
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    target().join("debug/examples/planted")
}

fn simulate(program: &Path, bug: Option<&str>) -> Output {
    let mut command = Command::new(program);
    command.arg(SEEDS).env_remove("PLANTED");
    if let Some(bug) = bug {
        command.env("PLANTED", bug);
    }
    command.output().unwrap()
}

#[test]
fn every_planted_bug_is_found_within_four_thousand_seeds() {
    let program = build();
    let sound = simulate(&program, None);
    let said = String::from_utf8_lossy(&sound.stdout);
    assert!(sound.status.success(), "without a bug: {said}");
    let mut missed = Vec::new();
    for bug in BUGS {
        let output = simulate(&program, Some(bug.name));
        let said = String::from_utf8_lossy(&output.stdout);
        let found = said.lines().find(|line| line.starts_with("seed "));
        println!("{}: {}", bug.name, found.unwrap_or("NOT FOUND"));
        if found.is_none() || output.status.success() {
            missed.push(bug.name);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}
