"""A disk that can be full or read-only: `results` on a small tmpfs, where mounting is allowed."""

import os
import subprocess
from pathlib import Path

SIZE = "128m"


class Disk:
    """Where the results lie; without the right to mount it is the folder it was.

    Parameters
    ----------
    folder : becomes the mount point
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        mount = ("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "stradavit-chaos", str(folder))
        self.is_mounted = os.geteuid() == 0 and _is_done(*mount)
        self._filler = folder / ".filler"

    def fill(self, leave_bytes: int) -> bool:
        """Leave this much space; False if the disk is not ours to fill."""
        if not self.is_mounted:
            return False
        with self._filler.open("wb") as filler:
            space = os.statvfs(self.folder)
            os.posix_fallocate(filler.fileno(), 0, space.f_bavail * space.f_frsize - leave_bytes)
        return True

    def empty(self) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)

    def set_read_only(self, is_read_only: bool) -> bool:
        """Forbid or allow writing; False if this cannot be done here."""
        how = "ro" if is_read_only else "rw"
        return self.is_mounted and _is_done("mount", "-o", f"remount,{how}", str(self.folder))

    def close(self, keep: Path | None = None) -> None:
        """Unmount; what is there is copied to `keep` before, if it is given."""
        if self.is_mounted:
            if keep is not None:
                self.empty()
                keep.mkdir()
                subprocess.run(["cp", "-a", f"{self.folder}/.", str(keep)], check=True)
            self.is_mounted = not _is_done("umount", "--lazy", str(self.folder))


def _is_done(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
