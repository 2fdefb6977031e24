"""Labels out of answers: against a slow second implementation, crowd-kit, and majority vote.

crowd-kit is not installed here: it needs nltk and pandas for parts that nobody calls. The
labels below come from version 1.4.2, `DawidSkene(n_iter=100, tol=1e-6)`, in a separate virtual
environment. Its input was what `simulated` returns, in the columns task, worker and label.
"""

import tracemalloc
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest

from components.labels.consensus.answers import Answers, Said
from components.labels.consensus.dawid_skene import dawid_skene
from components.labels.consensus.people import information, labellers

# Of 300 questions of three classes, by people right in 80, 75, 70, 33 and 5 %, with seed 5.
BY_CROWD_KIT = (
    "220201102001110000020120010202222111121021100200120110122200222001112000020"
    "001021102200012110120000200221022210200200202220020111001212102000102212201"
    "022102120012102111011221120021111212100210220021100020100102112120222011000"
    "020110112011102120122112022110222202020001000200100011121020212012201021022"
)

Person = Callable[[int, np.random.Generator], int]


def right_in(share: float, classes: int) -> Person:
    """Return someone who is right in a share, and else says any wrong class."""

    def answer(truth: int, random: np.random.Generator) -> int:
        if random.random() < share:
            return truth
        return int((truth + random.integers(1, classes)) % classes)

    return answer


def simulated(
    crowd: list[Person], questions: int, classes: int, seed: int
) -> tuple[Answers, np.ndarray]:
    """Return everybody's answers, and the truth in the order of the questions."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, questions)
    said: list[Said] = [
        (question, f"p{number}", str(person(int(truth[question]), random)))
        for question in range(questions)
        for number, person in enumerate(crowd)
    ]
    return Answers.of(said, [str(one) for one in range(classes)]), truth


def slow(answers: Answers, rounds: int) -> list[dict[int, float]]:
    """Return probabilities after some rounds, in plain loops, from the paper's equations."""
    classes = range(len(answers.classes))
    triples = [*zip(answers.question, answers.labeller, answers.said, strict=True)]
    of_question = defaultdict(list)
    for question, labeller, said in triples:
        of_question[question].append((labeller, said))
    probabilities = [
        {c: sum(said == c for _, said in of_question[q]) / len(of_question[q]) for c in classes}
        for q in range(len(answers.questions))
    ]
    for number in range(rounds + 1):
        share = {c: sum(p[c] for p in probabilities) + 1 for c in classes}
        count, people = {}, range(len(answers.labellers))
        crowd = {}
        for j in classes:
            seen = {
                m: sum(probabilities[q][j] for q, _, s in triples if s == m)
                + (m == j)
                + 1 / len(classes)
                for m in classes
            }
            crowd[j] = {m: seen[m] / sum(seen.values()) for m in classes}
        usual = sum(crowd[j][j] for j in classes) / len(classes)
        for k in people:
            theirs = [(q, s) for q, w, s in triples if w == k]
            right = (sum(probabilities[q][s] for q, s in theirs) + 2 * usual) / (len(theirs) + 2)
            for j in classes:
                count[k, j] = {
                    m: sum(probabilities[q][j] for q, s in theirs if s == m)
                    + 2 * crowd[j][m]
                    + 2 * (right if m == j else (1 - right) / (len(classes) - 1))
                    for m in classes
                }
        for q, before in enumerate([dict(p) for p in probabilities]):
            products = {}
            for j in classes:
                own = before[j] if number == rounds else 0  # left out of the last round
                products[j] = share[j] - own
                for k, s in of_question[q]:
                    products[j] *= (count[k, j][s] - own) / (sum(count[k, j].values()) - own)
            probabilities[q] = {j: products[j] / sum(products.values()) for j in classes}
    return probabilities


def test_it_is_what_the_equations_say_in_plain_loops() -> None:
    crowd = [right_in(0.9, 3), right_in(0.7, 3), right_in(0.5, 3)]
    answers, _ = simulated(crowd, 40, 3, seed=3)
    wanted = slow(answers, rounds=200)
    found = dawid_skene(answers).probabilities
    assert found == pytest.approx(np.array([[p[c] for c in range(3)] for p in wanted]), abs=1e-4)


