"""Where the releases of MiraBest lie, and their MD5 digests, as the authors' loaders list them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Release:
    """One release.

    Parameters
    ----------
    path : of its .tar.gz below `archives.urls.mirabest`
    md5 : of that file
    batches : of each batch in it, by name
    """

    path: str
    md5: str
    batches: dict[str, str]


def _release(path: str, md5: str, train: str, test: str) -> Release:
    batches = {f"data_batch_{k}": digest for k, digest in enumerate(train.split(), 1)}
    return Release(path, md5, {**batches, "test_batch": test})


# full and F: FIRST (VLA, 1.4 GHz, 1.8 arcsec pixels); N: NVSS (15 arcsec pixels).
RELEASES = {
    "full": _release(
        "full_dataset/MiraBest_full_batches.tar.gz",
        "965b5daa83b9d8622bb407d718eecb51",
        "b15ae155301f316fc0b51af16b3c540d 0bf52cc1b47da591ed64127bab6df49e "
        "98908045de6695c7b586d0bd90d78893 ec9b9b77dc019710faf1ad23f1a58a60 "
        "5190632a50830e5ec30de2973cc6b2e1 b7113d89ddd33dd179bf64cb578be78e "
        "626c866b7610bfd08ac94ca3a17d02a1",
        "5e443302dbdf3c2003d68ff9ac95f08c",
    ),
    "F": _release(
        "MiraBest_F/MiraBest_F_batches.tar.gz",
        "7d4e3a623d29db7204bce81676ee8ce2",
        "f7a470b7367e8e0d0c5093d2cf266d54 bb65ecd7e748e9fb789419b1efbf1bab "
        "32de1078e7cd47f5338c666a1b563ede a1209aceedd8806c88eab27ce45ee2c4 "
        "1619cd7c54f5d71fcf4cfefea829728e 636c2b84649286e19bcb0684fc9fbb01 "
        "bc67bc37080dc4df880ffe9720d680a8",
        "ac7ea0d5ee8c7ab49f257c9964796953",
    ),
    "N": _release(
        "MiraBest_N/MiraBest_N_batches.tar.gz",
        "198337a1eb655a1f8642c590979d0e71",
        "f6c591d62e166523403cd7cbdeb2b076 35e3302aa61a8dbbf20db3ad06e21b17 "
        "00d4725a4ba0f1cd6a298f9030673d3f 29f9d1784521012d7c3893daebd84bca "
        "cdfaafc3e6581f727f8fd13decc9b874 a50f185ef0fbc8d3bfa2f7f4004e78ca "
        "6d267af85775cc3f9d336dc11ecf6d7b",
        "b3ff79c3b6c2acf9a0865f8b3d71a35d",
    ),
}
