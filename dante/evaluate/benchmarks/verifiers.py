"""Whether an answer is right, by somebody else's judgement beside the harness's."""

from abc import ABC, abstractmethod
from importlib.util import find_spec

from dante.look.metric import Metric


class Verifier(ABC):
    """A second judge of answers.

    Attributes:
        package: that has to be installed.
        install: how.
    """

    package: str
    install: str

    @property
    def present(self) -> bool:
        """Its package is installed."""
        return find_spec(self.package) is not None

    @abstractmethod
    def metric(self) -> Metric:
        """How its verdict reads."""

    @abstractmethod
    def right(self, answer: str, target: str) -> bool:
        """Whether an answer says what the set says.

        Args:
            answer: of the model, whole.
            target: what the harness compares with.
        """


class MathVerify(Verifier):
    """`math-verify`: reads expressions out of the answer and compares values, so that 0.5, 1/2 and \\frac12 are one.

    Of GSM8K's targets, which are worked out, the number behind `####` counts.
    """

    package, install = "math_verify", "pip install 'dante[benchmarks]'"

    def metric(self) -> Metric:
        return Metric("math-verify", True, "higher", "the last expression of the answer has the right value")

    def right(self, answer: str, target: str) -> bool:
        from math_verify import parse, verify

        wanted = target.rpartition("####")[2].strip()
        gold, found = parse(wanted), parse(answer)
        return bool(found) and bool(verify(gold, found))
