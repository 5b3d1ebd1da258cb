#!/usr/bin/env python3
"""Explicit-state check of docs/AGREEMENT.md: every interleaving of a few coordinators and cosigners on one duty.

    python3 docs/agreement_model.py --quick   # every rule and every shortcut on small committees, in seconds
    python3 docs/agreement_model.py           # everything, in minutes

It exits with 1 if anything is not as expected: a rule that is unsafe or stuck, or a shortcut that is not found out.

Messages are delayed, reordered or lost, and coordinators stop anywhere: whatever is under way may arrive now, later or
never. A coordinator is written <root><round>: "a0 b0 a1" is two callers with different messages and a retry of the
first. A ballot is (round, root), so coordinators with the same root in the same round share it. "a*" leads: before
anything happened to this duty, every cosigner promised it whatever nobody else has been promised. It signs at once, and
its messages have no lifetime; so have the promises that it was given, but for a restart. "a+" begins to lead meanwhile:
it asks everybody, counts whom nothing has happened at, within less than a ballot's lifetime, and then does as "a*".

SAFE  S1 in its strongest reading: of all partials ever given out, delivered or not, no two roots ever have t; the f
      byzantine cosigners count for every root.
LIVE  L3: in every reachable state some root can still get t honest partials, so that a fresh coordinator that reaches
      the honest cosigners finishes.

A state holds, for each honest cosigner, what it holds and where each coordinator stands with it (`Seat`), and the phase
of each coordinator. Honest cosigners are interchangeable, so seats are sorted: states that differ only in who is who are
one state. Byzantine cosigners hold nothing: see `lying`.
"""
import argparse
import sys
import time
from collections import namedtuple

# What a cosigner holds: the ballot promised; the root in its ledger; the root that passed the fence and whose commit is
# under way; what it gave partials for, as far as its ledger does not say so; and, after a restart, how many more
# lifetimes of a ballot it is quiet, and who began before the present one; and who leads it ("*" from the start, the
# number of a coordinator that began since then, or nobody). Then, per coordinator:
# `asked`, whether the promise request is on its way ("?"), the reply said what the ledger holds (a root or "-"), or it is
# over ("."); and `sign`, whether the sign request is on its way ("!").
Seat = namedtuple("Seat", "promised signed queued given quiet led asked sign")

NOBODY = (0, "")
# The round of who leads, below all others.
LEADS = 0
FROM_THE_START, NO_LEADER = "*", ""
FREE = "-"
AWAKE = (0, ())
IDLE, PROMISE, SIGN, DEAD = "ipsd"

# How the protocol may differ from the documented one. `restarts` and `evicts` say how often.
Rules = namedtuple(
    "Rules",
    "restarts fence any_ballot promises_wait quiet_lives evicts lying early forgets rejoins mixes passes_promises shares "
    "begins_slowly",
    defaults=(0, True, False, True, 2, 0, False, False, False, False, False, False, False, False),
)


def live(signed, t):
    free = signed.count(FREE)
    return free >= t or any(signed.count(root) + free >= t for root in set(signed) - {FREE})


def with_mark(marks, k, mark):
    return marks[:k] + mark + marks[k + 1:]


