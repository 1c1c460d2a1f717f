"""What becomes of cutouts: no sky, guarded, repeated, kept."""

import numpy as np

from stradavit.cutouts.selection import Guard, fates
from stradavit.cutouts.sky import circles


def sky(*ra_deg):
    centres = np.array([[ra, 0.0] for ra in ra_deg])
    return circles(centres, np.zeros(len(centres)))


def prints(*values):
    return np.array(values, dtype=np.uint64)


def guard(name, *ra_deg):
    return Guard(name, np.array([[ra, 0.0] for ra in ra_deg]), 2.0)


def test_first_guard_that_hits_is_counted():
    found = fates(
        sky(10, 20, 30), prints(1, 2, 3), [guard("mirabest", 10, 20), guard("rgz", 20, 50)]
    )
    assert found.tolist() == ["guard:mirabest", "guard:mirabest", "kept"]


def test_unknown_sky_is_dropped_only_where_something_is_guarded():
    places = sky(10, np.nan)
    assert fates(places, prints(1, 2), []).tolist() == ["kept", "kept"]
    assert fates(places, prints(1, 2), [guard("rgz", 50)]).tolist() == ["kept", "no_sky"]


def test_only_the_first_of_equal_cutouts_is_kept():
    found = fates(sky(1, 2, 3, 4), prints(7, 8, 7, 7), [])
    assert found.tolist() == ["kept", "kept", "duplicate", "duplicate"]


def test_a_copy_of_a_guarded_cutout_does_not_slip_through():
    # Two mosaics with the same pixels, one of them with a wrong header.
    found = fates(sky(1, 10, 2), prints(7, 7, 9), [guard("rgz", 10)])
    assert found.tolist() == ["duplicate", "guard:rgz", "kept"]


def test_a_copy_with_unknown_sky_does_not_push_out_the_known_one():
    found = fates(sky(np.nan, 2), prints(7, 7), [guard("rgz", 10)])
    assert found.tolist() == ["no_sky", "kept"]
