"""MKL's bf16 products: right however a matrix lies, refused where they cannot be, and not used where they are wrong."""

import platform

import pytest
import torch
from torch import nn

from dante.errors import DanteError
from dante.losses.vocabulary import mkl
from dante.models.mkl_linear import avoid_emulation

needs_mkl = pytest.mark.skipif(not mkl.available(), reason="this torch carries no MKL with bf16 products")


@pytest.mark.skipif(
    not torch.backends.mkl.is_available() or (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="torch has no MKL here",
)
def test_torch_with_mkl_on_linux_has_the_product_and_it_multiplies_right():
    assert mkl.available()


def matrices(rows, inner, columns):
    """Each operand as it lies, transposed, and cut out of a larger one."""
    draw = torch.Generator().manual_seed(0)
    for shape in ((rows, inner), (inner, columns)):
        large = torch.randn(shape[0] + 3, shape[1] + 5, generator=draw).bfloat16()
        cut = large[2:-1, 1:-4]
        yield (
            cut.contiguous(),
            cut.T.clone(memory_format=torch.contiguous_format).T,
            cut,
            large.T.contiguous().T[2:-1, 1:-4],
        )


@needs_mkl
@pytest.mark.parametrize(
    "size", [(37, 65, 29), (1, 65, 29), (37, 1, 29), (37, 65, 1), (1, 1, 1), (0, 4, 3), (4, 0, 3), (4, 3, 0)]
)
@pytest.mark.parametrize("add", [False, True])
def test_a_product_is_right_however_its_operands_lie(size, add):
    rows, _, columns = size
    lefts, rights = matrices(*size)
    for a in lefts:
        for b in rights:
            whole = torch.ones(rows + 2, columns + 3)
            mkl.product(a, b, whole[1:-1, 2:-1], add=add)
            exact, scale = a.double() @ b.double() + float(add), a.double().abs() @ b.double().abs() + 1
            assert bool(((whole[1:-1, 2:-1].double() - exact).abs() <= 1e-6 * scale).all())
            whole[1:-1, 2:-1] = 1.0
            assert bool((whole == 1).all())  # nothing else was written


@needs_mkl
@pytest.mark.parametrize(
    ("a", "b", "out"),
    [
        (torch.ones(4, 6).bfloat16()[:, ::2], torch.ones(3, 5).bfloat16(), torch.ones(4, 5)),
        (torch.ones(4, 3).bfloat16(), torch.ones(4, 5).bfloat16(), torch.ones(4, 5)),
        (torch.ones(4, 3).bfloat16(), torch.ones(3, 5).bfloat16(), torch.ones(5, 5)),
        (torch.ones(4, 3).bfloat16(), torch.ones(3, 5).bfloat16(), torch.ones(5, 4).T),
    ],
    ids=["every second column", "inner sizes differ", "another result", "transposed result"],
)
def test_matrices_that_it_cannot_multiply_are_refused(a, b, out):
    with pytest.raises(ValueError, match=r"@|strides"):
        mkl.product(a, b, out)


def stand_in(change):
    """A correct product in plain torch, with one fault."""

    def product(a, b, out, add):
        sums = a.float() @ b.float()
        change(sums, out, add)

    return product


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("none", lambda sums, out, add: out.copy_(out * add + sums)),
        ("never adds", lambda sums, out, add: out.copy_(sums)),
        ("always adds", lambda sums, out, add: out.add_(sums)),
        ("rounds its result", lambda sums, out, add: out.copy_((out * add + sums).bfloat16())),
        ("leaves one entry", lambda sums, out, add: out.view(-1)[1:].copy_((out * add + sums).view(-1)[1:])),
        ("does nothing", lambda sums, out, add: None),
    ],
)
def test_a_product_that_is_wrong_is_not_used(fault, change):
    assert mkl._multiplies_right(stand_in(change)) == (fault == "none")


@needs_mkl
def test_where_the_symbol_is_absent_there_is_no_product(monkeypatch):
    monkeypatch.setattr(mkl, "_SYMBOL", "cblas_gemm_of_no_library")
    try:
        mkl.available.cache_clear()
        mkl._function.cache_clear()
        assert not mkl.available()
    finally:
        monkeypatch.undo()
        mkl.available.cache_clear()
        mkl._function.cache_clear()
    assert mkl.available()


