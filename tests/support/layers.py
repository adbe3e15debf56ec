"""The layers of torch.nn, each in a tiny network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

CLASSES = 3


class Case(NamedTuple):
    """A layer and the shape of a sample that it takes.

    Attributes:
        build: makes the layer. shape: of a sample that it takes. tokens: whether these are whole numbers, 0 … 4.
        plain: the same layer, with parameters of the same names, in operations that PyTorch can differentiate twice;
            where it cannot do so with the layer itself.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (4,)
    tokens: bool = False
    plain: Callable[[], nn.Module] | None = None


class Between(nn.Module):
    """The layer between a linear map of its inputs' last axis and a classifier."""

    def __init__(self, case: Case, gain: bool = False, plain: bool = False) -> None:
        """
        Args:
            gain: adds a parameter outside layers, so that per-sample gradients are computed one by one.
        """
        super().__init__()
        self.before = nn.Identity() if case.tokens else nn.Linear(case.shape[-1], case.shape[-1]).double()
        self.layer = (case.plain if plain and case.plain else case.build)().double()
        self.layer.eval()
        with torch.no_grad():
            features = self._hidden(samples(case, 2)).shape[1]
        self.after = nn.Linear(features, CLASSES).double()
        self.gain = nn.Parameter(torch.ones(CLASSES).double()) if gain else None

    def _hidden(self, inputs: Tensor) -> Tensor:
        hidden = self.layer(self.before(inputs))
        return (hidden[0] if isinstance(hidden, tuple) else hidden).flatten(1)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.after(self._hidden(inputs))
        return outputs if self.gain is None else outputs * self.gain


class Attention(nn.Module):
    """Self-attention over [N, T, C], with a mask that the case chooses."""

    def __init__(self, mask: str = "", **settings: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, **settings)
        self.mask, self.batch_first = mask, settings.get("batch_first", False)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs if self.batch_first else inputs.transpose(0, 1)
        settings: dict[str, Any] = {"need_weights": False}
        length = inputs.shape[1 if self.batch_first else 0]
        if self.mask == "causal":
            settings["attn_mask"] = torch.ones(length, length, dtype=torch.bool).triu(1)
        if self.mask == "padding":
            count = inputs.shape[0 if self.batch_first else 1]
            settings["key_padding_mask"] = (torch.arange(length) >= 2).expand(count, length)
        if self.mask == "weights":
            settings["need_weights"] = True
        outputs = self.attention(inputs, inputs, inputs, **settings)[0]
        return outputs if self.batch_first else outputs.transpose(0, 1)


class Encoder(nn.Module):
    """A Transformer's encoder over [N, T, C]."""

    def __init__(self, causal: bool = False, layers: int = 0, **settings: Any) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, **settings)
        self.encoder = nn.TransformerEncoder(layer, layers) if layers else layer
        self.causal, self.batch_first = causal, settings.get("batch_first", False)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs if self.batch_first else inputs.transpose(0, 1)
        length = inputs.shape[1 if self.batch_first else 0]
        mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=inputs.dtype) if self.causal else None
        outputs = self.encoder(inputs, mask, is_causal=self.causal)
        return outputs if self.batch_first else outputs.transpose(0, 1)


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)


class Bag(nn.Embedding):
    """EmbeddingBag as an embedding followed by a method of tensors."""

    def __init__(self, together: str) -> None:
        super().__init__(5, 3)
        self.together = together

    def forward(self, inputs: Tensor) -> Tensor:
        return getattr(super().forward(inputs), self.together)(1)


class Padded(nn.Module):
    """A Transformer's encoder over sequences of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        padding = (inputs[..., 0] > 0.5) & (torch.arange(inputs.shape[1]) > 0)
        return self.encoder(inputs, src_key_padding_mask=padding).masked_fill(padding[..., None], 0.0)


class LastState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True, proj_size=2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.lstm(inputs)[1][0][0]


class ComplexBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.tensor([1 + 0.5j, 0.3, -0.2j], dtype=torch.complex128))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(inputs) * self.filter, n=4)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.first(inputs).tanh())


class Gain(nn.Module):
    """A parameter without an axis, as a temperature is."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.3))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.gain.exp()


