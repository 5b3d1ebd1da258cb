//! A server's settings: in a file beside its data, so that they can be changed while it runs and
//! are not copied with the data.

use std::{collections::BTreeMap, fmt::Write as _, fs::OpenOptions, io::Write as _};

use rustix::process::{Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::{Cluster, POLL_PAUSE, SERVER_WAIT, pid};

const FILE: &str = "settings.conf";

#[derive(Debug, Clone, Default)]
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(crate) fn change(&mut self, settings: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.0.extend(settings.iter().map(owned));
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            // Writing to a string can not fail.
            let _written = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        text
    }
}

impl Cluster {
    /// Changes settings of the server: at once if it runs and they are such that can be, or else
    /// at its next start.
    ///
    /// # Panics
    /// If the server runs and does not read them.
    pub async fn set(&mut self, settings: &[(&str, &str)]) {
        self.settings.change(settings);
        self.write_settings();
        let Some(server) = self.server_id() else {
            return;
        };
        let loaded = "SELECT pg_conf_load_time()";
        let before = self.run_sql(loaded).await;
        kill_process(pid(server), Signal::HUP).expect("the server runs");
        let deadline = Instant::now() + SERVER_WAIT;
        while self.run_sql(loaded).await == before {
            assert!(
                Instant::now() < deadline,
                "postgres does not read its settings"
            );
            sleep(POLL_PAUSE).await;
        }
    }

    /// Has the server's own configuration name the file of settings, beside the data directory.
    pub(crate) fn include_settings(&self) {
        let own = self.directory.data().join("postgresql.conf");
        let opened = OpenOptions::new().append(true).open(own);
        opened
            .and_then(|mut file| writeln!(file, "include = '../{FILE}'"))
            .expect("initdb has made a configuration");
    }

    pub(crate) fn write_settings(&self) {
        let owner = self.installation.owner();
        self.directory.replace(FILE, &self.settings.text(), owner);
    }
}
