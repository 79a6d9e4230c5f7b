"""The benchmark of routing by traces holds, and notices where something does not."""

import pytest

from benchmarks import traces
from route.escalation import MemoryBudget
from route.trace_baselines import BASELINES


def test_it_prints_every_baseline_and_holds(capsys):
    assert traces.print_traces(400, 300, seed=3) == []

    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in BASELINES)
    assert all(f"trace router, {number} at once" in printed for number in traces.CONCURRENCIES)


def test_it_notices_more_escalations_than_slots(monkeypatch):
    monkeypatch.setattr(MemoryBudget, "of", lambda limit, n_items: MemoryBudget(n_items))
    # A router that always escalates, so that only the budget could stop it.
    monkeypatch.setattr(traces.GeneratedRouter, "escalates", lambda self, item, steps: True)
    monkeypatch.setattr(traces, "chosen_setting", lambda dev, pool, limit: traces.SETTINGS[0])

    failures = traces.print_traces(60, 60, seed=3)

    assert any("above B" in failure for failure in failures)


def test_it_notices_tokens_that_are_not_saved(monkeypatch):
    written = traces.Run.tokens_saved
    monkeypatch.setattr(traces.Run, "tokens_saved", lambda self, items: written(self, items) / 2)

    failures = traces.print_traces(60, 200, seed=3)

    assert any("imply" in failure for failure in failures)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_doubt_grows_with_doubtful_steps_and_thins_out(n):
    calm, doubtful = ["as it should be"] * n, ["it is assumed"]

    assert traces.doubt(calm) == 0
    assert traces.doubt([*doubtful, *calm]) >= traces.doubt([*doubtful, *calm, *calm])
    assert traces.doubt([*doubtful, *doubtful, *calm]) > traces.doubt([*doubtful, *calm])
