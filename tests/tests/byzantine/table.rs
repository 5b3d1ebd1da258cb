//! Every way to misbehave, and what comes of it.

mod deliveries;

use std::time::Duration;

use serde_json::Value;
use tests::liar::{
    Breach, FalsePartial, FalseReply, FalseReport, FalseScaled, FalseStatus, Frames, Lie, On,
    Outbidding, Trouble, partials,
};

use crate::blame::{BROKEN, FAULTY, Reasons, TIMED_OUT, VARIOUS, Word};

/// Who lies at the moment.
pub struct Scene {
    /// How many there are.
    pub members: u64,
    /// Who lies, ascending.
    pub liars: Vec<u64>,
    /// Whose partials come first: as many as are needed.
    pub first: Vec<u64>,
}

/// How late an honest one is that lets liars lead: less than anybody waits before a promise is late,
/// because who is later is one more that is faulty.
pub const A_BIT_LATE: Duration = Duration::from_millis(25);
/// More than anybody is waited for.
const VERY_LATE: Duration = Duration::from_millis(400);

/// What liars must have been asked for a case to have been one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// To promise.
    Promises(u64),
    /// To sign.
    Signatures,
    /// What validators they have.
    Listings,
    /// To take a connection.
    Connections,
    /// How they are.
    Health,
}

/// What becomes of requests when one more lies than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// 500, within the deadline.
    Fails,
    /// The same, once it has been noticed.
    FailsSoon,
    /// 412: so many refuse that it can never be signed.
    Refused,
    /// 400: so many do not understand it.
    Invalid,
    /// 404 or 500: so many do not know the validator.
    Unknown,
    /// 200: it does no harm to requests.
    Signs,
    /// 200 or 500.
    Either,
}

/// What a member does, given who lies.
type Behaviour = Box<dyn Fn(&Scene, u64) -> Lie + Send + Sync>;

/// One way to misbehave.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What a member does.
    pub lie: Behaviour,
    /// Whether it is about what validators there are.
    pub is_report: bool,
    /// What its liars are blamed for; for nothing if it may be the network's fault, or an honest
    /// cosigner's word.
    pub blamed: Option<&'static str>,
    /// What they do not agree for to what the others sign. An honest one may do so: its ledger may
    /// be ahead, or another caller made it promise that ballot, however high.
    pub dissents: Option<&'static str>,
    /// Whether it cannot but be noticed.
    pub is_noticed: bool,
    /// What the health check must say of them.
    pub shows: Option<fn(&Value) -> bool>,
    /// What makes it one.
    pub proof: Proof,
    /// What the metric of failures calls it: one of these at least.
    pub fails: Reasons,
    /// What the log says of who fails so often that it is not asked: one of these. None where good
    /// answers come between, or bad ones do not count: then it is asked all the same.
    pub out: &'static [Word],
    /// What comes of it beyond what is tolerated.
    pub beyond: Beyond,
    /// How late as many honest members are as lie, so that liars are among the first.
    pub late: Duration,
}

impl Case {
    /// Whether its liars may not be asked for a while when it is over.
    pub fn puts_out(&self) -> bool {
        !self.out.is_empty() || self.fails == BROKEN || self.fails == TIMED_OUT
    }
}

fn case(name: &'static str, lie: impl Fn(&Scene, u64) -> Lie + Send + Sync + 'static) -> Case {
    Case {
        name,
        lie: Box::new(lie),
        is_report: false,
        blamed: None,
        dissents: None,
        is_noticed: true,
        shows: None,
        proof: Proof::Promises(1),
        fails: &[],
        out: &[],
        beyond: Beyond::Fails,
        late: Duration::ZERO,
    }
}

/// Partials that do not verify.
fn partial(name: &'static str, lie: FalsePartial) -> Case {
    Case {
        blamed: Some("partial"),
        proof: Proof::Signatures,
        late: A_BIT_LATE,
        ..case(name, move |_, _| Lie::Partial(lie.clone()))
    }
}

/// Replies that cannot be understood.
fn nonsense(name: &'static str, lie: FalseReply) -> Case {
    Case {
        blamed: Some("reply"),
        fails: FAULTY,
        ..reply(name, lie)
    }
}

