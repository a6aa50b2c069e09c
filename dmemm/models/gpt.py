"""A GPT over discretised transitions, as in Trajectory Transformer (Janner et al., 2021), with a key-value cache."""

import torch
from torch import Tensor, nn
from torch.nn import functional

_EXPANSION = 4


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_wide = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, _EXPANSION * width), nn.Linear(_EXPANSION * width, width)

    def forward(self, x: Tensor, visible: Tensor, cache: Tensor | None, start: int) -> Tensor:
        """Map x (rows, tokens, width) to its shape; `cache` (2, rows, heads, length, ·) holds places before `start`."""
        qkv = self.attention(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if cache is not None:
            end = start + x.shape[1]
            cache[0, :, :, start:end], cache[1, :, :, start:end] = key, value
            key, value = cache[0, :, :, :end], cache[1, :, :, :end]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        x = x + self.merge(mixed.transpose(1, 2).flatten(-2))
        return x + self.narrow(functional.gelu(self.wide(self.norm_wide(x))))


class Gpt(nn.Module):
    """p(next token | tokens) for sequences of `prefix` tokens followed by transitions of `slots` tokens each.

    Each slot has its own token embedding and its own output layer.

    Args:
        slots: tokens of a transition.
        tokens: size of a slot's vocabulary.
        length: transitions of a sequence, at most.
        prefix: tokens before the first transition.
        width: units of a layer.
        blocks: transformer blocks.
        heads: attention heads, a divisor of `width`.
        hidden: slots whose tokens are predicted but masked from attention.
    """

    offsets: Tensor
    predicted: Tensor
    visible: Tensor

    def __init__(
        self, slots: int, tokens: int, length: int, prefix: int, width: int, blocks: int, heads: int,
        hidden: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        """Build the layers."""
        super().__init__()
        self.slots, self.prefix, self.length = slots, prefix, length * slots + prefix
        self.tokens, self.width, self.heads = tokens, width, heads
        self.embedding = nn.Embedding((slots + prefix) * tokens, width)
        self.position = nn.Parameter(torch.zeros(self.length, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Parameter(torch.empty(slots, width, tokens))
        for weight in (self.head, *(module.weight for module in self.modules() if isinstance(module, nn.Linear))):
            nn.init.normal_(weight, std=0.02)
        nn.init.normal_(self.embedding.weight, std=0.02)
        places = torch.arange(self.length)
        # The slot that each place holds (the prefix's count after the others), and the slot that it predicts.
        held = torch.where(places < prefix, slots + places, (places - prefix) % slots)
        self.register_buffer("offsets", held * tokens, persistent=False)
        self.register_buffer("predicted", (places + 1 - prefix) % slots, persistent=False)
        seen = ~torch.isin(held, torch.tensor(hidden, dtype=held.dtype))
        self.register_buffer("visible", torch.ones(self.length, self.length).tril().bool() & seen, persistent=False)

    def new_cache(self, rows: int) -> Tensor:
        """Allocate the keys and values of sequences: (blocks, 2, rows, heads, length, width / heads)."""
        shape = (len(self.blocks), 2, rows, self.heads, self.length, self.width // self.heads)
        return self.position.new_empty(shape)

    def forward(self, tokens: Tensor, cache: Tensor | None = None, start: int = 0, last: bool = False) -> Tensor:
        """Return the logits of the token that follows each token.

        Args:
            tokens: int64, shape (rows, count), at the places from `start` on.
            cache: from `new_cache`; holds the places before `start` and receives those of `tokens`.
            start: place of the first token.
            last: return only the logits after the last token.

        Returns:
            Shape (rows, count, tokens), or (rows, tokens).
        """
        end = start + tokens.shape[1]
        x = self.embedding(tokens + self.offsets[start:end]) + self.position[start:end]
        for index, block in enumerate(self.blocks):
            x = block(x, self.visible[start:end, :end], None if cache is None else cache[index], start)
        if last:
            return self.norm(x[:, -1]) @ self.head[(end - self.prefix) % self.slots]  # no index that waits for a GPU
        return torch.einsum("rcw,cwt->rct", self.norm(x), self.head[self.predicted[start:end]])


class Decoding:
    """Sequences that grow token by token, to the model's length at most.

    Args:
        model: the distribution of the next token.
        sequences: initial tokens, int64, shape (rows, count).

    Attributes:
        logits: logits of the next token, shape (rows, tokens).
    """

    def __init__(self, model: Gpt, sequences: Tensor) -> None:
        """Evaluate the model on the initial tokens."""
        self.model, self.sequences = model, sequences
        self._cache = model.new_cache(len(sequences))
        self.logits = model(sequences, self._cache, last=True)

    def select(self, rows: Tensor) -> None:
        """Keep these rows; a row may be kept several times."""
        self.sequences, self.logits = self.sequences[rows], self.logits[rows]
        cache, end = self.model.new_cache(len(rows)), self.sequences.shape[1]
        cache[:, :, :, :, :end] = self._cache[:, :, :, :, :end].index_select(2, rows)
        self._cache = cache

    def append(self, tokens: Tensor) -> None:
        """Append a token to each sequence; `tokens` has shape (rows,)."""
        start = self.sequences.shape[1]
        self.sequences = torch.cat([self.sequences, tokens[:, None]], dim=1)
        self.logits = self.model(tokens[:, None], self._cache, start, last=True)

    def append_likeliest(self) -> Tensor:
        """Append the most likely token to each sequence; return them, shape (rows,)."""
        tokens = self.logits.argmax(dim=-1)
        self.append(tokens)
        return tokens
