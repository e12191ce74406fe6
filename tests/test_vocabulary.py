"""The tiled pass: independent of tiling, light in memory, faithful to every head it accepts."""

import math
import weakref

import pytest
import torch
from transformers import AutoModelForCausalLM, Cohere2Config, Gemma2Config, GraniteConfig, LlamaConfig

from dante.errors import DanteError
from dante.losses.base import LinearLoss
from dante.losses.ce import CE
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import SupervisedTokens
from dante.losses.vocabulary import projection
from dante.losses.vocabulary.head import Head, check_head
from dante.losses.vocabulary.scoring import Reference, token_scores
from dante.losses.vocabulary.tile import auto_tile_tokens
from tests import reference

TOKENS, WIDTH, VOCAB = 13, 6, 29


class AutogradCE(LinearLoss):
    """Cross-entropy through the general path: only a function of the logits."""

    def per_token(self, logits_TV, tile):
        return torch.nn.functional.cross_entropy(logits_TV, tile.labels, reduction="none")


class EntropyPenalty(LinearLoss):
    """The entropy of the predictions, with its analytic gradient: −p (log p + H)."""

    def on_tile(self, tile, coefficients):
        log_p = tile.log_probabilities()
        p = log_p.exp()
        entropy = -(p * log_p).sum(dim=1)
        tile.add_gradient(-coefficients[:, None] * p * (log_p + entropy[:, None]))
        return entropy


@pytest.fixture(autouse=True)
def few_rows_at_a_time(monkeypatch):
    """Tiles of these tests fit a core's cache whole; several row blocks per tile are what a real vocabulary gives."""
    monkeypatch.setattr(projection, "_CACHE_BYTES", 512)


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(1)
    draw = {"generator": generator, "dtype": torch.float64}
    hidden = torch.randn(TOKENS, WIDTH, **draw).requires_grad_()
    weight = torch.randn(VOCAB, WIDTH, **draw).requires_grad_()
    bias = torch.randn(VOCAB, **draw).requires_grad_()
    labels = torch.randint(0, VOCAB, (TOKENS,), generator=generator)
    return hidden, weight, bias, labels


def tokens_of(labels):
    return SupervisedTokens(labels, torch.zeros_like(labels), {}, len(labels), 1)


def run(hidden, head, losses, labels, weights=None, tile_tokens=5, matmul_dtype=torch.float64):
    weights = weights or {loss.name: 1.0 for loss in losses}
    return vocabulary_pass(hidden, head, losses, weights, tokens_of(labels), matmul_dtype, tile_tokens)


@pytest.mark.parametrize("tile_tokens", [1, 2, 5, 12, 13, 14, 1000, None])
def test_tile_size_changes_nothing(tensors, tile_tokens):
    hidden, weight, bias, labels = tensors
    losses = [CE(Constant(1.0)), EntropyPenalty(Constant(1.0))]
    expected = reference.ce(reference.dense_logits(hidden, weight, bias), labels)
    expected = expected + reference.entropy_of_predictions(reference.dense_logits(hidden, weight, bias))
    result = run(hidden, Head(weight, bias), losses, labels, tile_tokens=tile_tokens)
    torch.testing.assert_close(result.total, expected, rtol=1e-12, atol=0)
    inputs = [hidden, weight, bias]
    torch.testing.assert_close(torch.autograd.grad(result.total, inputs), torch.autograd.grad(expected, inputs))


class RisingCE(CE):
    """CE whose every token counts more than the one before."""

    def coefficients(self, tokens):
        return torch.linspace(0.1, 1.0, len(tokens.labels), dtype=torch.float64)


