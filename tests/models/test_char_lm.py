"""The character language model and its text: causal, tied, the same in a population as alone, and reproducible."""

import hashlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo import CharLM, Tales
from hpo.data.tales import CHARACTERS, text
from hpo.errors import UsageError
from hpo.models.losses import cross_entropy
from hpo.optim.optimizers import OPTIMIZERS
from hpo.optim.regularizers import REGULARIZERS
from hpo.training.loop import train
from hpo.training.recipe import Member, Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = CharLM(vocabulary=30, length=8, width=8, heads=2)
ADAM = {"learning_rate": 0.01, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


def slow_logits(module: nn.Module, tokens: Tensor) -> Tensor:
    """One sequence [T], one position and one head at a time."""
    values = dict(module.named_parameters())
    width, heads = values["embedding.weight"].shape[1], 2
    rows = [values["embedding.weight"][token] + values["positions.weight"][t] for t, token in enumerate(tokens)]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (width,), values[f"{name}.weight"], values[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return values[f"{name}.weight"] @ x + values[f"{name}.bias"]

    for block in ("blocks.0", "blocks.1"):
        parts = [linear(norm(x, f"{block}.attention.0"), f"{block}.attention.1.inputs").chunk(3) for x in rows]
        after = []
        for t, x in enumerate(rows):
            mixed = []
            for head in range(heads):
                part = slice(head * width // heads, (head + 1) * width // heads)
                scores = [parts[t][0][part] @ parts[s][1][part] / (width / heads) ** 0.5 for s in range(t + 1)]
                weights = torch.stack(scores).softmax(0)
                mixed.append(sum(weights[s] * parts[s][2][part] for s in range(t + 1)))
            x = x + linear(torch.cat(mixed), f"{block}.attention.1.output")  # type: ignore[arg-type]
            hidden = F.gelu(linear(norm(x, f"{block}.mlp.0"), f"{block}.mlp.1"))
            after.append(x + linear(hidden, f"{block}.mlp.3"))
        rows = after
    return torch.stack([values["embedding.weight"] @ norm(x, "norm") for x in rows])


def test_it_is_the_published_transformer_with_tied_weights() -> None:
    torch.manual_seed(0)
    module = SMALL().double()
    for parameter in module.parameters():  # zeros and small weights would hide mistakes
        nn.init.normal_(parameter, std=0.5)
    tokens = torch.randint(30, (3, 8))
    with torch.no_grad():
        expected = torch.stack([slow_logits(module, sequence) for sequence in tokens])
        torch.testing.assert_close(module(tokens), expected)
    assert "head.weight" not in dict(module.named_parameters())
    assert "head.weight" in dict(CharLM(length=8, width=8, heads=2, tied=False)().named_parameters())


def test_a_prediction_depends_on_earlier_characters_only() -> None:
    module, tokens = SMALL(), torch.randint(30, (2, 8))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 30
    torch.testing.assert_close(module(tokens)[:, :5], module(changed)[:, :5])
    assert not torch.allclose(module(tokens)[:, 5:], module(changed)[:, 5:])


@pytest.mark.parametrize("regularizer", ["none", "sam", "gnvr", "clip_sample", "sgsc"])
def test_a_member_of_a_population_gives_what_it_gives_alone(regularizer: str) -> None:
    """Tied weights have no layer rule: per-sample gradients are of whole sequences, one by one."""
    data = Tales(length=8, characters=600)
    recipe = Recipe(
        data, data.load(), lambda: SMALL().double(), REGULARIZERS[regularizer], OPTIMIZERS["adam"], 2, 16,
        sample_loss=cross_entropy,
    )  # fmt: skip
    hyper = ADAM | dict.fromkeys(REGULARIZERS[regularizer].hyperparameters, 0.05)
    together = train(recipe, [Member(seed, hyper) for seed in range(2)])
    [alone] = train(recipe, [Member(1, hyper)])
    assert alone.final == pytest.approx(together[1].final, rel=1e-8)
    assert alone.curves["validation_loss"][1] < alone.curves["validation_loss"][0]


def test_the_text_is_the_same_everywhere() -> None:
    tales = text(200_000)
    assert hashlib.sha256(tales.encode()).hexdigest().startswith("e30ee8a48435e73f")
    assert set(tales) <= set(CHARACTERS) and "{" not in tales and len(tales) == 200_000
    assert tales.startswith("once there was a silent beekeeper") and text(500) == tales[:500]


def test_the_target_of_a_character_is_the_next_one() -> None:
    source = Tales(length=10, characters=1000).load()
    tales = text(1000)
    inputs = torch.cat([source.inputs, source.test_inputs]).flatten().tolist()
    labels = torch.cat([source.labels, source.test_labels]).flatten().tolist()
    assert "".join(CHARACTERS[code] for code in inputs) == tales[: len(inputs)]
    assert "".join(CHARACTERS[code] for code in labels) == tales[1 : len(inputs) + 1]
    assert source.classes == Tales.vocabulary == 30 and len(source.test_inputs) == 10


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CharLM(width=10, heads=4), "heads is 4; give a divisor of the width 10"),
        (lambda: CharLM(blocks=0), "blocks is 0"),
        (lambda: Tales(length=0), "length is 0"),
        (lambda: Tales(length=64, characters=100), "characters is 100"),
        (lambda: Tales(label_noise=0.1), "the task is token prediction"),
    ],
)
def test_wrong_fields(make: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()  # type: ignore[operator]