class Cosigner:
    """What one honest cosigner does. `phases` has the phase of each coordinator."""

    def __init__(self, ballots, leads, rules):
        self.ballots, self.leads, self.rules = ballots, leads, rules
        self.begins = [lead not in (FROM_THE_START, NO_LEADER) for lead in leads]

    def steps(self, seat, phases):
        """Every seat that a message, or a commit's outcome, may make of it."""
        rules = self.rules
        for k, (ballot, phase) in enumerate(zip(self.ballots, phases)):
            root = ballot[1]
            waits = seat.quiet != AWAKE or seat.queued and rules.promises_wait
            if self.begins[k]:
                if seat.asked[k] == "?" and seat.quiet == AWAKE:
                    yield self.begun_at(seat, k, phase)
            elif seat.asked[k] == "?" and not waits and ballot >= seat.promised:
                reply = seat.signed if phase == PROMISE else "."
                yield seat._replace(promised=ballot, asked=with_mark(seat.asked, k, reply))
            may = self.passes(seat, k) and not seat.queued and seat.quiet == AWAKE and seat.signed in (FREE, root)
            if seat.sign[k] == "!" and may:
                given = self.gives(seat, root) if rules.early else seat.given
                held = max(seat.promised, ballot)
                yield seat._replace(promised=held, queued=root, given=given, sign=with_mark(seat.sign, k, "."))
        if seat.queued:
            # It is committed, whether anybody hears of it or not, or it fails.
            yield seat._replace(signed=seat.queued, queued="", given=self.gives(seat, seat.queued))
            if seat.signed == FREE:
                yield seat._replace(queued="")

    def begun_at(self, seat, k, phase):
        """The lead is for duties that nothing has happened to: if this is none, nobody leads in it any more."""
        untouched = seat.promised == NOBODY and seat.signed == FREE and not seat.queued
        reply = FREE if untouched and phase == PROMISE else "."
        return seat._replace(led=self.leads[k] if untouched else NO_LEADER, asked=with_mark(seat.asked, k, reply))

    def gives(self, seat, root):
        """What a ledger keeps needs no remembering: a root in it counts as given out."""
        remembers = self.rules.early or self.rules.forgets
        return "".join(sorted(set(seat.given) | {root})) if remembers else ""

    def passes(self, seat, k):
        """Step 3: exactly this ballot is held."""
        ballot = self.ballots[k]
        if not self.rules.fence:
            return True
        if self.rules.any_ballot:
            return seat.promised[1] == ballot[1]
        # Who leads needs no promise where no other was given.
        if self.rules.mixes or self.leads[k] and seat.led == self.leads[k]:
            return seat.promised in (NOBODY, ballot) or self.rules.passes_promises
        return seat.promised == ballot

    def restarts(self, seat, phases):
        """Promises are forgotten. A commit that was under way is in the ledger, or is not."""
        quiet = (self.rules.quiet_lives, self.begun(phases)) if self.rules.quiet_lives else AWAKE
        led = seat.led if self.rules.rejoins else NO_LEADER
        # A lead begins with the process that was meant.
        asked = "".join("." if begins else mark for begins, mark in zip(self.begins, seat.asked))
        fresh = seat._replace(promised=NOBODY, queued="", quiet=quiet, led=led, asked=asked)
        yield fresh
        if seat.queued and seat.signed == FREE:
            yield fresh._replace(signed=seat.queued)
        if self.rules.forgets:
            yield fresh._replace(signed=FREE)


    def begun(self, phases):
        """What ends with the lifetime of a ballot: ballots, and beginning to lead; not to lead."""
        ends = (PROMISE,) if not self.rules.begins_slowly else ()
        return tuple(k for k, phase in enumerate(phases) if phase in (ends if self.leads[k] else (PROMISE, SIGN)))