@pytest.mark.parametrize("tile_tokens", [3, 1000])
def test_each_token_keeps_its_own_coefficient(tensors, tile_tokens):
    hidden, weight, _, labels = tensors
    log_p = (hidden @ weight.T).log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
    expected = -(torch.linspace(0.1, 1.0, len(labels), dtype=torch.float64) * log_p).sum()
    result = run(hidden, Head(weight), [RisingCE(Constant(1.0))], labels, tile_tokens=tile_tokens)
    inputs = [hidden, weight]
    torch.testing.assert_close(torch.autograd.grad(result.total, inputs), torch.autograd.grad(expected, inputs))


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("multiplier", [1.0, 0.25])
@pytest.mark.parametrize("with_bias", [False, True])
def test_bias_multiplier_and_softcap(tensors, softcap, multiplier, with_bias):
    hidden, weight, bias, labels = tensors
    bias = bias if with_bias else None
    logits = reference.dense_logits(hidden, weight, bias, multiplier, softcap)
    expected = reference.ce(logits, labels)
    result = run(hidden, Head(weight, bias, multiplier, softcap), [CE(Constant(1.0))], labels)
    inputs = [hidden, weight] + ([bias] if with_bias else [])
    torch.testing.assert_close(result.total, expected)
    torch.testing.assert_close(torch.autograd.grad(result.total, inputs), torch.autograd.grad(expected, inputs))


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_a_loss_that_only_defines_a_function_gets_the_same_gradient(tensors, softcap):
    hidden, weight, _, labels = tensors
    head = Head(weight, softcap=softcap)
    by_hand, by_autograd = (run(hidden, head, [loss(Constant(1.0))], labels) for loss in (CE, AutogradCE))
    torch.testing.assert_close(by_hand.total, by_autograd.total)
    torch.testing.assert_close(
        torch.autograd.grad(by_hand.total, [hidden, weight]), torch.autograd.grad(by_autograd.total, [hidden, weight])
    )


def test_losses_share_a_pass_without_touching_each_other(tensors):
    hidden, weight, _, labels = tensors
    losses = [CE(Constant(1.0)), CE(Constant(1.0), name="second"), AutogradCE(Constant(1.0))]
    losses.append(EntropyPenalty(Constant(1.0)))
    weights = {"ce": 0.5, "second": 0.2, "autogradce": 2.0, "entropypenalty": 0.1}
    together = run(hidden, Head(weight), losses, labels, weights)
    alone = [run(hidden, Head(weight), [loss], labels, weights) for loss in losses]
    total = sum(result.total for result in alone)
    torch.testing.assert_close(together.total, total)
    torch.testing.assert_close(
        torch.autograd.grad(together.total, [hidden, weight]), torch.autograd.grad(total, [hidden, weight])
    )
    for loss, result in zip(losses, alone, strict=True):
        torch.testing.assert_close(together.values[loss.name], result.values[loss.name])


def test_upstream_gradient_scales_and_a_second_backward_is_an_error(tensors):
    hidden, weight, _, labels = tensors
    total = run(hidden, Head(weight), [CE(Constant(1.0))], labels).total
    (once,) = torch.autograd.grad(run(hidden, Head(weight), [CE(Constant(1.0))], labels).total, hidden)
    (thrice,) = torch.autograd.grad(3 * total, hidden, retain_graph=True)
    torch.testing.assert_close(thrice, 3 * once)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(total, hidden)


def test_without_gradients_nothing_is_kept(tensors):
    hidden, weight, _, labels = tensors
    with torch.no_grad():
        result = run(hidden, Head(weight), [CE(Constant(1.0)), AutogradCE(Constant(1.0))], labels)
    assert not result.total.requires_grad
    torch.testing.assert_close(result.values["ce"], result.values["autogradce"])


def test_no_supervised_token_gives_zero_and_zero_gradients(tensors):
    hidden, weight, bias, labels = tensors
    tokens = SupervisedTokens(labels[:0], labels[:0], {}, 7, 1)
    result = vocabulary_pass(
        hidden[:0], Head(weight, bias), [CE(Constant(1.0))], {"ce": 1.0}, tokens, torch.float64, None
    )
    assert result.total.item() == 0.0
    for gradient in torch.autograd.grad(result.total, [hidden, weight, bias]):
        assert float(gradient.abs().max()) == 0.0


@pytest.mark.parametrize("losses", [[CE(Constant(1.0))], [CE(Constant(1.0)), AutogradCE(Constant(1.0))]])
def test_retained_for_backward_is_under_a_tenth_of_the_logits(losses):
    tokens, vocab, width = 512, 4096, 64
    hidden, weight = torch.randn(tokens, width, requires_grad=True), torch.randn(vocab, width, requires_grad=True)
    labels = torch.randint(0, vocab, (tokens,))
    saved = []

    def pack(tensor):
        saved.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run(hidden, Head(weight), losses, labels, tile_tokens=64, matmul_dtype=torch.float32)
    alive = [tensor for reference_ in saved if (tensor := reference_()) is not None]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in alive}
    d_weight_bytes = vocab * width * 4
    retained = sum(storages.values()) - d_weight_bytes
    assert 0 < retained < 0.1 * tokens * vocab * 4
    # Nothing hides outside of autograd's own list either.
    held = [v for v in vars(result).values() if isinstance(v, torch.Tensor)]
    assert max(t.untyped_storage().nbytes() for t in held) <= tokens * 8