@pytest.mark.parametrize("classes", [2, 10])
def test_one_who_guesses_and_one_who_is_always_wrong_cost_a_fifth_of_what_they_cost_a_majority(
    classes: int,
) -> None:
    def wrong(truth: int, random: np.random.Generator) -> int:
        return (truth + 1) % classes

    crowd = [*(right_in(0.9, classes) for _ in range(3)), right_in(1 / classes, classes), wrong]
    answers, truth = simulated(crowd, 2_000, classes, seed=1)
    before = (answers.votes().argmax(axis=1) != truth).sum()
    found = dawid_skene(answers)
    now = (found.probabilities.argmax(axis=1) != truth).sum()
    assert before > 20
    assert now <= before / 5
    kinds = [one.kind for one in labellers(answers, found)]
    assert kinds == ["reliable"] * 3 + ["guesses", "wrong"]


def test_labels_are_those_of_crowd_kit() -> None:
    crowd = [right_in(share, 3) for share in (0.8, 0.75, 0.7, 1 / 3, 0.05)]
    answers, truth = simulated(crowd, 300, 3, seed=5)
    found = dawid_skene(answers).probabilities.argmax(axis=1)
    assert "".join(answers.classes[one] for one in found) == BY_CROWD_KIT
    assert ((found != truth).sum(), (answers.votes().argmax(axis=1) != truth).sum()) == (34, 82)


def test_of_a_few_rows_of_many_classes_fewer_labels_are_wrong_than_by_majority() -> None:
    """Twenty crowds label 60 rows of ten classes: each person has six answers of a class."""
    crowd = [right_in(share, 10) for share in (0.97, 0.95, 0.92, 0.1, 0.0)]
    by_majority = by_consensus = 0
    for seed in range(20):
        answers, truth = simulated(crowd, 60, 10, seed)
        by_majority += (answers.votes().argmax(axis=1) != truth).sum()
        by_consensus += (dawid_skene(answers).probabilities.argmax(axis=1) != truth).sum()
    assert by_majority > 20
    assert by_consensus <= by_majority / 2


def test_a_confidence_is_how_often_such_labels_are_right() -> None:
    answers, truth = simulated([right_in(0.7, 3) for _ in range(4)], 4_000, 3, seed=2)
    found = dawid_skene(answers).probabilities
    is_right = found.argmax(axis=1) == truth
    confidence = found.max(axis=1)
    for low, high in ((0.4, 0.7), (0.7, 0.95), (0.95, 1.01)):
        own = (confidence >= low) & (confidence < high)
        assert own.sum() > 100
        assert is_right[own].mean() == pytest.approx(confidence[own].mean(), abs=0.05)


def test_known_answers_tell_who_is_right_where_two_contradict() -> None:
    both = (("ada", "x"), ("bob", "y"))
    said: list[Said] = [(q, who, label) for q in range(9) for who, label in both]
    answers = Answers.of(said, ["x", "y"])
    found = dawid_skene(answers, known={0: 1, 1: 1, 2: 1})
    assert found.probabilities[3:].argmax(axis=1).tolist() == [1] * 6
    assert found.probabilities[0].tolist() == [0, 1]


def test_a_few_answers_mean_what_they_say() -> None:
    said: list[Said] = [(number, "ada", str(number)) for number in range(8)]
    said += [(number, "bob", str(number)) for number in range(8)]
    found = dawid_skene(Answers.of(said, [str(one) for one in range(10)])).probabilities
    assert found.argmax(axis=1).tolist() == [*range(8)]
    assert found.max(axis=1).min() > 0.9
    often = [(number, who, "1" if number else "2") for number in range(4) for who in "ab"]
    found = dawid_skene(Answers.of(often, [str(one) for one in range(10)])).probabilities
    assert found[1:, 1].min() > 0.9 < found[0, 2]
    one = dawid_skene(Answers.of([("a", "ada", "x"), ("b", "ada", "x"), ("c", "ada", "y")], "xy"))
    assert one.probabilities.argmax(axis=1).tolist() == [0, 0, 1]


def test_information_by_hand() -> None:
    assert information(np.eye(3)) == pytest.approx(1)
    assert information(np.eye(3)[[1, 2, 0]]) == pytest.approx(1)  # always wrong, the same way
    assert information(np.full((3, 3), 1 / 3)) == pytest.approx(0)
    assert information(np.array([[0.8, 0.2], [0.2, 0.8]])) == pytest.approx(0.36)


def test_nobody_is_judged_by_a_few_answers() -> None:
    answers = Answers.of([(0, "ada", "x"), (0, "bob", "y")], ["x", "y"])
    assert [one.kind for one in labellers(answers, dawid_skene(answers))] == ["new", "new"]


def test_information_of_many_classes_needs_no_table_of_all_pairs() -> None:
    confusion = np.eye(200)
    tracemalloc.start()
    assert information(confusion) == pytest.approx(1)
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most_bytes < 4 * confusion.nbytes  # the table of all pairs has 200 times as many
