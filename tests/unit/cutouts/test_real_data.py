"""Every real file beside the checkout ends in cutouts or in a named reason."""

import numpy as np
import pytest
from astropy.io import fits

from stradavit.acquire.manifest import Acquired, write_ledger
from stradavit.acquire.stages import acquire_benchmark
from stradavit.cutouts.benchmark import LabelledCutouts
from stradavit.cutouts.corpus import Corpus
from stradavit.cutouts.fits import SKIP_REASONS, open_product
from stradavit.cutouts.shards import Shard
from stradavit.cutouts.stages import cut_benchmark, cut_corpus, cut_part
from stradavit.cutouts.tiling import DROP_REASONS
from stradavit.errors import MalformedProductError
from stradavit.files import sha256_of
from stradavit.settings import CutoutSettings
from stradavit.settings.sources import BatchBenchmark, FolderBenchmark, LocalSurvey

NO_IMAGES = {
    "astropy_compressed_float_bzero.fits": "no_image",  # three pixels in a row
    "astropy_history_header.fits": "no_image",
    "astropy_invalid_group_invalid.fits": "no_image",
    "astropy_table.fits": "no_image",
    "astropy_zerowidth.fits": "empty_image",
    "astropy_lzw.fits.Z": "compression",
}


def shard_of(folder, files, size_px, **changes):
    files = sorted(files)
    rows = [
        Acquired(f"{n:03}-{f.name}", f, sha256_of(f), f.stat().st_size) for n, f in enumerate(files)
    ]
    write_ledger(folder / "0.csv", rows)
    survey = LocalSurvey(source="local", files=("*",), **changes)
    cut_part("real", survey, CutoutSettings(size_px=size_px), folder / "0.csv", folder / "0.h5")
    return folder / "0.h5"


def fits_files(shared_data):
    folders = [shared_data / "odd-fits", *(shared_data / "mosaics").iterdir()]
    suffixes = {".fits", ".imfits", ".Z"}
    return [f for folder in folders for f in folder.iterdir() if f.suffix in suffixes]


def test_every_file_is_read_or_refused_with_a_name(shared_data):
    refused = {}
    for path in fits_files(shared_data):
        try:
            with open_product(path) as product:
                pixels = product.read(product.n_planes - 1, 0, product.shape[0])
                assert pixels.shape == product.shape and pixels.dtype == np.float32
        except MalformedProductError as error:
            refused[path.name] = error.reason
    assert refused == NO_IMAGES


def test_pixels_are_those_of_astropy(shared_data):
    for name in ("kapteyn_ngc6946.fits", "kapteyn_blankset16.fits", "astropy_comp.fits"):
        path = shared_data / "odd-fits" / name
        with fits.open(path) as hdus, open_product(path) as product:
            data = next(h.data for h in hdus if h.data is not None).astype(np.float32)
            data = data.reshape(-1, *product.shape)
            assert product.n_planes == len(data)
            for plane in (0, product.n_planes - 1):
                found = product.read(plane, 0, product.shape[0])
                # Astropy scales 16-bit integers in single precision, we in double.
                np.testing.assert_allclose(found, data[plane], atol=1e-6 * np.nanmax(data))


def test_permuted_cube_shows_the_sky(shared_data):
    with open_product(shared_data / "odd-fits" / "kapteyn_manyaxes.fits") as product:
        # FREQ 10, DEC 50, RA 50, POL 4 in the order of the header.
        assert (product.shape, product.n_planes) == ((50, 50), 40)
    with open_product(shared_data / "odd-fits" / "kapteyn_ra_pol_freq_dec.fits") as product:
        assert (product.shape, product.n_planes) == ((41, 35), 80)


@pytest.mark.parametrize(("size_px", "planes"), [(60, (0,)), (100, "all")])
def test_odd_files_end_in_cutouts_or_counts(shared_data, tmp_path, size_px, planes):
    files = fits_files(shared_data)
    shard = Shard(shard_of(tmp_path, files, size_px, planes=planes))
    skipped, dropped = shard.attribute("skipped"), shard.attribute("dropped")
    assert set(skipped) <= set(SKIP_REASONS) and set(dropped) <= set(DROP_REASONS)
    assert len(shard.products()) == len(files)
    assert skipped["no_image"] == 4 and skipped["compression"] == 1
    rows = shard.rows()
    n_products = len(np.unique(rows["product"]))
    assert n_products <= len(files) - sum(skipped.values())
    levels = shard.read(np.arange(len(rows)), rows["checksum"])
    assert (levels.min(axis=(1, 2)) < levels.max(axis=(1, 2))).all()


def test_overlapping_mosaics_with_the_same_header(shared_data, tmp_path):
    # The headers claim the same sky for different pixels. Tiles do not line up, so none is an
    # exact duplicate; the guard drops the place in both, since one cannot know which is right.
    files = list((shared_data / "mosaics" / "atca").glob("*.fits"))
    shard_path = shard_of(tmp_path, files, 250)
    cut_corpus("all", {"real": [shard_path]}, {}, tmp_path / "all.h5")
    counts = Corpus(tmp_path / "all.h5").counts()["real"]
    assert (counts["cut"], counts["duplicate"]) == (32, 0)
    # The same file under two names is a duplicate.
    again = shard_of(tmp_path, [files[0], files[0]], 250)
    cut_corpus("again", {"real": [again]}, {}, tmp_path / "again.h5")
    assert Corpus(tmp_path / "again.h5").counts()["real"]["duplicate"] == 16


def test_mirabest_batches(shared_data, tmp_path):
    settings = BatchBenchmark(
        source="batches",
        path=str(shared_data / "benchmarks" / "mirabest" / "batches.tar.gz"),
        label_names={0: "FRI", 1: "FRII"},
        stretch="minmax",
    )
    acquire_benchmark("mirabest", settings, tmp_path / "labels.csv")
    cut_benchmark("mirabest", settings, tmp_path / "labels.csv", tmp_path / "b.h5")
    found = LabelledCutouts(tmp_path / "b.h5")
    # 792 images, of which six are all zero though they carry labels.
    assert len(found) == 786 and found.excluded == {"all_zero": 6}
    assert np.isfinite(found.positions).all() and found.classes == ["FRI", "FRII"]
    image = found.read(400)
    assert image.shape == (150, 150) and image.max() == 1 and image.min() == 0


def test_holes_in_first_cutouts_do_not_blank_the_image(shared_data, tmp_path):
    folder = shared_data / "benchmarks" / "mirabest" / "fits"
    files = sorted(folder.glob("*.fits"))
    with_holes = 0
    for path in files:
        with open_product(path) as product:
            with_holes += not np.isfinite(product.read(0, 0, product.shape[0])).all()
    assert with_holes >= 2
    lines = "".join(f"{path.name},{path.name[0]}\n" for path in files)
    (tmp_path / "labels.csv").write_text("filename,label\n" + lines)
    settings = FolderBenchmark(
        source="folder",
        images=str(folder),
        labels=str(tmp_path / "labels.csv"),
        ra_column=None,
        dec_column=None,
    )
    acquire_benchmark("first", settings, tmp_path / "acquired.csv")
    cut_benchmark("first", settings, tmp_path / "acquired.csv", tmp_path / "b.h5")
    found = LabelledCutouts(tmp_path / "b.h5")
    assert len(found) == len(files) and found.excluded == {}
    for number in range(len(found)):
        image = found.read(number)
        assert image.max() == 1 and image.mean() > 0.05 and len(np.unique(image)) > 100