@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.bfloat16])
def test_bf16_operands_stay_close_to_float64(weight_dtype, products):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(96, 128, generator=generator)
    weight = (0.1 * torch.randn(2048, 128, generator=generator)).to(weight_dtype)
    labels = torch.randint(0, 2048, (96,), generator=generator)
    exact = [t.double().requires_grad_() for t in (hidden, weight)]
    expected = reference.ce(reference.dense_logits(*exact), labels)
    ours = [t.clone().requires_grad_() for t in (hidden, weight)]
    result = run(ours[0], Head(ours[1]), [CE(Constant(1.0))], labels, tile_tokens=32, matmul_dtype=torch.bfloat16)
    assert result.total.dtype == torch.float32
    assert result.total.item() == pytest.approx(expected.item(), rel=1e-3)
    for mine, true in zip(torch.autograd.grad(result.total, ours), torch.autograd.grad(expected, exact), strict=True):
        assert float((mine.double() - true).norm() / true.norm()) < 1e-2
        assert mine.dtype in (torch.float32, weight_dtype)


@pytest.fixture
def rounded():
    """Tensors of a bf16 pass, several tiles of several cached rows, and a bias."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(96, 128, generator=generator, requires_grad=True)
    weight = (0.1 * torch.randn(2048, 128, generator=generator)).requires_grad_()
    return hidden, weight, torch.randint(0, 2048, (96,), generator=generator)


def rounded_run(rounded, tile_tokens=32):
    """Total and gradients."""
    hidden, weight, labels = rounded
    losses = [CE(Constant(1.0)), EntropyPenalty(Constant(1.0))]
    result = run(hidden, Head(weight), losses, labels, tile_tokens=tile_tokens, matmul_dtype=torch.bfloat16)
    return [result.total.detach(), *torch.autograd.grad(result.total, [hidden, weight])]


@pytest.mark.parametrize("tile_tokens", [7, 95, 96, None])
def test_tile_size_changes_a_bf16_pass_by_rounding_alone(rounded, tile_tokens, products):
    for ours, theirs in zip(rounded_run(rounded, tile_tokens), rounded_run(rounded), strict=True):
        assert float((ours - theirs).norm()) < 2e-4 * float(theirs.norm())


def test_a_bf16_pass_is_the_same_to_the_bit_again_and_on_two_threads(rounded, products):
    expected, threads = rounded_run(rounded), torch.get_num_threads()
    try:
        for number in (1, 2, 1):
            torch.set_num_threads(number)
            for again, first in zip(rounded_run(rounded), expected, strict=True):
                assert torch.equal(again, first)
    finally:
        torch.set_num_threads(threads)


def test_evaluation_in_bf16_is_close_to_float64(rounded, products):
    hidden, weight, labels = (tensor.detach() for tensor in rounded)
    scores = token_scores(Head(weight.bfloat16()), hidden.bfloat16(), labels, tile_tokens=40)
    exact = token_scores(Head(weight.double()), hidden.double(), labels)
    torch.testing.assert_close(scores.log_probability.double(), exact.log_probability, rtol=0, atol=2e-2)
    torch.testing.assert_close(scores.entropy.double(), exact.entropy, rtol=0, atol=2e-2)


@pytest.mark.parametrize("setting", ["ieee", "none"])
def test_bf16_mode_does_not_leak_into_other_products(setting, products):
    settings = torch.backends.mkldnn.matmul
    before, settings.fp32_precision = settings.fp32_precision, setting
    hidden, weight = torch.randn(8, 4), torch.randn(16, 4)
    try:
        run(hidden, Head(weight), [CE(Constant(1.0))], torch.zeros(8, dtype=torch.int64), matmul_dtype=torch.bfloat16)
        assert settings.fp32_precision == setting
    finally:
        settings.fp32_precision = before


def test_tile_budget():
    assert auto_tile_tokens(49_152, torch.device("cpu")) == 640
    assert auto_tile_tokens(10_000_000, torch.device("cpu")) == 64


SHAPE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "granite-logits_scaling": GraniteConfig(**SHAPE, logits_scaling=4.0),
    "cohere2-logit_scale": Cohere2Config(**SHAPE, logit_scale=0.25),
    "gemma2-softcap": Gemma2Config(**SHAPE, final_logit_softcapping=2.0),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_label_scores_equal_the_models_own_logits(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.float64).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0)  # logits large enough for a softcap to bend them
    check_head(model)
    ids = torch.randint(0, 40, (1, 9))
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits[0, :-1]
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, :-1]
    labels = ids[0, 1:].clone()
    labels[3] = own[3].argmax()
    scores = token_scores(Head.of(model), hidden, labels, tile_tokens=3)
    expected = -torch.stack(reference.token_losses(own, labels))
    torch.testing.assert_close(scores.log_probability, expected)
    assert scores.is_argmax.tolist() == (own.argmax(dim=1) == labels).tolist()
    assert scores.is_argmax[3]
    torch.testing.assert_close(scores.confidence, own.softmax(dim=1).amax(dim=1))
    torch.testing.assert_close(scores.entropy, torch.distributions.Categorical(logits=own).entropy())
    assert scores.kl is None


@pytest.mark.parametrize("tile_tokens", [1, 4, 100])
def test_divergence_from_a_reference_equals_the_dense_one(tile_tokens):
    """Two models of different width and one vocabulary; KL(reference ‖ model), not the other way round."""
    torch.manual_seed(1)
    small, large = Head(torch.randn(50, 6).double()), Head(torch.randn(50, 9).double(), torch.randn(50).double())
    mine, theirs = torch.randn(11, 6).double(), torch.randn(11, 9).double()
    labels = torch.randint(0, 50, (11,))
    scores = token_scores(small, mine, labels, Reference(large, theirs), tile_tokens=tile_tokens)
    p, q = large.logits(theirs).softmax(dim=1), small.logits(mine).softmax(dim=1)
    torch.testing.assert_close(scores.kl, (p * (p / q).log()).sum(dim=1))
    assert not torch.allclose(scores.kl, (q * (q / p).log()).sum(dim=1))
    assert scores.agrees.tolist() == (p.argmax(dim=1) == q.argmax(dim=1)).tolist()
    torch.testing.assert_close(scores.entropy, -(q * q.log()).sum(dim=1))
    torch.testing.assert_close(scores.reference_entropy, -(p * p.log()).sum(dim=1))
    torch.testing.assert_close(scores.reference_confidence, p.amax(dim=1))
    assert scores.reference_argmax.tolist() == p.argmax(dim=1).tolist()
    assert scores.argmax.tolist() == q.argmax(dim=1).tolist()
    same = token_scores(small, mine, labels, Reference(small, mine), tile_tokens=tile_tokens)
    assert same.kl.abs().max() < 1e-12
    assert same.agrees.all()


def test_entropy_of_single_precision_keeps_its_digits_at_large_logits():
    """log Z − Σ p z would lose them: at logits around 1e4 fp32 resolves 1e-3."""
    torch.manual_seed(2)
    weight, bias = torch.randn(VOCAB, WIDTH), torch.full((VOCAB,), 1e4)
    hidden = torch.randn(TOKENS, WIDTH)
    labels = torch.zeros(TOKENS, dtype=torch.long)
    head = Head(weight, bias)
    scores = token_scores(head, hidden, labels, tile_tokens=5)
    exact = torch.distributions.Categorical(logits=head.logits(hidden).double()).entropy()
    torch.testing.assert_close(scores.entropy.double(), exact, rtol=3e-6, atol=1e-7)


def test_entropy_of_a_certain_and_of_a_clueless_model():
    logits = torch.zeros(2, VOCAB)
    logits[0, 3] = 1e5  # every other probability is zero in fp32
    certain, clueless = token_scores(Head(torch.eye(VOCAB)), logits, torch.tensor([3, 3])).entropy.tolist()
    assert certain == 0.0
    assert clueless == pytest.approx(math.log(VOCAB), rel=1e-6)


def test_a_reference_of_another_vocabulary_is_refused():
    head, other = Head(torch.randn(50, 6)), Head(torch.randn(51, 6))
    with pytest.raises(DanteError, match="vocabulary"):
        token_scores(head, torch.randn(3, 6), torch.zeros(3, dtype=torch.long), Reference(other, torch.randn(3, 6)))


def test_a_head_that_does_more_than_its_config_says_is_refused():
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"])
    model.lm_head.register_forward_hook(lambda module, inputs, output: output * 3)
    with pytest.raises(DanteError, match="LlamaForCausalLM"):
        check_head(model)
