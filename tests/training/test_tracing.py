"""A traced function gives the function's numbers, and the function runs itself where a trace would be wrong."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from hpo.errors import UsageError
from hpo.training import tracing
from hpo.training.trace import Trace
from hpo.training.tracing import CHECKED_CALLS, TracedFunction

aten = torch.ops.aten


def batches(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, dtype=torch.float64, generator=generator) for _ in range(count)]


def test_replay_gives_the_functions_numbers_and_is_used() -> None:
    calls = 0

    def function(x: Tensor) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        probe = x.new_zeros(x.shape)
        return {"gradient": vmap(grad(lambda row: (row.sin() * 1).square().sum()))(x + probe)}

    traced = TracedFunction(function)
    for x in batches(5):
        expected = 2 * x.sin() * x.cos()
        torch.testing.assert_close(traced(x)["gradient"], expected, rtol=1e-12, atol=1e-12)
    assert calls == 5, "run, record and check three times, then only replays"


def test_operations_that_change_nothing_are_left_out() -> None:
    traced = TracedFunction(lambda x: (x + x.new_zeros(x.shape)) * x.pow(1.0) + x.new_zeros(4))
    x, y = batches(2)
    traced(x)
    assert traced._trace is not None
    assert [str(operation.function) for operation in traced._trace.operations] == ["aten.mul.Tensor"]
    torch.testing.assert_close(traced(y), y * y)


def test_sum_that_broadcasts_zeros_keeps_its_shape() -> None:
    traced = TracedFunction(lambda x: x[:, :1] + x.new_zeros(3, 4))
    for x in batches(3):
        assert traced(x).shape == (3, 4)


def test_function_that_counts_its_calls_is_refused() -> None:
    count = 0

    def function(x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return x * count

    with pytest.raises(UsageError):
        TracedFunction(function)(batches(1)[0])


def test_function_that_remembers_its_last_argument_is_refused() -> None:
    """In the first two calls its state is the same: the first argument."""
    seen = [torch.zeros(3, 4, dtype=torch.float64)]

    def function(x: Tensor) -> Tensor:
        seen.append(x)
        return x + seen[-2]

    traced = TracedFunction(function)
    with pytest.raises(UsageError):
        for x in batches(CHECKED_CALLS):
            traced(x)


@pytest.mark.parametrize("switch", [lambda x: x * 0, lambda x: x.sin(), lambda x: x * 1.0001, lambda x: x + 1e-3])
def test_function_that_changes_later_is_refused_where_it_is_compared(switch: Callable[[Tensor], Tensor]) -> None:
    later = False
    traced = TracedFunction(lambda x: switch(2 * x) if later else 2 * x)
    for x in batches(5):
        torch.testing.assert_close(traced(x), 2 * x)
    later, traced.compare = True, True
    with pytest.raises(UsageError):
        traced(batches(1)[0])


def test_a_changed_python_constant_is_noticed() -> None:
    scale = [2.0]
    traced = TracedFunction(lambda x: x * torch.tensor(scale[0], dtype=x.dtype))
    for x in batches(4):
        traced(x)
    scale[0], traced.compare = 3.0, True
    with pytest.raises(UsageError):
        traced(batches(1)[0])


def test_compare_compares_the_next_call_only() -> None:
    calls = 0

    def function(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x.exp()

    traced = TracedFunction(function)
    for x in batches(4):
        traced(x)
    before, traced.compare = calls, True
    for x in batches(3):
        torch.testing.assert_close(traced(x), x.exp())
    assert calls == before + 1


def test_a_kernels_rounding_error_before_a_kink_keeps_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of almost 0 has another sign by the kernel, and the function's own operations decide."""

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        return torch.mm(first, second) - 1e-9

    monkeypatch.setattr(tracing, "faster_product", lambda function, _: kernel if function is aten.mm.default else None)
    changed = False

    def function(x: Tensor) -> Tensor:
        outputs = torch.mm(x, torch.zeros(4, 4, dtype=x.dtype)).sign()
        return outputs + 1 if changed else outputs

    traced = TracedFunction(function)
    for x in batches(4):
        traced(x)
    assert traced._trace is not None and torch.equal(traced(batches(1)[0]), torch.full((3, 4), -1.0).double())
    changed = traced.compare = True
    with pytest.raises(UsageError):
        traced(batches(1)[0])


def test_a_grown_rounding_error_gives_up_the_trace_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operations are the same and the numbers differ, as when a GPU adds in another order before a sign."""
    traced = TracedFunction(lambda x: x.sign())
    for x in batches(4):
        traced(x)
    trace = traced._trace
    assert trace is not None
    code = trace._code
    trace._code = lambda given: -code(given)
    monkeypatch.setattr(Trace, "without_kernels", Trace.__call__)
    traced.compare = True
    for x in batches(2):
        torch.testing.assert_close(traced(x), x.sign())
    assert traced._trace is None


def test_function_that_exports_numbers_from_pytorch_is_called_directly() -> None:
    """No operation shows that, so the trace would contain the numbers of the first call."""
    traced = TracedFunction(lambda x: x + torch.from_numpy(x.numpy().copy()))
    for x in batches(6):
        torch.testing.assert_close(traced(x), 2 * x)
    assert traced._trace is None


def test_function_that_reads_values_is_called_directly() -> None:
    traced = TracedFunction(lambda x: x if x.sum() > 0 else -x)
    for x in batches(6):
        torch.testing.assert_close(traced(x), x if x.sum() > 0 else -x)


def test_nan_of_one_row_does_not_count_as_a_difference() -> None:
    traced = TracedFunction(lambda x: x.log())
    x = torch.tensor([[1.0], [-1.0]])  # a row that is NaN next to one that is not
    traced(x)
    assert traced(x)[0] == 0 and traced._trace is not None


def test_operations_that_write_in_place_are_replayed() -> None:
    def function(x: Tensor) -> Tensor:
        running = x.clone()
        running.mul_(2).add_(1)
        return running

    traced = TracedFunction(function)
    for x in batches(4):
        torch.testing.assert_close(traced(x), 2 * x + 1)
    assert traced._trace is not None


def test_arguments_are_not_kept_or_changed() -> None:
    traced = TracedFunction(lambda tree, x: {"same": tree["a"], "sum": tree["a"] + x})
    for x in batches(4):
        before = x.clone()
        result = traced({"a": x}, x)
        assert result["same"] is x and torch.equal(x, before)
        torch.testing.assert_close(result["sum"], 2 * x)


def test_operations_that_return_a_list_of_one_are_replayed() -> None:
    traced = TracedFunction(lambda x: sum(part.sin() for part in x.split(4, 1)))
    for x in batches(4):
        torch.testing.assert_close(traced(x), x.sin())
    assert traced._trace is not None
