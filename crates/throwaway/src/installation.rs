//! Where PostgreSQL's programs are, and how they are run: not as root, and not longer than us.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::packages;

/// The user that servers run as when we are root, which PostgreSQL refuses to be.
const USER: &str = "postgres";
/// Where Debian and its children put the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// An installed PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    programs: PathBuf,
    owner: Option<Owner>,
}

/// A user and group by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Installation {
    /// Finds PostgreSQL, or installs it if we are root on a system with apt.
    pub(crate) fn find() -> Self {
        let programs = programs().unwrap_or_else(|| {
            packages::install("postgresql");
            programs().unwrap_or_else(|| panic!("the package postgresql has no initdb"))
        });
        let is_root = rustix::process::geteuid().is_root();
        Self {
            programs,
            owner: is_root.then(owner),
        }
    }

    /// Who the files must belong to, if not to us.
    pub(crate) const fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// A command that runs one of PostgreSQL's programs in `directory`, as a user who may, and
    /// that is told to quit when the thread that starts it ends.
    pub(crate) fn command(&self, program: &str, directory: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]);
        if self.owner.is_some() {
            command.args(["--reuid", USER, "--regid", USER, "--init-groups"]);
        }
        command
            .arg(self.programs.join(program))
            .current_dir(directory)
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C");
        command
    }
}

/// The directory of the newest PostgreSQL that is installed, or of the one in the PATH.
fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path)
        .filter_map(|directory| fs::canonicalize(directory.join("initdb")).ok())
        .filter_map(|program| program.parent().map(Path::to_owned));
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        })
        .collect();
    versions.sort();
    let installed = versions.into_iter().rev().map(|(_, programs)| programs);
    in_path
        .chain(installed)
        .find(|programs| programs.join("initdb").exists() && programs.join("postgres").exists())
}

fn owner() -> Owner {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    users
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let is_wanted = fields.next()? == USER;
            let owner = Owner {
                user: fields.nth(1)?.parse().ok()?,
                group: fields.next()?.parse().ok()?,
            };
            is_wanted.then_some(owner)
        })
        .unwrap_or_else(|| panic!("tests run by root need a user named postgres: add one"))
}
