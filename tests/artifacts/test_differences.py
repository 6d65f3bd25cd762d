"""Labels: the smallest sets of settings, against every set there is."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from recot.artifacts.differences import flat, telling, text, typed

CONFIGS = st.lists(st.fixed_dictionaries({"a": st.integers(0, 2), "bb": st.integers(0, 1), "c.d": st.integers(0, 1)}),
                   min_size=1, max_size=6, unique_by=lambda each: tuple(sorted(each.items())))


@given(CONFIGS)
def test_no_other_config_has_the_settings_of_a_label_and_no_smaller_set_would_do(configs):
    for own, keys in zip(configs, telling(configs), strict=True):
        def alone(names, own=own):
            return sum(all(other[name] == own[name] for name in names) for other in configs) == 1

        assert alone(keys)
        assert not any(alone(names) for size in range(len(keys)) for names in combinations(own, size))


def test_keys_that_change_together_are_told_by_the_shortest():
    first, second = {"loss": "bpr", "loss.tau": 1, "seed": 0}, {"loss": "infonce", "loss.tau": 2, "seed": 0}
    assert telling([first, second]) == [["loss"], ["loss"]] and telling([first]) == [[]]
    assert telling([first, dict(first)]) == [[], []]


def test_one_config_among_many_that_differ_from_it_in_one_thing_each_names_all_of_these():
    base = {f"key{number:02}": 0 for number in range(24)}
    assert telling([base, *({**base, name: 1} for name in base)]) == [[*base], *([name] for name in base)]


def test_a_key_that_came_later_is_no_difference_to_a_config_without_it():
    assert telling([{"loss.scope": "all", "x": 1}, {"x": 2}]) == [["x"], ["x"]]
    assert telling([{"loss.scope": "domain"}, {}]) == [["loss.scope"], ["loss.scope"]]
    assert typed({}, ["loss.scope"]) == ["loss.scope=all"]


def test_settings_are_said_as_they_are_typed():
    assert dict(flat({"a": {"b": 1, "c": {}}, "d": [1]})) == {"a.b": 1, "a.c": {}, "d": [1]}
    assert [*map(text, (None, True, 0.5, "x", [1, "y"], {}))] == ["null", "true", "0.5", "x", "[1,y]", "{}"]
    assert text("recot.networks.tables.Tables", "model._target_") == "recot.networks.factorisation.Tables"
