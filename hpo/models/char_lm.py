"""A small causal language model over characters or other tokens.

Vaswani et al., "Attention is all you need", arXiv:1706.03762, as a decoder with the norms before each part, the
initial weights and the tied embedding of GPT-2 (Radford et al., 2019).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpo.errors import require
from hpo.models.layers import check_dropout, check_whole, dropout_layers

SD = 0.02  # of initial weights
EXPANSION = 4  # hidden features of a block's multilayer perceptron, by its width


@dataclass(frozen=True)
class CharLM:
    """A transformer that predicts the next token at every position of a sequence from the tokens up to there.

    Attributes:
        vocabulary: number of different tokens. length: the longest sequence. width: features of a token.
        heads: attention heads, which divide the width. blocks: attention and multilayer perceptron, so many times.
        tied: whether the output layer has the weights of the embedding, so that no rule gives per-sample gradients;
            hpo then computes these one by one.
        dropout: probability with which a feature is zeroed in training, after the embedding and each part of a block.
    """

    vocabulary: int = 30
    length: int = 64
    width: int = 64
    heads: int = 4
    blocks: int = 2
    tied: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_whole(self, "vocabulary", "length", "width", "heads", "blocks")
        require(self.width % self.heads == 0, "CharLM: heads", self.heads, f"a divisor of the width {self.width}")
        check_dropout(self)

    def __call__(self) -> nn.Module:
        """A freshly initialised network: tokens int64 [N, T] -> logits [N, T, vocabulary]."""
        return _CharLM(self)


class _Attention(nn.Module):
    """Causal attention with several heads, [N, T, width] -> the same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        parts = self.inputs(inputs).chunk(3, -1)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))


class _Block(nn.Module):
    def __init__(self, settings: CharLM) -> None:
        super().__init__()
        width = settings.width
        drop = dropout_layers(settings.dropout)
        self.attention = nn.Sequential(nn.LayerNorm(width), _Attention(width, settings.heads), *drop)
        hidden = EXPANSION * width
        drop = dropout_layers(settings.dropout)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), *drop
        )

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs + self.attention(inputs)
        return inputs + self.mlp(inputs)


class _CharLM(nn.Module):
    def __init__(self, settings: CharLM) -> None:
        super().__init__()
        self.embedding = nn.Embedding(settings.vocabulary, settings.width)
        self.positions = nn.Embedding(settings.length, settings.width)
        self.dropout = nn.Sequential(*dropout_layers(settings.dropout))
        self.blocks = nn.Sequential(*(_Block(settings) for _ in range(settings.blocks)))
        self.norm = nn.LayerNorm(settings.width)
        self.head = nn.Linear(settings.width, settings.vocabulary, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=SD)
            if isinstance(layer, nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if settings.tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        positions = self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        hidden = self.blocks(self.dropout(self.embedding(tokens) + positions))
        return self.head(self.norm(hidden))
