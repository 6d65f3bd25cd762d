"""Points in time as people write them."""

import pytest

from recot.data.moments import seconds, written


@pytest.mark.parametrize(("said", "moment"), [
    ("2024-03-01", 1709251200), ("2024-03-01T01:00:00+01:00", 1709251200), ("2024", 1704067200), (2024, 1704067200),
    (1709251200, 1709251200), ("1709251200", 1709251200), ("-86400", -86400), ("1969-12-31", -86400)])
def test_dates_are_of_utc_and_four_digits_are_a_year(said, moment):
    assert seconds(said) == moment


@pytest.mark.parametrize("said", ["yesterday", "01/02/2024", "2024-13-01", "1.5"])
def test_what_is_neither_a_date_nor_a_number_of_seconds_is_refused(said):
    with pytest.raises(ValueError):  # noqa: PT011  # of pandas; who asks says what was said
        seconds(said)


def test_a_moment_is_written_as_a_date_where_a_calendar_has_it():
    assert written(seconds("2024-03-01")) == "2024-03-01T00:00:00Z"
    assert written(10**18) == "1000000000000000000"
