"""Models of tokens: the input is the embedding's output, and the figures are those of that."""

import json
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spectral_audit.errors import RefusedError, UsageError
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.inputs.data.dataset import load_probe
from spectral_audit.inputs.data.tokens import from_embedding
from spectral_audit.inputs.spec import load_spec
from spectral_audit.measure import Settings, measure

WORDS, LENGTH, WIDTH = 11, 6, 4


class Reader(nn.Module):
    """Words and their places, a nonlinear layer, the mean over places."""

    def __init__(self, places: bool = True) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH) if places else None
        self.inner = nn.Linear(WIDTH, 5)
        self.head = nn.Linear(5, 3)

    def rest(self, e: Tensor) -> Tensor:
        if self.places is not None:
            e = e + self.places(torch.arange(e.shape[1]))
        return self.head(self.inner(e).tanh().mean(1))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.rest(self.words(tokens))


class Masked(Reader):
    def forward(self, tokens: Tensor) -> Tensor:
        return self.rest(self.words(tokens) * (tokens != 0)[..., None])


class Twice(Reader):
    def forward(self, tokens: Tensor) -> Tensor:
        return self.rest(self.words(tokens) + self.words(tokens))


class Offset(Reader):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens + 1)


class Tied(Reader):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) @ self.head.weight @ self.inner.weight @ self.out.weight.T

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(WIDTH, WORDS, bias=False)
        self.out.weight = self.words.weight