class Search:
    """Breadth first over all states: sorted seats, phases, and the restarts and evictions that are left.

    Seats are numbered and what may become of each is kept: few differ, in very many combinations."""

    def __init__(self, n, t, f, coordinators, rules):
        self.t, self.f, self.rules, self.honest = t, f, rules, n - f
        kinds = enumerate(name[1:] for name in coordinators)
        self.leads = [{"*": FROM_THE_START, "+": str(k)}.get(kind, NO_LEADER) for k, kind in kinds]
        lowest = 1 if rules.shares else LEADS
        self.ballots = [(lowest if lead else int(name[1:]) + 1, name[0]) for lead, name in zip(self.leads, coordinators)]
        # Coordinators with one ballot are interchangeable too: the first idle one begins.
        self.twin = [
            max((k for k in range(at) if self.ballots[k] == ballot and self.leads[k] == self.leads[at]), default=None)
            for at, ballot in enumerate(self.ballots)
        ]
        self.cosigner = Cosigner(self.ballots, self.leads, rules)
        self.numbers, self.seats, self.known = {}, [], {}

    def number(self, seat):
        if seat not in self.numbers:
            self.numbers[seat] = len(self.seats)
            self.seats.append(seat)
        return self.numbers[seat]

    def remembered(self, what, number, detail):
        """The numbers of the seats that `what` makes of the one with that number."""
        key = what, number, detail
        if key not in self.known:
            made = getattr(self, what)(self.seats[number], detail)
            self.known[key] = tuple(dict.fromkeys(map(self.number, made)))
        return self.known[key]

    def stepped(self, seat, phases):
        return self.cosigner.steps(seat, phases)

    def restarted(self, seat, phases):
        return self.cosigner.restarts(seat, phases)

    def is_asked(self, seat, k):
        yield seat._replace(asked=with_mark(seat.asked, k, "?"))

    def is_chosen(self, seat, k):
        if self.cosigner.begins[k] and seat.asked[k] != FREE:
            # It does not lead this one.
            yield seat
            return
        # A promise request that is still on its way may arrive after the coordinator has chosen.
        asked = seat.asked if seat.asked[k] == "?" else with_mark(seat.asked, k, ".")
        yield seat._replace(asked=asked, sign=with_mark(seat.sign, k, "!"))

    def outlives(self, seat, gone):
        for k in gone:
            seat = seat._replace(asked=with_mark(seat.asked, k, "."), sign=with_mark(seat.sign, k, "."))
        yield seat

    def wakes(self, seat, phases):
        lives = seat.quiet[0] - 1
        yield seat._replace(quiet=(lives, self.cosigner.begun(phases)) if lives else AWAKE)

    def evicted(self, seat, _):
        yield seat._replace(promised=NOBODY)

    def every(self, what, numbers, detail):
        return [self.remembered(what, number, detail)[0] for number in numbers]

    def may_sign(self, numbers, k):
        """Step 2: a threshold said "nothing" or "that same root". A liar always says "nothing"."""
        good = (FREE, self.ballots[k][1])
        seats = [self.seats[number] for number in numbers]
        replies = sum(seat.asked[k] in good or self.rules.mixes and seat.led != NO_LEADER for seat in seats)
        return replies + (self.f if self.rules.lying else 0) >= self.t

    def after(self, state):
        """Every state that one step leads to; seats not yet sorted."""
        numbers, phases, restarts, evicts = state
        for k, phase in enumerate(phases):
            if phase == IDLE and (self.twin[k] is None or phases[self.twin[k]] != IDLE):
                what, then = ("is_chosen", SIGN) if self.leads[k] == FROM_THE_START else ("is_asked", PROMISE)
                yield self.every(what, numbers, k), with_mark(phases, k, then), restarts, evicts
            elif phase == PROMISE and self.may_sign(numbers, k):
                yield self.every("is_chosen", numbers, k), with_mark(phases, k, SIGN), restarts, evicts
        for at, number in enumerate(numbers):
            if at > 0 and number == numbers[at - 1]:
                continue
            others = numbers[:at] + numbers[at + 1:]
            for changed in self.remembered("stepped", number, phases):
                yield [*others, changed], phases, restarts, evicts
            if restarts > 0:
                for changed in self.remembered("restarted", number, phases):
                    yield [*others, changed], phases, restarts - 1, evicts
            if self.seats[number].quiet != AWAKE:
                # A ballot's lifetime has passed: whoever had begun by its beginning sends nothing any more.
                gone = self.seats[number].quiet[1]
                # Who has begun to lead meanwhile goes on.
                gone = tuple(k for k in gone if not self.leads[k] or phases[k] == PROMISE)
                left = "".join(DEAD if k in gone else phase for k, phase in enumerate(phases))
                [woken] = self.remembered("wakes", number, left)
                yield self.every("outlives", [*others, woken], gone), left, restarts, evicts
            if evicts > 0 and self.seats[number].promised != NOBODY:
                yield [*others, *self.remembered("evicted", number, None)], phases, restarts, evicts - 1

    def judged(self, numbers):
        """The votes, if they are unsafe, and if they are stuck."""
        seats = [self.seats[number] for number in numbers]
        signed = "".join(sorted(seat.signed for seat in seats))
        given = "".join("".join(set(seat.given + seat.signed)) for seat in seats).replace(FREE, "")
        unsafe = sum(given.count(root) + self.f >= self.t for root in set(given)) > 1
        return given if unsafe else None, None if live(signed, self.t) else signed

    def run(self, until):
        """The number of states, and the first unsafe and the first stuck votes. Ends early at what `until` names."""
        led = FROM_THE_START if self.rules.mixes or FROM_THE_START in self.leads else NO_LEADER
        seat = Seat(NOBODY, FREE, "", "", AWAKE, led, "." * len(self.ballots), "." * len(self.ballots))
        start = (self.number(seat),) * self.honest, IDLE * len(self.ballots), self.rules.restarts, self.rules.evicts
        seen, level, bad, stuck = {start}, [start], None, None
        while level and not (bad and "unsafe" in until or stuck and "stuck" in until):
            following = []
            for state in level:
                unsafe_now, stuck_now = self.judged(state[0])
                bad, stuck = bad or unsafe_now, stuck or stuck_now
                for numbers, *rest in self.after(state):
                    numbers.sort()
                    reached = tuple(numbers), *rest
                    if reached not in seen:
                        seen.add(reached)
                        following.append(reached)
            level = following
        return len(seen), bad, stuck


