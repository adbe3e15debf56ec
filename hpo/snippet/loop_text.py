"""The training loop as Python."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hpo.snippet.average_text import AverageLines


class Loop(NamedTuple):
    """What the loop depends on.

    Attributes:
        split: the lines that make noisy labels and the parts. scales: whether there is `standardised`.
        floats, float_labels: whether inputs and labels are floating-point numbers.
        views: augmented views of each minibatch; 0 for data that is not augmented. clean: whether one without follows.
        keeps_last: whether an epoch's last incomplete batch is trained.
        optimizer_schedules: hyperparameter → its key in PyTorch's parameter groups. regularizer_schedules: names.
        switches: whether an optimizer has train() and eval().
        hyper, static: the regularizer's hyperparameters, and which of them are plain values.
        regularizes, has_state: whether there are `form_gradient` and `initial_state`.
        accumulate: micro-batches of each minibatch. buffers: whether the network has any.
        average: the lines that update the average of the weights, which is evaluated.
        metric: the name of what `evaluate` returns besides the loss.
    """

    split: Sequence[str]
    scales: bool
    floats: bool
    float_labels: bool
    views: int
    clean: bool
    keeps_last: bool
    optimizer_schedules: Mapping[str, str]
    switches: bool
    regularizer_schedules: Sequence[str]
    hyper: Mapping[str, Any]
    static: Sequence[str]
    regularizes: bool
    has_state: bool
    accumulate: int
    buffers: bool
    average: AverageLines
    metric: str


def loop_text(loop: Loop) -> str:
    """The function `train`."""
    metric, evaluated = loop.metric, "average" if any(loop.average) else "network"
    lines = [
        *_before(loop),
        "for epoch in range(1, EPOCHS + 1):",
        *_indented(_epoch(loop)),
        *_indented([
            "train_loss = total / len(order)",
            *loop.average.after_epoch,
            *_switch(loop, "eval"),
            f"validation_loss, score = evaluate({evaluated}, inputs[held_out], labels[held_out])",
            *_switch(loop, "train"),
            f'validation = f"validation_loss {{validation_loss:.6f}}  validation_{metric} {{score:.6f}}"',
            'print(f"epoch {epoch}  train_loss {train_loss:.6f}  {validation}")',
        ]),
        *_switch(loop, "eval"),
        f"test_loss, score = evaluate({evaluated}, test_inputs, test_labels)",
        f'print(f"test_loss {{test_loss:.6f}}  test_{metric} {{score:.6f}}")',
        f"return {evaluated}",
    ]  # fmt: skip
    return "\n".join(["def train():", '    """Trains the network and returns it."""', *_indented(lines)])


def _before(loop: Loop) -> list[str]:
    lines = ["inputs, true_labels, test_inputs, test_labels = load_samples()", *loop.split]
    if loop.floats:
        lines.append("inputs, test_inputs = inputs.to(DTYPE), test_inputs.to(DTYPE)")
    if loop.float_labels:
        lines.append("labels, test_labels = labels.to(DTYPE), test_labels.to(DTYPE)")
    if loop.scales:
        lines.append("train_inputs = inputs[training]")
        lines.append("inputs, test_inputs = (standardised(each, train_inputs) for each in (inputs, test_inputs))")
    lines += ["network = initial_network()", "optimizers = new_optimizers(network)"]
    lines += ["average = copy.deepcopy(network)"] * any(loop.average)
    lines += _switch(loop, "train")
    if loop.optimizer_schedules:
        lines.append("groups = [group for optimizer in optimizers for group in optimizer.param_groups]")
    for name, key in loop.optimizer_schedules.items():
        lines.append(f'{name}_groups = [(group, group["{key}"]) for group in groups if "{key}" in group]')
    if loop.regularizes:
        lines.append("hyper = {")
        for name, value in loop.hyper.items():
            kind = "torch.bool" if isinstance(value, bool) else "DTYPE"
            shown = repr(value) if name in loop.static else f"torch.tensor({value!r}, dtype={kind})"
            lines.append(f'    "{name}": {shown},')
        lines.append("}")
        lines += [f'initial_{name} = hyper["{name}"]' for name in loop.regularizer_schedules]
        static = ", {" + ", ".join(f'"{name}": {loop.hyper[name]!r}' for name in loop.static) + "}"
        arguments = "{name: p.detach().clone() for name, p in network.named_parameters()}"
        given = arguments + (static if loop.static else "")
        lines.append(f"state = initial_state({given})" if loop.has_state else "state = {}")
    count = "-(-len(training) // BATCH_SIZE)" if loop.keeps_last else "len(training) // BATCH_SIZE"
    return [*lines, f"steps_per_epoch = {count}", "step = 0"]


def _epoch(loop: Loop) -> list[str]:
    shuffled = 'order = training[torch.randperm(len(training), generator=stream(SEED, "data", "order", epoch))]'
    lines = [shuffled]
    if not loop.keeps_last:
        lines.append("order = order[: steps_per_epoch * BATCH_SIZE]")
    return [*lines, "total = 0.0", "for batch in order.split(BATCH_SIZE):", *_indented(_step(loop))]


def _step(loop: Loop) -> list[str]:
    lines = []
    for name, key in loop.optimizer_schedules.items():
        lines.append(f"factor = {name}_schedule(step, EPOCHS * steps_per_epoch, steps_per_epoch)")
        lines.append(f"for group, initial in {name}_groups:")
        lines.append(f'    group["{key}"] = initial * factor')
    for name in loop.regularizer_schedules:
        called = f"{name}_schedule(step, EPOCHS * steps_per_epoch, steps_per_epoch)"
        lines.append(f'hyper["{name}"] = initial_{name} * {called}')
    lines += _gradient(loop) if loop.regularizes else _plain_gradient(loop)
    return [
        *lines,
        "for optimizer in optimizers:",
        "    optimizer.step()",
        "total += loss.item() * len(batch)",
        "step += 1",
        *loop.average.after_step,
    ]


def _plain_gradient(loop: Loop) -> list[str]:
    if loop.accumulate == 1:
        return [f"loss = {_mean_loss(loop, 'batch')}", "network.zero_grad()", "loss.backward()"]
    return [
        "network.zero_grad()",
        "loss = 0",
        f"for part in batch.split(BATCH_SIZE // {loop.accumulate}):",
        f"    part_loss = {_mean_loss(loop, 'part')} / {loop.accumulate}",
        "    part_loss.backward()",
        "    loss += part_loss.detach()",
    ]


def _mean_loss(loop: Loop, batch: str) -> str:
    view = f"augment(inputs[{batch}], {batch}, epoch, 0)" if loop.views else f"inputs[{batch}]"
    return f"sample_losses(network({view}), labels[{batch}]).mean()"


def _gradient(loop: Loop) -> list[str]:
    params = "params = {name: p.detach().clone() for name, p in network.named_parameters()}"
    set_gradient = "for name, parameter in network.named_parameters():"
    if loop.accumulate == 1:
        return [params, *_objective(loop, "batch"), set_gradient, "    parameter.grad = gradient[name]"]
    return [
        params,
        "losses, gradients = [], []",
        f"for part in batch.split(BATCH_SIZE // {loop.accumulate}):",
        *_indented(_objective(loop, "part")),
        "    losses.append(loss)",
        "    gradients.append(gradient)",
        "loss = torch.stack(losses).mean()",
        set_gradient,
        "    parameter.grad = torch.stack([gradient[name] for gradient in gradients]).mean(0)",
    ]


def _objective(loop: Loop, batch: str) -> list[str]:
    """The gradient of a batch or a part of one, its mean loss, and the buffers after it."""
    views = [f"augment(inputs[{batch}], {batch}, epoch, {view})" for view in range(loop.views)]
    views += [f"inputs[{batch}]"] * (loop.clean or not views)
    lines = [
        f"views = torch.stack([{', '.join(views)}])",
        f"objective = Objective(network, sample_losses, views, labels[{batch}], step, epoch)",
        "gradient, state, _ = form_gradient(objective, params, state, hyper)",
        f"loss, {'buffers' if loop.buffers else '_'} = objective.first",
    ]
    if loop.buffers:
        lines += ["for name, buffer in network.named_buffers():", "    buffer.copy_(buffers[name])"]
    return lines


def _switch(loop: Loop, mode: str) -> list[str]:
    if not loop.switches:
        return []
    return ["for optimizer in optimizers:", f'    if hasattr(optimizer, "{mode}"):', f"        optimizer.{mode}()"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
