"""Hyperparameters as they are typed for `hpo try`."""

import pytest
from torch import nn

from hpo import MLP, Configuration, Mnist1d, Study, integers
from hpo.cli.terminal.catalogue import parse_settings
from hpo.errors import UsageError
from hpo.space import Setting


def network(width: int = 16, dropout: float = 0.0) -> nn.Module:
    return MLP((40, width, 10), dropout)()


def parsed(*pairs: str, space: Setting) -> Setting:
    configuration = Configuration("B", space={"model.width": integers(8, 32), **space})
    both = (Configuration("A"), configuration)
    study = Study(data=Mnist1d(samples=100), model=network, baseline="A", configurations=both)
    return parse_settings(pairs, study, configuration)


@pytest.mark.parametrize("name", ["dropout", "model.dropout"])
@pytest.mark.parametrize("typed", ["dropout", "model.dropout"])
def test_a_short_name_is_that_of_the_argument(name: str, typed: str) -> None:
    assert parsed(f"{typed}=0.3", space={name: 0.1}) == {"model.dropout": 0.3}
    assert parsed(f"{typed}=0.3", space={}) == {"model.dropout": 0.3}


def test_numbers_are_typed_as_in_python() -> None:
    assert parsed("learning_rate=0x10", "beta1=1_0", "weight_decay=1e-2", space={}) == {
        "learning_rate": 16.0, "beta1": 10.0, "weight_decay": 0.01
    }  # fmt: skip


def test_what_is_typed_wrongly_is_named() -> None:
    for typed, words in (
        ("model.width", "model.width=VALUE"),
        ("lr=0.1", "did you mean 'learning_rate'"),
        ("epochs=3", "epochs is a field of Study"),
    ):
        with pytest.raises(UsageError) as caught:
            parsed(typed, space={})
        assert words in str(caught.value)