PLAIN = Rules()
RESTART = Rules(restarts=1)
LYING = Rules(lying=True)

# n, t, f; the coordinators; the rules; "quick" or "full".
Case = namedtuple("Case", "size coordinators rules when what", defaults=("",))

# What is documented: safe and live, whatever happens.
SOUND = [
    Case((3, 2, 0), "a0 b0", PLAIN, "quick"),
    Case((3, 2, 0), "a0 b0 a1", PLAIN, "quick"),
    Case((3, 2, 0), "a0 b0 c0", PLAIN, "full"),
    Case((3, 2, 0), "b0 a0 b1", PLAIN, "full"),
    Case((4, 3, 0), "a0 a0", PLAIN, "quick"),
    Case((4, 3, 0), "a0 b0", PLAIN, "quick"),
    Case((4, 3, 1), "a0 b0", PLAIN, "quick"),
    Case((4, 3, 1), "a0 b0 a1", PLAIN, "quick"),
    Case((4, 3, 0), "a0 a0 b0", PLAIN, "full"),
    Case((4, 3, 0), "a0 b0 a1", PLAIN, "full"),
    Case((4, 3, 0), "a0 b0 c0", PLAIN, "full"),
    Case((4, 3, 0), "a0 b1 a2", PLAIN, "full"),
    Case((5, 3, 0), "a0 b0", PLAIN, "quick"),
    Case((5, 4, 0), "a0 b0", PLAIN, "quick"),
    Case((5, 4, 1), "a0 b0", PLAIN, "quick"),
    Case((7, 5, 0), "a0 b0", PLAIN, "full"),
    Case((7, 5, 2), "a0 b0", PLAIN, "quick"),
    Case((3, 2, 0), "a0 b0", RESTART, "quick"),
    Case((4, 3, 0), "a0 b0", RESTART, "quick"),
    Case((4, 3, 0), "b0 a1", RESTART, "quick"),
    Case((3, 2, 0), "a0 b0 a1", RESTART, "full"),
    Case((3, 2, 0), "a0 b0", Rules(restarts=2), "full"),
    Case((4, 3, 0), "a0 b0", Rules(restarts=2), "full"),
    Case((5, 4, 0), "a0 b0", RESTART, "full"),
    # Who leads asks for no promise; when that fails it asks as everybody does.
    Case((3, 2, 0), "a* b0", PLAIN, "quick"),
    Case((3, 2, 0), "a* b0 a1", PLAIN, "quick"),
    Case((4, 3, 0), "a* b0", PLAIN, "quick"),
    Case((4, 3, 0), "a* a0 b0", PLAIN, "quick"),
    Case((4, 3, 0), "b* b0 a0", PLAIN, "quick"),
    Case((4, 3, 1), "a* b0 a1", PLAIN, "quick"),
    Case((4, 3, 0), "a* b0 a1", PLAIN, "full"),
    Case((4, 3, 0), "a* b0 b1", PLAIN, "full"),
    Case((4, 3, 0), "a* b0 c0", PLAIN, "full"),
    Case((5, 4, 0), "a* b0", PLAIN, "quick"),
    Case((7, 5, 0), "a* b0", PLAIN, "full"),
    Case((3, 2, 0), "a* b0", RESTART, "quick"),
    Case((3, 2, 0), "a* b0 a1", RESTART, "full"),
    Case((4, 3, 0), "a* b0", RESTART, "quick"),
    Case((4, 3, 0), "a* b0", Rules(restarts=2), "full"),
    Case((4, 3, 1), "a* a0", LYING, "quick"),
    Case((3, 2, 0), "a* b+", RESTART, "quick"),
    Case((4, 3, 0), "a* b+", PLAIN, "quick"),
    Case((4, 3, 0), "b+ a0", RESTART, "quick"),
    Case((4, 3, 0), "b+ c0", RESTART, "quick"),
    Case((3, 2, 0), "a* b+ c0", PLAIN, "full"),
    Case((3, 2, 0), "b+ c0", Rules(restarts=2), "full"),
    Case((4, 3, 0), "a* b+", RESTART, "full"),
    # A liar that promises and withholds costs nothing while callers agree.
    Case((4, 3, 1), "a0 a0", LYING, "quick"),
    Case((4, 3, 1), "a0 a0 a1", LYING, "full"),
    Case((7, 5, 2), "a0 a0", LYING, "full"),
]

