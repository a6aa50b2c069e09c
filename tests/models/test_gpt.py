"""The GPT of transitions: what a token's distribution depends on, and that the cache changes nothing."""

import pytest
import torch

from dmemm.models.gpt import Decoding, Gpt


@pytest.fixture(params=[0, 2], ids=["plain", "after-a-goal"])
def gpt(request):
    torch.manual_seed(0)
    model = Gpt(4, 5, 3, request.param, 16, 2, 2, hidden=(3,)).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def test_a_token_depends_on_all_before_it_but_the_hidden_ones(gpt):
    tokens = torch.randint(5, (1, gpt.length), generator=torch.Generator().manual_seed(1))
    logits = gpt(tokens)[0]
    assert logits.shape == (gpt.length, 5)
    for place in range(gpt.length):
        other = tokens.clone()
        other[0, place] = (other[0, place] + 1) % 5
        changed = (gpt(other)[0] - logits).abs().amax(dim=1) > 1e-6
        hidden = place >= gpt.prefix and (place - gpt.prefix) % 4 == 3
        seen = [at == place if hidden else at >= place for at in range(gpt.length)]
        assert changed.tolist() == seen


def test_each_slot_has_an_embedding_and_a_distribution_of_its_own(gpt):
    tokens = torch.zeros(1, 1, dtype=torch.long)
    gpt.position.zero_()
    first = [gpt(tokens.expand(1, place + 1))[0, place] for place in range(gpt.prefix, gpt.prefix + 4)]
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(first) for b in first[:i])


def test_decoding_with_the_cache_gives_what_the_whole_sequences_give(gpt):
    generator = torch.Generator().manual_seed(2)
    sequences = torch.randint(5, (3, gpt.prefix + 2), generator=generator)
    decoding = Decoding(gpt, sequences)
    kept = sequences
    for step in range(gpt.length - kept.shape[1]):
        if step in (1, 4, 9, 10):
            rows = torch.randint(len(kept), (4 + step % 2,), generator=generator)
            decoding.select(rows)
            kept = kept[rows]
        tokens = torch.randint(5, (len(kept),), generator=generator)
        kept = torch.cat([kept, tokens[:, None]], dim=1)
        decoding.append(tokens)
        assert torch.equal(decoding.sequences, kept)
        torch.testing.assert_close(decoding.logits, gpt(kept)[:, -1], rtol=1e-4, atol=1e-5)
