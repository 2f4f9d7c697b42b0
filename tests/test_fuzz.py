"""A small sample of the fuzz campaign: every mutated file ends in an exit code, and the same one each time."""

from studies import fuzz


def test_every_mutated_file_ends_in_an_exit_code():
    tally = fuzz.campaign(range(300), seed=3, workers=1)
    assert tally.failures == []
    total = sum(tally.counts.values(), fuzz.Counter())
    assert sum(total.values()) == 300
    # The mutations do change what happens, in every way there is.
    assert set(total) == {"0", "2", "3", "4"}
    assert tally.peak < fuzz.MEMORY


def test_a_case_that_hangs_or_dies_is_a_failure():
    tally = fuzz.Tally()
    for codes in (("x", "hang", "hang"), ("x", "3", "101"), ("x", "ValueError", "3")):
        fuzz._count(tally, 0, fuzz.Ended(codes, "", 0, 0.0))
    fuzz._count(tally, 0, fuzz.Ended(("x", "3", "3"), "Traceback (most recent call last)", 0, 0.0))
    fuzz._count(tally, 0, fuzz.Ended(("x", "3", "3"), "", 3 << 30, 0.0))
    fuzz._count(tally, 0, fuzz.Ended(("x", "3", "4"), "", 0, 0.0))
    assert len(tally.failures) == 5
