//! How a server is reached at present: what lets us in and whom we trust change while it is used.

use std::sync::Arc;

use parking_lot::RwLock;

use super::server::Server;

/// Clones share what is replaced.
#[derive(Clone)]
pub(super) struct Reached(Arc<RwLock<Arc<Server>>>);

impl Reached {
    pub(super) fn by(server: Server) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(server))))
    }

    /// Whoever has begun to connect goes on with what this returned.
    pub(super) fn now(&self) -> Arc<Server> {
        Arc::clone(&self.0.read())
    }

    pub(super) fn replace(&self, server: Server) {
        let mut reached = self.0.write();
        *reached = Arc::new(server.succeed(&reached));
    }
}
