//! One suite for both databases.

mod decisions;

mod races;

mod batches;

mod outages;
