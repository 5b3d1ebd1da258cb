//! `GET /api/v1/eth2/highWatermark`: from which heights on nothing can be signed any more.
//!
//! It is what the cosigners were ordered by `countersign ledger stop-at`. They are asked anew for
//! each request, because a migration waits for the answer. It never says more than is known: who
//! does not answer may be one that goes on signing.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::App;
use crate::{
    cosigners::Standing,
    reply::{JSON, Refused, reply},
};

pub(super) async fn high_watermark(State(app): State<Arc<App>>) -> Response {
    match answer(&app).await {
        Ok(members) => reply(StatusCode::OK, JSON, Value::Object(members).to_string()),
        Err(refused) => refused.into_response(),
    }
}

async fn answer(app: &App) -> Result<Map<String, Value>, Refused> {
    // A place, because every question costs each cosigner one.
    let _place = app.admission.enter().map_err(|turned| {
        app.metrics.overloaded();
        Refused::from(turned)
    })?;
    let deadline = Instant::now() + app.deadline();
    let links = app.cosigners.links();
    let said = join_all(links.iter().map(|link| link.standing(deadline))).await;
    let silent = || {
        let silent = links.iter().zip(&said).filter(|(_, said)| said.is_none());
        let names: Vec<&str> = silent.map(|(link, _)| link.san().as_ref()).collect();
        Refused::unanswered(format!("no answer of {}", names.join(", ")))
    };
    let height = |order: fn(&Standing) -> Option<u64>| {
        let orders = said.iter().map(|said| match said.as_ref().map(order) {
            None => Order::Unsaid,
            Some(None) => Order::Unlimited,
            Some(Some(height)) => Order::Stop(height),
        });
        watermark(orders, app.threshold_min).map_err(|_| silent())
    };
    let epoch = height(|said| said.stop_epoch.map(|epoch| epoch.0))?;
    let slot = height(|said| said.stop_slot.map(|slot| slot.0))?;
    // Each stands for itself: a stop of attestations alone leaves `slot` out.
    let members = [("epoch", epoch), ("slot", slot)]
        .into_iter()
        .filter_map(|(name, height)| Some((name.to_owned(), height?.to_string().into())));
    Ok(members.collect())
}

/// What one cosigner was ordered for one kind of height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// It signs nothing at this height or above.
    Stop(u64),
    /// It signs at every height.
    Unlimited,
    /// It did not say.
    Unsaid,
}

/// Nothing can be said: too few answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Undetermined;

/// The least height at and above which fewer than `threshold` of the cosigners can sign: the
/// `threshold`-th highest of their stops, where none is infinitely high. `None` if there is no such
/// height. Who did not say counts as one without a stop: what is answered holds whatever its order
/// is.
///
/// # Errors
/// When there would be a height, or not, depending on who did not say.
fn watermark(
    orders: impl Iterator<Item = Order>,
    threshold: usize,
) -> Result<Option<u64>, Undetermined> {
    let (mut stops, mut unlimited, mut unsaid) = (Vec::new(), 0_usize, 0_usize);
    for order in orders {
        match order {
            Order::Stop(height) => stops.push(height),
            Order::Unlimited => unlimited = unlimited.saturating_add(1),
            Order::Unsaid => unsaid = unsaid.saturating_add(1),
        }
    }
    if unlimited >= threshold {
        return Ok(None);
    }
    let needed = threshold.saturating_sub(unlimited.saturating_add(unsaid));
    stops.sort_unstable_by(|a, b| b.cmp(a));
    let height = needed.checked_sub(1).and_then(|nth| stops.get(nth));
    height.copied().map(Some).ok_or(Undetermined)
}

#[cfg(test)]
mod tests {
    use super::{
        Order::{Stop, Unlimited, Unsaid},
        *,
    };

    const ORDERS: [Order; 6] = [Stop(0), Stop(1), Stop(2), Stop(u64::MAX), Unlimited, Unsaid];
    const HEIGHTS: [u64; 6] = [0, 1, 2, 3, u64::MAX - 1, u64::MAX];

    /// Whether `threshold` can sign at a height, if who did not say has the order `unsaid`.
    fn is_signed(orders: &[Order], unsaid: Order, threshold: usize, height: u64) -> bool {
        let signs = |order: &&Order| match if **order == Unsaid { unsaid } else { **order } {
            Stop(stop) => height < stop,
            Unlimited | Unsaid => true,
        };
        orders.iter().filter(signs).count() >= threshold
    }

    fn check(orders: &[Order], threshold: usize) {
        let never = |unsaid| {
            let above = |least: u64| {
                let mut above = HEIGHTS.iter().filter(move |height| **height >= least);
                above.all(|height| !is_signed(orders, unsaid, threshold, *height))
            };
            HEIGHTS.into_iter().find(|least| above(*least))
        };
        let (most, least) = (never(Unlimited), never(Stop(0)));
        let expected = match (most, least) {
            (Some(height), _) => Ok(Some(height)),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Undetermined),
        };
        let said = watermark(orders.iter().copied(), threshold);
        assert_eq!(said, expected, "{threshold} of {orders:?}");
    }

    #[test]
    fn every_committee_of_up_to_four_says_the_least_height_that_holds_whoever_is_silent() {
        for size in 1..=4_u32 {
            for number in 0..6_usize.pow(size) {
                let orders: Vec<Order> = (0..size)
                    .map(|place| ORDERS[number / 6_usize.pow(place) % 6])
                    .collect();
                for threshold in 1..=orders.len() {
                    check(&orders, threshold);
                }
            }
        }
    }

    #[test]
    fn three_of_four_stop_where_two_have_stopped() {
        for (orders, said) in [
            ([Unlimited; 4], Ok(None)),
            ([Unlimited, Unlimited, Unlimited, Unsaid], Ok(None)),
            ([Stop(7), Unlimited, Unlimited, Unlimited], Ok(None)),
            ([Stop(7), Stop(9), Unlimited, Unlimited], Ok(Some(9))),
            ([Stop(7), Stop(9), Unsaid, Unlimited], Ok(Some(9))),
            ([Stop(7), Stop(9), Stop(8), Stop(8)], Ok(Some(8))),
            ([Stop(7), Unsaid, Unlimited, Unlimited], Err(Undetermined)),
            ([Unlimited, Unlimited, Unsaid, Unsaid], Err(Undetermined)),
            ([Unsaid; 4], Err(Undetermined)),
        ] {
            assert_eq!(watermark(orders.into_iter(), 3), said, "{orders:?}");
        }
    }
}