def tokens(n: int = 10) -> Tensor:
    return torch.randint(0, WORDS, (n, LENGTH), generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


def test_the_figures_are_those_of_the_model_written_from_the_embedding_on():
    model = Reader().eval()
    wrapped, e, said = from_embedding(model, tokens())
    assert e.equal(model.words(tokens()))
    assert wrapped(e).equal(model(tokens()))
    found = measure(wrapped, e, None, settings=Settings(attribution=None, dtype="float64"))
    inner = Reader().double().eval()
    inner.load_state_dict(model.state_dict())
    scale = e.double().flatten(1)
    X = (scale - scale.mean(0)).square().sum(1).mean().sqrt()
    J = torch.stack([torch.autograd.functional.jacobian(inner.rest, row[None].double())[0, :, 0] for row in e])
    centred = (J - J.mean(1, keepdim=True)).flatten(2)
    top = torch.linalg.matrix_norm(centred, 2)
    expected = torch.quantile(top, 0.95) * X / found.scales.output
    assert found.axes.input.worst.value == pytest.approx(float(expected), rel=1e-6)
    assert {layer.name for layer in found.layers} == {
        *("model.places.weight", "model.inner.weight", "model.inner.bias", "model.head.weight", "model.head.bias")
    }
    assert (said.code, said.severity) == ("input.tokens", "info")
    assert said.message == (
        "the input is tokens: Jacobian, scale and attribution are taken at the output of `words` (6×4); its table is "
        "not among the weights (44 numbers)"
    )


def test_a_tied_table_is_measured_where_else_it_stands():
    wrapped, e, said = from_embedding(Tied().eval(), tokens())
    assert "it is tied to another layer, and measured there alone (44 numbers)" in said.message
    found = measure(wrapped, e, None, settings=Settings(attribution=None))
    assert "model.words.weight" in {layer.name for layer in found.layers}


class Unembedding(Reader):
    def forward(self, tokens: Tensor) -> Tensor:
        return self.rest(self.words(tokens)) @ self.head.weight @ self.inner.weight @ self.words.weight.T


def test_a_table_that_the_model_reads_by_itself_stays_a_parameter():
    model = Unembedding().eval()
    wrapped, e, said = from_embedding(model, tokens())
    assert wrapped(e).equal(model(tokens()))
    assert "model.words.weight" in dict(wrapped.named_parameters())
    assert "measured there alone" in said.message
    plain = from_embedding(Reader().eval(), tokens())[0]
    assert "model.words.weight" not in dict(plain.named_parameters())


def test_the_model_itself_is_left_alone():
    model = Reader().eval()
    from_embedding(model, tokens())
    assert isinstance(model.words, nn.Embedding)
    assert not model.words._forward_pre_hooks


WRAP = "wrap the model in a module whose input is the embedding's output, and audit that."


@pytest.mark.parametrize(
    ("build", "x", "said"),
    [
        (
            Masked,
            tokens(),
            "the model uses the tokens for more than its embedding\n"
            "  expected  outputs that depend on the tokens through one embedding only\n"
            "  found     a difference of D when only the embedding knows them: a mask, token types, or a second table\n"
            f"  remedy    {WRAP}",
        ),
        (
            Twice,
            tokens(),
            "the tokens do not enter exactly one embedding once\n"
            "  expected  one torch.nn.Embedding called with the tokens as they are\n"
            "  found     2 calls: words, words\n"
            f"  remedy    {WRAP}",
        ),
        (
            Offset,
            tokens() - 1,
            "the tokens do not enter exactly one embedding once\n"
            "  expected  one torch.nn.Embedding called with the tokens as they are\n"
            "  found     0 calls among 2 embeddings\n"
            f"  remedy    {WRAP}",
        ),
        (
            Reader,
            tokens() - 1,
            "the model does not run on these tokens\n"
            "  expected  tokens (n, length) below the size of its embedding\n"
            "  found     tokens (6,) up to 8; IndexError: index out of range in self\n"
            "  remedy    check the vocabulary and the architecture.",
        ),
        (
            Reader,
            torch.cat([tokens(), tokens() + 1]),
            "tokens are out of the range of the embedding `words`\n"
            "  expected  whole numbers from 0 to 10\n"
            "  found     from 0 to 11\n"
            "  remedy    check the vocabulary that the data was made with.",
        ),
    ],
)
def test_what_would_be_another_function_is_refused(build, x, said):
    with pytest.raises(RefusedError) as caught:
        from_embedding(build().eval(), x)
    assert re.sub(r"difference of \S+", "difference of D", str(caught.value)) == said


def test_an_embedding_that_renormalises_itself_is_refused():
    model = Reader().eval()
    model.words.max_norm = 1.0
    with pytest.raises(RefusedError) as caught:
        from_embedding(model, tokens())
    assert str(caught.value) == (
        "the embedding `words` changes its own weights\n"
        "  expected  an embedding without max_norm\n"
        "  found     max_norm=1.0\n"
        "  remedy    renormalise its table once, and build it without max_norm."
    )


def spec(folder, x, text):
    np.savez(folder / "probe.npz", x=x, y=np.zeros(len(x), int))
    (folder / "audit.yaml").write_text("data: {path: probe.npz}\n" + text, encoding="utf-8")
    return load_spec(folder / "audit.yaml")


def test_whole_numbers_are_tokens_for_a_model_that_begins_with_an_embedding(tmp_path):
    model = Reader()
    assert load_probe(spec(tmp_path, tokens().numpy(), ""), model=model).x.dtype == torch.int64
    assert load_probe(spec(tmp_path, tokens().numpy(), ""), model=model.head).x.dtype == torch.float32
    assert load_probe(spec(tmp_path, tokens().double().numpy(), "input: {type: tokens}")).x.equal(tokens())
    assert load_probe(spec(tmp_path, tokens().numpy(), "input: {type: values}"), model=model).x.is_floating_point()
    with pytest.raises(RefusedError) as caught:
        load_probe(spec(tmp_path, np.full((3, 2), 0.5), "input: {type: tokens}"))
    assert str(caught.value) == (
        f"{tmp_path / 'probe.npz'}: array `x` holds no tokens\n"
        "  expected  whole numbers\n"
        "  found     0.5 at index (0, 0)\n"
        "  remedy    save token numbers, or remove `input.type: tokens`."
    )
    with pytest.raises(UsageError) as caught:
        load_probe(spec(tmp_path, tokens().numpy(), "input: {type: tokens, scale: 2}"))
    assert str(caught.value) == (
        f"{tmp_path / 'audit.yaml'}: tokens have no layout, scale, mean or std\n"
        "  expected  `input.type: tokens` alone, or `input.type: values` for numbers that are no tokens\n"
        "  found     `input` with other keys\n"
        "  remedy    remove them, or set `input.type: values`."
    )


NET = """
from tests.inputs.test_tokens import Reader
def build():
    return Reader()
"""


def test_a_model_of_tokens_is_scored(cli, tmp_path):
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    torch.save(Reader().state_dict(), tmp_path / "model.pt")
    spec(tmp_path, tokens(30).numpy(), "sample: {n: 20}")
    ran = cli("score", tmp_path / "model.pt", "--arch", f"{tmp_path / 'net.py'}:build", "-f", "json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert "input.tokens" in [f["code"] for f in report["findings"]]
    assert report["data"]["shape"] == [LENGTH, WIDTH]
    noise = cli(
        *(
            "score",
            tmp_path / "model.pt",
            "--arch",
            f"{tmp_path / 'net.py'}:build",
            "-f",
            "json",
            "--data",
            "synthetic",
        ),
        *("--n", 12),
    )
    assert noise.code == 0, noise.err
    said = {f["code"]: f["message"] for f in json.loads(noise.out)["findings"]}
    assert "random tokens" in said["data.synthetic"] and "input.tokens" in said


def exported(model, path, **options):
    torch.export.save(torch.export.export(model, (tokens(2),), **options), path)


WRITERS = {
    "export": lambda model, path: exported(model, path, dynamic_shapes=({0: torch.export.Dim("n")},)),
    "export for one batch size": exported,
    "script": lambda model, path: torch.jit.script(model).save(path),
    "trace": lambda model, path: torch.jit.trace(model, (tokens(2),)).save(path),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", [Reader, Unembedding])
@pytest.mark.parametrize("name", WRITERS)
def test_a_program_of_tokens_is_the_model_it_was_made_of(tmp_path, name, kind):
    model = kind().eval()
    WRITERS[name](model, str(tmp_path / "model"))
    program = load_checkpoint(tmp_path / "model", trust="code").program
    assert program is not None
    assert load_probe(spec(tmp_path, tokens().numpy(), ""), model=program).x.dtype == torch.int64
    wrapped, e, _ = from_embedding(program, tokens())
    expected, given, _ = from_embedding(model, tokens())
    assert e.equal(given)
    torch.testing.assert_close(wrapped(e), expected(given))
    assert {p.shape for p in wrapped.parameters()} == {p.shape for p in expected.parameters()}
