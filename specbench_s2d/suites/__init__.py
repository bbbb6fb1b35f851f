"""Suites: what each one is, and the questions of a run, read, checked and hashed.

The questions come from the package, from Spec-Bench's file (the cache, else a download), from any question file
(docs/questions.md lists the formats), or from a dataset of the hub.
"""

from specbench_s2d.suites.definition import (
    CUSTOM,
    HEADINGS,
    QUESTION_FILE,
    Definition,
    Quality,
    Suite,
    broken_suites,
    category_owners,
    custom_name,
    definitions,
    load_suite,
    read_definition,
    read_suite,
    sound_suites,
    suite_headings,
    suites_of,
)
from specbench_s2d.suites.load import EMBEDDED, SPEC_BENCH, QuestionSet, load_questions
from specbench_s2d.suites.question import Question, Reference, questions_hash

__all__ = [
    "CUSTOM",
    "EMBEDDED",
    "HEADINGS",
    "QUESTION_FILE",
    "SPEC_BENCH",
    "Definition",
    "Quality",
    "Question",
    "QuestionSet",
    "Reference",
    "Suite",
    "broken_suites",
    "category_owners",
    "custom_name",
    "definitions",
    "load_questions",
    "load_suite",
    "questions_hash",
    "read_definition",
    "read_suite",
    "sound_suites",
    "suite_headings",
    "suites_of",
]
