"""kill -9 of worker, web, broker and beat at random moments while they work: nothing is lost, done or paid twice.

One job of 2,000 items, an import of 20,000 rows, three reviewers and a manager who raises and draws work at the same
time on one machine of the product's own programs. Which program is killed when follows from CHAOS_SEED. There are 50
kills where CHAOS_KILLS says nothing else.
"""

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.chaos.clients import Client, Manager, Reviewer, in_background
from tests.chaos.machine import Machine
from tests.chaos.prepared import REVIEWERS
from tests.chaos.provider import CountingProvider

KILLS = int(os.environ.get("CHAOS_KILLS", "50"))
SEED = int(os.environ.get("CHAOS_SEED", "2026"))
ITEMS = 2000
IN_FLIGHT = 8
LATENCY = 0.05  # seconds
REVIEWED = 400
BUDGET = 60
ROWS = 20_000
BAD_ROW_EVERY = 1000
WORKERS = ("worker 1", "worker 2")
# How often each is killed, as parts of the whole.
VICTIMS = {"worker": 5, "worker's child": 4, "web": 5, "web's child": 3, "broker": 6, "beat": 2}
FLUSHES = 3  # and so often the broker forgets everything


@dataclass(frozen=True)
class Kill:
    """What was known at a kill: the items with a result, and how many calls had been made."""

    victim: str
    written: frozenset[int]
    asked: int


@dataclass
class Chaos:
    machine: Machine
    provider: CountingProvider
    rng: random.Random
    run: int
    kills: list[Kill] = field(default_factory=list)

    def written(self) -> list[int]:
        """The items with a result."""
        rows = self.machine.ask(
            "select i.external_id from annotate_annotation a join annotate_item i on i.id = a.item_id "
            f"where a.run_id = {self.run}"
        )
        return [int(row[0]) for row in rows]

    def has_written(self, at_least: int) -> bool:
        count = self.machine.ask(f"select count(*) from annotate_annotation where run_id = {self.run}")[0][0]
        return int(count) >= at_least

    def kill_at(self, at_least: int, victim: str) -> None:
        """Kill it a moment after so many results are written, and start it again."""
        self.machine.wait("the job goes on", partial(self.has_written, at_least))
        time.sleep(self.rng.uniform(0, 0.15))
        written = frozenset(self.written())
        assert len(written) < ITEMS, "the kill came too late to prove anything"
        self.kills.append(Kill(victim, written, len(self.provider.asked)))
        if victim == "flush":
            self.machine.flush()
            return
        name, _, child = victim.partition("'s ")
        if name == "worker":
            name = self.rng.choice(WORKERS)
        if child:
            self.machine.kill_child(name, self.rng.choice)
            return
        self.machine.kill(name)
        self.machine.start(name.partition(" ")[0], as_name=name)


def plan(rng: random.Random, kills: int) -> list[tuple[int, str]]:
    """After how many results what is killed, or flushed. Every kind comes, where there are enough kills."""
    kinds = list(VICTIMS)
    victims = kinds[:kills] + rng.choices(kinds, list(VICTIMS.values()), k=max(0, kills - len(kinds)))
    victims += ["flush"] * min(FLUSHES, kills)
    rng.shuffle(victims)
    return list(zip(sorted(rng.sample(range(20, ITEMS - 80), len(victims))), victims, strict=True))


def csv(rows: int) -> bytes:
    """Rows of which every thousandth has no text."""
    lines = (
        f"row {number},{'' if number % BAD_ROW_EVERY == 0 else f'text {number}'}" for number in range(rows)
    )
    return "\n".join(["id,text", *lines]).encode()


def begin_import(owner: Client, project: int) -> int:
    """Upload the rows and start their import; the upload's id."""
    status, upload = owner.send("POST", f"projects/{project}/uploads/", file=csv(ROWS))
    assert status == 201, upload
    mapping = {"mapping": {"id": "id", "text": "text"}}
    status, said = owner.send("POST", f"uploads/{upload['id']}/import/", mapping)
    assert status == 202, said
    return int(upload["id"])


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


@pytest.mark.chaos
@pytest.mark.skipif(sys.platform != "linux", reason="finds a program's processes in /proc")
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_is_done_twice_under_kills(machine: Machine):
    provider = CountingProvider(latency=LATENCY)
    with provider.serving() as base_url:
        machine.start("broker")
        machine.wait_for_broker()
        given = machine.call(
            "tests.chaos.prepared:prepare",
            base_url=base_url,
            items=ITEMS,
            in_flight=IN_FLIGHT,
            reviewed=REVIEWED,
        )
        machine.start("web")
        machine.start("beat")
        for name in WORKERS:
            machine.start("worker", as_name=name)
        stop = threading.Event()
        owner = Client(machine.port, given["tokens"]["owner"], stop)
        body = {"criticism_run": given["criticism_run"], "rule": "normalize", "budget": BUDGET}
        status, round = owner.send("POST", f"projects/{given['review_project']}/review-rounds/", body)
        assert status == 201, round
        upload = begin_import(owner, given["import_project"])
        started = machine.call(
            "tests.chaos.prepared:annotate", project=given["project"], connection=given["connection"]
        )

        reviewers = [
            Reviewer(
                machine.port,
                given["tokens"][f"reviewer-{number}"],
                stop,
                round_id=round["id"],
                labels=given["labels"],
                seed=SEED + number,
            )
            for number in range(REVIEWERS)
        ]
        manager = Manager(
            machine.port,
            given["tokens"]["owner"],
            stop,
            round_id=round["id"],
            project=given["review_project"],
            criticism_run=given["criticism_run"],
            budget=BUDGET,
            most=REVIEWED,
        )
        threads = in_background(*(reviewer.work for reviewer in reviewers), manager.work)
        rng = random.Random(SEED)
        chaos = Chaos(machine, provider, rng, started["run"])
        for at_least, victim in plan(rng, KILLS):
            chaos.kill_at(at_least, victim)
        wait_for_job(machine, started["job"])
        machine.wait(
            "the import ends",
            lambda: machine.ask(f"select state from annotate_upload where id = {upload}") == [("done",)],
        )
        stop.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()

        check_job(chaos, started["job"])
        check_import(machine, upload)
        check_corrections(machine, reviewers)
        check_budgets(machine, manager)
        assert not [client.errors for client in (owner, manager, *reviewers) if client.errors]
        report(chaos, reviewers, manager)