# A limit, not a shortcut: with racing callers such a liar can cost the duty, and never safety, in no state at all.
LOST = [
    Case((4, 3, 1), "a0 b0", LYING, "quick", "a liar promises and withholds"),
    Case((5, 4, 1), "a0 b0", LYING, "quick", "a liar promises and withholds"),
    Case((4, 3, 1), "a0 b0", LYING._replace(restarts=1), "quick", "and another restarts"),
    Case((4, 3, 1), "a0 b0 a1", LYING, "quick", "a liar promises and withholds"),
    Case((7, 5, 2), "a0 b0", LYING, "full", "two liars promise and withhold"),
]

# Shortcuts, which must be found out.
STUCK = [
    Case((4, 3, 0), "a0 b0", Rules(fence=False), "quick", "no fence"),
    Case((4, 3, 0), "a0 b0 a1", Rules(any_ballot=True), "quick", "any ballot of the root passes"),
    Case((4, 3, 0), "a0 b0", Rules(promises_wait=False), "quick", "promises pass a queued commit"),
    Case((4, 3, 0), "a0 b0", Rules(restarts=1, quiet_lives=0), "quick", "promises forgotten, no quiet time"),
    Case((4, 3, 0), "a0 b0", Rules(restarts=1, quiet_lives=1), "quick", "quiet for one ballot's lifetime"),
    Case((4, 3, 0), "a0 b0", Rules(evicts=1), "quick", "a promise is evicted"),
    Case((4, 3, 0), "a* b0", Rules(passes_promises=True), "quick", "who leads passes others' promises"),
    Case((4, 3, 0), "a* b*", PLAIN, "quick", "who leads signs two messages"),
    Case((4, 3, 0), "b* b0 a0", Rules(shares=True), "quick", "who leads shares a ballot with promises"),
    Case((4, 3, 0), "b+ c0", Rules(restarts=1, begins_slowly=True), "quick", "a lead begins over several lifetimes"),
    Case((4, 3, 0), "a* b0", Rules(restarts=2, rejoins=True), "quick", "led again after a restart, as before it"),
    Case((4, 3, 0), "a0 b0", Rules(restarts=1, mixes=True), "quick", "who leads counts fresh promises, too"),
]
UNSAFE = [
    Case((3, 2, 0), "a0 b0", Rules(early=True), "quick", "a partial leaves before its commit"),
    Case((3, 2, 0), "a0 b0", Rules(restarts=1, forgets=True), "quick", "a ledger forgets at a restart"),
    Case((3, 2, 1), "a0 b0", LYING, "quick", "one liar more than 2t - n - 1"),
    Case((4, 3, 2), "a0 b0", LYING, "quick", "one liar more than 2t - n - 1"),
    Case((7, 5, 3), "a0 b0", LYING, "quick", "one liar more than 2t - n - 1"),
]

# What is expected of each group: unsafe, stuck; and what to end at.
GROUPS = [
    (SOUND, False, False, "unsafe or stuck"),
    (LOST, False, True, "unsafe"),
    (STUCK, False, True, "unsafe or stuck"),
    (UNSAFE, True, None, "unsafe"),
]


def said(case):
    changes = [f"{name}={value}" for name, value in case.rules._asdict().items() if value != getattr(PLAIN, name)]
    return case.what or ", ".join(changes) or "as documented"


def main():
    parser = argparse.ArgumentParser(description="Checks docs/AGREEMENT.md, state by state.")
    parser.add_argument("--quick", action="store_true", help="small committees only, every shortcut among them")
    quick = parser.parse_args().quick
    checked = surprises = 0
    for cases, unsafe, stuck, until in GROUPS:
        for case in cases:
            if quick and case.when != "quick":
                continue
            began = time.monotonic()
            states, bad, split = Search(*case.size, case.coordinators.split(), case.rules).run(until)
            is_expected = bool(bad) == unsafe and stuck in (None, bool(split))
            checked, surprises = checked + 1, surprises + (not is_expected)
            n, t, f = case.size
            print(
                "ok      " if is_expected else "SURPRISE",
                f"n={n} t={t} f={f} {case.coordinators:9} {states:8} states {time.monotonic() - began:6.1f} s ",
                f"UNSAFE {bad:9}" if bad else "safe            ",
                f"STUCK {split:7}" if split else "live         ",
                said(case),
                flush=True,
            )
    if surprises:
        sys.exit(f"{surprises} of {checked} cases are not as expected")
    print(f"all {checked} cases are as expected")


if __name__ == "__main__":
    main()
