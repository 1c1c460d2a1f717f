"""Views of empty cutouts come from the cutouts the key says."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from stradavit.cutouts.corpus import Corpus
from stradavit.settings.views import ViewSettings
from stradavit.training.loader import read_cutouts
from stradavit.training.resampling import draw_views
from stradavit.training.sampler import MicroBatch, replacements
from stradavit.views.recipes import contrastive_views

SEED, EPOCH, OUT_PX = 3, 2, 32
VIEWS = ViewSettings()
RECIPE = partial(contrastive_views, seed=SEED, settings=VIEWS, out_px=OUT_PX)


def test_each_slot_is_what_a_plain_loop_draws(half_blank_corpus_path: Path) -> None:
    corpus = Corpus(half_blank_corpus_path)
    slots = np.random.default_rng(0).permutation(len(corpus))
    batch = MicroBatch(EPOCH, 0, slots, len(slots), True, True)
    drawn = draw_views(
        RECIPE,
        corpus,
        batch,
        read_cutouts(corpus, slots),
        seed=SEED,
        resamplings=2,
        device=torch.device("cpu"),
    )
    n_resampled = n_still_empty = 0
    for place, slot in enumerate(torch.from_numpy(slots)[:, None]):
        number = slot
        for attempt in range(3):
            key = torch.tensor([attempt])
            if attempt:
                number = replacements(SEED, EPOCH, slot, key, len(corpus))
                n_resampled += 1
            cutout = read_cutouts(corpus, number.numpy())
            views = RECIPE(cutout, slot, EPOCH, attempt=key)
            if not views.is_empty:
                break
        else:
            n_still_empty += 1
        assert drawn.numbers[place] == number
        torch.testing.assert_close(drawn.pixels[:, place], views.pixels[:, 0])
    assert drawn.slots.tolist() == slots.tolist()
    assert (drawn.n_resampled, drawn.n_still_empty) == (n_resampled, n_still_empty)
    # The case is worth testing: some are replaced once, some twice, some in vain.
    assert n_resampled > 10 and n_still_empty > 0
