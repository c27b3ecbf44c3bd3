"""The blocks of the predictors: causal transformers whose blocks are steered by an action through
zero-initialised AdaLN (Peebles & Xie, arXiv 2212.09748).

The same weights are run in two ways. `forward` takes whole sequences (B, T, width), as training does. `step`
takes the next tokens of many candidates, time first, (T, B, N, width), with the keys and values of the tokens
before them. With two or three keys, sums over whole tensors are quicker than attention kernels, and no axis
is ever moved. What candidates share has N = 1 and is computed once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

KeyValue = tuple[Tensor, Tensor]  # of some tokens, each (t, B, N or 1, heads, head_dim)


class Modulation(nn.Linear):
    """Embedded actions (…, width) -> shift, scale and gate for attention and for the MLP (…, 6·width)."""

    one: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width, 6 * width)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        one = torch.zeros(6, width)
        one[1::3] = 1  # scales are 1 + what the action says
        self.register_buffer("one", one.flatten(), persistent=False)

    def forward(self, embedded: Tensor) -> Tensor:
        return F.linear(embedded, self.weight, self.bias + self.one)


class QueryKeyValue(nn.Linear):
    """Features (…, width) -> query, key and value (…, 3·inner), or parts of them."""

    def __init__(self, width: int, inner_dim: int) -> None:
        super().__init__(width, 3 * inner_dim, bias=False)
        self.sizes = [inner_dim, 2 * inner_dim]

    def query(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.split(self.sizes)[0])

    def key_value(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.split(self.sizes)[1])


class Layers(nn.Sequential):
    """One layer after the other; in evaluation those that then do nothing are passed over."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            if self.training or not isinstance(layer, (nn.Identity, nn.Dropout)):
                x = layer(x)
        return x