fn reply(name: &'static str, lie: FalseReply) -> Case {
    case(name, move |_, _| Lie::Reply(lie.clone()))
}

fn status(name: &'static str, status: FalseStatus, shows: fn(&Value) -> bool) -> Case {
    Case {
        shows: Some(shows),
        proof: Proof::Health,
        beyond: Beyond::Signs,
        ..case(name, move |_, _| Lie::Status(status))
    }
}

fn report(name: &'static str, report: FalseReport) -> Case {
    Case {
        is_report: true,
        blamed: Some("report"),
        proof: Proof::Listings,
        beyond: Beyond::FailsSoon,
        ..case(name, move |_, _| Lie::Report(report))
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let groups = [
        false_partials(),
        scaled_partials(),
        colluders(),
        false_replies(),
        refusals(),
        deliveries::troubles(),
        deliveries::floods(),
        deliveries::breaches(),
        statuses(),
        reports(),
    ];
    groups.into_iter().flatten().collect()
}

fn false_partials() -> Vec<Case> {
    let wrong_length = |name, length| Case {
        blamed: Some("reply"),
        ..partial(name, FalsePartial::Length(length))
    };
    let bytes = |name, bytes| partial(name, FalsePartial::Bytes(bytes));
    vec![
        partial("another root", FalsePartial::AnotherRoot),
        Case {
            lie: Box::new(|_, _| Lie::Partial(FalsePartial::AnotherMembers(1))),
            ..partial("another member's partial", FalsePartial::AnotherRoot)
        },
        partial("of another validator", FalsePartial::AnotherValidators),
        partial("an old one", FalsePartial::Replayed),
        wrong_length("0 bytes", 0),
        wrong_length("1 byte", 1),
        wrong_length("95 bytes", 95),
        wrong_length("97 bytes", 97),
        wrong_length("a million bytes", 1_000_000),
        bytes("infinity", partials::infinity()),
        bytes("off the curve", partials::off_curve()),
        bytes("outside the subgroup", partials::outside_subgroup()),
        bytes("a good point of nobody", partials::generator()),
        bytes("zeros", [0; 96]),
        bytes("ones", [0xff; 96]),
        partial("x of the modulus or more", FalsePartial::PlusModulus),
        partial("not compressed, it says", FalsePartial::Flags(0x80)),
        partial("infinity, it says", FalsePartial::Flags(0x40)),
        partial("infinity, not compressed", FalsePartial::Flags(0xc0)),
        partial("the sign flipped", FalsePartial::Flags(0x20)),
        Case {
            beyond: Beyond::Either,
            ..partial("now and then", FalsePartial::NowAndThen)
        },
    ]
}

/// What is said in the form that cosigners use among those that scale alike.
fn scaled_partials() -> Vec<Case> {
    let scaled = |name, lie| partial(name, FalsePartial::Scaled(lie));
    let nonsense = |name, lie| Case {
        blamed: Some("reply"),
        ..scaled(name, lie)
    };
    let bytes = |point: [u8; 192]| FalseScaled::Bytes(point.to_vec());
    let beside_curve = || {
        let mut point = partials::uncompressed(&partials::generator());
        point[191] ^= 1;
        point
    };
    let point = |compressed| bytes(partials::uncompressed(&compressed));
    vec![
        // Another form than the others', and a good partial.
        Case {
            blamed: None,
            beyond: Beyond::Signs,
            ..scaled("a scale of 1", FalseScaled::Scale(1))
        },
        scaled("a scale of 6", FalseScaled::Scale(6)),
        scaled("a scale of 2^64 - 1", FalseScaled::Scale(u64::MAX)),
        nonsense("a scale of 0", FalseScaled::Scale(0)),
        nonsense("0 bytes, scaled", FalseScaled::Bytes(Vec::new())),
        nonsense("96 bytes, scaled", FalseScaled::Bytes(vec![1; 96])),
        nonsense("193 bytes, scaled", FalseScaled::Bytes(vec![1; 193])),
        scaled("infinity, scaled", point(partials::infinity())),
        scaled("off the curve, scaled", bytes(beside_curve())),
        scaled(
            "outside the subgroup, scaled",
            point(partials::outside_subgroup()),
        ),
        scaled(
            "a good point of nobody, scaled",
            point(partials::generator()),
        ),
        scaled("zeros, scaled", bytes([0; 192])),
        scaled("ones, scaled", bytes([0xff; 192])),
    ]
}

fn colluders() -> Vec<Case> {
    // Two make up for each other; a third lies on its own.
    let in_sum = |scene: &Scene, member: u64| {
        let one = partials::one();
        let times = match scene.liars.iter().rev().position(|liar| *liar == member) {
            Some(0) => one,
            _ => -one,
        };
        Lie::Partial(FalsePartial::Plus(Box::new(times)))
    };
    let in_combination = |scene: &Scene, member: u64| {
        let mut pair = scene.liars.iter().rev().copied();
        let (Some(a), Some(b)) = (pair.next(), pair.next()) else {
            // Alone, it has nobody who makes up for it.
            return Lie::Partial(FalsePartial::Reckless);
        };
        let times = match member {
            _ if member == a => partials::weight(b, &scene.first),
            _ if member == b => -partials::weight(a, &scene.first),
            _ => return Lie::Partial(FalsePartial::Plus(Box::default())),
        };
        Lie::Partial(FalsePartial::Plus(Box::new(times)))
    };
    vec![
        Case {
            lie: Box::new(in_sum),
            ..partial("errors that cancel in a sum", FalsePartial::AnotherRoot)
        },
        Case {
            lie: Box::new(in_combination),
            is_noticed: false,
            beyond: Beyond::Either,
            // They cancel only in the sum of those that are first; nobody has failed meanwhile.
            late: VERY_LATE,
            ..partial("errors that cancel", FalsePartial::AnotherRoot)
        },
    ]
}

fn false_replies() -> Vec<Case> {
    let outbids = |name, by| Case {
        dissents: Some("outbid"),
        ..reply(name, FalseReply::Outbid(by))
    };
    vec![
        nonsense("more outcomes than items", FalseReply::More),
        nonsense("an outcome too few", FalseReply::Fewer),
        nonsense("no outcomes", FalseReply::None),
        nonsense("outcomes of nothing", FalseReply::Empty),
        nonsense("two messages", FalseReply::Twice),
        Case {
            proof: Proof::Signatures,
            late: A_BIT_LATE,
            fails: &["busy"],
            ..reply("a partial and a refusal", FalseReply::Both)
        },
        outbids("a ballot of 2^63", Outbidding::Half),
        outbids("the last ballot", Outbidding::Last),
        outbids("always the next ballot", Outbidding::By(1)),
        outbids("ballots that run away", Outbidding::By(1_000_000)),
        nonsense("outbid by less", FalseReply::Outbid(Outbidding::Lower)),
        Case {
            dissents: Some("slashable"),
            // Who may not be slashed by it is not refused, but not answered.
            beyond: Beyond::Either,
            ..reply(
                "it has signed something else",
                FalseReply::Signed(vec![7; 32]),
            )
        },
        nonsense("it has signed 31 bytes", FalseReply::Signed(vec![7; 31])),
        nonsense(
            "it has signed a million bytes",
            FalseReply::Signed(vec![7; 1_000_000]),
        ),
    ]
}

fn refusals() -> Vec<Case> {
    let refuses = |name, reason, fails| Case {
        fails,
        ..reply(name, FalseReply::Refused(reason))
    };
    // So many refusals can not be told from true ones: it will never be signed, as far as is known.
    let is_final = |name, reason, dissents| Case {
        dissents: Some(dissents),
        beyond: Beyond::Refused,
        ..refuses(name, reason, &[])
    };
    let promises = |name, reason, fails| Case {
        fails,
        proof: Proof::Signatures,
        late: A_BIT_LATE,
        ..reply(name, FalseReply::PromisesThenRefuses(reason))
    };
    vec![
        Case {
            beyond: Beyond::Invalid,
            ..is_final("invalid", 1, "invalid")
        },
        Case {
            beyond: Beyond::Fails,
            ..is_final("not found", 2, "not_found")
        },
        is_final("slashable", 3, "slashable"),
        is_final("wrong chain", 4, "wrong_chain"),
        is_final("not allowed", 5, "not_allowed"),
        is_final("disabled", 6, "disabled"),
        is_final("stopped", 7, "stopped"),
        refuses("beyond its clock", 16, &["beyond_clock"]),
        refuses("no ledger", 17, &["ledger"]),
        refuses("busy", 18, &["busy"]),
        refuses("starting", 19, &["starting"]),
        refuses("too late", 20, &["too_late"]),
        refuses("in quarantine", 21, &["quarantined"]),
        nonsense("for no reason", FalseReply::Refused(0)),
        // Another release may know it.
        refuses("for a reason that nobody knows", 99, &["faulty"]),
        Case {
            dissents: Some("slashable"),
            beyond: Beyond::Refused,
            ..reply("slashable, at great length", FalseReply::RefusedAtLength(3))
        },
        promises("promises to all, is busy for all", 18, &["busy"]),
        promises("promises to all, is too late for all", 20, &["too_late"]),
        Case {
            dissents: Some("slashable"),
            beyond: Beyond::Refused,
            ..promises("promises to all, refuses all as slashable", 3, &[])
        },
        deliveries::withheld(
            "promises to all, signs for nobody",
            Trouble::NoHeaders,
            TIMED_OUT,
        ),
    ]
}

fn stops(check: &Value, height: &str) -> bool {
    let data = &check["data"];
    data["stop-epoch"] == height && data["stop-slot"] == height
}

fn statuses() -> Vec<Case> {
    let is_down = |check: &Value| check["status"] == "DOWN";
    let is_up = |check: &Value| check["status"] == "UP";
    vec![
        status("not ready, it says", FalseStatus::NotReady, is_down),
        status(
            "in quarantine for ever",
            FalseStatus::Quarantined,
            |check| {
                let until = &check["data"]["quarantined-until-epoch"];
                check["status"] == "DOWN" && *until == "18446744073709551615"
            },
        ),
        status("stops at 0", FalseStatus::Stops(0), |check| {
            stops(check, "0")
        }),
        status("stops at 2^63", FalseStatus::Stops(1 << 63), |check| {
            stops(check, "9223372036854775808")
        }),
        status("frozen", FalseStatus::Frozen, |check| {
            let data = &check["data"];
            check["status"] == "DOWN" && data["all-frozen"] == true && data["frozen"] == u64::MAX
        }),
        status("says much", FalseStatus::AtLength, |check| {
            let reason = check["data"]["reason"].as_str().unwrap_or_default();
            let is_clean = !reason.contains(char::is_control);
            check["status"] == "DOWN" && (1..=300).contains(&reason.chars().count()) && is_clean
        }),
        // Sets do change, and another release may be silent of its ledger: neither is held against it.
        Case {
            proof: Proof::Listings,
            ..status("other validators each time", FalseStatus::Restless, is_up)
        },
        status("silent of its ledger", FalseStatus::NoLedger, is_up),
    ]
}

fn reports() -> Vec<Case> {
    // Its validators stay as they were listed before.
    let unlisted = |name, lie| Case {
        beyond: Beyond::Signs,
        ..report(name, lie)
    };
    vec![
        report("commitments that nobody else has", FalseReport::Commitments),
        report("a lower threshold", FalseReport::LowerThreshold),
        report("fewer members", FalseReport::Members),
        Case {
            beyond: Beyond::Unknown,
            ..report("commitments that are no points", FalseReport::NoPoints)
        },
        report("an index of nobody", FalseReport::Index(99)),
        report("the last index there is", FalseReport::Index(u64::MAX)),
        Case {
            beyond: Beyond::Unknown,
            ..report("the index 0", FalseReport::Index(0))
        },
        Case {
            blamed: Some("partial"),
            proof: Proof::Signatures,
            late: A_BIT_LATE,
            ..report("another member's index", FalseReport::Index(1))
        },
        unlisted("every validator twice", FalseReport::Twice),
        // Its packages may have been imported there first.
        Case {
            blamed: None,
            ..unlisted("validators of nobody", FalseReport::Strangers)
        },
        unlisted("a listing without an end", FalseReport::Endless),
        // They may have changed meanwhile.
        Case {
            blamed: None,
            ..unlisted("a listing of two minds", FalseReport::Changing)
        },
        // As one that has not imported any.
        Case {
            blamed: None,
            beyond: Beyond::Unknown,
            ..unlisted("no validators at all", FalseReport::Nothing)
        },
    ]
}
