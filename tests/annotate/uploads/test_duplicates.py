from annotate.uploads.duplicates import DuplicateIds


def test_an_id_is_new_once():
    seen = DuplicateIds()
    assert [seen.is_new(item) for item in ["1", "2", "1", "ü", "01", "ü"]] == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]


def test_many_ids_are_all_told_apart():
    seen = DuplicateIds()
    assert all(seen.is_new(str(number)) for number in range(50_000))
    assert not any(seen.is_new(str(number)) for number in range(50_000))
