"""What texts are worth without a network: counts of their words and a linear classifier.

Source: Joulin et al., "Bag of Tricks for Efficient Text Classification", 2016, https://arxiv.org/abs/1607.01759, whose baselines
these are.
Limits: it learns from at most `MOST` texts; it has no latency, as it is no graph.
"""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from wb.core.measures.readings import Reading
from wb.data import Dataset, Split
from wb.search.results.baselines import Baseline
from wb.tasks.base import Task

MOST = 50_000
NAME = "tf-idf of words and pairs, linear classifier"


def words_alone(data: Dataset, task: Task, seed: int, *, retrain: bool = False) -> Baseline | None:
    """The classifier on the splits of `data`, which are of texts; None where no training text has a word as it cuts them.

    With `retrain` that which the test split sees has learned from the validation texts too.
    """
    if retrain:
        first, again = (words_alone(one, task, seed) for one in (data, data.with_validation()))
        return first and again and first.model_copy(update={"test": again.test})
    count = min(len(data.train), MOST)
    train = data.train.take(np.arange(count) * len(data.train) // count)
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    try:
        learned = vectors.fit_transform(_lines(train))
    except ValueError:  # its vocabulary is empty
        return None
    linear = LinearSVC(random_state=seed).fit(learned, train.labels)

    def reading(split: Split) -> Reading:
        outputs = np.full((len(split), len(data.classes)), -np.inf)
        scores = linear.decision_function(vectors.transform(_lines(split)))
        outputs[:, linear.classes_] = scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)
        return task.reading(task.grade(outputs, split.labels), "scikit-learn")

    return Baseline(name=NAME, values={task.metric: reading(data.validation)}, test=reading(data.test), network=False)


def _lines(split: Split) -> list[str]:
    return [split.line(i) for i in range(len(split))]