class Block(nn.Module):
    """Attention and MLP; the action gives each a shift, a scale and a gate, at first zero: the identity."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        head_dim: int,
        mlp_dim: int,
        dropout: float,
        window: int,
        inner_norm: bool,
        relative_positions: bool,
    ) -> None:
        super().__init__()
        self.attention = Attention(
            width=width, heads=heads, head_dim=head_dim, dropout=dropout, window=window,
            inner_norm=inner_norm, relative_positions=relative_positions,
        )  # fmt: skip
        self.mlp = Layers(
            nn.LayerNorm(width) if inner_norm else nn.Identity(),
            nn.Linear(width, mlp_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_dim, width),
            nn.Dropout(dropout),
        )
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = Modulation(width)

    def steer(self, embedded: Tensor) -> Tensor:
        """Embedded actions (…, width) -> shift, scale and gate for attention and for the MLP (…, 6·width)."""
        return self.modulation(embedded)

    def forward(self, x: Tensor, steering: Tensor) -> Tensor:
        """x (B, T, width), steering (B, T, 6·width) -> (B, T, width)."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = steering.chunk(6, -1)
        x = x + gate * self.attention(self.norm(x) * scale + shift)
        return x + mlp_gate * self.mlp(self.norm(x) * mlp_scale + mlp_shift)

    def step(
        self, x: Tensor, steering: Tensor, past: KeyValue | None, *, outputs: int
    ) -> tuple[Tensor, KeyValue]:
        """x (T, B, N or 1, width), steering (T, B, N, 6·width), what earlier tokens left -> the last
        `outputs` tokens, what later ones will look at."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = steering.chunk(6, -1)
        attended, past = self.attention.step(torch.addcmul(shift, self.norm(x), scale), past, outputs=outputs)
        if outputs == 0:
            return x[:0], past
        if outputs < len(x):
            x, gate, mlp_shift = x[-outputs:], gate[-outputs:], mlp_shift[-outputs:]
            mlp_scale, mlp_gate = mlp_scale[-outputs:], mlp_gate[-outputs:]
        x = torch.addcmul(x, gate, attended)
        hidden = torch.addcmul(mlp_shift, self.norm(x), mlp_scale)
        return torch.addcmul(x, mlp_gate, self.mlp(hidden)), past


class Attention(nn.Module):
    """Causal attention: a token sees itself and the window - 1 before it."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        head_dim: int,
        dropout: float,
        window: int,
        inner_norm: bool,
        relative_positions: bool,
    ) -> None:
        super().__init__()
        self.heads, self.window, self.dropout = heads, window, dropout
        self.inner_dim = heads * head_dim
        self.norm = nn.LayerNorm(width) if inner_norm else nn.Identity()
        self.qkv = QueryKeyValue(width, self.inner_dim)
        self.output = Layers(nn.Linear(self.inner_dim, width), nn.Dropout(dropout))
        # added to the score of a token 0, 1, … steps back
        self.distance_bias = nn.Parameter(torch.zeros(heads, window)) if relative_positions else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        qkv = self.qkv(self.norm(x))
        q, k, v = rearrange(qkv, "b t (three heads d) -> three b heads t d", three=3, heads=self.heads)
        tokens = x.shape[-2]
        mask, causal = None, self.distance_bias is None and bool(tokens <= self.window)
        if not causal:
            places = torch.arange(tokens, device=x.device)
            distance = places[:, None] - places
            bias = q.new_zeros(1, self.window) if self.distance_bias is None else self.distance_bias
            mask = bias.to(q.dtype)[:, distance.clamp(0, self.window - 1)]
            mask = mask.masked_fill((distance < 0) | (distance >= self.window), -torch.inf)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout
        )
        return self.output(rearrange(attended, "b heads t d -> b t (heads d)"))

    def step(self, x: Tensor, past: KeyValue | None, *, outputs: int) -> tuple[Tensor, KeyValue]:
        """(T, B, N, width), keys and values of earlier tokens -> (outputs, B, N, width), those that the next
        token will see."""
        x = self.norm(x)
        alone = past is None and not self.training  # the first token looks at itself only: no question asked
        asking = min(outputs, len(x) - alone)
        if asking == len(x):
            q, k, v = (self._heads(t) for t in self.qkv(x).chunk(3, -1))
        else:
            k, v = (self._heads(t) for t in self.qkv.key_value(x).chunk(2, -1))
            q = self._heads(self.qkv.query(x[len(x) - asking :])) if asking else x[:0]
        keys, values = (k, v) if past is None else (_joined(past[0], k), _joined(past[1], v))
        kept = max(0, len(keys) + 1 - self.window)
        following = keys[kept:], values[kept:]
        if outputs == 0:
            return x[:0], following
        attended = [v[:1]] if asking < outputs else []
        for i in range(asking):  # by index: a graph cannot be stored that takes apart nothing
            end = len(keys) - asking + 1 + i
            seen = slice(max(0, end - self.window), end)
            attended.append(self._look(q[i : i + 1], keys[seen], values[seen]))
        whole = attended[0] if len(attended) == 1 else torch.cat(attended)
        return self.output(whole.flatten(-2)), following

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def _look(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One token's query (1, B, N, heads, head_dim) looks at some tokens (t, B, N or 1, heads, head_dim),
        itself the last -> the shape of the query."""
        score = (query * keys).sum(-1)
        scale = query.shape[-1] ** -0.5
        if self.distance_bias is None:
            score = score * scale
        else:
            bias = self.distance_bias[:, : len(keys)].flip(1).T[:, None, None]
            score = torch.add(bias, score, alpha=scale)
        share = F.dropout(score.softmax(0), self.dropout, self.training)[..., None].to(query.dtype)
        return (share * values).sum(0, keepdim=True)


def _joined(past: Tensor, new: Tensor) -> Tensor:
    """(t, B, N or 1, …) and (T, B, N, …) -> (t + T, B, N, …)."""
    return torch.cat([past.expand(-1, -1, new.shape[2], -1, -1), new])

