"""The comparisons, in the order in which they are run and printed."""

from benchmarks.core import Work
from benchmarks.works import attribution, density, hessian, jacobian, ntk, score, trace

WORKS: dict[str, Work] = {
    work.name: work
    for work in (ntk.WORK, jacobian.WORK, hessian.WORK, trace.WORK, density.WORK, attribution.WORK, score.WORK)
}
