"""Opening tar files from elsewhere: what their headers claim is bounded before it is believed.

tarfile reads a header of extensions whole, however large it claims to be, and a packed gigabyte of
zeros has one megabyte; it trusts negative sizes, and goes one call deeper with each header of
extensions that follows another.
"""

import lzma
import tarfile
import zlib
from pathlib import Path
from typing import NoReturn, Self

from stradavit.errors import DataError

# Headers that tell more of the member that follows: long names, and whatever else.
EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
# The longest names and comments there are take some thousand bytes.
MAX_EXTENSION_BYTES = 2**20
# Of all extensions together: a name of each member, at the least.
MAX_EXTENSIONS_BYTES = 2**28

# All that a damaged or hostile tar makes tarfile raise, besides what the disk does.
TAR_DAMAGE = (
    tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ArithmeticError, LookupError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip


class _Tar(tarfile.TarFile):
    """A tar that counts the bytes of its extensions."""

    extension_bytes = 0


class _Header(tarfile.TarInfo):
    """The header of a member, refused if it claims what none of ours has."""

    # The method that the source of tarfile names for changes of this kind.
    def _proc_member(self, tar: _Tar) -> Self:
        if self.size < 0 or self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse()
        if self.type in EXTENSIONS:
            tar.extension_bytes += self.size
            if self.size > MAX_EXTENSION_BYTES or tar.extension_bytes > MAX_EXTENSIONS_BYTES:
                self._refuse()
        header: Self = super()._proc_member(tar)  # type: ignore[misc]
        if header.size < 0:
            self._refuse()
        return header

    def _refuse(self, *_: object) -> NoReturn:
        raise tarfile.ReadError(f"a header of type {self.type!r} that claims {self.size} bytes")

    # Files with holes: a list of holes can fill the memory.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse


def open_tar(path: Path) -> tarfile.TarFile:
    """A .tar, .tar.gz, .tar.bz2 or .tar.xz to go through; its headers are bounded.

    The caller bounds number and sizes of the members, as they come. What goes wrong is one of
    `TAR_DAMAGE` or an OSError.
    """
    return _Tar.open(path, tarinfo=_Header)


def check_sum(path: Path, n_bytes: int, n_members: int, most_bytes: int, most_members: int) -> None:
    """Refuse an archive file that holds more than it may; asked for each member.

    Raises
    ------
    DataError
    """
    if n_bytes > most_bytes or n_members > most_members:
        raise DataError(
            f"{path}: holds more than {most_members} files or {most_bytes} bytes. Not read: do "
            "not use it, or unpack it yourself and name what is needed of it."
        )
