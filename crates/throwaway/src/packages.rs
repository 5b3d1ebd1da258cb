//! Programs that tests need, installed where they are not there.

use std::{env, path::Path, path::PathBuf, process::Command, sync::Mutex};

/// Two tests of one process must not install at once; those of two wait for each other's lock.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Where a program is; its package of the same name is installed if it is not there, we are root,
/// and the system has apt.
///
/// # Panics
/// With what to install, if it cannot be.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let in_path = || {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut programs = env::split_paths(&path).map(|directory| directory.join(name));
        programs.find(|program| program.exists())
    };
    in_path().unwrap_or_else(|| {
        install(name);
        in_path().unwrap_or_else(|| panic!("the package {name} has no program of that name"))
    })
}

/// Installs a package.
pub(crate) fn install(package: &str) {
    let _turn = ONE_AT_A_TIME.lock();
    let help = format!("these tests need {package}: install the package {package}");
    let is_root = rustix::process::geteuid().is_root();
    assert!(is_root && Path::new("/usr/bin/apt-get").exists(), "{help}");
    for arguments in [
        &["update"][..],
        &["install", "-y", "--no-install-recommends", package][..],
    ] {
        let mut command = Command::new("apt-get");
        command
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{help} ({errors})");
    }
}
