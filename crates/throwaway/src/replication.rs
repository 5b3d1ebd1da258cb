//! Standbys: copies of a running server that stream from it, and take its place.

use crate::{Cluster, keeper};

impl Cluster {
    /// A standby of this server, made now, that streams from it under `name`: whether commits wait
    /// for it is said by the primary's `synchronous_standby_names`. It has the primary's settings.
    ///
    /// # Panics
    /// If this server does not run, or the standby does not start.
    pub async fn standby(&self, name: &str) -> Self {
        let mut standby = Self::empty().await;
        standby.follow(self, name).await;
        standby
    }

    /// Makes this cluster a standby of `primary`, at the same port as before: its server is
    /// stopped if it runs, and its data are forgotten. It takes the primary's settings.
    ///
    /// # Panics
    /// As [`Self::standby`].
    pub async fn follow(&mut self, primary: &Self, name: &str) {
        self.stop().await;
        self.clear().await;
        let data = self.directory.data();
        let mut command = self
            .installation
            .command("pg_basebackup", &self.directory.path);
        command
            .args(["--checkpoint=fast", "--no-sync", "--wal-method=stream"])
            .args(["--host=127.0.0.1", "--username=postgres", "--no-password"])
            .arg(format!("--port={}", primary.port))
            .arg(format!("--pgdata={}", data.display()));
        let output = keeper::run(move || command.output())
            .await
            .expect("pg_basebackup can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pg_basebackup failed: {errors}");
        self.settings.clone_from(&primary.settings);
        self.stream_from(primary, name).await;
    }

    /// Starts a stopped cluster as a standby of `primary`, with the data it has: these must be an
    /// older state of the primary's.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn stream_from(&mut self, primary: &Self, name: &str) {
        let source = format!(
            "host=127.0.0.1 port={} user=postgres application_name={name}",
            primary.port
        );
        self.settings.change(&[("primary_conninfo", &source)]);
        let owner = self.installation.owner();
        self.directory.replace("data/standby.signal", "", owner);
        self.restart().await;
    }

    /// Makes a standby a primary, and returns when it takes writes.
    ///
    /// # Panics
    /// If it is not promoted.
    pub async fn promote(&self) {
        let promoted = self.run_sql("SELECT pg_promote(true, 60)").await;
        assert_eq!(promoted.as_deref(), Some("t"), "postgres was not promoted");
    }

    pub(crate) async fn clear(&self) {
        let data = self.directory.data();
        keeper::run(move || match std::fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                panic!("{}: {error}", data.display())
            }
            _ => {}
        })
        .await;
    }
}
