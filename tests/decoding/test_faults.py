"""What a drafter or a verifier does wrong is named: decoder, class, method, step; and the next generation is whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from specbench_s2d.decoding.decoder import PairDecoder
from specbench_s2d.decoding.drafters.chain import ChainDrafter
from specbench_s2d.decoding.drafters.none import NoDrafter
from specbench_s2d.decoding.faults import CheckedDrafter, PartError, Steps
from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.decoding.tree import Tree
from specbench_s2d.decoding.types import Drafted, Options, Proposal, Verdict, chain_of
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from specbench_s2d.errors import PromptTooLongError, UserError
from specbench_s2d.models.finite import NOT_FINITE
from tests.fakes import FakeModel

NAN = float("nan")
PROMPT, TOKENS = [1, 2, 3, 4], 12
CPU = torch.device("cpu")


def proposing(propose: Callable[[Sequence[int], int], Any]) -> type[Any]:
    """A drafter that proposes what `propose(context, room)` gives."""

    class Given(NoDrafter):
        class Options(Options):
            """None."""

        def __init__(self, draft: None, options: Any) -> None:
            del draft, options

        def propose(self, context: Sequence[int], room: int) -> Any:
            return propose(context, room)

    return Given


def decoder(drafter: type[Any], verifier: type[Any] = TokenVerifier, draft: FakeModel | None = None) -> PairDecoder:
    kind: Any = type("Pair", (PairDecoder,), {"drafter_class": drafter, "verifier_class": verifier})
    made: PairDecoder = kind(FakeModel(), draft, kind.Options(), "mine+token")
    return made


def fault(made: PairDecoder) -> str:
    with pytest.raises(PartError) as caught:
        made.generate(PROMPT, TOKENS)
    message = str(caught.value)
    assert message.startswith("decoder 'mine+token': ") and "\n" not in message
    return message.removeprefix("decoder 'mine+token': ")


def ids(*tokens: int) -> Proposal:
    return chain_of(tokens, CPU)


def a_tree(parents: list[int], mask: int = 3) -> Proposal:
    tree = Tree(torch.tensor(parents), torch.ones(mask, mask, dtype=torch.bool))
    return Proposal(torch.tensor([1, 2]), tree=tree)


PROPOSALS: dict[str, tuple[Any, str]] = {
    "negative": (ids(1, -1), "proposed token -1; the target's ids are 0 to 4"),
    "too large": (ids(1, 5, 2), "proposed token 5; the target's ids are 0 to 4"),
    "of the device alone": (Proposal(torch.tensor([7])), "proposed token 7; the target's ids are 0 to 4"),
    "nothing": (None, "proposed NoneType, not a Proposal"),
    "a list": (Proposal([1]), "proposed ids as list; they are one int64 tensor (G,)"),  # type: ignore[arg-type]
    "floats": (Proposal(torch.ones(2)), "proposed ids as torch.float32 (2,); they are one int64 tensor (G,)"),
    "a forward parent": (
        a_tree([1, -1]),
        "proposed a malformed tree: node 0 has parent 1; a parent is -1 or an earlier node",
    ),
    "a small mask": (a_tree([-1, 0], 2), "proposed a malformed tree: 2 parents and a mask of (2, 2) for 2 tokens"),
    "likelihoods of another vocabulary": (
        Proposal(torch.tensor([1]), q_GV=torch.ones(1, 4)),
        "proposed likelihoods of shape (1, 4); for 1 tokens it is (1, 5)",
    ),
    "likelihoods of another type": (
        Proposal(torch.tensor([1]), q_GV=[0.5]),  # type: ignore[arg-type]
        "proposed what is no Proposal (AttributeError: 'list' object has no attribute 'shape')",
    ),
    "negative likelihoods": (
        Proposal(torch.tensor([1]), q_GV=torch.full((1, 5), -0.2)),
        "proposed likelihoods that are negative or no numbers",
    ),
    "likelihoods that are no numbers": (
        Proposal(torch.tensor([1]), q_GV=torch.full((1, 5), NAN)),
        "proposed likelihoods that are negative or no numbers",
    ),
    "log-probabilities that are no numbers": (
        Proposal(torch.tensor([1]), logprobs_G=torch.tensor([NAN])),
        "proposed log-probabilities that are above 0 or no numbers",
    ),
    "a tree of another type": (
        Proposal(torch.tensor([1]), tree=[-1]),  # type: ignore[arg-type]
        "proposed what is no Proposal (AttributeError: 'list' object has no attribute 'parents_N')",
    ),
}


@pytest.mark.parametrize("case", PROPOSALS)
def test_what_cannot_be_verified_is_told_before_the_target_s_pass(case: str) -> None:
    proposal, told = PROPOSALS[case]
    made = decoder(proposing(lambda context, room: ids() if len(context) < 7 else proposal))
    assert fault(made) == f"drafter Given {told} (step 3, after 3 new tokens)"
    assert made.target.passes == 3, "the prefill and two steps"  # type: ignore[attr-defined]


def test_a_proposal_longer_than_the_room_is_told() -> None:
    made = decoder(proposing(lambda context, room: ids(*[1] * (room + 1))))
    assert fault(made) == "drafter Given proposed 60 tokens where there is room for 59 (step 1, after 1 new tokens)"


def test_a_tree_made_of_wrong_parents_is_told() -> None:
    made = decoder(proposing(lambda context, room: Proposal(torch.tensor([1, 2]), tree=Tree.of([-1, 1], CPU))))
    assert fault(made).startswith("drafter Given.propose raised ValueError: node 1 has parent 1; a parent is -1")


class _Raises(ChainDrafter):
    """Raises in one of its methods at the second call, once."""

    method, error = "propose", ZeroDivisionError("by\nzero")

    def __init__(self, draft: Any, options: Any) -> None:
        super().__init__(draft, options)
        self.calls = 0

    def _at(self, method: str, call: int) -> None:
        self.calls += method == self.method
        if method == self.method and self.calls == call:
            raise self.error

    def prepare(self, target: Any, prompt_ids: Any) -> None:
        self._at("prepare", 1)

    def facts(self) -> dict[str, Any]:
        return {}

    def start(self, prompt_ids: Any, sampler: Any) -> None:
        self._at("start", 1)
        super().start(prompt_ids, sampler)

    def propose(self, context: Any, room: int) -> Any:
        proposal = super().propose(context, room)  # its cache has moved on by then
        self._at("propose", 2)
        return proposal

    def commit(self, committed: int, verdict: Any) -> None:
        self._at("commit", 2)
        super().commit(committed, verdict)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("prepare", "drafter Part raised ZeroDivisionError: by (in prepare)"),
        ("start", "drafter Part.start raised ZeroDivisionError: by (before the first step)"),
        ("propose", "drafter Part.propose raised ZeroDivisionError: by (step 2, after "),
        ("commit", "drafter Part.commit raised ZeroDivisionError: by (step 2, after "),
    ],
)
def test_a_drafter_that_raises_is_told_and_the_next_generation_is_whole(method: str, told: str) -> None:
    made = decoder(type("Part", (_Raises,), {"method": method}), draft=FakeModel(seed=1))
    assert fault(made).startswith(told)
    honest = build_decoder("ar", FakeModel()).generate(PROMPT, TOKENS).ids
    assert made.generate(PROMPT, TOKENS).ids == honest


@pytest.mark.parametrize("method", ["observe", "learn"])
def test_a_drafter_that_fails_over_the_target_s_logits_is_told(method: str) -> None:
    class Watching(NoDrafter):
        def observe(self, ids_T: Any, logits_TV: Any) -> Any:
            return logits_TV[:, 0] if method == "learn" else logits_TV[9]

        def learn(self, observed: Sequence[float]) -> None:
            raise KeyError(len(observed))

    told = "learn raised KeyError: 4" if method == "learn" else "observe raised IndexError: index 9 is out of bounds"
    assert fault(decoder(Watching)).startswith(f"drafter Watching.{told}")


def test_what_an_observer_gives_is_a_tensor_of_one_dimension() -> None:
    class Watching(NoDrafter):
        def observe(self, ids_T: Any, logits_TV: Any) -> Any:
            return [1.0]

        def learn(self, observed: Sequence[float]) -> None:
            """Nothing."""

    assert fault(decoder(Watching)) == (
        "drafter Watching.observe gave list; it is a tensor of one dimension (before the first step)"
    )


@pytest.mark.parametrize("error", [SystemExit(3), UserError("mine"), FloatingPointError("overflow"), RuntimeError()])
def test_whatever_a_part_raises_is_its_own_fault(error: BaseException) -> None:
    made = decoder(type("Part", (_Raises,), {"error": error}), draft=FakeModel(seed=1))
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    assert fault(made).startswith(f"drafter Part.propose raised {text} (step 2")


def test_what_the_loop_and_the_run_handle_passes() -> None:
    made = decoder(type("Part", (_Raises,), {"error": PromptTooLongError("long")}), draft=FakeModel(seed=1))
    with pytest.raises(PromptTooLongError, match="long"):
        made.generate(PROMPT, TOKENS)
    made = decoder(type("Part", (_Raises,), {"error": FloatingPointError(0)}), draft=FakeModel(seed=1))
    with pytest.raises(FloatingPointError, match=f"draft fake-1: {NOT_FINITE}"):
        made.generate(PROMPT, TOKENS)
    made = decoder(type("Part", (_Raises,), {"error": KeyboardInterrupt()}), draft=FakeModel(seed=1))
    with pytest.raises(KeyboardInterrupt):
        made.generate(PROMPT, TOKENS)


def judging(judge: Callable[[Proposal], Any]) -> type[Any]:
    """A verifier that says what `judge(proposal)` gives."""

    class Judge(TokenVerifier):
        def judge(self, proposal: Proposal, logits_TV: Any, sampler: Any) -> Any:
            return judge(proposal)

    return Judge


def _no(proposal: Proposal) -> Any:
    raise KeyError("logits")


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        (_no, ".judge raised KeyError: 'logits'"),
        (lambda proposal: None, " gave NoneType, not a Verdict"),
        (lambda proposal: Verdict(3, 1), " accepted 3 of 2 tokens"),
        (lambda proposal: Verdict(1, 5), " gave 5 as the next token; the target's ids are 0 to 4"),
        (lambda proposal: Verdict(1.0, 1), " accepted 1.0 of 2 tokens"),  # type: ignore[arg-type]
        (lambda proposal: Verdict("1", 1), " accepted '1' of 2 tokens"),  # type: ignore[arg-type]
        (lambda proposal: Verdict(1, NAN), " gave nan as the next token; the target's ids are 0 to 4"),  # type: ignore[arg-type]
        (lambda proposal: Verdict(1, 1, drafted=Drafted([1])), " read 1 tokens of the 2 proposed ones"),
        (
            lambda proposal: Verdict(1, 1, path=["0"]),  # type: ignore[list-item]
            " gave the path ['0']; it is a list of int",
        ),
        (lambda proposal: Verdict(1, 1, path=[0.0]), " gave the path [0.0]; it is a list of int"),  # type: ignore[list-item]
        (lambda proposal: Verdict(1, 1, drafted=Drafted([1, 2], parents=[7, 7])), " read parents [7, 7] of a chain"),
        (lambda proposal: Verdict(2, 1, path=[0]), " accepted 2 nodes of 2 by the path [0]"),
        (lambda proposal: Verdict(2, 1, path=[1, 0]), " accepted 2 nodes of 2 by the path [1, 0]"),
    ],
)
def test_a_verifier_that_fails_is_told(judge: Callable[[Proposal], Any], told: str) -> None:
    made = decoder(proposing(lambda context, room: ids(1, 2)), judging(judge))
    assert fault(made) == f"verifier Judge{told} (step 1, after 1 new tokens)"


def test_a_tree_is_accepted_by_a_path() -> None:
    tree = Proposal(torch.tensor([1, 2]), tree=Tree.of([-1, -1], CPU))
    made = decoder(proposing(lambda context, room: tree), judging(lambda proposal: Verdict(1, 1)))
    assert fault(made).startswith("verifier Judge accepted nodes of a tree without a path")


def test_a_drafter_that_cannot_be_made_is_told() -> None:
    class Unmade(NoDrafter):
        def __init__(self, draft: None) -> None:  # type: ignore[override]
            """Without options."""

    with pytest.raises(
        PartError, match=r"decoder 'mine[+]token': drafter Unmade raised TypeError: .* [(]when it was made"
    ):
        decoder(Unmade)


def test_ids_of_a_draft_on_a_gpu_are_read_with_the_verdict() -> None:
    """The host reads them before the pass only where no model chose them."""
    steps = Steps("mine", 5, on_host=False)
    steps.begin(4)
    of_model = CheckedDrafter(ChainDrafter.__new__(ChainDrafter), steps)
    of_host = CheckedDrafter(NoDrafter(None, NoDrafter.Options()), steps)
    assert of_model._fault(Proposal(torch.tensor([7])), 9) is None
    assert of_host._fault(Proposal(torch.tensor([7])), 9) == "token 7; the target's ids are 0 to 4"
    assert of_model._fault(chain_of([7], CPU), 9) == "token 7; the target's ids are 0 to 4"
    with pytest.raises(PartError, match="drafter ChainDrafter proposed token 7"):
        of_model.check(Drafted([1, 7]))
    with pytest.raises(PartError, match="malformed tree: node 0 has parent 0"):
        of_model.check(Drafted([1, 2], parents=[0, 0]))


def test_parts_without_options_of_their_own_pair_up() -> None:
    class Plain(NoDrafter):
        Options = Options  # type: ignore[assignment]

    assert decoder(Plain).generate(PROMPT, 3).ids == build_decoder("ar", FakeModel()).generate(PROMPT, 3).ids
