"""Makes customers.csv: made-up customers of a telephone company, and who has left it.

`python docs/data/make_customers.py` writes the same file each time. The rule is a logistic one,
which a model can find: customers leave who are new, call support often and make few calls. "no" is
right for 81 % of them; the rule itself names 91 % right, because chance decides the rest.
"""

import csv
import math
import random
from pathlib import Path

ROWS = 2000
PLANS = {"basic": 19.9, "plus": 29.9, "pro": 49.9}
COUNTRIES = ("Austria", "Chile", "Côte d'Ivoire", "Japan", "Kenya")
NAMES = (
    *("customer_id", "months", "plan", "monthly_fee"),
    *("support_calls", "minutes_last_month", "country", "churned"),
)


def main() -> None:
    """Write the file beside this one."""
    dice = random.Random(7)
    with Path(__file__).with_name("customers.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(NAMES)
        writer.writerows(row(dice, number) for number in range(1, ROWS + 1))


def row(dice: random.Random, number: int) -> list[object]:
    """Return one customer."""
    months, plan = dice.randint(1, 72), dice.choice(sorted(PLANS))
    fee = round(PLANS[plan] * dice.uniform(0.8, 1.2), 2)
    calls, minutes = min(int(dice.expovariate(0.6)), 12), round(dice.gammavariate(3.0, 90.0), 1)
    country = dice.choice(COUNTRIES)
    score = 1.1 - 0.11 * months + 1.2 * calls - 0.006 * minutes
    score += {"basic": 1.0, "plus": 0.0, "pro": -1.2}[plan]
    has_left = dice.random() < 1.0 / (1.0 + math.exp(-score))
    return [
        f"C{number:05d}",
        months,
        plan,
        fee,
        calls,
        minutes if dice.random() > 0.04 else "",
        country if dice.random() > 0.02 else "",
        "yes" if has_left else "no",
    ]


if __name__ == "__main__":
    main()
