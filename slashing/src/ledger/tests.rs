//! One suite for both databases.

mod decisions;

mod agreement;

mod unruled;

mod races;

mod batches;

mod outages;

mod replication;

mod trust;

mod rollbacks;

mod hostile;

mod retakes;
