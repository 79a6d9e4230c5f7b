from annotate.uploads.duplicates import id_digest


def test_many_ids_are_all_told_apart():
    digests = {id_digest(str(number)) for number in range(50_000)}

    assert len(digests) == 50_000
    assert all(-(2**63) <= digest < 2**63 for digest in digests)


def test_an_id_has_the_same_digest_every_time():
    assert id_digest("ü") == id_digest("\u00fc") != id_digest("u\u0308")
