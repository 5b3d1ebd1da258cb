//! The agreement's model says of every rule and every shortcut what docs/AGREEMENT.md says.

use std::{path::Path, process::Command};

#[test]
fn the_model_of_the_agreement_is_as_documented() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/agreement_model.py");
    let output = Command::new(throwaway::program("python3"))
        .arg(&model)
        .arg("--quick")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{failed}");
    // Every group must have been looked at: the sound, the lost, the stuck and the unsafe.
    for sign in [
        "as documented",
        "restarts=1",
        "withholds",
        "no fence",
        "UNSAFE",
    ] {
        assert!(said.contains(sign), "nothing of {sign:?}: {said}");
    }
}
