//! What a backup, a copied disk or a snapshot of a machine does: data as they once were.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Cluster, keeper};

/// A cluster's data at one time. It goes with the cluster.
#[derive(Debug, Clone)]
pub struct Snapshot(PathBuf);

impl Cluster {
    /// Copies the data of a cluster that is stopped or crashed.
    ///
    /// # Panics
    /// If it runs, or its data can not be copied.
    pub async fn snapshot(&self) -> Snapshot {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(
            self.server_id().is_none(),
            "a snapshot is of a stopped cluster"
        );
        let name = format!("snapshot-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let snapshot = Snapshot(self.directory.path.join(name));
        copy(&self.directory.data(), &snapshot.0).await;
        snapshot
    }

    /// Puts a stopped cluster's data back to what they were.
    ///
    /// # Panics
    /// If it runs, or the data can not be copied.
    pub async fn restore(&mut self, snapshot: &Snapshot) {
        assert!(
            self.server_id().is_none(),
            "only a stopped cluster is restored"
        );
        self.clear().await;
        copy(&snapshot.0, &self.directory.data()).await;
    }
}

async fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command
        .args(["--archive", "--reflink=auto"])
        .arg(from)
        .arg(to);
    let output = keeper::run(move || command.output())
        .await
        .expect("cp can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cp failed: {errors}");
}
