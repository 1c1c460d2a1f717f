"""The catalogue of Radio Galaxy Zoo DR1 on Zenodo: loose tables, or an archive file of them."""

from pathlib import Path, PurePosixPath

from stradavit.acquire.archives.foreign_text import quoted
from stradavit.acquire.archives.zenodo import RecordFile, record_files
from stradavit.acquire.transfer.fetch import Remote, fetch
from stradavit.acquire.transfer.tars import TAR_DAMAGE, open_tar
from stradavit.acquire.transfer.web import Web
from stradavit.errors import DataError
from stradavit.files import atomic_path
from stradavit.settings.archives import ArchiveUrls

TABLE = "DR1_FIRST_radio_classifications.csv"
PACKED = (".tar.gz", ".tgz")
MAX_BYTES = 2**30
MAX_MEMBERS = 1000


def radio_table(record: str, web: Web, urls: ArchiveUrls, folder: Path) -> Path:
    """The table of radio classifications of FIRST sources, below `folder`.

    Raises
    ------
    DataError
        If the record has no such table, or it cannot be fetched or unpacked.
    """
    files = record_files(web, urls, record)
    chosen = _chosen(files, record)
    remote = Remote(
        name=chosen.name,
        url=chosen.url,
        bytes=chosen.bytes,
        checksum=chosen.checksum,
        content="tar.gz" if chosen.name.lower().endswith(PACKED) else "csv",
        most_bytes=MAX_BYTES,
    )
    outcome = fetch(web, [remote], folder, f"Zenodo record {record}")[0]
    if outcome.path is None:
        raise DataError(
            f"Zenodo record {record}: {chosen.name} did not come ({outcome.reason}). Run again "
            "later; if Zenodo turns our program away, set archives.contact to your e-mail address."
        )
    if not outcome.name.lower().endswith(PACKED):
        return outcome.path
    return _unpacked(outcome.path, folder)


def _chosen(files: list[RecordFile], record: str) -> RecordFile:
    for file in files:
        if file.name.lower() == TABLE.lower():
            return file
    packed = [file for file in files if file.name.lower().endswith(PACKED)]
    if len(packed) == 1:
        return packed[0]
    listed = quoted(", ".join(file.name for file in files))
    raise DataError(
        f"Zenodo record {record}: has the files {listed}; "
        f"expected {TABLE} or one .tar.gz that holds it. Correct benchmarks.<name>.record."
    )


def _unpacked(path: Path, folder: Path) -> Path:
    """The one table of an archive file; nothing else of it is written, and no name it gives."""
    # Apart from what is fetched, which the journal of the folder answers for.
    out_path = folder / "unpacked" / TABLE
    try:
        with open_tar(path) as archive:
            n_bytes = 0
            for number, member in enumerate(archive):
                n_bytes += member.size
                if number >= MAX_MEMBERS or n_bytes > MAX_BYTES:
                    raise DataError(
                        f"{path}: holds more than {MAX_MEMBERS} files or {MAX_BYTES} bytes; the "
                        "tables have a hundredth of that. Not unpacked."
                    )
                if not member.isfile() or PurePosixPath(member.name).name != TABLE:
                    continue
                opened = archive.extractfile(member)
                assert opened is not None
                with atomic_path(out_path) as temporary:
                    temporary.write_bytes(opened.read())
                return out_path
    except (OSError, *TAR_DAMAGE) as error:
        raise DataError(
            f"{path}: cannot be unpacked ({error}). Delete it, and run again to fetch it."
        ) from error
    raise DataError(f"{path}: holds no {TABLE}. Correct benchmarks.<name>.record.")
