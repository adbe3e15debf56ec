"""One training step of one model, which shows whether a recipe can be trained at all."""

from contextlib import closing

import torch

from hpo.data import check_source
from hpo.training.loop import make_population, make_samples
from hpo.training.recipe import Member, Recipe
from hpo.training.steps import Steps
from hpo.user_code.generators import no_global_draws


def make_first_step(recipe: Recipe, member: Member, device: torch.device) -> None:
    """Makes the first step as training does, with a whole minibatch; raises what training would raise."""
    recipe = recipe._replace(source=check_source(recipe.source, recipe.dataset.task))
    with closing(make_samples(recipe, [member], device)) as samples:
        population = make_population(recipe, [member], samples)
        parts = population, samples, recipe.batch_size, recipe.epochs, recipe.all_schedules
        steps = Steps(*parts, keep_last=recipe.last_batch == "keep")
        with no_global_draws("the regularizer, optimizer, network, loss or augmentation"), steps.on_stream():
            steps.start_epoch(1)
            steps.next()
