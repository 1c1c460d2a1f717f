"""SDC1: shares, sizes and headers of its images, its truth catalogues, and its faults."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from stradavit.acquire.archives.sdc1 import (
    FULL_SHARES,
    PIXEL_DEG,
    TRAINING_SHARES,
    fetch_rows,
    list_products,
    remotes,
    truth_remotes,
    wrong_image,
    wrong_truth,
)
from stradavit.acquire.manifest import ManifestRow, read_ledger
from stradavit.acquire.stages import acquire_part, make_manifest
from stradavit.acquire.transfer.fetch import Outcome, fetch
from stradavit.acquire.transfer.listed import Listed
from stradavit.acquire.transfer.web import Web
from stradavit.cutouts.fits import open_product
from stradavit.errors import DataError
from stradavit.settings.sources import SDC1_SHARES, Sdc1Survey

from .fake_sdc1 import FakeSdc1, full_truth, image, sample, training_set
from .faults import FAULTS, faulty, record_outcome
from .server import App, Loopback, Reply, Request, impatient

SIDE_PX = 64
B1, B2, B5 = (f"SKAMid_{band}_1000h_v3.fits" for band in ("B1", "B2", "B5"))
SIZE = len(image("B1", 0, SIDE_PX))


def survey(**changes: Any) -> Sdc1Survey:
    sizes = dict.fromkeys(SDC1_SHARES, SIZE)
    return Sdc1Survey.model_validate({"source": "sdc1", "bytes": sizes} | changes)


def listed(block: Sdc1Survey) -> list[Listed]:
    archives = impatient()
    with Web(archives) as web:
        return list_products(block, web, archives.urls)


def fetched(
    app: App, folder: Path, block: Sdc1Survey | None = None, **settings: Any
) -> dict[str, Outcome]:
    """How fetching a survey from a fake ends, by name."""
    block = block or survey()
    rows = [ManifestRow(i.product, 0, i.location, i.bytes, i.checksum) for i in listed(block)]
    with Loopback(app) as server:
        archives = impatient({"sdc1": f"{server.url}/index.php/s"}, **settings)
        with Web(archives) as web:
            outcomes = fetch_rows(block, web, archives.urls, rows, folder, "sdc1")
    return {outcome.name: outcome for outcome in outcomes}


def fetched_truth(
    app: App, folder: Path, kind: Literal["training", "full"], **settings: Any
) -> dict[str, Outcome]:
    with Loopback(app) as server:
        archives = impatient({"sdc1": f"{server.url}/index.php/s"}, **settings)
        with Web(archives) as web:
            wanted = truth_remotes(survey(bytes={"True_1400_v2.txt": 100}), archives.urls, kind)
            outcomes = fetch(web, wanted, folder, "sdc1 truth")
    return {outcome.name: outcome for outcome in outcomes}


def test_the_default_is_three_bands_at_1000_h_with_the_one_published_size() -> None:
    items = listed(Sdc1Survey.model_validate({"source": "sdc1"}))
    assert [item.product for item in items] == [B1, B2, B5]
    assert [item.location for item in items] == [SDC1_SHARES[item.product] for item in items]
    # Four header blocks and the padded pixels; of B1 and B5 no size is known for certain.
    pixels = 4 * 32768**2
    assert items[1].bytes == 4 * 2880 + pixels + -pixels % 2880


def test_images_come_with_the_right_bytes_and_the_cutter_opens_them(tmp_path: Path) -> None:
    files = sample(SIDE_PX)
    outcomes = fetched(FakeSdc1(files, is_redirecting=True), tmp_path)
    assert list(outcomes) == [B1, B2, B5]
    for name, outcome in outcomes.items():
        assert outcome.state == "fetched" and outcome.path is not None, outcome
        assert outcome.path.read_bytes() == files[SDC1_SHARES[name]][1]
        with open_product(outcome.path) as product:
            assert (product.n_planes, product.shape) == (1, (SIDE_PX, SIDE_PX))
            scale = 3600.0 * PIXEL_DEG[name.split("_")[1]]
            assert product.pixel_scale_arcsec == pytest.approx(scale, rel=1e-3)


@pytest.mark.parametrize("token", ["../../x", "a/b", "abc?x=1", "", "tok en1"])
def test_a_token_that_is_none_is_an_error(token: str) -> None:
    with pytest.raises(DataError, match=r"share of SKAMid_B1.*`shares`"):
        listed(survey(shares=SDC1_SHARES | {B1: token}))
    archives = impatient()
    rows = [ManifestRow(B1, 0, token, None, "")]
    with Web(archives) as web, pytest.raises(DataError, match="make the manifest again"):
        list(remotes(survey(), web, archives.urls, rows))


def test_an_expired_share_is_refused_and_the_others_come(tmp_path: Path) -> None:
    fake = FakeSdc1(sample(SIDE_PX), expired=frozenset({SDC1_SHARES[B2]}))
    outcomes = fetched(fake, tmp_path)
    assert [outcomes[name].state for name in (B1, B2, B5)] == ["fetched", "refused", "fetched"]
    assert "404" in outcomes[B2].reason
    assert not (tmp_path / B2).exists()
    record_outcome("sdc1", "download", "expired share: 404 with a page", outcomes[B2])


def test_a_share_that_holds_another_band_is_refused_though_its_size_is_right(
    tmp_path: Path,
) -> None:
    files = sample(SIDE_PX)
    files[SDC1_SHARES[B5]] = files[SDC1_SHARES[B1]]
    outcomes = fetched(FakeSdc1(files), tmp_path)
    assert outcomes[B1].state == "fetched"
    assert outcomes[B5].state == "refused"
    assert "expected 1.02168e-05 as in band B5" in outcomes[B5].reason
    record_outcome("sdc1", "download", "the share of another band", outcomes[B5])


def test_another_size_than_known_is_refused(tmp_path: Path) -> None:
    block = survey(files=[B2], bytes={B2: SIZE - 2880})
    spoilt = fetched(FakeSdc1(sample(SIDE_PX)), tmp_path, block)[B2]
    assert spoilt.state == "refused" and str(SIZE - 2880) in spoilt.reason
    record_outcome("sdc1", "download", "another size than known", spoilt)


def test_one_image_comes_at_a_time_however_many_streams_there_may_be(tmp_path: Path) -> None:
    fake, active, most = FakeSdc1(sample(SIDE_PX)), 0, 0

    def counting(request: Request) -> Reply:
        reply = fake(request)

        def body() -> Iterator[bytes]:
            nonlocal active, most
            active += 1
            most = max(most, active)
            yield from (reply.whole()[at : at + 4096] for at in range(0, SIZE, 4096))
            active -= 1

        return Reply(reply.status, {**reply.headers, "Content-Length": str(SIZE)}, body())

    outcomes = fetched(counting, tmp_path, streams=8)
    assert {outcome.state for outcome in outcomes.values()} == {"fetched"}
    assert most == 1


def test_an_expired_share_stops_the_part_until_its_token_is_corrected(tmp_path: Path) -> None:
    files = sample(SIDE_PX)
    files["aaaaaaaaaaaaaaa"] = files[SDC1_SHARES[B2]]
    fake = FakeSdc1(files, expired=frozenset({SDC1_SHARES[B2]}))
    manifest, out = tmp_path / "sdc1.csv", tmp_path / "raw" / "0.csv"
    with Loopback(fake) as server:
        archives = impatient({"sdc1": f"{server.url}/index.php/s"})
        make_manifest("sdc1", survey(), manifest, archives)
        with pytest.raises(DataError, match=rf"{B2}: answered 404\. Its share.*`shares`"):
            acquire_part("sdc1", survey(), manifest, 0, out, archives)
        assert not out.exists()
        block = survey(shares=SDC1_SHARES | {B2: "aaaaaaaaaaaaaaa"})
        make_manifest("sdc1", block, manifest, archives)
        acquire_part("sdc1", block, manifest, 0, out, archives)
        assert [server.count(SDC1_SHARES[name]) for name in (B1, B5)] == [1, 1]
    assert [item.product for item in read_ledger(out)] == [B1, B2, B5]
    for item in read_ledger(out):
        assert item.path.read_bytes() == files[SDC1_SHARES[item.product]][1]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("is_size_known", [True, False])
def test_faults_of_the_download(fault: str, is_size_known: bool, tmp_path: Path) -> None:
    files = sample(SIDE_PX)
    block = survey() if is_size_known else survey(bytes={})
    app = faulty(FakeSdc1(files), fault, SDC1_SHARES[B2])
    outcomes = fetched(app, tmp_path, block)
    assert outcomes[B1].state == outcomes[B5].state == "fetched"
    spoilt = outcomes[B2]
    if fault == "wrong_bytes":
        # No checksum is published and the size is right: nobody can tell. The digest of what came
        # is in the ledger, for whoever compares with a second copy.
        assert spoilt.state == "fetched" and spoilt.path is not None
        body = spoilt.path.read_bytes()
        assert len(body) == SIZE and body[: SIZE // 2] == files[SDC1_SHARES[B2]][1][: SIZE // 2]
        if is_size_known:
            said = "not seen: the archive publishes no checksum"
            record_outcome("sdc1", "download", fault, said)
        return
    for name, outcome in outcomes.items():
        path = tmp_path / name
        if outcome.state == "fetched":
            assert path.read_bytes() == files[SDC1_SHARES[name]][1]
        else:
            assert outcome.reason
            assert ("`shares`" in outcome.reason) is (outcome.state == "refused")
            assert not path.exists()
    permanent = {"html200", "truncated", "401", "403html", "404", "409", "410"}
    transient = {"500forever", "503forever"}
    expected = "refused" if fault in permanent else "failed" if fault in transient else "fetched"
    assert spoilt.state == expected
    if is_size_known:
        record_outcome("sdc1", "download", fault, spoilt)


@pytest.mark.parametrize("kind", ["training", "full"])
def test_truth_catalogues_of_the_survey_s_bands_come(
    kind: Literal["training", "full"], tmp_path: Path
) -> None:
    files = sample(SIDE_PX)
    shares = TRAINING_SHARES if kind == "training" else FULL_SHARES
    app = FakeSdc1(files)
    outcomes = fetched_truth(app, tmp_path, kind)
    assert sorted(outcomes) == sorted(shares)
    for name, outcome in outcomes.items():
        if name == "True_1400_v2.txt":
            assert outcome.state == "refused" and "100" in outcome.reason
            continue
        assert outcome.state == "fetched", outcome
        assert (tmp_path / name).read_bytes() == files[shares[name]][1]


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_truth(fault: str, tmp_path: Path) -> None:
    files = sample(SIDE_PX)
    name, token = "TrainingSet_B5_v2.txt", TRAINING_SHARES["TrainingSet_B5_v2.txt"]
    app = faulty(FakeSdc1(files), fault, token)
    spoilt = fetched_truth(app, tmp_path, "training")[name]
    path = tmp_path / name
    passing = {"cut", "stall", "range200", "429s", "429date", "500once", "503once"}
    if fault == "wrong_bytes":
        # Blanks that became digits: as many numbers as before, other numbers, and no checksum.
        assert spoilt.state == "fetched" and path.stat().st_size == len(files[token][1])
        record_outcome("sdc1", "truth", fault, "seen only if it breaks a row: no checksum")
        return
    assert (spoilt.state == "fetched") is (fault in passing)
    if spoilt.state == "fetched":
        assert path.read_bytes() == files[token][1]
    else:
        assert spoilt.reason and not path.exists()
    record_outcome("sdc1", "truth", fault, spoilt)


def test_only_bands_of_the_survey_have_truth() -> None:
    urls = impatient().urls
    names = [remote.name for remote in truth_remotes(survey(files=[B5, B1]), urls)]
    assert names == ["TrainingSet_B1_v2.txt", "TrainingSet_B5_v2.txt"]
    full = truth_remotes(survey(files=[B2]), urls, "full")
    assert [(remote.name, remote.bytes) for remote in full] == [("True_1400_v2.txt", 228_644_250)]
    block = survey(files=["mine.fits"], shares={"mine.fits": "abcdefghijklmno"})
    with pytest.raises(DataError, match=r"'mine.fits' names no band"):
        truth_remotes(block, urls)


def test_the_token_of_a_survey_goes_before_the_known_one() -> None:
    name = "TrainingSet_B1_v2.txt"
    block = survey(files=[B1], shares=SDC1_SHARES | {name: "aaaaaaaaaaaaaaa"})
    (remote,) = truth_remotes(block, impatient().urls)
    assert remote.url.endswith("/aaaaaaaaaaaaaaa/download")


@pytest.mark.parametrize(
    ("body", "name", "match"),
    [
        (b"SIMPLE  =", B1, "damaged"),
        (b"\0" * 2880, B1, "damaged"),
        (
            image("B1", 0, SIDE_PX).replace(
                b"BITPIX  =                  -32", b"BITPIX  =                   16"
            ),
            B1,
            "BITPIX 16",
        ),
        (
            image("B1", 0, SIDE_PX).replace(
                b"NAXIS3  =                    1", b"NAXIS3  =                    2"
            ),
            B1,
            "one plane",
        ),
        (
            image("B1", 0, SIDE_PX).replace(
                b"NAXIS   =                    4", b"NAXIS   = 'four'              "
            ),
            B1,
            "NAXIS 'four'",
        ),
        (
            image("B1", 0, SIDE_PX).replace(
                b"NAXIS   =                    4", b"NAXIS   =                 oops"
            ),
            B1,
            "damaged|BITPIX",
        ),
        (image("B1", 0, SIDE_PX).replace(b"CDELT1  =", b"CDELTX  ="), B1, "CDELT1 None"),
        (image("B2", 0, SIDE_PX), B1, "CDELT1 -6.7"),
    ],
)
def test_wrong_images(body: bytes, name: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(body)
    reason = wrong_image(path, name)
    assert reason is not None
    assert any(part in reason for part in match.split("|"))


def test_right_images(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(image("B5", 0, SIDE_PX))
    assert wrong_image(path, B5) is None
    assert wrong_image(path, "mine.fits") is None


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (training_set(), None),
        (full_truth(), None),
        (training_set(3000), None),
        (training_set(300)[:-1], None),
        (training_set(300)[:-100], "its line 308, '"),
        (training_set(30)[:-100], "its line 38, '"),
        (full_truth(50_000)[:-4], "its line 50000, '"),
        (training_set(9) + training_set(9)[-60:], "not 15 numbers"),
        (training_set(9) + training_set(1)[-200:].replace(b"3", b"<"), "not 15 numbers"),
        (full_truth() + b"1 2 3", "'1 2 3', is not 12 numbers"),
        (full_truth() + b"7" * 10000, "is not 12 numbers"),
        (b"id;ra;dec\n1;2;3\n", "12 or more numbers"),
        (b"1 2 3\n" * 30, "12 or more numbers"),
        (b"1 2 3\n" * 90 + full_truth(), "12 or more numbers"),
        (b"", "12 or more numbers"),
        (b"\xff\xfe\x00" * 2000, "12 or more numbers"),
    ],
)
def test_what_is_a_whole_truth_catalogue(body: bytes, match: str | None, tmp_path: Path) -> None:
    path = tmp_path / "truth.txt"
    path.write_bytes(body)
    reason = wrong_truth(path)
    assert reason is None if match is None else match in (reason or "")


@pytest.mark.parametrize("name", ["TrainingSet_B1_v2_ML.txt", "TrainingSet_B5_v2_ML.txt"])
def test_the_real_training_sets_are_whole(name: str, shared_data: Path) -> None:
    assert wrong_truth(shared_data / "catalogues/sdc1" / name) is None


def test_a_real_crop_is_of_its_band(shared_data: Path) -> None:
    path = shared_data / "mosaics/ska-sdc1/test_B1_1000h.fits"
    assert wrong_image(path, B1) is None
    assert "band B2" in (wrong_image(path, B2) or "")