def test_the_product_is_torch_s_own_where_the_cpu_multiplies_bf16_unless_asked_for(monkeypatch):
    monkeypatch.delenv(mkl.CHOICE, raising=False)
    monkeypatch.setattr(mkl, "available", lambda: True)
    for takes in (True, False):
        monkeypatch.setattr(mkl, "onednn_takes_bf16", lambda takes=takes: takes)
        assert mkl.chosen() is not takes
    monkeypatch.setenv(mkl.CHOICE, "torch")
    assert not mkl.chosen()
    monkeypatch.setattr(mkl, "onednn_takes_bf16", lambda: True)
    monkeypatch.setenv(mkl.CHOICE, "mkl")
    assert mkl.chosen()
    monkeypatch.setenv(mkl.CHOICE, "abacus")
    with pytest.raises(DanteError, match="abacus"):
        mkl.chosen()


def two_layers(dtype, bias):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40, bias=bias), nn.Linear(40, 16, bias=bias)).to(dtype)


def gradients(model, autocast, dtype):
    """Result, gradient of the input, gradients of the weights."""
    x = torch.randn(3, 7, 24, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = model(x)
    out.float().square().sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in model.parameters())]


@pytest.fixture
def emulating(monkeypatch):
    """A CPU whose bf16 products torch would emulate."""
    monkeypatch.setattr(mkl, "onednn_takes_bf16", lambda: False)


@needs_mkl
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_layers_give_what_autocast_gives_and_gradients_no_further_from_exact_ones(emulating, bias, dtype):
    exact = gradients(two_layers(dtype, bias).double(), False, torch.float64)
    theirs = gradients(two_layers(dtype, bias), True, dtype)
    model = two_layers(dtype, bias)
    assert avoid_emulation(model) == 2
    ours = gradients(model, True, dtype)
    for mine, other, true in zip(ours, theirs, exact, strict=True):
        assert (mine.dtype, mine.shape) == (other.dtype, other.shape)
        error, their_error = (float((found.double() - true).norm() / true.norm()) for found in (mine, other))
        assert error <= 1.1 * their_error
    if dtype == torch.float32:  # a weight's gradient keeps its digits
        assert not torch.equal(ours[2], ours[2].bfloat16().float())
    assert float((ours[0].float() - theirs[0].float()).abs().max()) <= 2**-7 * float(theirs[0].float().abs().max())


@needs_mkl
def test_layers_in_fp32_and_layers_that_need_no_gradient_are_untouched_or_right(emulating):
    model, plain = two_layers(torch.float32, True), two_layers(torch.float32, True)
    avoid_emulation(model)
    for mine, other in zip(gradients(model, False, torch.float32), gradients(plain, False, torch.float32), strict=True):
        assert torch.equal(mine, other)
    half = two_layers(torch.bfloat16, False).requires_grad_(False)
    expected = half(torch.ones(2, 24).bfloat16())
    avoid_emulation(half)
    torch.testing.assert_close(half(torch.ones(2, 24).bfloat16()), expected)


def test_where_the_cpu_multiplies_bf16_or_has_no_mkl_layers_stay(monkeypatch):
    model = two_layers(torch.float32, False)
    for takes, available in ((True, True), (False, False)):
        monkeypatch.setattr(mkl, "onednn_takes_bf16", lambda takes=takes: takes)
        monkeypatch.setattr(mkl, "available", lambda available=available: available)
        assert avoid_emulation(model) == 0
    assert "forward" not in vars(model[0])


@needs_mkl
def test_selective_recomputation_keeps_the_products(emulating, monkeypatch):
    from torch.utils.checkpoint import checkpoint

    from dante.students.blocks import _selective

    model, calls = two_layers(torch.float32, False), []
    avoid_emulation(model)
    multiply = mkl.product
    monkeypatch.setattr(mkl, "product", lambda *operands, **options: calls.append(multiply(*operands, **options)))
    x = torch.randn(5, 24, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = checkpoint(model, x, **_selective())
    assert len(calls) == 2
    out.float().sum().backward()
    assert len(calls) == 6  # two gradients of each layer, no product of the forward again
