"""A script that trains one setting of a study in plain PyTorch."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hpo.data import Source
from hpo.models.losses import evaluated_loss
from hpo.optim.parameter_groups import parameter_groups
from hpo.optim.regularizer import stateless
from hpo.optim.regularizers import REGULARIZERS
from hpo.random import stream
from hpo.search_space import Value
from hpo.snippet.average_text import INCLUDE, average_lines
from hpo.snippet.data_text import augmentation_text, loading_text, scaling_text, split_text
from hpo.snippet.extraction import Extraction
from hpo.snippet.import_lines import needed_imports, sorted_imports
from hpo.snippet.limits import check_possible, find_draws, has_modes
from hpo.snippet.loop_text import Loop, loop_text
from hpo.snippet.network_text import network_text
from hpo.snippet.optimizer_text import group_key, is_constant, optimizer_text, schedule_text
from hpo.snippet.regularizer_text import add_regularizer, objective_text
from hpo.snippet.task_text import METRICS, evaluation_text, loss_text, task_of
from hpo.study.study import Study
from hpo.training.initial_models import build
from hpo.training.recipe import Recipe
from hpo.worker.recipes import Parts, Recipes

# What a script defines or imports itself.
RESERVED = (
    *("SEED", "EPOCHS", "BATCH_SIZE", "DTYPE", "load_samples", "standardised", "augment", "initial_network", "Tensor"),
    *("sample_losses", "evaluated_losses", "evaluate", "new_optimizers", "include", "Objective", "form_gradient"),
    *("initial_state", "train", "OrderedDict", "copy", "functools", "math", "np", "random", "torch", "nn", "F"),
)


def write_script(
    study: Study,
    source: Source,
    configuration: str,
    setting: Mapping[str, Value],
    seed: int,
    words: str,
    file: str | None = None,
    outcome: str = "",
) -> str:
    """The script of a setting.

    Args:
        source: the study's samples. seed: that the script trains with. words: what is trained, for its first lines.
        outcome: how the rerun with this seed ended, as "which ended with …"; empty where it is not known.
        file: from which the script reads the samples (inputs, labels, test inputs, test labels); None for samples that
            a package makes.

    Raises:
        UsageError: a part of the study cannot be written in plain PyTorch.
    """
    recipes = Recipes(study, lambda: source)
    parts = recipes.parts(configuration, setting)
    recipe = recipes.recipe(recipes.configuration(configuration), rerun=True, training=parts.training)
    check_possible(recipe, {**parts.hyperparameters, **dict(parts.static)})
    return _Script(recipe, parts, seed, file).text(words, outcome)


class _Script:
    """The texts of a script while it is written."""

    def __init__(self, recipe: Recipe, parts: Parts, seed: int, file: str | None) -> None:
        self.recipe, self.seed, self.file = recipe, seed, file
        self.values: dict[str, Any] = {**parts.hyperparameters, **dict(parts.static)}
        self.network = build(recipe.model, seed)
        self.groups = parameter_groups(self.network, recipe.groups, recipe.no_decay)
        schedules = {f"{name}_schedule": each for name, each in self._schedules.items()}
        reserved = [name for name, each in schedules.items() if getattr(each, "__name__", "") != name]
        self.code = Extraction([*RESERVED, *reserved])

    def text(self, words: str, outcome: str) -> str:
        recipe = self.recipe
        sections = {
            "Random numbers: every use of the seed has a generator of its own": self._random(),
            "Data": self._data(),
            "Network and loss": self._network(),
            "Optimizer": self._optimizer(),
            "Regularizer": self._regularizer(),
            "Average of the weights": [INCLUDE] if recipe.average else [],
            "Training": [loop_text(self._loop())],
        }
        body = "\n\n\n".join(_joined([f"# {title}", *texts]) for title, texts in sections.items() if texts)
        constants = [
            f"SEED = {self.seed}  # of label noise, split, order of the samples and initial weights",
            f"EPOCHS = {recipe.epochs}",
            f"BATCH_SIZE = {recipe.batch_size}",
            "DTYPE = torch.float32",
        ]
        header = [
            self._docstring(words, outcome),
            sorted_imports([*self.code.imports, *needed_imports(body)]),
            "\n".join(constants),
        ]
        script = "\n\n".join(header) + f'\n\n\n{body}\n\n\nif __name__ == "__main__":\n    train()\n'
        compile(script, "script", "exec")
        return script

    def _docstring(self, words: str, outcome: str) -> str:
        """What is trained, and how its curves compare with those of hpo."""
        rerun = f"the rerun with seed {self.seed}{outcome and ', '}{outcome}"
        if drawn := find_draws(self.recipe, self.values):
            compared = f"It does not repeat {rerun}: PyTorch draws other {' and '.join(drawn)} than hpo."
        else:
            compared = f"It repeats {rerun}, up to the rounding of float32."
        paragraphs = [textwrap.fill(each, 100, break_long_words=False) for each in (*words.split("\n\n"), compared)]
        text = "\n\n".join(paragraphs).replace("\\", r"\\").replace('"""', r"\"\"\"")
        return f'"""{text}\n"""'

    def _random(self) -> list[str]:
        self.code.call("the seeds", stream)
        return self.code.take()

    def _data(self) -> list[str]:
        code, dataset = self.code, self.recipe.dataset
        texts = [loading_text(dataset, code, self.file), scaling_text(dataset), augmentation_text(dataset, code)]
        return [*code.take(), *filter(None, texts)]

    def _network(self) -> list[str]:
        code, loss = self.code, self.recipe.sample_loss
        texts = [network_text(self.recipe.model, code), loss_text(loss, self._task, "sample_losses", code)]
        name = "sample_losses"
        if getattr(loss, "label_smoothing", 0):
            name = "evaluated_losses"
            texts.append(loss_text(evaluated_loss(loss), self._task, name, code))
        return [*code.take(), *texts, evaluation_text(self._task, name)]

    @property
    def _task(self) -> str:
        inputs = self.recipe.source.inputs
        assert isinstance(inputs, Tensor)
        with torch.no_grad():
            outputs = self.network.eval()(inputs[:2])
        return task_of(self.recipe.dataset.task, outputs)

    def _optimizer(self) -> list[str]:
        optimizer = self.recipe.optimizer
        own = {name: value for name, value in self.values.items() if name in optimizer.hyperparameters}
        texts = [optimizer_text(optimizer, self.groups, own, self.code)]
        texts += [schedule_text(f"{name}_schedule", each, self.code) for name, each in self._schedules.items()]
        return [*self.code.take(), *filter(None, texts)]

    @property
    def _schedules(self) -> dict[str, Any]:
        return {name: each for name, each in self.recipe.all_schedules.items() if not is_constant(each)}

    def _regularizer(self) -> list[str]:
        if self.recipe.regularizer is REGULARIZERS["none"]:
            return []
        names = add_regularizer(self.recipe.regularizer, self.code)
        texts = self.code.take()
        return [objective_text(self.recipe.regularizer, texts), *texts, *names]

    def _loop(self) -> Loop:
        recipe, regularizer = self.recipe, self.recipe.regularizer
        assert isinstance(recipe.source.inputs, Tensor)
        scheduled = [name for name in self._schedules if name in recipe.optimizer.hyperparameters]
        return Loop(
            split=split_text(recipe.dataset, recipe.source),
            scales=bool(scaling_text(recipe.dataset)),
            floats=recipe.source.inputs.is_floating_point(),
            float_labels=recipe.source.labels.is_floating_point(),
            views=regularizer.views if recipe.dataset.augments else 0,
            clean=regularizer.clean_view,
            keeps_last=recipe.last_batch == "keep",
            optimizer_schedules={name: group_key(recipe.optimizer, name) for name in scheduled},
            switches=has_modes(recipe, self.values),
            regularizer_schedules=[name for name in self._schedules if name in regularizer.hyperparameters],
            hyper={name: self.values[name] for name in regularizer.hyperparameters},
            static=regularizer.static,
            regularizes=regularizer is not REGULARIZERS["none"],
            has_state=regularizer.init is not stateless,
            accumulate=recipe.accumulate,
            buffers=bool(list(self.network.named_buffers())),
            average=average_lines(recipe.average, self.values, recipe.epochs),
            metric=METRICS[self._task][0],
        )


def _joined(texts: Sequence[str]) -> str:
    """Statements below each other: two empty lines around functions and classes, none between single lines."""
    joined = texts[0]
    for before, text in itertools.pairwise(texts):
        single = "\n" not in before + text and not before.startswith("#")
        joined += ("\n" if single else "\n\n\n") + text
    return joined
