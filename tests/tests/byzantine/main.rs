//! Cosigners that lie, beside real ones and before a real signer-api: every way to misbehave, by as
//! many as may, and by one more.
//!
//! While as many lie as may, every request is signed in time, and who is blamed lies: so say the
//! metrics, the health check and the log. What an honest one may say as well (a refusal, another
//! ballot) is no misdeed, but who says it alone is named. With one more, nothing false is signed and
//! every request is answered in time: with 500, but where so many agree on a lie that it could not be
//! told from the truth (412 or 400 if they refuse, 404 if they do not know the validator). When they
//! are honest again, the same duties are signed.

mod blame;
mod justice;
mod races;
mod table;
mod trial;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use trial::Trial;

/// Tries every case, also after one that fails.
async fn check(committee: &'static str) {
    let mut trial = Trial::start(committee, trial::HASTE).await;
    let mut failed = Vec::new();
    // For who looks for the cause of one failure.
    let only = std::env::var("CASE").unwrap_or_default();
    for case in table::cases()
        .into_iter()
        .filter(|case| case.name.contains(&only))
    {
        let tried = AssertUnwindSafe(trial.check(&case)).catch_unwind().await;
        if tried.is_err() {
            failed.push(case.name);
            let asking = trial.fresh();
            trial.recovers(case.name, &asking).await;
            trial.are_well().await;
        }
    }
    trial.tell();
    assert!(failed.is_empty(), "{committee}: {failed:?}");
    if only.is_empty() {
        trial.conclude();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_liar_of_2_of_3_costs_no_duty_and_two_make_nothing_false() {
    check("2-of-3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_liar_of_3_of_4_costs_no_duty_and_two_make_nothing_false() {
    check("3-of-4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_liars_of_5_of_7_cost_no_duty_and_three_make_nothing_false() {
    check("5-of-7").await;
}

/// Both signer-apis have time.
async fn race(committee: &'static str) {
    let mut trial = Trial::start(committee, trial::PATIENCE).await;
    races::two_faces(&mut trial).await;
    races::never_both(&mut trial).await;
    trial.tell();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_of_2_of_3_is_of_two_minds_and_never_lets_two_callers_sign_a_duty_differently() {
    race("2-of-3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_of_3_of_4_is_of_two_minds_and_never_lets_two_callers_sign_a_duty_differently() {
    race("3-of-4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn liars_of_5_of_7_are_of_two_minds_and_never_let_two_callers_sign_a_duty_differently() {
    race("5-of-7").await;
}