def report(chaos: Chaos, reviewers: Sequence[Reviewer], manager: Manager) -> None:
    """The figures, seen with `pytest -s`."""
    kills = Counter(kill.victim for kill in chaos.kills)
    print(f"\n{sum(kills.values())} kills: {dict(kills)}")
    print(f"calls beyond {ITEMS}: {len(chaos.provider.asked) - ITEMS}")
    print(
        f"chunks taken over from workers that lived: {chaos.machine.log().count('was taken over by another')}"
    )
    print(f"answers: {sum(len(reviewer.accepted) for reviewer in reviewers)}, raises: {manager.raised}")
    print(f"requests sent again: {sum(client.retries for client in (manager, *reviewers))}")


def wait_for_job(machine: Machine, job: int) -> None:
    machine.wait(
        "the job is done", lambda: machine.ask(f"select state from jobs_job where id = {job}") == [("done",)]
    )


def check_job(chaos: Chaos, job: int) -> None:
    """Every item has one result; no written one was asked about again; only calls in flight at a kill were lost."""
    machine, provider = chaos.machine, chaos.provider
    assert sorted(chaos.written()) == list(range(ITEMS))
    counters = machine.ask(f"select total, done, failed from jobs_job where id = {job}")
    assert counters == [(ITEMS, ITEMS, 0)]
    assert machine.ask(f"select count(*) from jobs_chunk where job_id = {job} and state <> 'done'") == [(0,)]
    for kill in chaos.kills:
        assert not kill.written & set(provider.asked[kill.asked :]), "a written result was asked again"
    times_asked = Counter(provider.asked)
    assert set(times_asked) == set(range(ITEMS))
    # A worker that is killed loses what is in flight; one that the machine kept from its work for longer than its lease
    # has its chunk taken over, and what it had in flight then is asked again too.
    killed = sum(kill.victim.startswith("worker") for kill in chaos.kills)
    taken_over = machine.log().count("was taken over by another worker")
    assert len(provider.asked) - ITEMS <= IN_FLIGHT * (killed + taken_over)


def check_import(machine: Machine, upload: int) -> None:
    """Neither half nor double rows."""
    bad = ROWS // BAD_ROW_EVERY
    assert machine.ask(f"select state, imported, rejected from annotate_upload where id = {upload}") == [
        ("done", ROWS - bad, bad)
    ]
    items = machine.ask(f"select external_id, text from annotate_item where upload_id = {upload}")
    good = [number for number in range(ROWS) if number % BAD_ROW_EVERY]
    assert sorted(items) == sorted((f"row {number}", f"text {number}") for number in good)
    assert machine.ask(f"select count(*) from annotate_rejectedrow where upload_id = {upload}") == [(bad,)]


def check_corrections(machine: Machine, reviewers: Sequence[Reviewer]) -> None:
    """What people were told was kept is kept once, and nothing else."""
    assert [reviewer.refused for reviewer in reviewers] == [[]] * len(reviewers)
    accepted = {key: said for reviewer in reviewers for key, said in reviewer.accepted.items()}
    rows = machine.ask("select key, task_id, label_id from review_correction")
    kept = [(str(key).replace("-", ""), task, label) for key, task, label in rows]
    assert sorted(kept) == sorted((key.replace("-", ""), *said) for key, said in accepted.items())
    tasks = Counter(task for task, _ in accepted.values())
    assert max(tasks.values()) == 1, "an item was answered twice"


def check_budgets(machine: Machine, manager: Manager) -> None:
    """Σδ ≤ B in every round, and as many tasks as items were selected."""
    assert not manager.refused
    rounds = machine.ask("select id, budget, draw_number from review_reviewround")
    for round_id, budget, draw_number in rounds:
        blocks = machine.ask(
            f"select selected from review_drawblock where round_id = {round_id} and draw_number = {draw_number}"
        )
        selected = sum(sum(bytes(block[0])) for block in blocks)
        tasks = machine.ask(
            f"select count(*), count(distinct item_id) from review_reviewtask where round_id = {round_id}"
        )
        assert tasks == [(selected, selected)]
        assert selected <= budget
    assert manager.raised > 0
