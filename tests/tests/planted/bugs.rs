//! Bugs as somebody might write them, as edits of production's source.

/// One bug. Where it is planted, it is there only if the environment names it.
pub struct Bug {
    pub name: &'static str,
    /// File, text that stands there exactly once, and what stands there then; `BUG` is whether this
    /// one is in force.
    pub edits: &'static [(&'static str, &'static str, &'static str)],
}

const PROMISES: &str = "cosigner/src/promises.rs";
const LEADING: &str = "cosigner/src/promises/leading.rs";
const SIGNING: &str = "cosigner/src/service/signing.rs";
const WORKER: &str = "slashing/src/ledger/worker.rs";
const BATCH: &str = "slashing/src/ledger/batch.rs";
const RULES: &str = "slashing/src/rules.rs";
const MACHINE: &str = "crates/threshold/src/round/machine.rs";
const WAITING: &str = "crates/threshold/src/round/machine/waiting.rs";
const COUNTING: &str = "crates/threshold/src/round/machine/counting.rs";
const SIZE: &str = "crates/threshold/src/size.rs";
const COMBINE: &str = "crates/threshold/src/combine.rs";
const TOGETHER: &str = "crates/threshold/src/together.rs";

pub const BUGS: &[Bug] = &[
    Bug {
        name: "a partial leaves before the commit",
        edits: &[(
            SIGNING,
            "let permit = self.parts.ledger.decide(ask).await.map_err(Refusal::from)?;",
            "let permit = if BUG {
                let ledger = self.parts.ledger.clone();
                tokio::spawn(async move { ledger.decide(ask).await.is_ok() });
                Permit::after_commit(validator, root)
            } else {
                self.parts.ledger.decide(ask).await.map_err(Refusal::from)?
            };",
        )],
    },
    Bug {
        name: "an ambiguous commit is taken for a success",
        edits: &[(
            WORKER,
            "Err(Failure::InDoubt(reason)) => {",
            "Err(Failure::InDoubt(reason)) if BUG => {
                for entry in batch {
                    let permit = duty::Permit::after_commit(entry.ask.validator, entry.ask.root);
                    entry.end(Ok(permit));
                }
                Err(reason)
            }
            Err(Failure::InDoubt(reason)) => {",
        )],
    },
    Bug {
        name: "no fence between ballots",
        edits: &[
            (
                PROMISES,
                "        if ballot < floor.ballot {\n",
                "        if ballot < floor.ballot && !BUG {\n",
            ),
            (
                PROMISES,
                "        if ballot > floor.ballot {\n",
                "        if ballot > floor.ballot && !BUG {\n",
            ),
        ],
    },
    Bug {
        name: "a promise is given while a commit for its duty is queued",
        edits: &[(
            PROMISES,
            "if floor.under_way > 0 {\n                return PromiseAnswer::Fenced;",
            "if floor.under_way > 0 && !BUG {\n                return PromiseAnswer::Fenced;",
        )],
    },
    Bug {
        name: "a full table evicts promises",
        edits: &[(
            PROMISES,
            "        if self.floors.len() >= self.promises_max {\n            return None;\n        }\n",
            "        if self.floors.len() >= self.promises_max {
            if !BUG {
                return None;
            }
            self.floors.pop_first();
        }\n",
        )],
    },
    Bug {
        name: "promises are forgotten at a restart, without the quiet time",
        edits: &[(
            PROMISES,
            "        now.saturating_duration_since(self.started) < START_PAUSE\n",
            "        !BUG && now.saturating_duration_since(self.started) < START_PAUSE\n",
        )],
    },
    Bug {
        name: "who leads passes what others were promised",
        edits: &[(
            LEADING,
            "Some(floor) if floor.led && floor.ballot == ballot => Some(floor),",
            "Some(floor) if floor.led && floor.ballot == ballot || BUG => Some(floor),",
        )],
    },
    Bug {
        name: "who leads asks for two messages for one duty",
        edits: &[(
            "signer-api/src/signing/leading/asked.rs",
            "    *last == Some((number, root))\n",
            "    BUG || *last == Some((number, root))\n",
        )],
    },
    Bug {
        name: "what leading stands for is counted together with promises",
        edits: &[(
            MACHINE,
            "                self.phase = Phase::Promising;\n",
            "                self.phase = Phase::Promising;
                if BUG {
                    self.take_led();
                }\n",
        )],
    },
    Bug {
        name: "two claims of one validator in a batch",
        edits: &[(
            "slashing/src/ledger/queue.rs",
            "if validators.insert(entry.ask.validator) {",
            "if validators.insert(entry.ask.validator) || BUG {",
        )],
    },
    Bug {
        name: "an imported row licenses a repeat",
        edits: &[
            (
                RULES,
                "if highest == claimed {\n            return Ok(Verdict::Repeat);\n        }\n        \
                 if source",
                "if highest == claimed
            || BUG && highest.root.is_none() && highest.source == source && highest.target == target
        {
            return Ok(Verdict::Repeat);
        }
        if source",
            ),
            (
                RULES,
                "if highest == claimed {\n            return Ok(Verdict::Repeat);\n        }\n        \
                 if slot",
                "if highest == claimed || BUG && highest.root.is_none() && highest.slot == slot {
            return Ok(Verdict::Repeat);
        }
        if slot",
            ),
        ],
    },
    Bug {
        name: "a repeat is permitted without a write",
        edits: &[
            (
                BATCH,
                "Step::Write { ratchet, .. } => Some(Write {",
                "Step::Write { append: false, .. } if BUG => None,
            Step::Write { ratchet, .. } => Some(Write {",
            ),
            (
                BATCH,
                "Step::Write { .. } if committed.0.contains(&question.validator) => {",
                "Step::Write { append, .. }
                if committed.0.contains(&question.validator) || BUG && !append =>
            {",
            ),
        ],
    },
    Bug {
        name: "a ledger that was put back is not noticed",
        edits: &[(
            "slashing/src/ledger/standing.rs",
            "if self.commits < mark.commits {",
            "if self.commits < mark.commits && !BUG {",
        )],
    },
    Bug {
        name: "a committee without a majority",
        edits: &[
            (
                SIZE,
                "pub const fn new(threshold: usize,",
                "pub fn new(threshold: usize,",
            ),
            (
                SIZE,
                "} else if threshold <= members / 2 {",
                "} else if threshold <= members / 2 && !BUG {",
            ),
        ],
    },
    Bug {
        name: "a duplicate index is counted twice",
        edits: &[
            (
                MACHINE,
                "if self.holding().count() >= self.terms.threshold {\n            return self.combine",
                "let held = match BUG {
            true => self.members.iter().filter(|m| m.partial.is_some()).count(),
            false => self.holding().count(),
        };
        if held >= self.terms.threshold {
            return self.combine",
            ),
            (
                MACHINE,
                "holding.filter(|(_, member)| seats.insert(member.seat));",
                "holding.filter(|(_, member)| seats.insert(member.seat) || BUG);",
            ),
        ],
    },
    Bug {
        name: "a partial is accepted under a wrong index",
        edits: &[
            (
                COMBINE,
                "if !HashedMessage::new(root.as_bytes()).is_signed_by(&key, &signature) {",
                "let message = HashedMessage::new(root.as_bytes());
        let fits = |other: &ShareIndex| {
            let key = self.member_key(*other).ok().flatten();
            key.is_some_and(|key| message.is_signed_by(key, &signature))
        };
        if !message.is_signed_by(&key, &signature) && !(BUG && self.members().iter().any(fits)) {",
            ),
            (
                TOGETHER,
                "filter(|(_, holds)| !holds);",
                "filter(|(named, holds)| {
        let message = &messages.hashed[named.1.message];
        let fits = |job: &Combination<'_>, other: &ShareIndex| {
            let key = job.committee.member_key(*other).ok().flatten();
            key.is_some_and(|key| message.is_signed_by(key, &named.1.signature))
        };
        !holds
            && !(BUG
                && failed.iter().any(|(_, job)| {
                    job.committee.members().iter().any(|other| fits(job, other))
                }))
    });",
            ),
        ],
    },
    Bug {
        name: "a signature is not verified",
        edits: &[(TOGETHER, "if holds && let", "if (holds || BUG) && let")],
    },
    Bug {
        name: "everybody is blamed for one",
        edits: &[(
            MACHINE,
            "named.filter(|(_, index, _)| indices.contains(index));",
            "named.filter(|(_, index, _)| indices.contains(index) || BUG);",
        )],
    },
    Bug {
        name: "nobody is blamed",
        edits: &[(
            MACHINE,
            "        effects.push(Effect::Blame(liars));\n",
            "        if !BUG {
            effects.push(Effect::Blame(liars));
        }\n",
        )],
    },
    Bug {
        name: "the first refusal is final",
        edits: &[(
            COUNTING,
            "if self.count_against(is_refusal) > self.spare() {",
            "if self.count_against(is_refusal) > if BUG { 0 } else { self.spare() } {",
        )],
    },
    Bug {
        name: "one liar's word raises everybody's ratchet",
        edits: &[(
            MACHINE,
            "            member.standing = Standing::SignedAnother;\n",
            "            member.standing = Standing::SignedAnother;
            if BUG {
                for other in &mut self.members {
                    other.standing = Standing::SignedAnother;
                }
            }\n",
        )],
    },
    Bug {
        name: "the hedge goes to the same cosigner",
        edits: &[(
            COUNTING,
            "is_asked && !member.sounded && !member.is_late(now)",
            "is_asked && !member.sounded && (!member.is_late(now) || BUG)",
        )],
    },
    Bug {
        name: "spares are never asked",
        edits: &[
            (
                MACHINE,
                "            && self.is_a_spare_needed(now)\n",
                "            && (self.is_a_spare_needed(now) && !BUG)\n",
            ),
            (
                WAITING,
                "        self.need_spares();\n        if self.terms.mode == Mode::Led {",
                "        if !BUG { self.need_spares() }\n        if self.terms.mode == Mode::Led {",
            ),
        ],
    },
    Bug {
        name: "the deadline is ignored",
        edits: &[
            (
                "signer-api/src/signing/conductor.rs",
                "deadline: deadline.saturating_duration_since(start),",
                "deadline: deadline.saturating_duration_since(start) * if BUG { 3 } else { 1 },",
            ),
            (
                "signer-api/src/signing.rs",
                "timeout_at(deadline, outcome)",
                "timeout_at(deadline + deadline.elapsed().max(Duration::from_secs(if BUG { 5 } else \
                 { 0 })), outcome)",
            ),
        ],
    },
];