class TwoInputs(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs, inputs)


SEQUENCE, IMAGE, VOLUME, SET = (2, 6), (2, 4, 4), (2, 2, 2, 3), (3, 4)


def attend(inputs: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(inputs, inputs.tanh(), inputs.sin(), is_causal=True)


def lifted_by_mask(inputs: Tensor) -> Tensor:
    hidden = inputs.clone()
    hidden[hidden < 0] = 0.3
    hidden[hidden[:, 0] > 0.4] = inputs.new_tensor(0.2)
    return hidden


def solve(inputs: Tensor) -> Tensor:
    return torch.linalg.solve(inputs @ inputs.mT + torch.eye(3, dtype=inputs.dtype), inputs)


def turn(images: Tensor) -> Tensor:
    rows = torch.tensor([[0.8, -0.6, 0.0], [0.6, 0.8, 0.1]], dtype=images.dtype).expand(len(images), 2, 3)
    return F.grid_sample(images, F.affine_grid(rows, list(images.shape), False), align_corners=False)


LAYERS: dict[str, Case] = {
    "Linear": Case(lambda: nn.Linear(4, 3)),
    "Linear over positions": Case(lambda: nn.Linear(4, 3), SET),
    "Bilinear": Case(lambda: TwoInputs(nn.Bilinear(4, 4, 3))),
    "Conv1d": Case(lambda: nn.Conv1d(2, 3, 3, padding=1), SEQUENCE),
    "Conv1d, circular": Case(lambda: nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), SEQUENCE),
    "Conv2d": Case(lambda: nn.Conv2d(2, 3, 3), IMAGE),
    "Conv2d, reflect": Case(lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), IMAGE),
    "Conv2d, replicate": Case(lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="replicate"), IMAGE),
    "Conv2d, groups": Case(lambda: nn.Conv2d(2, 4, 2, groups=2, stride=2, dilation=2), IMAGE),
    "Conv3d": Case(lambda: nn.Conv3d(2, 2, 2), VOLUME),
    "ConvTranspose1d": Case(lambda: nn.ConvTranspose1d(2, 2, 3, stride=2), SEQUENCE),
    "ConvTranspose2d": Case(lambda: nn.ConvTranspose2d(2, 2, 2, stride=2), IMAGE),
    "ConvTranspose3d": Case(lambda: nn.ConvTranspose3d(2, 1, 2), VOLUME),
    "Unfold": Case(lambda: nn.Unfold(2), IMAGE),
    "Fold": Case(lambda: nn.Sequential(nn.Unfold(2), nn.Fold((4, 4), 2)), IMAGE),
    "RNN": Case(lambda: nn.RNN(4, 3, batch_first=True), SET),
    "LSTM": Case(lambda: nn.LSTM(4, 3, batch_first=True), SET),
    "GRU": Case(lambda: nn.GRU(4, 3, batch_first=True), SET),
    "GRU, bidirectional": Case(lambda: nn.GRU(4, 2, 2, batch_first=True, bidirectional=True), SET),
    "LSTM, projected": Case(lambda: nn.LSTM(4, 3, batch_first=True, proj_size=2), SET),
    "GRU without bias": Case(lambda: nn.GRU(4, 3, bias=False, batch_first=True), SET),
    "LSTM, last state": Case(LastState, SET),
    "LSTMCell": Case(lambda: nn.LSTMCell(4, 3)),
    "GRUCell": Case(lambda: nn.GRUCell(4, 3)),
    "RNNCell": Case(lambda: nn.RNNCell(4, 3)),
    "Embedding": Case(lambda: nn.Embedding(5, 3), (4,), True),
    "Embedding, padding": Case(lambda: nn.Embedding(5, 3, padding_idx=0), (4,), True),
    "EmbeddingBag": Case(lambda: nn.EmbeddingBag(5, 3), (4,), True, lambda: Bag("mean")),
    "EmbeddingBag, sum": Case(lambda: nn.EmbeddingBag(5, 3, mode="sum"), (4,), True, lambda: Bag("sum")),
    "EmbeddingBag, max": Case(lambda: nn.EmbeddingBag(5, 3, mode="max"), (4,), True, lambda: Bag("amax")),
    "BatchNorm1d": Case(lambda: nn.BatchNorm1d(4)),
    "BatchNorm2d": Case(lambda: nn.BatchNorm2d(2), IMAGE),
    "BatchNorm1d without statistics": Case(lambda: nn.BatchNorm1d(4, track_running_stats=False)),
    "InstanceNorm1d": Case(lambda: nn.InstanceNorm1d(2, affine=True), SEQUENCE),
    "InstanceNorm1d, running": Case(lambda: nn.InstanceNorm1d(2, affine=True, track_running_stats=True), SEQUENCE),
    "InstanceNorm2d, running": Case(lambda: nn.InstanceNorm2d(2, track_running_stats=True), IMAGE),
    "InstanceNorm3d, running": Case(lambda: nn.InstanceNorm3d(2, track_running_stats=True), VOLUME),
    "LayerNorm": Case(lambda: nn.LayerNorm(4), SET),
    "LayerNorm, plain": Case(lambda: nn.LayerNorm(4, elementwise_affine=False), SET),
    "RMSNorm": Case(lambda: nn.RMSNorm(4), SET),
    "GroupNorm": Case(lambda: nn.GroupNorm(2, 2), IMAGE),
    "LocalResponseNorm": Case(lambda: nn.LocalResponseNorm(2), IMAGE),
    "weight_norm": Case(lambda: parametrizations.weight_norm(nn.Linear(4, 3))),
    "spectral_norm": Case(lambda: parametrizations.spectral_norm(nn.Linear(4, 3))),
    "orthogonal": Case(lambda: parametrizations.orthogonal(nn.Linear(4, 3))),
    "tied weights": Case(Tied),
    "a gain without an axis": Case(Gain),
    "one_hot": Case(lambda: Function(lambda x: F.one_hot(x, 5).double()), (4,), True),
    "assignment by a mask": Case(lambda: Function(lifted_by_mask)),
    "MaxPool1d": Case(lambda: nn.MaxPool1d(2), SEQUENCE),
    "MaxPool2d": Case(lambda: nn.MaxPool2d(3, 1, padding=1), IMAGE),
    "MaxPool3d": Case(lambda: nn.MaxPool3d(2), VOLUME),
    "MaxUnpool2d": Case(lambda: Function(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)), IMAGE),
    "AvgPool1d": Case(lambda: nn.AvgPool1d(2), SEQUENCE),
    "AvgPool2d": Case(lambda: nn.AvgPool2d(2), IMAGE),
    "AvgPool3d": Case(lambda: nn.AvgPool3d(2), VOLUME),
    "LPPool2d": Case(lambda: nn.LPPool2d(2, 2), IMAGE),
    "AdaptiveAvgPool1d": Case(lambda: nn.AdaptiveAvgPool1d(2), SEQUENCE),
    "AdaptiveAvgPool2d": Case(lambda: nn.AdaptiveAvgPool2d(3), IMAGE),
    "AdaptiveAvgPool2d, 1": Case(lambda: nn.AdaptiveAvgPool2d(1), IMAGE),
    "AdaptiveAvgPool3d": Case(lambda: nn.AdaptiveAvgPool3d(1), VOLUME),
    "AdaptiveMaxPool1d": Case(lambda: nn.AdaptiveMaxPool1d(2), SEQUENCE),
    "AdaptiveMaxPool2d": Case(lambda: nn.AdaptiveMaxPool2d(2), IMAGE),
    "Upsample, nearest": Case(lambda: nn.Upsample(scale_factor=2), IMAGE),
    "Upsample, bilinear": Case(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    "Upsample, bicubic": Case(lambda: nn.Upsample(scale_factor=2, mode="bicubic"), IMAGE),
    "PixelShuffle": Case(lambda: nn.PixelShuffle(2), (4, 2, 2)),
    "ChannelShuffle": Case(lambda: nn.ChannelShuffle(2), (4, 2, 2)),
    "ReflectionPad2d": Case(lambda: nn.ReflectionPad2d(1), IMAGE),
    "ReplicationPad2d": Case(lambda: nn.ReplicationPad2d(1), IMAGE),
    "CircularPad2d": Case(lambda: nn.CircularPad2d(1), IMAGE),
    "ZeroPad2d": Case(lambda: nn.ZeroPad2d(1), IMAGE),
    "ConstantPad1d": Case(lambda: nn.ConstantPad1d(1, 2.0), SEQUENCE),
    "Flatten": Case(lambda: nn.Sequential(nn.Flatten(), nn.Unflatten(1, (2, -1))), IMAGE),
    "ReLU, in place": Case(lambda: nn.ReLU(inplace=True)),
    "PReLU": Case(nn.PReLU),
    "PReLU, channels": Case(lambda: nn.PReLU(2), IMAGE),
    "Hardsigmoid": Case(nn.Hardsigmoid, plain=lambda: Function(lambda x: (x / 6 + 0.5).clamp(0, 1))),
    "GLU": Case(nn.GLU),
    "Softmin": Case(lambda: nn.Softmin(1)),
    "Softmax": Case(lambda: nn.Softmax(1)),
    "LogSoftmax": Case(lambda: nn.LogSoftmax(1)),
    "CosineSimilarity": Case(lambda: Function(lambda x: F.cosine_similarity(x, x.sin(), 2)), SET),
    "PairwiseDistance": Case(lambda: Function(lambda x: F.pairwise_distance(x, x.sin())), SET),
    "MultiheadAttention": Case(lambda: Attention(batch_first=True), SET),
    "MultiheadAttention, time first": Case(Attention, SET),
    "MultiheadAttention, causal": Case(lambda: Attention("causal", batch_first=True), SET),
    "MultiheadAttention, padding": Case(lambda: Attention("padding", batch_first=True), SET),
    "MultiheadAttention, weights": Case(lambda: Attention("weights", batch_first=True), SET),
    "TransformerEncoderLayer": Case(lambda: Encoder(batch_first=True), SET),
    "TransformerEncoderLayer, time first": Case(Encoder, SET),
    "TransformerEncoderLayer, causal": Case(lambda: Encoder(True, batch_first=True), SET),
    "TransformerEncoderLayer, norm first": Case(lambda: Encoder(batch_first=True, norm_first=True), SET),
    "TransformerEncoder": Case(lambda: Encoder(layers=2, batch_first=True), SET),
    "TransformerDecoderLayer": Case(lambda: TwoInputs(nn.TransformerDecoderLayer(4, 2, 5, 0.0, batch_first=True)), SET),
    "TransformerEncoder, padding": Case(Padded, SET),
    "Transformer": Case(lambda: TwoInputs(nn.Transformer(4, 2, 1, 1, 5, 0.0, batch_first=True)), SET),
    "scaled_dot_product_attention": Case(lambda: Function(attend), SET),
    "complex buffer": Case(ComplexBuffer),
    "fft": Case(lambda: Function(lambda x: torch.fft.rfft(x).abs())),
    "einsum": Case(lambda: Function(lambda x: torch.einsum("nti,nsi->nts", x, x)), SET),
    "cumsum": Case(lambda: Function(lambda x: x.cumsum(1))),
    "sort": Case(lambda: Function(lambda x: x.sort(1).values)),
    "norm": Case(lambda: Function(lambda x: F.normalize(x, dim=1))),
    "where": Case(lambda: Function(lambda x: torch.where(x > 0, x, x * x))),
    "linalg.solve": Case(lambda: Function(solve), SET),
    "grid_sample": Case(lambda: Function(turn), IMAGE),
}  # fmt: skip

ACTIVATIONS = ("ELU", "Hardswish", "Softplus", "GELU", "SiLU", "Mish", "Softshrink", "LogSigmoid")
LAYERS |= {name: Case(getattr(nn, name)) for name in ACTIVATIONS}


def samples(case: Case, count: int, seed: int = 0) -> Tensor:
    """Inputs [count, ...] of a case, float64 or int64."""
    generator = torch.Generator().manual_seed(seed)
    if case.tokens:
        return torch.randint(5, (count, *case.shape), generator=generator)
    return torch.randn(count, *case.shape, generator=generator, dtype=torch.float64)


def network(case: Case, seed: int, gain: bool = False, plain: bool = False) -> nn.Module:
    """Float64; the same values for the same seed, plain or not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Between(case, gain, plain).train()
