//! What else of the contract is pure: the choice of a reply's form, and the key in the path.

use duty::PublicKey;

/// Whether a signature is answered as JSON, else as text, to a request with those values of
/// `Accept` (section 3.3): JSON if one media range, its parameters aside, is `application/json` or
/// `*/*`. No header at all means text, and so does `application/*`.
#[must_use]
pub fn wants_json<'a>(accept: impl IntoIterator<Item = &'a str>) -> bool {
    accept
        .into_iter()
        .flat_map(|value| value.split(','))
        .any(|range| {
            let range = range.split(';').next().unwrap_or_default().trim_ascii();
            range == "*/*" || range.eq_ignore_ascii_case("application/json")
        })
}

/// The key that a path's identifier means (section 3): digits of either case, `0x` or not. Anything
/// else is simply no key that is known.
#[must_use]
pub fn parse_identifier(segment: &str) -> Option<PublicKey> {
    segment.to_ascii_lowercase().parse().ok()
}
